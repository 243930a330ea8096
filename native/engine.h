/* engine: the native step and what a request needs around it: samplers, chat templates, output parsers.
 *
 * Mechanism only. Python decides which rows take part in a step and how many tokens each feeds; everything that
 * happens for each token of each row happens in shm_step, without the GIL. Faults are reported as in shim.h.
 */
#ifndef SHIMMY_ENGINE_H
#define SHIMMY_ENGINE_H

#include "shim.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- sampler: llama.cpp's common_sampler, built from JSON; one thread at a time ---- */

struct shm_sampler;

/* `json` is an object with fields of SamplingParams (shimmy/engine/types/sampling.py) and of the template's output
 * (grammar, grammar_type, grammar_lazy, grammar_triggers, preserved_tokens, generation_prompt, thinking_start_tag,
 * thinking_end_tags, reasoning_budget_tokens). What is absent comes from the model's general.sampling.* metadata, else
 * from llama.cpp. `n_ctx` stands for a window of -1. NULL on a fault. */
SHM_API struct shm_sampler * shm_sampler_new(const struct llama_model * model, int32_t n_ctx, const char * json,
                                             size_t n_json);
SHM_API void                 shm_sampler_free(struct shm_sampler * sampler);
SHM_API uint32_t             shm_sampler_seed(const struct shm_sampler * sampler);

/* Chooses a token from a row of n_vocab logits and accepts it, or SHM_FAULT. Rows do this by themselves in shm_step. */
SHM_API llama_token shm_sampler_draw(struct shm_sampler * sampler, const float * logits);

/* Shows the sampler the end of a prompt; 0, or SHM_FAULT. shm_row_open does it by itself. */
SHM_API int shm_sampler_prime(struct shm_sampler * sampler, const llama_token * tokens, int32_t n_tokens);

/* ---- reference: common_sampler itself, from the same JSON, for tests; samples row `idx` of the context ---- */

struct shm_reference;

SHM_API struct shm_reference * shm_reference_new(const struct llama_model * model, int32_t n_ctx, const char * json,
                                                 size_t n_json);
SHM_API void                   shm_reference_free(struct shm_reference * reference);
SHM_API llama_token shm_reference_draw(struct shm_reference * reference, struct llama_context * ctx, int32_t idx);
SHM_API int         shm_reference_prime(struct shm_reference * reference, const llama_token * tokens, int32_t n_tokens);

/* ---- stepper: the rows of one context; thread of the context ---- */

struct shm_stepper;

enum shm_finish {
    SHM_FINISH_NONE    = 0,
    SHM_FINISH_EOG     = 1, /* an end-of-generation token */
    SHM_FINISH_STOP    = 2, /* a stop string */
    SHM_FINISH_LIMIT   = 3, /* max_tokens reached */
    SHM_FINISH_CONTEXT = 4, /* the row's context is full */
    SHM_FINISH_ERROR   = 5, /* this row alone failed; its text is the message */
};

enum shm_step_code {
    SHM_STEP_OK      = 0,
    SHM_STEP_KV_FULL = 1, /* no cells for this plan; nothing has changed */
    SHM_STEP_ABORTED = 2, /* the context's abort flag was set; nothing has changed */
};

struct shm_row_params {
    llama_seq_id seq_id;     /* the row's own sequence */
    llama_seq_id source;     /* the sequence to share the first n_past cells of, before the row starts; -1: none */
    int32_t      n_past;     /* how many of the first tokens are in the sequence's cells, or are to be shared */
    int32_t      max_tokens; /* to generate; -1: until the context ends */
    int32_t      n_ctx;      /* most tokens that the row may hold, prompt included */
};

/* How many of a row's waiting tokens to feed in this step. */
struct shm_bite {
    int32_t row;
    int32_t n_tokens;
};

/* A row that sampled a token, in the order of the plan. The text is whole UTF-8, with stop strings cut off. */
struct shm_row_event {
    int32_t  row;
    int32_t  token;
    int32_t  n_generated;
    int32_t  finish;      /* enum shm_finish */
    int32_t  stop;        /* index of the stop string that ended the row, else -1 */
    uint32_t text_offset; /* into shm_step_result.text */
    uint32_t text_size;
};

/* Owned by the stepper; valid until its next call. Times in microseconds. */
struct shm_step_result {
    const struct shm_row_event * events;
    int32_t                      n_events;
    const char *                 text;
    size_t                       n_text;
    int64_t                      decode_us;
    int64_t                      sample_us;
};

/* The context outlives the stepper. NULL on a fault. */
SHM_API struct shm_stepper * shm_stepper_new(struct llama_context * ctx, int32_t n_rows);
SHM_API void                 shm_stepper_free(struct shm_stepper * stepper);

/* Starts a row on `tokens` (copied). Takes over `sampler`, also on a fault. `stops` are n_stops strings back to back,
 * of stop_sizes bytes each. 0, or SHM_FAULT. */
SHM_API int shm_row_open(struct shm_stepper * stepper, int32_t row, const struct shm_row_params * params,
                         const llama_token * tokens, int32_t n_tokens, struct shm_sampler * sampler, const char * stops,
                         const int32_t * stop_sizes, int32_t n_stops);

/* Drops the cells of a sequence that no row runs. 0, or SHM_FAULT. */
SHM_API int shm_seq_remove(struct shm_stepper * stepper, llama_seq_id seq_id);

/* Ends a row; the cells of its sequence stay. 0, or SHM_FAULT. */
SHM_API int shm_row_close(struct shm_stepper * stepper, int32_t row);

/* Drops the row's cells but keeps its tokens, which then wait to be fed again. The number that wait, or SHM_FAULT. */
SHM_API int32_t shm_row_rewind(struct shm_stepper * stepper, int32_t row);

/* Feeds the bites in one decode and samples every row that has no token waiting after it.
 * An enum shm_step_code, or SHM_FAULT: then the context is not to be trusted any more. */
SHM_API int32_t shm_step(struct shm_stepper * stepper, const struct shm_bite * plan, int32_t n_plan,
                         struct shm_step_result * result);

/* ---- chat: any thread; one chat may be used by several at once ---- */

struct shm_chat;

/* Parses the model's own template, or `source` when it is not NULL. NULL on a fault: a template that does not parse. */
SHM_API struct shm_chat * shm_chat_new(const struct llama_model * model, const char * source);
SHM_API void              shm_chat_free(struct shm_chat * chat);

/* JSON: {"source", "explicit", "caps": {name: bool}, "enable_thinking"}. */
SHM_API char * shm_chat_info(const struct shm_chat * chat);

/* Renders a conversation. In: {"messages", "tools", "tool_choice", "parallel_tool_calls", "json_schema", "grammar",
 * "enable_thinking", "template_kwargs"}, messages and tools in OpenAI's form. Out: {"prompt", "sampler": {fields for
 * shm_sampler_new}, "stop": [], "parser": {configuration for shm_parser_new} or null when the text is the content}. */
SHM_API char * shm_chat_apply(const struct shm_chat * chat, const char * json, size_t n_json);

/* ---- parser: splits the output of one request into content, reasoning and tool calls; one thread at a time ---- */

struct shm_parser;

SHM_API struct shm_parser * shm_parser_new(const char * json, size_t n_json);
SHM_API void                shm_parser_free(struct shm_parser * parser);

/* Adds text and returns what is new as JSON: [{"content"} | {"reasoning"} | {"index", "id", "name", "arguments"}].
 * Output that does not parse is returned as content, never as a fault. */
SHM_API char * shm_parser_feed(struct shm_parser * parser, const char * text, size_t n_text, bool final);

#ifdef __cplusplus
}
#endif

#endif
