/* native/shim.h, where each is described */

#define SHM_ABI_VERSION ...
#define SHM_FAULT ...
#define SHM_FAULT_NONE ...
#define SHM_FAULT_INVALID_ARGUMENT ...
#define SHM_FAULT_RUNTIME ...
#define SHM_FAULT_ABORTED ...
#define SHM_FAULT_OUT_OF_MEMORY ...

int shm_abi_version(void);
void shm_init(void);
int shm_last_fault(void);
const char *shm_last_error(void);
void shm_free(void *);

void shm_log_set_level(int);
size_t shm_log_read(char *, size_t);
bool shm_log_wait(int);
uint64_t shm_log_dropped(void);
void shm_log_write(int, const char *);
uint64_t shm_log_mark(void);
char *shm_log_errors_since(uint64_t);

struct shm_flag;
struct shm_flag *shm_flag_new(void);
void shm_flag_free(struct shm_flag *);
void shm_flag_set(struct shm_flag *, bool);
bool shm_flag_get(const struct shm_flag *);

struct shm_load;
struct shm_load *shm_load_new(void);
void shm_load_free(struct shm_load *);
void shm_load_cancel(struct shm_load *);
bool shm_load_cancelled(const struct shm_load *);
float shm_load_progress(const struct shm_load *);
struct llama_model *shm_model_load(const char *const *, size_t, const struct llama_model_params *, struct shm_load *);
char *shm_model_tensors(const struct llama_model *);
int shm_regex_check(const char *);

/* called on the loading thread, at steps of one percent; the handle is of a Python progress relay */
extern "Python" bool shimmy_load_progress(float, void *);

struct llama_context *shm_context_new(struct llama_model *, const struct llama_context_params *, struct shm_flag *);
int32_t shm_decode(struct llama_context *, const struct llama_batch *);
int32_t shm_encode(struct llama_context *, const struct llama_batch *);
int shm_set_causal_attn(struct llama_context *, bool);
int shm_set_embeddings(struct llama_context *, bool);
char *shm_memory_breakdown(const struct llama_context *);

int shm_memory_clear(llama_memory_t, bool);
int shm_memory_seq_rm(llama_memory_t, llama_seq_id, llama_pos, llama_pos);
int shm_memory_seq_cp(llama_memory_t, llama_seq_id, llama_seq_id, llama_pos, llama_pos);
int shm_memory_seq_keep(llama_memory_t, llama_seq_id);
int shm_memory_seq_add(llama_memory_t, llama_seq_id, llama_pos, llama_pos, llama_pos);
int shm_memory_seq_div(llama_memory_t, llama_seq_id, llama_pos, llama_pos, int);
llama_pos shm_memory_seq_pos_min(llama_memory_t, llama_seq_id);
llama_pos shm_memory_seq_pos_max(llama_memory_t, llama_seq_id);
llama_pos shm_memory_last(llama_memory_t, llama_seq_id);
int32_t shm_window_cells(llama_memory_t);
int shm_window_remove(llama_memory_t, llama_seq_id);
bool shm_window_reaches(const struct llama_model *, llama_memory_t, llama_seq_id, llama_pos);
int32_t shm_window_trim(const struct llama_model *, llama_memory_t);

size_t shm_state_size(struct llama_context *, llama_seq_id, uint32_t);
size_t shm_state_get(struct llama_context *, uint8_t *, size_t, llama_seq_id, uint32_t);
size_t shm_state_set(struct llama_context *, const uint8_t *, size_t, llama_seq_id, uint32_t);

int32_t shm_tokenize(const struct llama_vocab *, const char *, int32_t, llama_token *, int32_t, bool, bool);
int32_t shm_detokenize(const struct llama_vocab *, const llama_token *, int32_t, char *, int32_t, bool, bool);
int32_t shm_token_to_piece(const struct llama_vocab *, llama_token, char *, int32_t, int32_t, bool);
int32_t shm_token_attr(const struct llama_vocab *, llama_token);
int32_t shm_vocab_ends(const struct llama_vocab *, llama_token *, int32_t);

int shm_grammar_check(const struct llama_vocab *, const char *, const char *);
struct llama_sampler *shm_smpl_grammar(const struct llama_vocab *, const char *, const char *);
struct llama_sampler *shm_smpl_grammar_lazy(const struct llama_vocab *, const char *, const char *, const char **, size_t,
                                            const llama_token *, size_t);
struct llama_sampler *shm_smpl_dry(const struct llama_vocab *, float, float, int32_t, int32_t, const char **, size_t);
llama_token shm_smpl_sample(struct llama_sampler *, struct llama_context *, int32_t);
int32_t shm_smpl_apply(struct llama_sampler *, const float *, int32_t, llama_token_data *, int64_t *);
int shm_smpl_accept(struct llama_sampler *, llama_token);
int shm_smpl_reset(struct llama_sampler *);
struct llama_sampler *shm_smpl_clone(const struct llama_sampler *);

struct llama_adapter_lora *shm_lora_load(struct llama_model *, const char *);
int shm_set_loras(struct llama_context *, struct llama_adapter_lora **, size_t, const float *);

ggml_backend_reg_t shm_backend_load(const char *, char **);
int shm_backend_score(const char *);
char *shm_backend_trial(ggml_backend_reg_t);
int shm_rpc_add_server(const char *);
char *shm_backend_features(ggml_backend_reg_t);
char *shm_backend_file(ggml_backend_reg_t);

int shm_llama_build(void);
const char *shm_llama_commit(void);
