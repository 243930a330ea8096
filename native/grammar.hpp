// grammar: why a GBNF grammar cannot be used. llama.cpp prints that to stderr, out of reach of its log.
#pragma once

#include <string>

struct llama_vocab;

namespace shm {

// Throws std::invalid_argument with the reason and its line when the grammar does not parse, lacks `root`, or is so
// deep that llama.cpp's recursion would overflow the stack. Any thread.
void check_grammar(const llama_vocab * vocab, const char * grammar, const char * root);

// llama.cpp's rule for JSON strings allows raw control characters and an escaped space, which no JSON parser takes.
std::string strict_strings(std::string grammar);

}  // namespace shm
