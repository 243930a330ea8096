/* shim: the core of the C ABI over llama.cpp.
 *
 * What needs no protection is called directly through cffi; what can throw, abort, or must run without Python is here.
 * A function that can fail says how; the reason is then in shm_last_fault() and shm_last_error() of the calling thread,
 * and llama.cpp's own words are in the log ring. `char *` results are the caller's, to be released with shm_free();
 * `const char *` results belong to the shim.
 */
#ifndef SHIMMY_SHIM_H
#define SHIMMY_SHIM_H

#include "llama.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
#define SHM_API __declspec(dllexport)
#else
#define SHM_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when a declaration here changes its meaning; the Python side refuses another number. */
#define SHM_ABI_VERSION 1

/* Returned on a fault by functions that have codes of their own; none of those is ever this small. */
#define SHM_FAULT (-2147483647)

enum shm_fault {
    SHM_FAULT_NONE             = 0,
    SHM_FAULT_INVALID_ARGUMENT = 1,
    SHM_FAULT_RUNTIME          = 2,
    SHM_FAULT_ABORTED          = 3, /* a GGML_ASSERT or GGML_ABORT was caught */
    SHM_FAULT_OUT_OF_MEMORY    = 4,
};

SHM_API int shm_abi_version(void);

/* Installs the abort callback and the log ring. Idempotent; any thread; before any other call. */
SHM_API void shm_init(void);

/* The calling thread's last fault (enum shm_fault) and its message (never NULL; valid until the thread's next call). */
SHM_API int          shm_last_fault(void);
SHM_API const char * shm_last_error(void);

SHM_API void shm_free(void * ptr);

/* ---- log ring: all of llama.cpp's and ggml's lines, from every thread; any thread may read ---- */

/* Lines below `level` (enum ggml_log_level) are dropped; default GGML_LOG_LEVEL_INFO. */
SHM_API void shm_log_set_level(int level);

/* Moves whole lines, oldest first, as "<level digit><text>\n" into buf; returns the bytes written, 0 when there are
 * none. */
SHM_API size_t shm_log_read(char * buf, size_t cap);

/* Waits until a line is there or timeout_ms have passed; true if there is one. */
SHM_API bool shm_log_wait(int timeout_ms);

/* Lines lost because nobody read them in time. */
SHM_API uint64_t shm_log_dropped(void);

/* Adds a line of our own. */
SHM_API void shm_log_write(int level, const char * text);

/* A point in the log, and the warning and error lines since then, oldest first, joined by '\n': those of the calling
 * thread, or of all threads when it wrote none. At most the last 32; reading the ring does not remove them. */
SHM_API uint64_t shm_log_mark(void);
SHM_API char *   shm_log_errors_since(uint64_t mark);

/* ---- flag: an atomic that C callbacks read while Python is elsewhere; any thread ---- */

struct shm_flag;
SHM_API struct shm_flag * shm_flag_new(void); /* NULL: out of memory */
SHM_API void              shm_flag_free(struct shm_flag * flag);
SHM_API void              shm_flag_set(struct shm_flag * flag, bool value);
SHM_API bool              shm_flag_get(const struct shm_flag * flag);

/* ---- model ---- */

/* Progress and cancellation of one load, shared between the loading thread and any other. */
struct shm_load;
SHM_API struct shm_load * shm_load_new(void); /* NULL: out of memory */
SHM_API void              shm_load_free(struct shm_load * load);
SHM_API void              shm_load_cancel(struct shm_load * load);
SHM_API bool              shm_load_cancelled(const struct shm_load * load);
SHM_API float             shm_load_progress(const struct shm_load * load);

/* Loads from one path (the first shard of a split model), or from all shards in order. `load` may be NULL. A
 * progress_callback in params is still called, on this thread, at steps of one percent. NULL on failure or cancel. */
SHM_API struct llama_model * shm_model_load(const char * const * paths, size_t n_paths,
                                            const struct llama_model_params * params, struct shm_load * load);

/* JSON: [{"name", "type", "bytes", "buffer"}], one for each tensor of the model; "buffer" is the buffer type's name. */
SHM_API char * shm_model_tensors(const struct llama_model * model);

/* 0 when `pattern` compiles as the std::regex that tensor_buft_overrides are matched with, else SHM_FAULT. */
SHM_API int shm_regex_check(const char * pattern);

/* ---- context: one thread at a time, except for the flag ---- */

/* NULL on failure. `abort_flag` (may be NULL, else outlives the context) stops a running decode on the CPU backend. */
SHM_API struct llama_context * shm_context_new(struct llama_model * model, const struct llama_context_params * params,
                                               struct shm_flag * abort_flag);

/* llama_decode's and llama_encode's codes, or SHM_FAULT. After a fault the context's memory is not to be trusted. */
SHM_API int32_t shm_decode(struct llama_context * ctx, const struct llama_batch * batch);
SHM_API int32_t shm_encode(struct llama_context * ctx, const struct llama_batch * batch);

/* 0, or SHM_FAULT: both can rebuild the graph reserve. */
SHM_API int shm_set_causal_attn(struct llama_context * ctx, bool value);
SHM_API int shm_set_embeddings(struct llama_context * ctx, bool value);

/* JSON: [{"buffer", "host", "model", "context", "compute"}] in bytes, one for each buffer type in use. */
SHM_API char * shm_memory_breakdown(const struct llama_context * ctx);

/* ---- memory (KV or recurrent): thread of the context ---- */

/* 0, or SHM_FAULT. `data`: zero the buffers too. */
SHM_API int shm_memory_clear(llama_memory_t mem, bool data);

/* 1 done, 0 not possible (a partial removal that this memory cannot do), SHM_FAULT. */
SHM_API int shm_memory_seq_rm(llama_memory_t mem, llama_seq_id seq, llama_pos p0, llama_pos p1);

/* 0, or SHM_FAULT. */
SHM_API int shm_memory_seq_cp(llama_memory_t mem, llama_seq_id src, llama_seq_id dst, llama_pos p0, llama_pos p1);
SHM_API int shm_memory_seq_keep(llama_memory_t mem, llama_seq_id seq);
SHM_API int shm_memory_seq_add(llama_memory_t mem, llama_seq_id seq, llama_pos p0, llama_pos p1, llama_pos delta);
SHM_API int shm_memory_seq_div(llama_memory_t mem, llama_seq_id seq, llama_pos p0, llama_pos p1, int d);

/* A position, -1 when the sequence is empty, or SHM_FAULT. */
SHM_API llama_pos shm_memory_seq_pos_min(llama_memory_t mem, llama_seq_id seq);
SHM_API llama_pos shm_memory_seq_pos_max(llama_memory_t mem, llama_seq_id seq);

/* As shm_memory_seq_pos_max, of the layers that keep all of a sequence: its window may be gone, or be another's. */
SHM_API llama_pos shm_memory_last(llama_memory_t mem, llama_seq_id seq);

/* The layers of a sliding window. Cells of all sequences together in them, 0 where there are no such layers. */
SHM_API int32_t shm_window_cells(llama_memory_t mem);

/* Drops a sequence from those layers alone; before it can go on, its window has to be restored. 0, or SHM_FAULT. */
SHM_API int shm_window_remove(llama_memory_t mem, llama_seq_id seq);

/* Whether a sequence can go on behind its first n_tokens: what the next one sees in those layers is there. */
SHM_API bool shm_window_reaches(const struct llama_model * model, llama_memory_t mem, llama_seq_id seq,
                                llama_pos n_tokens);

/* Drops from those layers what the next token of a sequence does not see: llama.cpp writes over such cells by itself,
 * but not where several sequences hold them. The number of sequences that had any, or SHM_FAULT. */
SHM_API int32_t shm_window_trim(const struct llama_model * model, llama_memory_t mem);

/* ---- state: thread of the context; `seq` -1 is the whole context; 0 on failure (with or without a fault) ---- */

SHM_API size_t shm_state_size(struct llama_context * ctx, llama_seq_id seq, uint32_t flags);
SHM_API size_t shm_state_get(struct llama_context * ctx, uint8_t * dst, size_t cap, llama_seq_id seq, uint32_t flags);
SHM_API size_t shm_state_set(struct llama_context * ctx, const uint8_t * src, size_t size, llama_seq_id seq,
                             uint32_t flags);

/* ---- vocabulary: any thread; the codes of the llama_* functions, or SHM_FAULT ---- */

SHM_API int32_t shm_tokenize(const struct llama_vocab * vocab, const char * text, int32_t len, llama_token * tokens,
                             int32_t cap, bool add_special, bool parse_special);
SHM_API int32_t shm_detokenize(const struct llama_vocab * vocab, const llama_token * tokens, int32_t n_tokens,
                               char * buf, int32_t cap, bool remove_special, bool unparse_special);
SHM_API int32_t shm_token_to_piece(const struct llama_vocab * vocab, llama_token token, char * buf, int32_t cap,
                                   int32_t lstrip, bool special);
SHM_API int32_t shm_token_attr(const struct llama_vocab * vocab, llama_token token);

/* Writes up to `cap` of the tokens that end generation, in order; returns how many there are. Takes a pass over the
 * vocabulary, half a millisecond for a large one. */
SHM_API int32_t shm_vocab_ends(const struct llama_vocab * vocab, llama_token * tokens, int32_t cap);

/* ---- samplers: one thread at a time for each ---- */

/* 0, or SHM_FAULT with the reason and its line: the grammar does not parse, lacks the root rule, or nests too deep. */
SHM_API int shm_grammar_check(const struct llama_vocab * vocab, const char * grammar, const char * root);

/* NULL on a grammar that does not parse, a pattern that is no regex, or a token out of range. */
SHM_API struct llama_sampler * shm_smpl_grammar(const struct llama_vocab * vocab, const char * grammar,
                                                const char * root);
SHM_API struct llama_sampler * shm_smpl_grammar_lazy(const struct llama_vocab * vocab, const char * grammar,
                                                     const char * root, const char ** patterns, size_t n_patterns,
                                                     const llama_token * tokens, size_t n_tokens);

/* Tokenizes its breakers; NULL on a fault. */
SHM_API struct llama_sampler * shm_smpl_dry(const struct llama_vocab * vocab, float multiplier, float base,
                                            int32_t allowed_length, int32_t last_n, const char ** breakers, size_t n);

/* The token that smpl chooses from row `idx` of the last batch, or SHM_FAULT; accepts the token too. */
SHM_API llama_token shm_smpl_sample(struct llama_sampler * smpl, struct llama_context * ctx, int32_t idx);

/* Applies smpl to n logits (index = token) and writes the candidates that are left to out (room for n), in their order;
 * *selected is the chosen one's index in out, or -1. Does not accept. Returns how many are left, or SHM_FAULT. */
SHM_API int32_t shm_smpl_apply(struct llama_sampler * smpl, const float * logits, int32_t n, llama_token_data * out,
                               int64_t * selected);

/* 0, or SHM_FAULT: a grammar refuses a token that does not match. */
SHM_API int                    shm_smpl_accept(struct llama_sampler * smpl, llama_token token);
SHM_API int                    shm_smpl_reset(struct llama_sampler * smpl);
SHM_API struct llama_sampler * shm_smpl_clone(const struct llama_sampler * smpl); /* NULL on a fault */

/* ---- adapters ---- */

SHM_API struct llama_adapter_lora * shm_lora_load(struct llama_model * model, const char * path); /* NULL on failure */
SHM_API int shm_set_loras(struct llama_context * ctx, struct llama_adapter_lora ** adapters, size_t n,
                          const float * scales); /* 0, or SHM_FAULT */

/* ---- backends ---- */

/* llama.cpp's build number, and the commit or tag it was built from ("unknown"; belongs to the library). */
SHM_API int          shm_llama_build(void);
SHM_API const char * shm_llama_commit(void);

/* Loads one backend module; NULL on failure, with the reason in the log. With `said`, the log has it as information
 * only, and *said (malloc'd) is all that was logged. */
SHM_API ggml_backend_reg_t shm_backend_load(const char * path, char ** said);

/* How well a module suits this CPU: 0 not at all, 1 when it does not say; -1 when it cannot be opened. Runs none of it
 * but its check of the CPU. */
SHM_API int shm_backend_score(const char * path);

/* Computes a little on each device of a backend, with weights in each kind of buffer they may lie in. JSON: [{"device",
 * "problem", "buffers"}], the problem "" where all is right. May crash where the driver does: for a process that
 * nothing depends on. */
SHM_API char * shm_backend_trial(ggml_backend_reg_t reg);

/* Registers the devices of an RPC server before a model is loaded; the number of devices, or SHM_FAULT. */
SHM_API int shm_rpc_add_server(const char * endpoint);

/* JSON: {"name": "value"} of what the backend says it was built with or found in the CPU. */
SHM_API char * shm_backend_features(ggml_backend_reg_t reg);

/* The path of the library that the backend's code is in; "" when the system does not tell. */
SHM_API char * shm_backend_file(ggml_backend_reg_t reg);

#ifdef __cplusplus
}
#endif

#endif
