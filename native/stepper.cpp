// stepper: the step: feed, sample all rows side by side, tell.
#include "stepper.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "guard.hpp"
#include "logprobs.hpp"

using shm::require;
using shm::row;

namespace {

// Sampling a row is tens of microseconds: more threads than this only wake each other.
constexpr int32_t max_helpers = 7;

int n_helpers(const llama_context * ctx) {
    return std::min(llama_n_threads(const_cast<llama_context *>(ctx)) - 1, max_helpers);
}

}  // namespace

shm_stepper::shm_stepper(llama_context * ctx, int32_t n_rows, int32_t n_outputs, const shm_tokens & ends)
    : ctx(ctx),
      n_outputs(n_outputs),
      vocab(llama_model_get_vocab(llama_get_model(ctx))),
      memory(llama_get_memory(ctx)),
      ends(ends.data, ends.data + ends.size),
      rows(static_cast<size_t>(n_rows)),
      batch(static_cast<int32_t>(llama_n_batch(ctx))),
      pool(n_helpers(ctx)) {}

row & shm_stepper::at(int32_t index) {
    require(index >= 0 && index < static_cast<int32_t>(rows.size()), "row: out of range");
    require(rows[index] != nullptr, "row: not open");
    return *rows[index];
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

// Where the log-probabilities of a token go, with n_top others beside it; -1: nowhere.
size_t shm_stepper::reserve_logprobs(int32_t n_top) {
    const size_t at = logprobs.size();
    logprobs.resize(at + static_cast<size_t>(n_top + 1));
    return at;
}

// Thread: any of the pool's; touches nothing but the row and its logits. A fault in here (a grammar that cannot go on,
// say) is this row's alone.
void shm_stepper::choose(shm::draw & draw) {
    static thread_local std::vector<llama_token_data> scratch;
    const shm::abort_guard                            guard;
    try {
        row & row  = *rows[draw.row];
        draw.token = row.choose(draw.logits, scratch);
        if (row.n_logprobs >= 0 && draw.token != LLAMA_TOKEN_NULL) {
            shm::write_logprobs(draw.logits, llama_vocab_n_tokens(vocab), draw.token, row.n_logprobs,
                                &logprobs[draw.logprobs]);
        }
    } catch (const shm::grammar_error & error) {
        draw.error      = error.what();
        draw.by_grammar = true;
    } catch (const std::exception & error) {
        draw.error = error.what();
    }
}

void shm_stepper::deliver(shm::draw & draw) {
    row &         row = *rows[draw.row];
    shm_row_event event{};
    event.row         = draw.row;
    event.stop        = -1;
    event.token       = draw.token;
    event.text_offset = static_cast<uint32_t>(text.size());
    if (!draw.error.empty()) {
        event.finish = draw.by_grammar ? SHM_FINISH_GRAMMAR : SHM_FINISH_ERROR;
        text += draw.error;
    } else if (draw.logits == nullptr) {
        event.finish = SHM_FINISH_LIMIT;
    } else if (draw.token == LLAMA_TOKEN_NULL) {
        event.finish = SHM_FINISH_EOG;
        row.text.flush(text);
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
        draws.push_back({plan[i].row, logits, reserve_logprobs(row.n_logprobs), LLAMA_TOKEN_NULL, {}, false});
    }
    const auto n_draws  = static_cast<int>(draws.size());
    const auto n_scores = static_cast<int>(scores.size());
    pool.run(n_draws + n_scores, [&](int i) {
        if (i >= n_draws) {
            const shm::score & score = scores[static_cast<size_t>(i - n_draws)];
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

shm_stepper * shm_stepper_new(llama_context * ctx, int32_t n_rows, int32_t n_outputs, const shm_tokens * ends) {
    return shm::guarded<shm_stepper *>(nullptr, [&] {
        require(n_rows > 0 && n_rows <= 256, "n_rows: must be between 1 and 256");
        require(n_outputs >= n_rows, "n_outputs: less than n_rows");
        return new shm_stepper(ctx, n_rows, n_outputs, *ends);
    });
}

void shm_stepper_free(shm_stepper * stepper) { delete stepper; }

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
