// window: the part of a context's memory that keeps only a sliding window of each sequence, and the part that keeps
// all. llama.cpp's own functions change both at once.
#pragma once

#include "llama.h"

namespace shm {

// The last position of a sequence in the part that keeps all, -1 when it is empty.
llama_pos last_position(llama_memory_t memory, llama_seq_id seq);

}  // namespace shm
