// sampling_params: from a request's JSON to llama.cpp's common_params_sampling.
#pragma once

#include <cstdint>
#include <string>

#include "common.h"
#include "engine.h"
#include "known_grammar.hpp"

namespace shm {

// `json` is as for shm_sampler_new. What it leaves out is the model's own advice (general.sampling.* in its metadata),
// else llama.cpp's default. A `known` grammar stands for one in the JSON. Throws std::invalid_argument with the field's
// name, or what the JSON parser throws.
common_params_sampling read_sampling_params(const llama_model * model, const shm_tokens & ends, int32_t n_ctx,
                                            const std::string & json, const known_grammar * known = nullptr);

}  // namespace shm
