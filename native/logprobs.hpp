// logprobs: the log-probabilities that a row of raw logits stands for, in a pass or two over the row.
#pragma once

#include <cstdint>

#include "engine.h"

namespace shm {

// The natural logarithm of the sum of exp(logit) over n logits.
float log_sum_exp(const float * logits, int32_t n);

// Writes 1 + n_top entries: `token`, then the n_top likeliest of the n tokens, the likeliest first. n_top is at most n.
// What has no finite log-probability, or one below lowest_logprob, gets lowest_logprob.
void write_logprobs(const float * logits, int32_t n, llama_token token, int32_t n_top, shm_logprob * out);

constexpr float lowest_logprob = -9999.0f;

}  // namespace shm
