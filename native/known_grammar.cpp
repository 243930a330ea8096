#include "known_grammar.hpp"

#include "engine.h"
#include "grammar.hpp"
#include "guard.hpp"
#include "json-schema-to-grammar.h"
#include "json.h"

namespace shm {

namespace {

// Few characters may repeat something many times. Such a grammar is compiled for each of its rows.
constexpr size_t MAX_COMPILED = size_t(1) << 20;

}  // namespace

std::string known_grammar::text() const {
    if (!is_schema_) {
        return source_;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    if (converted_.empty()) {
        converted_ = strict_strings(json_schema_to_grammar(common_json::parse(source_)));
    }
    return converted_;
}

compiled_grammar_ptr known_grammar::compiled(const llama_vocab * vocab) const {
    const std::string                 grammar = text();
    const std::lock_guard<std::mutex> lock(mutex_);
    if (compiled_ && compiled_->vocab() == vocab) {
        return compiled_;
    }
    auto made = std::make_shared<const compiled_grammar>(vocab, grammar);
    if (made->n_bytes() <= MAX_COMPILED) {
        compiled_ = made;
    }
    return made;
}

}  // namespace shm

shm_grammar * shm_grammar_new(const char * source, size_t n_source, bool is_schema) {
    return shm::guarded<shm_grammar *>(nullptr, [&] {
        return new shm_grammar{std::make_shared<shm::known_grammar>(std::string(source, n_source), is_schema)};
    });
}

void shm_grammar_free(shm_grammar * grammar) { delete grammar; }

char * shm_grammar_text(const shm_grammar * grammar) {
    return shm::guarded<char *>(nullptr, [&] { return shm::copy_string(grammar->grammar->text()); });
}
