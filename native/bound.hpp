// bound: what of the logits and of the last tokens a sampler chain's choice can depend on.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common.h"

namespace shm {

// What the chain's choice can be, whatever the other logits are. Without a number and a depth it depends on them all.
struct bound {
    int32_t n     = 0;     // one of so many of the highest logits
    float   depth = 0.0f;  // one that is at most so far below the highest
};

bound bound_of(const common_params_sampling & params);

// How many last tokens change logits.
size_t window_of(const common_params_sampling & params);

}  // namespace shm
