/* llama.h: what is called without the guard, because its arguments have been checked or nothing in it can fail */

struct llama_vocab;
struct llama_model;
struct llama_context;
struct llama_adapter_lora;
struct llama_sampler {
    ...;
};
typedef struct llama_memory_i *llama_memory_t;
typedef int32_t llama_pos;
typedef int32_t llama_token;
typedef int32_t llama_seq_id;
typedef bool (*llama_progress_callback)(float, void *);

#define LLAMA_DEFAULT_SEED ...
#define LLAMA_TOKEN_NULL ...
#define LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY ...
#define LLAMA_STATE_SEQ_FLAGS_ON_DEVICE ...

enum llama_vocab_type {
    LLAMA_VOCAB_TYPE_NONE, LLAMA_VOCAB_TYPE_SPM, LLAMA_VOCAB_TYPE_BPE, LLAMA_VOCAB_TYPE_WPM, LLAMA_VOCAB_TYPE_UGM,
    LLAMA_VOCAB_TYPE_RWKV, LLAMA_VOCAB_TYPE_PLAMO2, ...
};
enum llama_token_attr {
    LLAMA_TOKEN_ATTR_UNDEFINED, LLAMA_TOKEN_ATTR_UNKNOWN, LLAMA_TOKEN_ATTR_UNUSED, LLAMA_TOKEN_ATTR_NORMAL,
    LLAMA_TOKEN_ATTR_CONTROL, LLAMA_TOKEN_ATTR_USER_DEFINED, LLAMA_TOKEN_ATTR_BYTE, LLAMA_TOKEN_ATTR_NORMALIZED,
    LLAMA_TOKEN_ATTR_LSTRIP, LLAMA_TOKEN_ATTR_RSTRIP, LLAMA_TOKEN_ATTR_SINGLE_WORD, ...
};
enum llama_ftype { LLAMA_FTYPE_ALL_F32, LLAMA_FTYPE_GUESSED, ... };
enum llama_rope_type { LLAMA_ROPE_TYPE_NONE, ... };
enum llama_rope_scaling_type {
    LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED, LLAMA_ROPE_SCALING_TYPE_NONE, LLAMA_ROPE_SCALING_TYPE_LINEAR,
    LLAMA_ROPE_SCALING_TYPE_YARN, LLAMA_ROPE_SCALING_TYPE_LONGROPE, ...
};
enum llama_pooling_type {
    LLAMA_POOLING_TYPE_UNSPECIFIED, LLAMA_POOLING_TYPE_NONE, LLAMA_POOLING_TYPE_MEAN, LLAMA_POOLING_TYPE_CLS,
    LLAMA_POOLING_TYPE_LAST, LLAMA_POOLING_TYPE_RANK, ...
};
enum llama_attention_type {
    LLAMA_ATTENTION_TYPE_UNSPECIFIED, LLAMA_ATTENTION_TYPE_CAUSAL, LLAMA_ATTENTION_TYPE_NON_CAUSAL, ...
};
enum llama_flash_attn_type {
    LLAMA_FLASH_ATTN_TYPE_AUTO, LLAMA_FLASH_ATTN_TYPE_DISABLED, LLAMA_FLASH_ATTN_TYPE_ENABLED, ...
};
enum llama_split_mode {
    LLAMA_SPLIT_MODE_NONE, LLAMA_SPLIT_MODE_LAYER, LLAMA_SPLIT_MODE_ROW, LLAMA_SPLIT_MODE_TENSOR, ...
};
enum llama_load_mode {
    LLAMA_LOAD_MODE_AUTO, LLAMA_LOAD_MODE_NONE, LLAMA_LOAD_MODE_MMAP, LLAMA_LOAD_MODE_MLOCK,
    LLAMA_LOAD_MODE_MMAP_MLOCK, LLAMA_LOAD_MODE_DIRECT_IO, ...
};
enum llama_context_type { LLAMA_CONTEXT_TYPE_DEFAULT, LLAMA_CONTEXT_TYPE_MTP, ... };
enum llama_model_kv_override_type {
    LLAMA_KV_OVERRIDE_TYPE_INT, LLAMA_KV_OVERRIDE_TYPE_FLOAT, LLAMA_KV_OVERRIDE_TYPE_BOOL, LLAMA_KV_OVERRIDE_TYPE_STR, ...
};

struct llama_model_kv_override {
    enum llama_model_kv_override_type tag;
    char key[128];
    union {
        int64_t val_i64;
        double val_f64;
        bool val_bool;
        char val_str[128];
    };
};
struct llama_model_tensor_buft_override {
    const char *pattern;
    ggml_backend_buffer_type_t buft;
    ...;
};
struct llama_model_params {
    ggml_backend_dev_t *devices;
    const struct llama_model_tensor_buft_override *tensor_buft_overrides;
    int32_t n_gpu_layers;
    enum llama_split_mode split_mode;
    enum llama_load_mode load_mode;
    int32_t main_gpu;
    const float *tensor_split;
    llama_progress_callback progress_callback;
    void *progress_callback_user_data;
    const struct llama_model_kv_override *kv_overrides;
    bool vocab_only;
    bool check_tensors;
    bool use_extra_bufts;
    bool no_host;
    bool no_alloc;
    bool load_mtp;
    ...;
};
struct llama_context_params {
    uint32_t n_ctx;
    uint32_t n_batch;
    uint32_t n_ubatch;
    uint32_t n_seq_max;
    uint32_t n_rs_seq;
    uint32_t n_outputs_max;
    uint32_t n_outputs_max_per_seq;
    int32_t n_threads;
    int32_t n_threads_batch;
    enum llama_context_type ctx_type;
    enum llama_rope_scaling_type rope_scaling_type;
    enum llama_pooling_type pooling_type;
    enum llama_attention_type attention_type;
    enum llama_flash_attn_type flash_attn_type;
    float rope_freq_base;
    float rope_freq_scale;
    float yarn_ext_factor;
    float yarn_attn_factor;
    float yarn_beta_fast;
    float yarn_beta_slow;
    uint32_t yarn_orig_ctx;
    enum ggml_type type_k;
    enum ggml_type type_v;
    bool embeddings;
    bool offload_kqv;
    bool no_perf;
    bool op_offload;
    bool swa_full;
    bool kv_unified;
    struct llama_context *ctx_other;
    ...;
};
typedef struct llama_batch {
    int32_t n_tokens;
    llama_token *token;
    float *embd;
    llama_pos *pos;
    int32_t *n_seq_id;
    llama_seq_id **seq_id;
    int8_t *logits;
    ...;
} llama_batch;
typedef struct llama_token_data {
    llama_token id;
    float logit;
    float p;
} llama_token_data;
typedef struct llama_logit_bias {
    llama_token token;
    float bias;
} llama_logit_bias;
typedef struct llama_sampler_chain_params {
    bool no_perf;
    ...;
} llama_sampler_chain_params;
struct llama_perf_context_data {
    double t_start_ms;
    double t_load_ms;
    double t_p_eval_ms;
    double t_eval_ms;
    int32_t n_p_eval;
    int32_t n_eval;
    int32_t n_reused;
    ...;
};

const char *llama_version(void);
void llama_backend_init(void);
struct llama_model_params llama_model_default_params(void);
struct llama_context_params llama_context_default_params(void);
llama_sampler_chain_params llama_sampler_chain_default_params(void);
size_t llama_max_devices(void);
size_t llama_max_parallel_sequences(void);
size_t llama_max_tensor_buft_overrides(void);
bool llama_supports_mmap(void);
bool llama_supports_mlock(void);
bool llama_supports_gpu_offload(void);
bool llama_supports_rpc(void);
const char *llama_print_system_info(void);
const char *llama_ftype_name(enum llama_ftype);
int32_t llama_split_path(char *, size_t, const char *, int32_t, int32_t);
int32_t llama_split_prefix(char *, size_t, const char *, int32_t, int32_t);

void llama_model_free(struct llama_model *);
const struct llama_vocab *llama_model_get_vocab(const struct llama_model *);
enum llama_rope_type llama_model_rope_type(const struct llama_model *);
int32_t llama_model_n_ctx_train(const struct llama_model *);
int32_t llama_model_n_embd(const struct llama_model *);
int32_t llama_model_n_embd_inp(const struct llama_model *);
int32_t llama_model_n_embd_out(const struct llama_model *);
int32_t llama_model_n_layer(const struct llama_model *);
int32_t llama_model_n_layer_nextn(const struct llama_model *);
int32_t llama_model_n_head(const struct llama_model *);
int32_t llama_model_n_head_kv(const struct llama_model *);
int32_t llama_model_n_swa(const struct llama_model *);
float llama_model_rope_freq_scale_train(const struct llama_model *);
uint32_t llama_model_n_cls_out(const struct llama_model *);
const char *llama_model_cls_label(const struct llama_model *, uint32_t);
int32_t llama_model_meta_val_str(const struct llama_model *, const char *, char *, size_t);
int32_t llama_model_meta_count(const struct llama_model *);
int32_t llama_model_meta_key_by_index(const struct llama_model *, int32_t, char *, size_t);
int32_t llama_model_meta_val_str_by_index(const struct llama_model *, int32_t, char *, size_t);
int32_t llama_model_desc(const struct llama_model *, char *, size_t);
enum llama_ftype llama_model_ftype(const struct llama_model *);
uint64_t llama_model_size(const struct llama_model *);
uint64_t llama_model_n_params(const struct llama_model *);
const char *llama_model_chat_template(const struct llama_model *, const char *);
bool llama_model_has_encoder(const struct llama_model *);
bool llama_model_has_decoder(const struct llama_model *);
llama_token llama_model_decoder_start_token(const struct llama_model *);
bool llama_model_is_recurrent(const struct llama_model *);
bool llama_model_is_hybrid(const struct llama_model *);
bool llama_model_is_diffusion(const struct llama_model *);

void llama_free(struct llama_context *);
uint32_t llama_n_ctx(const struct llama_context *);
uint32_t llama_n_ctx_seq(const struct llama_context *);
uint32_t llama_n_batch(const struct llama_context *);
uint32_t llama_n_ubatch(const struct llama_context *);
uint32_t llama_n_seq_max(const struct llama_context *);
uint32_t llama_n_rs_seq(const struct llama_context *);
enum llama_pooling_type llama_pooling_type(const struct llama_context *);
void llama_set_n_threads(struct llama_context *, int32_t, int32_t);
int32_t llama_n_threads(struct llama_context *);
int32_t llama_n_threads_batch(struct llama_context *);
void llama_synchronize(struct llama_context *);
float *llama_get_logits_ith(struct llama_context *, int32_t);
float *llama_get_embeddings_ith(struct llama_context *, int32_t);
float *llama_get_embeddings_seq(struct llama_context *, llama_seq_id);
struct llama_perf_context_data llama_perf_context(const struct llama_context *);
void llama_perf_context_reset(struct llama_context *);

llama_memory_t llama_get_memory(const struct llama_context *);
bool llama_memory_can_shift(llama_memory_t);

enum llama_vocab_type llama_vocab_type(const struct llama_vocab *);
int32_t llama_vocab_n_tokens(const struct llama_vocab *);
const char *llama_vocab_get_text(const struct llama_vocab *, llama_token);
float llama_vocab_get_score(const struct llama_vocab *, llama_token);
bool llama_vocab_is_eog(const struct llama_vocab *, llama_token);
bool llama_vocab_is_control(const struct llama_vocab *, llama_token);
llama_token llama_vocab_bos(const struct llama_vocab *);
llama_token llama_vocab_eos(const struct llama_vocab *);
llama_token llama_vocab_eot(const struct llama_vocab *);
llama_token llama_vocab_sep(const struct llama_vocab *);
llama_token llama_vocab_nl(const struct llama_vocab *);
llama_token llama_vocab_pad(const struct llama_vocab *);
llama_token llama_vocab_mask(const struct llama_vocab *);
bool llama_vocab_get_add_bos(const struct llama_vocab *);
bool llama_vocab_get_add_eos(const struct llama_vocab *);
bool llama_vocab_get_add_sep(const struct llama_vocab *);
const llama_token *llama_vocab_get_suppress_tokens(const struct llama_vocab *, int32_t *);
llama_token llama_vocab_fim_pre(const struct llama_vocab *);
llama_token llama_vocab_fim_suf(const struct llama_vocab *);
llama_token llama_vocab_fim_mid(const struct llama_vocab *);
llama_token llama_vocab_fim_pad(const struct llama_vocab *);
llama_token llama_vocab_fim_rep(const struct llama_vocab *);
llama_token llama_vocab_fim_sep(const struct llama_vocab *);

const char *llama_sampler_name(const struct llama_sampler *);
void llama_sampler_free(struct llama_sampler *);
uint32_t llama_sampler_get_seed(const struct llama_sampler *);
struct llama_sampler *llama_sampler_chain_init(llama_sampler_chain_params);
void llama_sampler_chain_add(struct llama_sampler *, struct llama_sampler *);
struct llama_sampler *llama_sampler_chain_get(struct llama_sampler *, int32_t);
int llama_sampler_chain_n(const struct llama_sampler *);
struct llama_sampler *llama_sampler_chain_remove(struct llama_sampler *, int32_t);
struct llama_sampler *llama_sampler_init_greedy(void);
struct llama_sampler *llama_sampler_init_dist(uint32_t);
struct llama_sampler *llama_sampler_init_top_k(int32_t);
struct llama_sampler *llama_sampler_init_top_p(float, size_t);
struct llama_sampler *llama_sampler_init_min_p(float, size_t);
struct llama_sampler *llama_sampler_init_typical(float, size_t);
struct llama_sampler *llama_sampler_init_temp(float);
struct llama_sampler *llama_sampler_init_temp_ext(float, float, float);
struct llama_sampler *llama_sampler_init_xtc(float, float, size_t, uint32_t);
struct llama_sampler *llama_sampler_init_top_n_sigma(float);
struct llama_sampler *llama_sampler_init_mirostat(int32_t, uint32_t, float, float, int32_t);
struct llama_sampler *llama_sampler_init_mirostat_v2(uint32_t, float, float);
struct llama_sampler *llama_sampler_init_penalties(int32_t, int32_t, float, float, float);
struct llama_sampler *llama_sampler_init_adaptive_p(float, float, uint32_t);
struct llama_sampler *llama_sampler_init_logit_bias(int32_t, int32_t, const llama_logit_bias *);
struct llama_sampler *llama_sampler_init_infill(const struct llama_vocab *);

int32_t llama_adapter_meta_val_str(const struct llama_adapter_lora *, const char *, char *, size_t);
int32_t llama_adapter_meta_count(const struct llama_adapter_lora *);
int32_t llama_adapter_meta_key_by_index(const struct llama_adapter_lora *, int32_t, char *, size_t);
int32_t llama_adapter_meta_val_str_by_index(const struct llama_adapter_lora *, int32_t, char *, size_t);
void llama_adapter_lora_free(struct llama_adapter_lora *);
uint64_t llama_adapter_get_alora_n_invocation_tokens(const struct llama_adapter_lora *);
const llama_token *llama_adapter_get_alora_invocation_tokens(const struct llama_adapter_lora *);
