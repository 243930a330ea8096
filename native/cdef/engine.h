/* native/engine.h */
struct shm_tokens {
    const llama_token *data;
    int32_t size;
};
struct shm_grammar;
struct shm_grammar *shm_grammar_new(const char *, size_t, bool);
void shm_grammar_free(struct shm_grammar *);
char *shm_grammar_text(const struct shm_grammar *);

struct shm_sampler;
struct shm_sampler *shm_sampler_new(const struct llama_model *, const struct shm_tokens *, int32_t, const char *, size_t,
                                    const struct shm_grammar *);
void shm_sampler_free(struct shm_sampler *);
uint32_t shm_sampler_seed(const struct shm_sampler *);
llama_token shm_sampler_draw(struct shm_sampler *, const float *);
int shm_sampler_prime(struct shm_sampler *, const llama_token *, int32_t);

struct shm_reference;
struct shm_reference *shm_reference_new(const struct llama_model *, const struct shm_tokens *, int32_t, const char *, size_t);
void shm_reference_free(struct shm_reference *);
llama_token shm_reference_draw(struct shm_reference *, struct llama_context *, int32_t);
int shm_reference_prime(struct shm_reference *, const llama_token *, int32_t);

#define SHM_FINISH_NONE ...
#define SHM_FINISH_EOG ...
#define SHM_FINISH_STOP ...
#define SHM_FINISH_LIMIT ...
#define SHM_FINISH_CONTEXT ...
#define SHM_FINISH_ERROR ...
#define SHM_FINISH_TOKEN ...
#define SHM_FINISH_GRAMMAR ...
#define SHM_STEP_OK ...
#define SHM_STEP_KV_FULL ...
#define SHM_STEP_ABORTED ...

struct shm_stepper;
struct shm_row_medium {
    int32_t start;
    const struct shm_picture *picture;
    int32_t piece;
};
struct shm_row_params {
    llama_seq_id seq_id;
    llama_seq_id source;
    int32_t n_past;
    int32_t max_tokens;
    int32_t n_ctx;
    int32_t shifts;
    int32_t min_tokens;
    int32_t n_logprobs;
    int32_t n_prompt_logprobs;
    const llama_token *stop_tokens;
    int32_t n_stop_tokens;
    int64_t grammar_us;
    const struct shm_row_medium *media;
    int32_t n_media;
};
struct shm_bite {
    int32_t row;
    int32_t n_tokens;
};
struct shm_logprob {
    llama_token token;
    float logprob;
};
struct shm_row_score {
    int32_t row;
    int32_t first;
    int32_t n_tokens;
    int32_t n_top;
    uint32_t logprob_offset;
};
struct shm_row_event {
    int32_t row;
    int32_t token;
    int32_t n_generated;
    int32_t finish;
    int32_t stop;
    uint32_t text_offset;
    uint32_t text_size;
    uint32_t logprob_offset;
    uint32_t n_logprobs;
};
struct shm_step_result {
    const struct shm_row_event *events;
    int32_t n_events;
    const char *text;
    size_t n_text;
    const struct shm_row_score *scores;
    int32_t n_scores;
    const struct shm_logprob *logprobs;
    size_t n_logprobs;
    int64_t decode_us;
    int64_t sample_us;
    bool in_flight;
};
struct shm_stepper *shm_stepper_new(struct llama_context *, int32_t, int32_t, const struct shm_tokens *);
void shm_stepper_free(struct shm_stepper *);
int shm_row_open(struct shm_stepper *, int32_t, const struct shm_row_params *, const llama_token *, int32_t,
                 struct shm_sampler *, const char *, const int32_t *, int32_t);
int shm_row_close(struct shm_stepper *, int32_t);
int shm_seq_remove(struct shm_stepper *, llama_seq_id);
char *shm_row_flush(struct shm_stepper *, int32_t);
int32_t shm_row_rewind(struct shm_stepper *, int32_t);
int shm_row_advance(struct shm_stepper *, int32_t, int32_t);
int shm_row_shift(struct shm_stepper *, int32_t, int32_t, int32_t, bool);
int32_t shm_step(struct shm_stepper *, const struct shm_bite *, int32_t, bool, struct shm_step_result *);
void shm_step_hold(struct shm_stepper *);

struct shm_chat;
struct shm_format;
struct shm_chat *shm_chat_new(const struct llama_model *, const char *);
void shm_chat_free(struct shm_chat *);
char *shm_chat_info(const struct shm_chat *);
struct shm_tools;
struct shm_tools *shm_tools_new(const char *, size_t);
void shm_tools_free(struct shm_tools *);
char *shm_chat_apply(const struct shm_chat *, const char *, size_t, const struct shm_tools *, struct shm_format **);
void shm_format_free(struct shm_format *);
struct shm_grammar *shm_format_grammar(const struct shm_format *);
char *shm_chat_names(void);
char *shm_chat_reference(const struct shm_chat *, const char *, size_t);

struct shm_parser;
struct shm_parser *shm_parser_new(const char *, size_t, const struct shm_format *);
void shm_parser_free(struct shm_parser *);
char *shm_parser_feed(struct shm_parser *, const char *, size_t, bool);
char *shm_parser_reference(const char *, size_t, const char *, size_t, bool);
