// compiled_grammar: a grammar that was checked and compiled; what each row begins with is copied from it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "src/llama-grammar.h"

namespace shm {

struct grammar_deleter {
    void operator()(llama_grammar * grammar) const { llama_grammar_free_impl(grammar); }
};

using grammar_ptr = std::unique_ptr<llama_grammar, grammar_deleter>;

// Immutable; any thread. The vocabulary outlives the rows' grammars.
class compiled_grammar {
  public:
    // Throws std::invalid_argument for a grammar that does not parse, or is too large or too ambiguous.
    compiled_grammar(const llama_vocab * vocab, const std::string & text);

    const llama_vocab * vocab() const { return vocab_; }

    size_t n_bytes() const { return n_bytes_; }

    // A grammar at its beginning. Not llama.cpp's clone, which looks for each position among all elements.
    grammar_ptr begin() const;

  private:
    struct position {
        size_t rule;
        size_t element;
    };

    const llama_vocab *                vocab_;
    llama_grammar_rules                rules_;
    std::vector<std::vector<position>> stacks_;
    size_t                             n_bytes_ = 0;
};

using compiled_grammar_ptr = std::shared_ptr<const compiled_grammar>;

}  // namespace shm
