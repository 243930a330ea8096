// rows: what is done to the rows of a stepper between steps: opening, closing, moving their cells.
#include <algorithm>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "guard.hpp"
#include "picture.hpp"
#include "stepper.hpp"
#include "window.hpp"

using shm::require;
using shm::row;

// The cells that a row begins with: its own, or metadata copies of another sequence's, which cost no memory.
void shm_stepper::place(const row & row, llama_seq_id source) {
    const bool      shares = source >= 0 && source != row.seq_id;
    const llama_pos end    = row.pos_of(row.n_past);
    llama_memory_seq_rm(memory, row.seq_id, shares ? -1 : end, -1);
    if (shares && row.n_past > 0) {
        llama_memory_seq_cp(memory, source, row.seq_id, 0, end);
    }
    require(reaches(row, row.n_past), "n_past: the cells of the sequence do not reach there");
}

// Whether the first n tokens of a row are in its cells, and nothing else.
bool shm_stepper::reaches(const row & row, int32_t n) const {
    const llama_pos last = shm::last_position(memory, row.seq_id);
    // where positions have two dimensions, a medium's cells are all at its first
    return row.ends_in_medium(n) ? last >= 0 && last < row.pos_of(n) : last == row.pos_of(n) - 1;
}

namespace {

// The media of a row; its tokens there are below 0, and all others in the vocabulary.
std::vector<shm::medium_span> spans_of(const shm_row_params & params, const llama_token * tokens, int32_t n_tokens,
                                       int32_t n_vocab) {
    std::vector<shm::medium_span> spans;
    int32_t                       at         = 0;
    const auto                    check_text = [&](int32_t end) {
        for (; at < end; at++) {
            require(tokens[at] >= 0 && tokens[at] < n_vocab, "tokens: a token is not in the vocabulary");
        }
    };
    for (int32_t i = 0; i < params.n_media; i++) {
        const shm_row_medium & given = params.media[i];
        require(given.piece >= 0 && given.piece < shm_picture_n_pieces(given.picture), "media: there is no such piece");
        const shm::medium_span span = {given.start, given.picture->pieces[static_cast<size_t>(given.piece)].what};
        require(span.what != nullptr && !span.what->embeddings.empty(), "media: a piece without embeddings");
        require(span.start >= at && span.end() < n_tokens, "media: overlap, or end a prompt");
        check_text(span.start);
        for (; at < span.end(); at++) {
            require(tokens[at] < 0, "tokens: one of a medium is not below 0");
        }
        spans.push_back(span);
    }
    check_text(n_tokens);
    return spans;
}

// What a sampler may learn of a prompt.
std::vector<llama_token> text_of(const llama_token * tokens, int32_t n_tokens) {
    std::vector<llama_token> text;
    std::copy_if(tokens, tokens + n_tokens, std::back_inserter(text), [](llama_token token) { return token >= 0; });
    return text;
}

}  // namespace

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
        auto          media   = spans_of(*params, tokens, n_tokens, n_vocab);
        require(media.empty() || (params->n_prompt_logprobs < 0 && params->shifts == 0),
                "media: a row with media is not scored, and does not shift");
        for (const auto & span : media) {
            require(!span.what->non_causal || span.what->n_tokens <= static_cast<int32_t>(llama_n_ubatch(stepper->ctx)),
                    "media: one is larger than n_ubatch");
            require(params->n_past <= span.start || params->n_past >= span.end(), "n_past: inside a medium");
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
        const std::vector<llama_token> text = text_of(tokens, n_tokens);
        owned->prime(text.data(), text.size());
        auto opened = std::make_unique<row>(*params, std::vector<llama_token>(tokens, tokens + n_tokens),
                                            std::move(owned), std::move(words), std::move(media));
        stepper->place(*opened, params->source);
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
        require(stepper->reaches(row, n_past), "n_past: the cells of the sequence do not reach there");
        row.n_past = n_past;
        return 0;
    });
}

int shm_row_shift(shm_stepper * stepper, int32_t index, int32_t n_keep, int32_t n_discard, bool move) {
    return shm::guarded<int>(SHM_FAULT, [&] {
        row & row = stepper->at(index);
        require(row.media.empty(), "a row with media does not shift");
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
