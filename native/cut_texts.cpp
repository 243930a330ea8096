#include "cut_texts.hpp"

#include <cctype>

namespace shm {

namespace {

bool is_space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }

// Whether one text can begin inside of another and go on behind it.
bool follows_inside(const std::string & first, const std::string & second) {
    for (size_t n = 1; n < first.size() && n < second.size(); n++) {
        if (first.compare(first.size() - n, n, second, 0, n) == 0) {
            return true;
        }
    }
    return false;
}

// Whether `text` is a token of its own wherever it stands. llama.cpp looks for the longest first, so that only what it
// is a part of, or what laps over it, can take it away.
bool stands_alone(const std::string & text, const std::vector<std::string> & specials) {
    for (const auto & other : specials) {
        const bool within = other.size() > text.size() && other.find(text) != std::string::npos;
        if (within || follows_inside(text, other) || follows_inside(other, text)) {
            return false;
        }
    }
    return true;
}

// GPT-2's tokenizer reads what is between two special tokens by itself. Others know what came before.
bool can_be_cut(const llama_model * model, const llama_vocab * vocab) {
    char name[32] = {};
    llama_model_meta_val_str(model, "tokenizer.ggml.model", name, sizeof(name));
    return llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_BPE && std::string(name) == "gpt2";
}

}  // namespace

std::vector<std::string> cut_texts(const llama_model * model, const std::string & source) {
    const llama_vocab * vocab = llama_model_get_vocab(model);
    if (!can_be_cut(model, vocab)) {
        return {};
    }
    std::vector<std::string> specials;
    std::vector<std::string> found;
    for (llama_token token = 0; token < llama_vocab_n_tokens(vocab); token++) {
        const auto        attr = llama_vocab_get_attr(vocab, token);
        const std::string text = llama_vocab_get_text(vocab, token);
        if ((attr & (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_USER_DEFINED | LLAMA_TOKEN_ATTR_UNKNOWN)) == 0 ||
            text.empty()) {
            continue;
        }
        specials.push_back(text);
        // one that takes away the space before it would have to see it; one with space at its ends may lose that
        const bool strips = (attr & LLAMA_TOKEN_ATTR_LSTRIP) != 0 || is_space(text.front()) || is_space(text.back());
        if ((attr & LLAMA_TOKEN_ATTR_CONTROL) != 0 && !strips && source.find(text) != std::string::npos) {
            found.push_back(text);
        }
    }
    std::vector<std::string> out;
    for (const auto & text : found) {
        if (stands_alone(text, specials)) {
            out.push_back(text);
        }
    }
    return out;
}

}  // namespace shm
