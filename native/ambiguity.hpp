// ambiguity: how much work a grammar can make of one character.
//
// llama.cpp keeps a stack for every way in which the text so far may be read, and tries each token on each of them.
// With many optional parts in a row ("a"? "a"? ...) the ways multiply: at 400 of them one token takes minutes.
#pragma once

#include "src/llama-grammar.h"

namespace shm {

// Throws std::invalid_argument when there is a place in the grammar where a character can be read in too many ways.
void check_ambiguity(const llama_grammar_rules & rules);

}  // namespace shm
