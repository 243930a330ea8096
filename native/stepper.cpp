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
      pool(n_helpers(ctx)),
      ahead([this](shm::outcome & into) { run_on(into); }) {}

void shm_stepper::require_rest() const { require(!ahead.in_flight(), "a step is in flight: take its outcome first"); }

row & shm_stepper::at(int32_t index) {
    require_rest();
    require(index >= 0 && index < static_cast<int32_t>(rows.size()), "row: out of range");
    require(rows[index] != nullptr, "row: not open");
    return *rows[index];
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
    const size_t at = into->logprobs.size();
    into->logprobs.resize(at + static_cast<size_t>(n_top + 1));
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
                                &into->logprobs[draw.logprobs]);
        }
    } catch (const shm::grammar_error & error) {
        draw.error      = error.what();
        draw.by_grammar = true;
    } catch (const std::exception & error) {
        draw.error = error.what();
    }
}

void shm_stepper::deliver(shm::draw & draw) {
    row &         row  = *rows[draw.row];
    std::string & text = into->text;
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
    into->events.push_back(event);
}

// The tokens of a prompt that the logits of this bite tell about.
void shm_stepper::collect_scores(const shm_bite & bite, int32_t first_output) {
    row & row = *rows[bite.row];
    if (row.n_prompt_logprobs < 0) {
        return;
    }
    shm_row_score found = {bite.row, row.n_scored + 1, 0, row.n_prompt_logprobs,
                           static_cast<uint32_t>(into->logprobs.size())};
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
        into->scored.push_back(found);
    }
}

void shm_stepper::sample(const shm_bite * plan, int32_t n_plan) {
    draws.clear();
    scores.clear();
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
                                &into->logprobs[score.logprobs]);
        } else if (draws[static_cast<size_t>(i)].logits != nullptr) {
            choose(draws[static_cast<size_t>(i)]);
        }
    });
    for (auto & draw : draws) {
        deliver(draw);
    }
}

bool shm_stepper::all_go_on(int32_t n_plan) const {
    return static_cast<int32_t>(into->events.size()) == n_plan &&
           std::all_of(into->events.begin(), into->events.end(),
                       [](const shm_row_event & event) { return event.finish == SHM_FINISH_NONE; });
}

void shm_stepper::run(const shm_bite * plan, int32_t n_plan, shm::outcome & out) {
    out.clear();
    into     = &out;
    out.code = shm::guarded<int32_t>(SHM_FAULT, [&]() -> int32_t {
        const int64_t t_start = llama_time_us();
        const int32_t code    = decode(plan, n_plan);
        if (code != SHM_STEP_OK) {
            return code;
        }
        const int64_t t_decoded = llama_time_us();
        advance(plan, n_plan);
        sample(plan, n_plan);
        out.decode_us = t_decoded - t_start;
        out.sample_us = llama_time_us() - t_decoded;
        out.goes_on   = all_go_on(n_plan);
        return SHM_STEP_OK;
    });
    if (out.code == SHM_FAULT) {
        out.kind    = shm::last_fault();
        out.message = shm::last_error();
    }
}

// The step that follows one after which all rows go on. Thread: that of `ahead`.
void shm_stepper::run_on(shm::outcome & out) { run(next.data(), static_cast<int32_t>(next.size()), out); }

namespace {

// What a caller of shm_step waits for: the step in flight, or that of its plan.
shm::outcome & outcome_of(shm_stepper & stepper, const shm_bite * plan, int32_t n_plan, bool more) {
    if (stepper.ahead.in_flight()) {
        require(n_plan == 0, "plan: a step is in flight: take its outcome first");
        return stepper.ahead.take(more);
    }
    stepper.check(plan, n_plan);
    shm::outcome & out = stepper.own;
    stepper.run(plan, n_plan, out);
    if (out.goes_on && more) {
        stepper.next.assign(plan, plan + n_plan);
        for (auto & bite : stepper.next) {
            bite.n_tokens = 1;
        }
        stepper.ahead.begin();
        out.followed = true;
    }
    return out;
}

}  // namespace

shm_stepper * shm_stepper_new(llama_context * ctx, int32_t n_rows, int32_t n_outputs, const shm_tokens * ends) {
    return shm::guarded<shm_stepper *>(nullptr, [&] {
        require(n_rows > 0 && n_rows <= 256, "n_rows: must be between 1 and 256");
        require(n_outputs >= n_rows, "n_outputs: less than n_rows");
        return new shm_stepper(ctx, n_rows, n_outputs, *ends);
    });
}

void shm_stepper_free(shm_stepper * stepper) { delete stepper; }

int32_t shm_step(shm_stepper * stepper, const shm_bite * plan, int32_t n_plan, bool more, shm_step_result * result) {
    return shm::guarded<int32_t>(SHM_FAULT, [&]() -> int32_t {
        *result                  = {};
        const shm::outcome & out = outcome_of(*stepper, plan, n_plan, more);
        if (out.code == SHM_FAULT) {
            // it may have been another thread's
            shm::set_error(out.kind, out.message);
            return out.code;
        }
        result->events     = out.events.data();
        result->n_events   = static_cast<int32_t>(out.events.size());
        result->text       = out.text.data();
        result->n_text     = out.text.size();
        result->scores     = out.scored.data();
        result->n_scores   = static_cast<int32_t>(out.scored.size());
        result->logprobs   = out.logprobs.data();
        result->n_logprobs = out.logprobs.size();
        result->decode_us  = out.decode_us;
        result->sample_us  = out.sample_us;
        result->in_flight  = out.followed;
        return out.code;
    });
}

void shm_step_hold(shm_stepper * stepper) { stepper->ahead.hold(); }
