/* engine: the native step and what a request needs around it: samplers, chat templates, output parsers.
 *
 * Mechanism only. Python decides which rows take part in a step and how many tokens each feeds; everything that
 * happens for each token of each row happens in shm_step, without the GIL. Faults are reported as in shim.h.
 */
#ifndef SHIMMY_ENGINE_H
#define SHIMMY_ENGINE_H

#include "media.h"
#include "shim.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- sampler: llama.cpp's common_sampler, built from JSON; one thread at a time ---- */

struct shm_sampler;

/* Token ids, the caller's. */
struct shm_tokens {
    const llama_token * data;
    int32_t             size;
};

/* A grammar, or a schema to make one from, that several samplers may need one after the other: what the first makes of
 * it is kept, unless that is large. A reference; any thread. NULL on a fault: never one of the source, which comes
 * where it is used. `size` is about what it takes in bytes, `text` the grammar: a string to free, or NULL on a fault.
 */
struct shm_grammar;

SHM_API struct shm_grammar * shm_grammar_new(const char * source, size_t n_source, bool is_schema);
SHM_API void                 shm_grammar_free(struct shm_grammar * grammar);
SHM_API char *               shm_grammar_text(const struct shm_grammar * grammar);

/* `ends` are the model's end-of-generation tokens (shm_vocab_ends), which ignore_eos bans. `json` is an object with
 * fields of SamplingParams (shimmy/engine/types/sampling.py) and of the template's output (grammar, grammar_type,
 * grammar_lazy, grammar_triggers, preserved_tokens, generation_prompt, thinking_start_tag, thinking_end_tags,
 * reasoning_budget_tokens). What is absent comes from the model's general.sampling.* metadata, else from llama.cpp.
 * `n_ctx` stands for a window of -1. A `grammar` that is not NULL stands for one in the JSON. NULL on a fault. */
SHM_API struct shm_sampler * shm_sampler_new(const struct llama_model * model, const struct shm_tokens * ends,
                                             int32_t n_ctx, const char * json, size_t n_json,
                                             const struct shm_grammar * grammar);
SHM_API void                 shm_sampler_free(struct shm_sampler * sampler);
SHM_API uint32_t             shm_sampler_seed(const struct shm_sampler * sampler);

/* Chooses a token from a row of n_vocab logits and accepts it, or SHM_FAULT. Rows do this by themselves in shm_step. */
SHM_API llama_token shm_sampler_draw(struct shm_sampler * sampler, const float * logits);

/* Shows the sampler the end of a prompt; 0, or SHM_FAULT. shm_row_open does it by itself. */
SHM_API int shm_sampler_prime(struct shm_sampler * sampler, const llama_token * tokens, int32_t n_tokens);

/* ---- reference: common_sampler itself, from the same JSON, for tests; samples row `idx` of the context ---- */

struct shm_reference;

SHM_API struct shm_reference * shm_reference_new(const struct llama_model * model, const struct shm_tokens * ends,
                                                 int32_t n_ctx, const char * json, size_t n_json);
SHM_API void                   shm_reference_free(struct shm_reference * reference);
SHM_API llama_token shm_reference_draw(struct shm_reference * reference, struct llama_context * ctx, int32_t idx);
SHM_API int         shm_reference_prime(struct shm_reference * reference, const llama_token * tokens, int32_t n_tokens);

/* ---- stepper: the rows of one context; thread of the context ---- */

struct shm_stepper;

enum shm_finish {
    SHM_FINISH_NONE  = 0,
    SHM_FINISH_EOG   = 1, /* an end-of-generation token; none (token -1) where it is banned and a grammar at its end */
    SHM_FINISH_STOP  = 2, /* a stop string */
    SHM_FINISH_LIMIT = 3, /* max_tokens reached */
    SHM_FINISH_CONTEXT = 4, /* the row's context is full */
    SHM_FINISH_ERROR   = 5, /* this row alone failed; its text is the message */
    SHM_FINISH_SHIFT   = 6, /* no end: the row's context is full, and shm_row_shift comes before the next step */
    SHM_FINISH_TOKEN   = 7, /* one of the row's stop tokens */
    SHM_FINISH_GRAMMAR = 8, /* as SHM_FINISH_ERROR, but its grammar is to blame */
};

enum shm_step_code {
    SHM_STEP_OK      = 0,
    SHM_STEP_KV_FULL = 1, /* no cells for this plan; nothing has changed */
    SHM_STEP_ABORTED = 2, /* the context's abort flag was set; nothing has changed */
};

/* A picture's piece in a row: its embeddings stand for the tokens from number `start` on, which are below 0. */
struct shm_row_medium {
    int32_t                    start;
    const struct shm_picture * picture; /* its embeddings are computed; the row keeps what it needs */
    int32_t                    piece;
};

struct shm_row_params {
    llama_seq_id        seq_id; /* the row's own sequence */
    llama_seq_id        source; /* the sequence to share the first n_past cells of, before the row starts; -1: none */
    int32_t             n_past; /* how many of the first tokens are in the sequence's cells, or are to be shared */
    int32_t             max_tokens; /* to generate; -1: until the context ends; 0: end when the prompt is fed */
    int32_t             n_ctx;      /* most tokens that the row may hold, prompt included */
    int32_t             shifts;     /* whether a full context is SHM_FINISH_SHIFT instead of SHM_FINISH_CONTEXT */
    int32_t             min_tokens; /* before so many no end or stop token is chosen, and no stop string ends the row */
    int32_t             n_logprobs; /* likeliest tokens to tell beside each sampled one; -1: no log-probabilities */
    int32_t             n_prompt_logprobs; /* the same for the tokens of the prompt, which then shares no cells */
    const llama_token * stop_tokens;       /* that end the row unseen; copied */
    int32_t             n_stop_tokens;
    int64_t             grammar_us;      /* of CPU that a token may take where there is a grammar; 0: no limit */
    const struct shm_row_medium * media; /* in the order of their starts */
    int32_t                       n_media;
};

/* How many of a row's waiting tokens to feed in this step: a medium whole and by itself, or up to the next one. */
struct shm_bite {
    int32_t row;
    int32_t n_tokens;
};

/* The natural logarithm of a token's probability, by the raw logits. */
struct shm_logprob {
    llama_token token;
    float       logprob;
};

/* Tokens of a row's prompt, from number `first` on, with 1 + n_top log-probabilities for each: its own, then the
 * likeliest. The first token of a prompt has none. */
struct shm_row_score {
    int32_t  row;
    int32_t  first;
    int32_t  n_tokens;
    int32_t  n_top;
    uint32_t logprob_offset; /* into shm_step_result.logprobs */
};

/* A row that sampled a token (or, with max_tokens 0, only ended: token -1), in the order of the plan. The text is whole
 * UTF-8, with stop strings cut off. */
struct shm_row_event {
    int32_t  row;
    int32_t  token;
    int32_t  n_generated;
    int32_t  finish;      /* enum shm_finish */
    int32_t  stop;        /* index of the stop string that ended the row, else -1 */
    uint32_t text_offset; /* into shm_step_result.text */
    uint32_t text_size;
    uint32_t logprob_offset; /* into shm_step_result.logprobs: the token's own, then the likeliest */
    uint32_t n_logprobs;     /* 0 where the row did not ask */
};

/* Owned by the stepper; valid until its next call. Times in microseconds. */
struct shm_step_result {
    const struct shm_row_event * events;
    int32_t                      n_events;
    const char *                 text;
    size_t                       n_text;
    const struct shm_row_score * scores;
    int32_t                      n_scores;
    const struct shm_logprob *   logprobs;
    size_t                       n_logprobs;
    int64_t                      decode_us;
    int64_t                      sample_us;
    bool                         in_flight; /* the step after this one has begun */
};

/* The context outlives the stepper. A step has at most n_outputs rows of logits: one for each row that samples, and one
 * for each token of a prompt whose log-probabilities were asked for. `ends` are as for shm_sampler_new, copied.
 * NULL on a fault. */
SHM_API struct shm_stepper * shm_stepper_new(struct llama_context * ctx, int32_t n_rows, int32_t n_outputs,
                                             const struct shm_tokens * ends);
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

/* Takes the text that a row holds back, as at its end: a string to free, or NULL on a fault. */
SHM_API char * shm_row_flush(struct shm_stepper * stepper, int32_t row);

/* Drops the row's cells but keeps its tokens, which then wait to be fed again. The number that wait, or SHM_FAULT. */
SHM_API int32_t shm_row_rewind(struct shm_stepper * stepper, int32_t row);

/* Notes that the caller has put the cells of the row's first n_past tokens into its sequence. 0, or SHM_FAULT. */
SHM_API int shm_row_advance(struct shm_stepper * stepper, int32_t row, int32_t n_past);

/* Forgets n_discard tokens after the first n_keep. With `move` the cells behind them move up, which changes them for
 * every sequence that holds them; without, they are dropped, and their tokens wait to be fed. 0, or SHM_FAULT. */
SHM_API int shm_row_shift(struct shm_stepper * stepper, int32_t row, int32_t n_keep, int32_t n_discard, bool move);

/* Feeds the bites, tokens in one decode and each medium in its own, and samples every row that has no token waiting
 * after it. With `more`, where each row of the plan then has one token to feed and no end, the step that feeds those
 * begins at once beside the caller (result->in_flight). While a step is in flight, the context and the rows are its
 * own, and shm_step without a plan waits for it; so does shm_stepper_free, and nothing else. An enum shm_step_code, or
 * SHM_FAULT: then the context is not to be trusted any more. */
SHM_API int32_t shm_step(struct shm_stepper * stepper, const struct shm_bite * plan, int32_t n_plan, bool more,
                         struct shm_step_result * result);

/* Takes back a `more` that has not been made use of yet. Any thread. */
SHM_API void shm_step_hold(struct shm_stepper * stepper);

/* ---- chat: any thread; one chat may be used by several at once ---- */

struct shm_chat;
struct shm_format;
struct shm_tools;

/* Parses the model's own template, or `source` when it is not NULL: Jinja, or one of llama.cpp's names. What the
 * template says about tools and reasoning is found out here, once. NULL on a fault: a template that does not parse. */
SHM_API struct shm_chat * shm_chat_new(const struct llama_model * model, const char * source);
SHM_API void              shm_chat_free(struct shm_chat * chat);

/* JSON: {"source", "explicit", "caps": {name: bool}, "enable_thinking", "tools": whether it shows tools,
 * "control": [texts of control tokens], "cuts": [those before which a rendered text may be cut: its parts have the
 * tokens of the whole]}. */
SHM_API char * shm_chat_info(const struct shm_chat * chat);

/* JSON: the names of llama.cpp's own templates. */
SHM_API char * shm_chat_names(void);

/* Renders a conversation. In: {"messages", "tools", "tool_choice", "tool_name", "general_tools", "parallel_tool_calls",
 * "json_schema", "enable_thinking", "split_reasoning", "continue_final", "template_kwargs"}, messages and tools in
 * OpenAI's form; with general_tools the messages describe the tools, and calls are JSON between <tool_call> tags. Out:
 * {"prompt", "sampler": {fields for shm_sampler_new}, "stop": [], "parser": {configuration for shm_parser_new} or null
 * when the text is the content}. What of these is large, the grammar and the parser's rules, is in `*format`, which is
 * set where the text is returned; if `format` is NULL, it is in the text. */
SHM_API char * shm_chat_apply(const struct shm_chat * chat, const char * json, size_t n_json,
                              const struct shm_tools * tools, struct shm_format ** format);

/* Tools in OpenAI's form for several conversations: those that shm_chat_apply is given stand for the JSON's. Immutable;
 * any thread. NULL on a fault. */
SHM_API struct shm_tools * shm_tools_new(const char * json, size_t n_json);
SHM_API void               shm_tools_free(struct shm_tools * tools);

/* How answers are constrained and parsed. A reference; any thread. Its grammar is one to free, or NULL if it has none.
 */
SHM_API void                 shm_format_free(struct shm_format * format);
SHM_API struct shm_grammar * shm_format_grammar(const struct shm_format * format);

/* The same by llama.cpp alone, analysis and all; for tests. */
SHM_API char * shm_chat_reference(const struct shm_chat * chat, const char * json, size_t n_json);

/* ---- parser: splits the output of one request into content, reasoning and tool calls; one thread at a time ---- */

struct shm_parser;

/* `format` has the rules, or is NULL: then they are in the JSON. */
SHM_API struct shm_parser * shm_parser_new(const char * json, size_t n_json, const struct shm_format * format);
SHM_API void                shm_parser_free(struct shm_parser * parser);

/* Adds text and returns what is new as JSON: [{"content"} | {"reasoning"} | {"index", "id", "name", "arguments"}].
 * Output that does not parse is returned as content, never as a fault. */
SHM_API char * shm_parser_feed(struct shm_parser * parser, const char * text, size_t n_text, bool final);

/* What llama.cpp makes of a whole text: {"content", "reasoning", "calls": [{"name", "arguments"}]}; for tests. */
SHM_API char * shm_parser_reference(const char * config, size_t n_config, const char * text, size_t n_text,
                                    bool partial);

#ifdef __cplusplus
}
#endif

#endif
