#include "prefill.hpp"

#include <cctype>

#include "common.h"

namespace shm {

std::vector<llama_token> prefill_of(const llama_vocab * vocab, const std::string & prompt) {
    if (prompt.empty()) {
        return {};
    }
    std::vector<llama_token> tokens = common_tokenize(vocab, prompt, /*add_special=*/false, /*parse_special=*/true);
    if (!tokens.empty() && std::isspace(static_cast<unsigned char>(prompt[0])) == 0) {
        const std::string piece = common_token_to_piece(vocab, tokens[0], /*special=*/true);
        if (!piece.empty() && std::isspace(static_cast<unsigned char>(piece[0])) != 0) {
            tokens.erase(tokens.begin());
        }
    }
    return tokens;
}

}  // namespace shm
