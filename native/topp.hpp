// topp: llama.cpp's top-p over a whole vocabulary, without sorting what it throws away.
#pragma once

#include "llama.h"

#include <cstddef>
#include <vector>

namespace shm {

// Leaves the likeliest candidates that together reach probability p, and at least min_keep, the likeliest first: the
// very ones that llama.cpp's sampler leaves, by the same arithmetic in the same order. The candidates are not sorted
// yet; `scratch` is the calling thread's.
void top_p(llama_token_data_array & candidates, float p, size_t min_keep, std::vector<llama_token_data> & scratch);

}  // namespace shm
