// stepper: the rows of one context, and the step that feeds and samples them.
//
// A row is its tokens and how many of them its cells hold (n_past). The rest wait to be fed; there is no other
// difference between taking in a prompt and generating. A row that has been fed all its tokens samples the next one,
// which then waits. Rewinding a row (preemption) sets n_past to 0.
//
// Thread: the owner of the context, for all of it.
#include "engine.h"
#include "guard.hpp"
#include "pool.hpp"
#include "row_sampler.hpp"
#include "text.hpp"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

namespace {

struct row {
    llama_seq_id                 seq_id;
    int32_t                      max_tokens;
    int32_t                      n_ctx;
    int32_t                      n_prompt;
    int32_t                      n_past = 0;
    std::vector<llama_token>     tokens;
    std::unique_ptr<shm_sampler> sampler;
    shm::output_text             text;

    int32_t n_waiting() const { return static_cast<int32_t>(tokens.size()) - n_past; }

    int32_t n_generated() const { return static_cast<int32_t>(tokens.size()) - n_prompt; }
};

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
    int32_t       row;
    const float * logits;
    llama_token   token;
    std::string   error;
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
    shm_stepper(llama_context * ctx, int32_t n_rows)
        : ctx(ctx),
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

    void    place(const shm_row_params & params);
    void    check(const shm_bite * plan, int32_t n_plan);
    void    fill(const shm_bite * plan, int32_t n_plan);
    void    undo(const shm_bite * plan, int32_t n_plan);
    void    sample(const shm_bite * plan, int32_t n_plan);
    void    choose(draw & draw);
    void    deliver(draw & draw);
    void    append_piece(const row & row, llama_token token);
    int32_t finish_of(row & row, llama_token token, shm_row_event & event);

    llama_context *                   ctx;
    const llama_vocab *               vocab;
    llama_memory_t                    memory;
    std::vector<std::unique_ptr<row>> rows;
    step_batch                        batch;
    std::vector<int32_t>              order;    // indexes into the plan, by sequence id
    std::vector<int32_t>              outputs;  // batch index of each bite's last token, -1 where it samples nothing
    std::vector<draw>                 draws;
    std::vector<shm_row_event>        events;
    std::string                       text;
    std::string                       piece;
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
    for (int32_t i = 0; i < n_plan; i++) {
        const row & row = at(plan[i].row);
        require(plan[i].n_tokens > 0 && plan[i].n_tokens <= row.n_waiting(), "plan: a row has fewer tokens waiting");
        for (int32_t j = 0; j < i; j++) {
            require(plan[j].row != plan[i].row, "plan: a row is in it twice");
        }
        n_tokens += plan[i].n_tokens;
    }
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
    outputs.assign(n_plan, -1);
    batch.clear();
    for (const int32_t i : order) {
        const row & row  = *rows[plan[i].row];
        const bool  last = plan[i].n_tokens == row.n_waiting();
        for (int32_t k = 0; k < plan[i].n_tokens; k++) {
            const int32_t pos = row.n_past + k;
            batch.add(row.tokens[pos], pos, row.seq_id, last && k == plan[i].n_tokens - 1);
        }
        if (last) {
            outputs[i] = batch.size() - 1;
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

void shm_stepper::append_piece(const row & row, llama_token token) {
    const bool special = row.sampler->is_preserved(token);
    piece.resize(64);
    int32_t n = llama_token_to_piece(vocab, token, piece.data(), static_cast<int32_t>(piece.size()), 0, special);
    if (n < 0) {
        piece.resize(static_cast<size_t>(-n));
        n = llama_token_to_piece(vocab, token, piece.data(), static_cast<int32_t>(piece.size()), 0, special);
    }
    piece.resize(static_cast<size_t>(std::max(n, 0)));
}

// Puts the token's text out and says whether the row ends with it.
int32_t shm_stepper::finish_of(row & row, llama_token token, shm_row_event & event) {
    if (llama_vocab_is_eog(vocab, token)) {
        return SHM_FINISH_EOG;
    }
    append_piece(row, token);
    event.stop = row.text.add(piece, text);
    if (event.stop >= 0) {
        return SHM_FINISH_STOP;
    }
    if (row.max_tokens >= 0 && row.n_generated() >= row.max_tokens) {
        return SHM_FINISH_LIMIT;
    }
    return static_cast<int32_t>(row.tokens.size()) >= row.n_ctx ? SHM_FINISH_CONTEXT : SHM_FINISH_NONE;
}

// Thread: any of the pool's; touches nothing but the row and its logits. A fault in here (a grammar that cannot go on,
// say) is this row's alone.
void shm_stepper::choose(draw & draw) {
    static thread_local std::vector<llama_token_data> scratch;
    const shm::abort_guard                            guard;
    try {
        shm_sampler & sampler = *rows[draw.row]->sampler;
        draw.token            = sampler.sample(draw.logits, scratch);
        sampler.accept(draw.token);
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
    if (draw.error.empty()) {
        row.tokens.push_back(draw.token);
        event.finish = finish_of(row, draw.token, event);
        if (event.finish != SHM_FINISH_NONE && event.finish != SHM_FINISH_STOP) {
            row.text.flush(text);
        }
    } else {
        event.finish = SHM_FINISH_ERROR;
        text += draw.error;
    }
    event.n_generated = row.n_generated();
    event.text_size   = static_cast<uint32_t>(text.size()) - event.text_offset;
    events.push_back(event);
}

void shm_stepper::sample(const shm_bite * plan, int32_t n_plan) {
    draws.clear();
    for (int32_t i = 0; i < n_plan; i++) {
        if (outputs[i] >= 0) {
            const float * logits = llama_get_logits_ith(ctx, outputs[i]);
            if (logits == nullptr) {
                throw std::runtime_error("llama.cpp has no logits for a row");
            }
            draws.push_back({plan[i].row, logits, LLAMA_TOKEN_NULL, {}});
        }
    }
    pool.run(static_cast<int>(draws.size()), [this](int i) { choose(draws[static_cast<size_t>(i)]); });
    events.clear();
    text.clear();
    for (auto & draw : draws) {
        deliver(draw);
    }
}

shm_stepper * shm_stepper_new(llama_context * ctx, int32_t n_rows) {
    return shm::guarded<shm_stepper *>(nullptr, [&] {
        require(n_rows > 0 && n_rows <= 256, "n_rows: must be between 1 and 256");
        return new shm_stepper(ctx, n_rows);
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
        owned->prime(tokens, static_cast<size_t>(n_tokens));
        stepper->place(*params);
        stepper->rows[index].reset(new row{params->seq_id, params->max_tokens, params->n_ctx, n_tokens, params->n_past,
                                           std::vector<llama_token>(tokens, tokens + n_tokens), std::move(owned),
                                           shm::output_text(std::move(words))});
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
        for (int32_t i = 0; i < n_plan; i++) {
            stepper->rows[plan[i].row]->n_past += plan[i].n_tokens;
        }
        stepper->sample(plan, n_plan);
        result->events    = stepper->events.data();
        result->n_events  = static_cast<int32_t>(stepper->events.size());
        result->text      = stepper->text.data();
        result->n_text    = stepper->text.size();
        result->decode_us = t_decoded - t_start;
        result->sample_us = llama_time_us() - t_decoded;
        return SHM_STEP_OK;
    });
}
