// topk: the likeliest few of a row of logits, without sorting or copying the row.
#pragma once

#include "llama.h"

#include <cstdint>
#include <functional>
#include <vector>

namespace shm {

// Appends candidates that include the k highest of n logits (a few more: whatever is as high as the bound that was
// found), in order of their ids. Returns false, with nothing appended, when the row is too short for its k, or has too
// few numbers in it (NaN, -inf) for a bound to be found; then the whole row has to be looked at.
bool top_k(const float * logits, int32_t n, int32_t k, std::vector<llama_token_data> & out);

// Appends, in order of their ids, all of n logits that are at most `depth` below the highest of those that `counts`; a
// few more, as dividing and adding are inexact. Returns false, with nothing appended, when there is no such number.
bool within(const float * logits, int32_t n, float depth, const std::function<bool(llama_token)> & counts,
            std::vector<llama_token_data> & out);

// Appends all n.
void all_logits(const float * logits, int32_t n, std::vector<llama_token_data> & out);

}  // namespace shm
