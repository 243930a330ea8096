// rows: what is done to the rows of a stepper between steps: opening, closing, moving their cells.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "guard.hpp"
#include "stepper.hpp"
#include "window.hpp"

using shm::require;
using shm::row;

// The cells that a row begins with: its own, or metadata copies of another sequence's, which cost no memory.
void shm_stepper::place(const shm_row_params & params) {
    const bool shares = params.source >= 0 && params.source != params.seq_id;
    llama_memory_seq_rm(memory, params.seq_id, shares ? -1 : params.n_past, -1);
    if (shares && params.n_past > 0) {
        llama_memory_seq_cp(memory, params.source, params.seq_id, 0, params.n_past);
    }
    const llama_pos last = shm::last_position(memory, params.seq_id);
    require(last == params.n_past - 1, "n_past: the cells of the sequence do not reach there");
}

int shm_row_open(shm_stepper * stepper, int32_t index, const shm_row_params * params, const llama_token * tokens,
                 int32_t n_tokens, shm_sampler * sampler, const char * stops, const int32_t * stop_sizes,
                 int32_t n_stops) {
    std::unique_ptr<shm_sampler> owned(sampler);
    return shm::guarded<int>(SHM_FAULT, [&] {
        stepper->require_rest();
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
            opened->bar(stepper->ends);
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
        stepper->require_rest();
        require(seq_id >= 0 && seq_id < 256, "seq_id: must be between 0 and 255");
        for (const auto & row : stepper->rows) {
            require(row == nullptr || row->seq_id != seq_id, "seq_id: a row runs it");
        }
        llama_memory_seq_rm(stepper->memory, seq_id, -1, -1);
        return 0;
    });
}

char * shm_row_flush(shm_stepper * stepper, int32_t index) {
    return shm::guarded<char *>(nullptr, [&] {
        std::string held;
        stepper->at(index).text.flush(held);
        return shm::copy_string(held);
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
        const llama_pos last = shm::last_position(stepper->memory, row.seq_id);
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
