// prefill: the part of a prompt that belongs to the answer, as a grammar sees it.
#pragma once

#include <string>
#include <vector>

#include "llama.h"

namespace shm {

// The tokens of the generation prompt; some vocabularies put a space before the first that is not in the text.
std::vector<llama_token> prefill_of(const llama_vocab * vocab, const std::string & prompt);

}  // namespace shm
