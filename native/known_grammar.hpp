// known_grammar: a grammar, or the schema that it is made from, and what its first row made of it, for the next.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "compiled_grammar.hpp"

namespace shm {

// Thread: any; a second that needs what a first is making waits for it.
class known_grammar {
  public:
    known_grammar(std::string source, bool is_schema) : source_(std::move(source)), is_schema_(is_schema) {}

    // Both throw what is wrong with the source, each time.
    std::string          text() const;
    compiled_grammar_ptr compiled(const llama_vocab * vocab) const;

  private:
    const std::string            source_;
    const bool                   is_schema_;
    mutable std::mutex           mutex_;
    mutable std::string          converted_;
    mutable compiled_grammar_ptr compiled_;
};

using known_grammar_ptr = std::shared_ptr<const known_grammar>;

}  // namespace shm

// A reference of Python's to one.
struct shm_grammar {
    shm::known_grammar_ptr grammar;
};
