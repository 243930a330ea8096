// bound: what of the logits and of the last tokens a sampler chain's choice can depend on.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common.h"

namespace shm {

// Of how many of the highest logits the chain's choice is one, whatever the others are; 0 when it depends on them all.
int32_t bound_of(const common_params_sampling & params);

// How many last tokens change logits.
size_t window_of(const common_params_sampling & params);

}  // namespace shm
