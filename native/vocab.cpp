// vocab: guarded tokenization; token ids are checked here because llama.cpp throws on unknown ones.
#include "guard.hpp"
#include "shim.h"

namespace {

void check_token(const llama_vocab * vocab, llama_token token) {
    const int32_t n_tokens = llama_vocab_n_tokens(vocab);
    if (token < 0 || token >= n_tokens) {
        throw std::invalid_argument("token " + std::to_string(token) + " is outside the vocabulary of " +
                                    std::to_string(n_tokens));
    }
}

}  // namespace

int32_t shm_tokenize(const struct llama_vocab * vocab, const char * text, int32_t len, llama_token * tokens,
                     int32_t cap, bool add_special, bool parse_special) {
    return shm::guarded(static_cast<int32_t>(SHM_FAULT),
                        [&] { return llama_tokenize(vocab, text, len, tokens, cap, add_special, parse_special); });
}

int32_t shm_detokenize(const struct llama_vocab * vocab, const llama_token * tokens, int32_t n_tokens, char * buf,
                       int32_t cap, bool remove_special, bool unparse_special) {
    return shm::guarded(static_cast<int32_t>(SHM_FAULT), [&] {
        for (int32_t i = 0; i < n_tokens; i++) {
            check_token(vocab, tokens[i]);
        }
        return llama_detokenize(vocab, tokens, n_tokens, buf, cap, remove_special, unparse_special);
    });
}

int32_t shm_token_to_piece(const struct llama_vocab * vocab, llama_token token, char * buf, int32_t cap, int32_t lstrip,
                           bool special) {
    return shm::guarded(static_cast<int32_t>(SHM_FAULT), [&] {
        check_token(vocab, token);
        return llama_token_to_piece(vocab, token, buf, cap, lstrip, special);
    });
}

int32_t shm_vocab_ends(const struct llama_vocab * vocab, llama_token * tokens, int32_t cap) {
    int32_t       n_ends   = 0;
    const int32_t n_tokens = llama_vocab_n_tokens(vocab);
    for (llama_token token = 0; token < n_tokens; token++) {
        if (llama_vocab_is_eog(vocab, token)) {
            if (n_ends < cap) {
                tokens[n_ends] = token;
            }
            n_ends++;
        }
    }
    return n_ends;
}

int32_t shm_token_attr(const struct llama_vocab * vocab, llama_token token) {
    return shm::guarded(static_cast<int32_t>(SHM_FAULT), [&] {
        check_token(vocab, token);
        return static_cast<int32_t>(llama_vocab_get_attr(vocab, token));
    });
}
