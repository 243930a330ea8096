// feed: the first half of a step: what the bites of its plan say goes into the cells.
#include <algorithm>
#include <stdexcept>
#include <string>

#include "stepper.hpp"

using shm::require;
using shm::row;

void shm_stepper::check(const shm_bite * plan, int32_t n_plan) {
    int64_t n_tokens = 0;
    int64_t n_logits = 0;
    for (int32_t i = 0; i < n_plan; i++) {
        const row & row = at(plan[i].row);
        require(plan[i].n_tokens > 0 && plan[i].n_tokens <= row.n_waiting(), "plan: a row has fewer tokens waiting");
        for (int32_t j = 0; j < i; j++) {
            require(plan[j].row != plan[i].row, "plan: a row is in it twice");
        }
        const bool medium = row.next_medium() != nullptr;
        require(medium ? plan[i].n_tokens == row.n_run() : plan[i].n_tokens <= row.n_run(),
                "plan: a part of a medium, or one with other tokens");
        n_tokens += medium ? 0 : plan[i].n_tokens;
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
        if (row.next_medium() != nullptr) {
            continue;
        }
        for (int32_t pos = row.n_past; pos < row.n_past + plan[i].n_tokens; pos++) {
            const bool samples = pos == last && !row.ends_with_prompt();
            batch.add(row.tokens[pos], row.pos_of(pos), row.seq_id, samples || row.scores(pos));
        }
    }
}

// After a decode that stopped half-way: the cells beyond n_past belong to nobody.
void shm_stepper::undo(const shm_bite * plan, int32_t n_plan) {
    for (int32_t i = 0; i < n_plan; i++) {
        const row & row = *rows[plan[i].row];
        llama_memory_seq_rm(memory, row.seq_id, row.pos_of(row.n_past), -1);
    }
}

// llama_decode's code. A batch holds tokens or embeddings, so each medium has a decode of its own; the tokens come
// last, because a decode forgets the logits of the one before.
int32_t shm_stepper::decode_all(const shm_bite * plan, int32_t n_plan) {
    for (int32_t i = 0; i < n_plan; i++) {
        const row & row = *rows[plan[i].row];
        if (const shm::medium * medium = row.next_medium()) {
            const int32_t code = shm::decode_medium(ctx, *medium, row.seq_id, row.pos_of(row.n_past));
            if (code != 0) {
                return code;
            }
        }
    }
    return batch.size() > 0 ? llama_decode(ctx, batch.get()) : 0;
}

bool shm_stepper::has_media(const shm_bite * plan, int32_t n_plan) const {
    return std::any_of(plan, plan + n_plan,
                       [this](const shm_bite & bite) { return rows[bite.row]->next_medium() != nullptr; });
}

int32_t shm_stepper::decode(const shm_bite * plan, int32_t n_plan) {
    fill(plan, n_plan);
    const int32_t code = decode_all(plan, n_plan);
    if (code == 1 && !has_media(plan, n_plan)) {
        return SHM_STEP_KV_FULL;  // one decode undoes itself
    }
    if (code != 0) {
        undo(plan, n_plan);
        if (code == 1) {
            return SHM_STEP_KV_FULL;
        }
        if (code == 2) {
            return SHM_STEP_ABORTED;
        }
        throw std::runtime_error("llama_decode returned " + std::to_string(code));
    }
    llama_synchronize(ctx);
    return SHM_STEP_OK;
}

void shm_stepper::advance(const shm_bite * plan, int32_t n_plan) {
    for (int32_t i = 0; i < n_plan; i++) {
        rows[plan[i].row]->n_past += plan[i].n_tokens;
    }
}
