// cut_texts: where a text may be cut so that its parts have the tokens of the whole.
#pragma once

#include <string>
#include <vector>

#include "llama.h"

namespace shm {

// Control tokens' texts, of those that are in `source`. Before each place where one of them is, a text may be cut that
// is read with special tokens: the tokenizer finds them before all else, and no other can lie across their ends.
std::vector<std::string> cut_texts(const llama_model * model, const std::string & source);

}  // namespace shm
