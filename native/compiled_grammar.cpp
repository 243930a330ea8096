#include "compiled_grammar.hpp"

#include <functional>
#include <map>
#include <stdexcept>

#include "grammar.hpp"

namespace shm {

compiled_grammar::compiled_grammar(const llama_vocab * vocab, const std::string & text) : vocab_(vocab) {
    check_grammar(vocab, text.c_str(), "root");
    const grammar_ptr made(
        llama_grammar_init_impl(vocab, text.c_str(), "root", /*lazy=*/false, nullptr, 0, nullptr, 0));
    if (!made) {
        throw std::invalid_argument("the grammar could not be used");
    }
    rules_ = made->rules;
    // which rule an element is in, by where rules begin
    std::map<const llama_grammar_element *, size_t, std::less<>> begins;
    for (size_t i = 0; i < made->rules.size(); i++) {
        begins[made->rules[i].data()] = i;
        n_bytes_ += sizeof(made->rules[i]) + made->rules[i].size() * sizeof(llama_grammar_element);
    }
    for (const auto & stack : made->stacks) {
        std::vector<position> positions;
        for (const llama_grammar_element * element : stack) {
            const auto rule = std::prev(begins.upper_bound(element));
            positions.push_back({rule->second, static_cast<size_t>(element - rule->first)});
        }
        n_bytes_ += sizeof(positions) + positions.size() * sizeof(position);
        stacks_.push_back(std::move(positions));
    }
}

grammar_ptr compiled_grammar::begin() const {
    grammar_ptr out(new llama_grammar{vocab_, rules_, {}, {}, false, false, {}, {}, {}, {}});
    out->stacks.reserve(stacks_.size());
    for (const auto & positions : stacks_) {
        llama_grammar_stack stack;
        for (const position & at : positions) {
            stack.push_back(&out->rules[at.rule][at.element]);
        }
        out->stacks.push_back(std::move(stack));
    }
    return out;
}

}  // namespace shm
