// sampler: llama.cpp's common_sampler behind the C ABI.
#pragma once

#include "engine.h"
#include "sampling.h"

#include <set>

struct shm_sampler {
    common_sampler_ptr    impl;
    std::set<llama_token> preserved;  // control tokens whose text the output parser needs
    int32_t               n_history;  // how many prompt tokens the chain looks back on

    // The chain sees the end of the prompt, for penalties and DRY.
    void prime(const llama_token * tokens, size_t n);
};
