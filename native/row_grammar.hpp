// row_grammar: the grammar of a row. A lazy one sleeps until the text holds a trigger.
#pragma once

#include <memory>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "compiled_grammar.hpp"
#include "sampling.h"

namespace shm {

// What wakes a lazy grammar: a token, a word, or a pattern (the grammar then begins at its first group).
//
// llama.cpp searches all of the text for each token; std::regex recurses once for each character, which ends the
// process within some thousand of them. Here it is the last `window` bytes: what triggers are written for is shorter.
class trigger {
  public:
    explicit trigger(const std::vector<common_grammar_trigger> & triggers);

    // Takes a token and returns whether it completes a trigger. Then `out` has the tokens that the grammar begins with,
    // and the bytes that it gets of each.
    bool take(llama_token token, const std::string & piece, std::vector<std::pair<llama_token, std::string>> & out);

  private:
    struct pattern {
        std::string word;  // to be found as it is, or
        std::regex  regex;
        bool        from_start = false;
        bool        whole      = false;
    };

    size_t find(const pattern & pattern) const;
    void   shorten();

    std::vector<llama_token>                    tokens_;
    std::vector<pattern>                        patterns_;
    std::string                                 text_;
    std::vector<std::pair<llama_token, size_t>> sizes_;  // of the pieces that the text is made of
    bool                                        cut_ = false;
};

// Thread: one at a time.
class row_grammar {
  public:
    row_grammar(compiled_grammar_ptr compiled, const common_params_sampling & params);

    // Whether what was accepted is a whole text of the grammar.
    bool may_end() const;

    void apply(llama_token_data_array & candidates) const;
    void accept(llama_token token);

  private:
    compiled_grammar_ptr     compiled_;
    grammar_ptr              impl_;     // null while it sleeps: most never wake
    std::unique_ptr<trigger> trigger_;  // until it has been seen
};

}  // namespace shm
