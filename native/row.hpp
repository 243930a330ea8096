// row: one sequence that is being generated: its tokens, how it chooses the next, when it ends, what its reader sees.
//
// Its cells hold the first n_past tokens; the rest wait to be fed.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine.h"
#include "medium.hpp"
#include "row_sampler.hpp"
#include "text.hpp"

namespace shm {

// A grammar that a row cannot go on with.
struct grammar_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct row {
    row(const shm_row_params & params, std::vector<llama_token> prompt, std::unique_ptr<shm_sampler> chooser,
        std::vector<std::string> stops, std::vector<medium_span> media);

    int32_t n_waiting() const { return static_cast<int32_t>(tokens.size()) - n_past; }

    int32_t n_generated() const { return static_cast<int32_t>(tokens.size()) - n_prompt; }

    // The position of token number `i`, which is not inside a medium.
    llama_pos pos_of(int32_t i) const {
        llama_pos pos = i;
        for (const auto & span : media) {
            if (span.end() > i) {
                break;
            }
            pos -= span.what->n_tokens - span.what->n_pos;
        }
        return pos;
    }

    // The medium that waits to be fed next, or null.
    const medium * next_medium() const;

    // How many tokens can be fed at once: those of a medium, or those before the next one.
    int32_t n_run() const;

    // Whether the last of the first n tokens is a medium's.
    bool ends_in_medium(int32_t n) const;

    // Whether the logits after token number `pos` tell the log-probability of a prompt's token that is still wanted.
    bool scores(int32_t pos) const { return n_prompt_logprobs >= 0 && pos >= n_scored && pos < n_prompt - 1; }

    // Whether it is through when its prompt is fed, without choosing a token.
    bool ends_with_prompt() const { return max_tokens == 0; }

    // Forbids these end tokens, and its own stop tokens, until min_tokens were generated.
    void bar(const std::vector<llama_token> & ends);

    // Chooses and accepts a token; LLAMA_TOKEN_NULL: the grammar is at its end, and no end token can be chosen. Leaves
    // the logits as they were. Throws grammar_error. Thread: any, one at a time.
    llama_token choose(float * logits, std::vector<llama_token_data> & scratch);

    // Appends the token, adds its text to `out`, and says whether the row ends with it: sets the event's finish and
    // stop.
    void take(llama_token token, const llama_vocab * vocab, std::string & out, shm_row_event & event);

    llama_seq_id                 seq_id;
    int32_t                      max_tokens;
    int32_t                      min_tokens;
    int32_t                      n_ctx;
    bool                         shifts;
    int64_t                      grammar_us;
    int32_t                      n_logprobs;
    int32_t                      n_prompt_logprobs;
    int32_t                      n_prompt;  // less what was discarded since: may be negative
    int32_t                      n_past;
    int32_t                      n_scored = 0;  // tokens of the prompt whose successor's log-probability is known
    std::vector<llama_token>     tokens;
    std::vector<medium_span>     media;  // in the order of their starts
    std::vector<llama_token>     stop_tokens;
    std::vector<llama_token>     barred;
    std::unique_ptr<shm_sampler> sampler;
    output_text                  text;

  private:
    int32_t finish_of(llama_token token, const llama_vocab * vocab, std::string & out, int32_t & stop);
};

}  // namespace shm
