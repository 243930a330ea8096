// stepper: the rows of one context, and the step that feeds and samples them.
//
// The tokens of a row that are not in its cells wait to be fed; there is no other difference between taking in a prompt
// and generating. A row that has been fed all its tokens samples the next one, which then waits. Rewinding a row
// (preemption) sets n_past to 0.
//
// Thread: the owner of the context, for all of it.
#include "engine.h"
#include "guard.hpp"
#include "logprobs.hpp"
#include "pool.hpp"
#include "row.hpp"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

namespace {

using shm::row;

// The arrays of a llama_batch, allocated once.
class step_batch {
  public:
    explicit step_batch(int32_t capacity) : impl_(llama_batch_init(capacity, 0, 1)) {}

    ~step_batch() { llama_batch_free(impl_); }

    step_batch(const step_batch &)             = delete;
    step_batch & operator=(const step_batch &) = delete;

    void clear() { impl_.n_tokens = 0; }

    void add(llama_token token, llama_pos pos, llama_seq_id seq_id, bool output) {
        const int32_t i    = impl_.n_tokens++;
        impl_.token[i]     = token;
        impl_.pos[i]       = pos;
        impl_.n_seq_id[i]  = 1;
        impl_.seq_id[i][0] = seq_id;
        impl_.logits[i]    = output ? 1 : 0;
    }

    int32_t size() const { return impl_.n_tokens; }

    const llama_batch & get() const { return impl_; }

  private:
    llama_batch impl_;
};

// A row's choice of its next token.
struct draw {
    int32_t     row;
    float *     logits;  // null: the row ends with its prompt
    size_t      logprobs;
    llama_token token;
    std::string error;
};

// A token of a prompt whose log-probability is to be told.
struct score {
    const float * logits;
    llama_token   token;
    int32_t       n_top;
    size_t        logprobs;
};

// Sampling a row is tens of microseconds: more threads than this only wake each other.
constexpr int32_t max_helpers = 7;

int n_helpers(const llama_context * ctx) {
    return std::min(llama_n_threads(const_cast<llama_context *>(ctx)) - 1, max_helpers);
}

void require(bool condition, const char * message) {
    if (!condition) {
        throw std::invalid_argument(message);
    }
}

}  // namespace

struct shm_stepper {
    shm_stepper(llama_context * ctx, int32_t n_rows, int32_t n_outputs)
        : ctx(ctx),
          n_outputs(n_outputs),
          vocab(llama_model_get_vocab(llama_get_model(ctx))),
          memory(llama_get_memory(ctx)),
          rows(static_cast<size_t>(n_rows)),
          batch(static_cast<int32_t>(llama_n_batch(ctx))),
          pool(n_helpers(ctx)) {}

    row & at(int32_t index) {
        require(index >= 0 && index < static_cast<int32_t>(rows.size()), "row: out of range");
        require(rows[index] != nullptr, "row: not open");
        return *rows[index];
    }

    void place(const shm_row_params & params);
    void check(const shm_bite * plan, int32_t n_plan);
    void fill(const shm_bite * plan, int32_t n_plan);
    void undo(const shm_bite * plan, int32_t n_plan);
    void advance(const shm_bite * plan, int32_t n_plan);
    void sample(const shm_bite * plan, int32_t n_plan);
    void collect_scores(const shm_bite & bite, int32_t first_output);
    void choose(draw & draw);
    void deliver(draw & draw);

    float * logits_of(int32_t output);
    size_t  reserve_logprobs(int32_t n_top);

    const std::vector<llama_token> & ends();

    llama_context *                   ctx;
    int32_t                           n_outputs;
    const llama_vocab *               vocab;
    llama_memory_t                    memory;
    std::vector<std::unique_ptr<row>> rows;
    step_batch                        batch;
    std::vector<int32_t>              order;   // indexes into the plan, by sequence id
    std::vector<int32_t>              starts;  // batch index of each bite's first token
    std::vector<draw>                 draws;
    std::vector<score>                scores;
    std::vector<shm_row_event>        events;
    std::vector<shm_row_score>        scored;
    std::vector<shm_logprob>          logprobs;
    std::vector<llama_token>          eogs;  // see ends()
    std::string                       text;
    shm::pool                         pool;
};

// The cells that a row begins with: its own, or metadata copies of another sequence's, which cost no memory.
void shm_stepper::place(const shm_row_params & params) {
    const bool shares = params.source >= 0 && params.source != params.seq_id;
    llama_memory_seq_rm(memory, params.seq_id, shares ? -1 : params.n_past, -1);
    if (shares && params.n_past > 0) {
        llama_memory_seq_cp(memory, params.source, params.seq_id, 0, params.n_past);
    }
    const llama_pos last = llama_memory_seq_pos_max(memory, params.seq_id);
    require(last == params.n_past - 1, "n_past: the cells of the sequence do not reach there");
}

void shm_stepper::check(const shm_bite * plan, int32_t n_plan) {
    int64_t n_tokens = 0;
    int64_t n_logits = 0;
    for (int32_t i = 0; i < n_plan; i++) {
        const row & row = at(plan[i].row);
        require(plan[i].n_tokens > 0 && plan[i].n_tokens <= row.n_waiting(), "plan: a row has fewer tokens waiting");
        for (int32_t j = 0; j < i; j++) {
            require(plan[j].row != plan[i].row, "plan: a row is in it twice");
        }
        n_tokens += plan[i].n_tokens;
        n_logits += row.n_prompt_logprobs >= 0 && row.n_past < row.n_prompt ? plan[i].n_tokens : 1;
    }
    require(n_logits <= n_outputs, "plan: more rows of logits than n_outputs");
    require(n_plan > 0, "plan: empty");
    require(n_tokens <= static_cast<int64_t>(llama_n_batch(ctx)), "plan: more tokens than n_batch");
}

// Sorted by sequence id: llama.cpp then puts rows of several streams into one ubatch.
void shm_stepper::fill(const shm_bite * plan, int32_t n_plan) {
    order.resize(n_plan);
    for (int32_t i = 0; i < n_plan; i++) {
        order[i] = i;
    }
    std::sort(order.begin(), order.end(),
              [&](int32_t a, int32_t b) { return rows[plan[a].row]->seq_id < rows[plan[b].row]->seq_id; });
    starts.resize(n_plan);
    batch.clear();
    for (const int32_t i : order) {
        const row &   row  = *rows[plan[i].row];
        const int32_t last = static_cast<int32_t>(row.tokens.size()) - 1;
        starts[i]          = batch.size();
        for (int32_t pos = row.n_past; pos < row.n_past + plan[i].n_tokens; pos++) {
            const bool samples = pos == last && !row.ends_with_prompt();
            batch.add(row.tokens[pos], pos, row.seq_id, samples || row.scores(pos));
        }
    }
}

// After a decode that stopped half-way: the cells beyond n_past belong to nobody.
void shm_stepper::undo(const shm_bite * plan, int32_t n_plan) {
    for (int32_t i = 0; i < n_plan; i++) {
        const row & row = *rows[plan[i].row];
        llama_memory_seq_rm(memory, row.seq_id, row.n_past, -1);
    }
}

float * shm_stepper::logits_of(int32_t output) {
    float * logits = llama_get_logits_ith(ctx, output);
    if (logits == nullptr) {
        throw std::runtime_error("llama.cpp has no logits for a row");
    }
    return logits;
}

// Found out once, by the first row that has to know: it takes a pass over the vocabulary.
const std::vector<llama_token> & shm_stepper::ends() {
    const int32_t n_vocab = eogs.empty() ? llama_vocab_n_tokens(vocab) : 0;
    for (llama_token token = 0; token < n_vocab; token++) {
        if (llama_vocab_is_eog(vocab, token)) {
            eogs.push_back(token);
        }
    }
    return eogs;
}

// Where the log-probabilities of a token go, with n_top others beside it; -1: nowhere.
size_t shm_stepper::reserve_logprobs(int32_t n_top) {
    const size_t at = logprobs.size();
    logprobs.resize(at + static_cast<size_t>(n_top + 1));
    return at;
}

// Thread: any of the pool's; touches nothing but the row and its logits. A fault in here (a grammar that cannot go on,
// say) is this row's alone.
void shm_stepper::choose(draw & draw) {
    static thread_local std::vector<llama_token_data> scratch;
    const shm::abort_guard                            guard;
    try {
        row & row  = *rows[draw.row];
        draw.token = row.choose(draw.logits, scratch);
        if (row.n_logprobs >= 0) {
            shm::write_logprobs(draw.logits, llama_vocab_n_tokens(vocab), draw.token, row.n_logprobs,
                                &logprobs[draw.logprobs]);
        }
    } catch (const std::exception & error) {
        draw.error = error.what();
    }
}

void shm_stepper::deliver(draw & draw) {
    row &         row = *rows[draw.row];
    shm_row_event event{};
    event.row         = draw.row;
    event.stop        = -1;
    event.token       = draw.token;
    event.text_offset = static_cast<uint32_t>(text.size());
    if (!draw.error.empty()) {
        event.finish = SHM_FINISH_ERROR;
        text += draw.error;
    } else if (draw.logits == nullptr) {
        event.finish = SHM_FINISH_LIMIT;
    } else {
        row.take(draw.token, vocab, text, event);
        event.logprob_offset = static_cast<uint32_t>(draw.logprobs);
        event.n_logprobs     = static_cast<uint32_t>(row.n_logprobs + 1);
    }
    event.n_generated = row.n_generated();
    event.text_size   = static_cast<uint32_t>(text.size()) - event.text_offset;
    events.push_back(event);
}

// The tokens of a prompt that the logits of this bite tell about.
void shm_stepper::collect_scores(const shm_bite & bite, int32_t first_output) {
    row & row = *rows[bite.row];
    if (row.n_prompt_logprobs < 0) {
        return;
    }
    shm_row_score found = {bite.row, row.n_scored + 1, 0, row.n_prompt_logprobs,
                           static_cast<uint32_t>(logprobs.size())};
    for (int32_t k = 0; k < bite.n_tokens; k++) {
        const int32_t pos = row.n_past - bite.n_tokens + k;
        if (row.scores(pos)) {
            scores.push_back(
                {logits_of(first_output + k), row.tokens[pos + 1], found.n_top, reserve_logprobs(found.n_top)});
            found.n_tokens++;
        }
    }
    if (found.n_tokens > 0) {
        row.n_scored += found.n_tokens;
        scored.push_back(found);
    }
}

void shm_stepper::advance(const shm_bite * plan, int32_t n_plan) {
    for (int32_t i = 0; i < n_plan; i++) {
        rows[plan[i].row]->n_past += plan[i].n_tokens;
    }
}

void shm_stepper::sample(const shm_bite * plan, int32_t n_plan) {
    draws.clear();
    scores.clear();
    scored.clear();
    logprobs.clear();
    for (int32_t i = 0; i < n_plan; i++) {
        collect_scores(plan[i], starts[i]);
        const row & row = *rows[plan[i].row];
        if (row.n_waiting() > 0) {
            continue;
        }
        float * logits = row.ends_with_prompt() ? nullptr : logits_of(starts[i] + plan[i].n_tokens - 1);
        draws.push_back({plan[i].row, logits, reserve_logprobs(row.n_logprobs), LLAMA_TOKEN_NULL, {}});
    }
    const auto n_draws  = static_cast<int>(draws.size());
    const auto n_scores = static_cast<int>(scores.size());
    pool.run(n_draws + n_scores, [&](int i) {
        if (i >= n_draws) {
            const score & score = scores[static_cast<size_t>(i - n_draws)];
            shm::write_logprobs(score.logits, llama_vocab_n_tokens(vocab), score.token, score.n_top,
                                &logprobs[score.logprobs]);
        } else if (draws[static_cast<size_t>(i)].logits != nullptr) {
            choose(draws[static_cast<size_t>(i)]);
        }
    });
    events.clear();
    text.clear();
    for (auto & draw : draws) {
        deliver(draw);
    }
}

shm_stepper * shm_stepper_new(llama_context * ctx, int32_t n_rows, int32_t n_outputs) {
    return shm::guarded<shm_stepper *>(nullptr, [&] {
        require(n_rows > 0 && n_rows <= 256, "n_rows: must be between 1 and 256");
        require(n_outputs >= n_rows, "n_outputs: less than n_rows");
        return new shm_stepper(ctx, n_rows, n_outputs);
    });
}

void shm_stepper_free(shm_stepper * stepper) { delete stepper; }

int shm_row_open(shm_stepper * stepper, int32_t index, const shm_row_params * params, const llama_token * tokens,
                 int32_t n_tokens, shm_sampler * sampler, const char * stops, const int32_t * stop_sizes,
                 int32_t n_stops) {
    std::unique_ptr<shm_sampler> owned(sampler);
    return shm::guarded<int>(SHM_FAULT, [&] {
        require(index >= 0 && index < static_cast<int32_t>(stepper->rows.size()), "row: out of range");
        require(stepper->rows[index] == nullptr, "row: already open");
        require(owned != nullptr, "sampler: missing");
        require(params->seq_id >= 0 && params->seq_id < 256, "seq_id: must be between 0 and 255");
        require(params->source < 256, "source: must be between 0 and 255");
        require(params->n_past >= 0 && params->n_past < std::max(n_tokens, 1), "n_past: leaves no token to feed");
        require(n_tokens > 0 && n_tokens < params->n_ctx, "tokens: none, or more than the context holds");
        const int32_t n_vocab = llama_vocab_n_tokens(stepper->vocab);
        for (int32_t i = 0; i < n_tokens; i++) {
            require(tokens[i] >= 0 && tokens[i] < n_vocab, "tokens: a token is not in the vocabulary");
        }
        std::vector<std::string> words;
        for (int32_t i = 0; i < n_stops; i++) {
            require(stop_sizes[i] > 0, "stop: an empty string");
            words.emplace_back(stops, static_cast<size_t>(stop_sizes[i]));
            stops += stop_sizes[i];
        }
        require(params->n_prompt_logprobs < 0 || params->n_past == 0,
                "n_past: a prompt that is scored shares no cells");
        require(params->n_logprobs < n_vocab && params->n_prompt_logprobs < n_vocab,
                "n_logprobs: more than the vocabulary has");
        for (int32_t i = 0; i < params->n_stop_tokens; i++) {
            const llama_token token = params->stop_tokens[i];
            require(token >= 0 && token < n_vocab, "stop_tokens: a token is not in the vocabulary");
        }
        owned->prime(tokens, static_cast<size_t>(n_tokens));
        stepper->place(*params);
        auto opened = std::make_unique<row>(*params, std::vector<llama_token>(tokens, tokens + n_tokens),
                                            std::move(owned), std::move(words));
        if (params->min_tokens > 0) {
            opened->bar(stepper->ends());
        }
        stepper->rows[index] = std::move(opened);
        return 0;
    });
}

int shm_row_close(shm_stepper * stepper, int32_t index) {
    return shm::guarded<int>(SHM_FAULT, [&] {
        stepper->at(index);
        stepper->rows[index].reset();
        return 0;
    });
}

int shm_seq_remove(shm_stepper * stepper, llama_seq_id seq_id) {
    return shm::guarded<int>(SHM_FAULT, [&] {
        require(seq_id >= 0 && seq_id < 256, "seq_id: must be between 0 and 255");
        for (const auto & row : stepper->rows) {
            require(row == nullptr || row->seq_id != seq_id, "seq_id: a row runs it");
        }
        llama_memory_seq_rm(stepper->memory, seq_id, -1, -1);
        return 0;
    });
}

int32_t shm_row_rewind(shm_stepper * stepper, int32_t index) {
    return shm::guarded<int32_t>(SHM_FAULT, [&] {
        row & row = stepper->at(index);
        llama_memory_seq_rm(stepper->memory, row.seq_id, -1, -1);
        row.n_past = 0;
        return row.n_waiting();
    });
}

int shm_row_advance(shm_stepper * stepper, int32_t index, int32_t n_past) {
    return shm::guarded<int>(SHM_FAULT, [&] {
        row & row = stepper->at(index);
        require(n_past >= row.n_past && n_past < static_cast<int32_t>(row.tokens.size()),
                "n_past: goes back, or leaves no token to feed");
        const llama_pos last = llama_memory_seq_pos_max(stepper->memory, row.seq_id);
        require(last == n_past - 1, "n_past: the cells of the sequence do not reach there");
        row.n_past = n_past;
        return 0;
    });
}

int shm_row_shift(shm_stepper * stepper, int32_t index, int32_t n_keep, int32_t n_discard, bool move) {
    return shm::guarded<int>(SHM_FAULT, [&] {
        row & row = stepper->at(index);
        require(n_keep >= 0 && n_discard > 0 && n_keep + n_discard < row.n_past, "n_keep: leaves nothing to shift");
        require(llama_memory_can_shift(stepper->memory), "the memory of this model cannot shift");
        const int32_t end = n_keep + n_discard;
        llama_memory_seq_rm(stepper->memory, row.seq_id, n_keep, move ? end : -1);
        if (move) {
            llama_memory_seq_add(stepper->memory, row.seq_id, end, -1, -n_discard);
        }
        row.n_past = move ? row.n_past - n_discard : n_keep;
        row.n_prompt -= n_discard;
        row.tokens.erase(row.tokens.begin() + n_keep, row.tokens.begin() + end);
        return 0;
    });
}

int32_t shm_step(shm_stepper * stepper, const shm_bite * plan, int32_t n_plan, shm_step_result * result) {
    return shm::guarded<int32_t>(SHM_FAULT, [&]() -> int32_t {
        *result = {};
        stepper->check(plan, n_plan);
        stepper->fill(plan, n_plan);
        const int64_t t_start = llama_time_us();
        const int32_t code    = llama_decode(stepper->ctx, stepper->batch.get());
        if (code == 1) {
            return SHM_STEP_KV_FULL;
        }
        if (code != 0) {
            stepper->undo(plan, n_plan);
            if (code == 2) {
                return SHM_STEP_ABORTED;
            }
            throw std::runtime_error("llama_decode returned " + std::to_string(code));
        }
        llama_synchronize(stepper->ctx);
        const int64_t t_decoded = llama_time_us();
        stepper->advance(plan, n_plan);
        stepper->sample(plan, n_plan);
        result->events     = stepper->events.data();
        result->n_events   = static_cast<int32_t>(stepper->events.size());
        result->text       = stepper->text.data();
        result->n_text     = stepper->text.size();
        result->scores     = stepper->scored.data();
        result->n_scores   = static_cast<int32_t>(stepper->scored.size());
        result->logprobs   = stepper->logprobs.data();
        result->n_logprobs = stepper->logprobs.size();
        result->decode_us  = t_decoded - t_start;
        result->sample_us  = llama_time_us() - t_decoded;
        return SHM_STEP_OK;
    });
}
