/* ggml.h, ggml-backend.h */

enum ggml_log_level { GGML_LOG_LEVEL_DEBUG, GGML_LOG_LEVEL_INFO, GGML_LOG_LEVEL_WARN, GGML_LOG_LEVEL_ERROR, ... };

enum ggml_type {
    GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1, GGML_TYPE_Q8_0,
    GGML_TYPE_IQ4_NL, GGML_TYPE_BF16, ...
};
const char *ggml_type_name(enum ggml_type);
bool ggml_is_quantized(enum ggml_type);
int64_t ggml_blck_size(enum ggml_type);
const char *ggml_version(void);
const char *ggml_commit(void);

typedef struct ggml_backend_device *ggml_backend_dev_t;
typedef struct ggml_backend_reg *ggml_backend_reg_t;
typedef struct ggml_backend_buffer_type *ggml_backend_buffer_type_t;

enum ggml_backend_dev_type {
    GGML_BACKEND_DEVICE_TYPE_CPU, GGML_BACKEND_DEVICE_TYPE_GPU, GGML_BACKEND_DEVICE_TYPE_IGPU,
    GGML_BACKEND_DEVICE_TYPE_ACCEL, GGML_BACKEND_DEVICE_TYPE_META, ...
};
struct ggml_backend_dev_caps {
    bool async;
    bool host_buffer;
    bool buffer_from_host_ptr;
    bool events;
    bool mmap_support;
    ...;
};
struct ggml_backend_dev_props {
    const char *name;
    const char *description;
    size_t memory_free;
    size_t memory_total;
    enum ggml_backend_dev_type type;
    const char *device_id;
    struct ggml_backend_dev_caps caps;
    ...;
};
size_t ggml_backend_dev_count(void);
ggml_backend_dev_t ggml_backend_dev_get(size_t);
void ggml_backend_dev_get_props(ggml_backend_dev_t, struct ggml_backend_dev_props *);
const char *ggml_backend_dev_name(ggml_backend_dev_t);
ggml_backend_reg_t ggml_backend_dev_backend_reg(ggml_backend_dev_t);
ggml_backend_buffer_type_t ggml_backend_dev_buffer_type(ggml_backend_dev_t);
ggml_backend_buffer_type_t ggml_backend_dev_host_buffer_type(ggml_backend_dev_t);

size_t ggml_backend_reg_count(void);
ggml_backend_reg_t ggml_backend_reg_get(size_t);
const char *ggml_backend_reg_name(ggml_backend_reg_t);
size_t ggml_backend_reg_dev_count(ggml_backend_reg_t);
ggml_backend_dev_t ggml_backend_reg_dev_get(ggml_backend_reg_t, size_t);

const char *ggml_backend_buft_name(ggml_backend_buffer_type_t);
bool ggml_backend_buft_is_host(ggml_backend_buffer_type_t);
ggml_backend_buffer_type_t ggml_backend_cpu_buffer_type(void);
