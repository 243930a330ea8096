#include "topk.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

#include "simd.hpp"

namespace shm {

namespace {

constexpr int32_t lanes     = 16;
constexpr int32_t min_block = lanes;
constexpr int32_t max_block = 16 * lanes;

// The row is read once, at memory speed. The highest of each `block` logits; a NaN counts as lower than any number.
SHM_MULTIVERSION void block_maxima(const float * logits, int32_t n_blocks, int32_t block, float * maxima) {
    for (int32_t b = 0; b < n_blocks; b++) {
        const float * row = logits + static_cast<size_t>(b) * block;
        float         high[lanes];
        for (float & value : high) {
            value = -INFINITY;
        }
        for (int32_t i = 0; i < block; i += lanes) {
            for (int32_t j = 0; j < lanes; j++) {
                high[j] = row[i + j] > high[j] ? row[i + j] : high[j];
            }
        }
        float highest = high[0];
        for (int32_t j = 1; j < lanes; j++) {
            highest = high[j] > highest ? high[j] : highest;
        }
        maxima[b] = highest;
    }
}

// So large that blocks are few, so small that there are several for each of the k.
int32_t block_size(int32_t n, int32_t k) {
    const int32_t block = n / (4 * k) / lanes * lanes;
    return std::min(block, max_block);
}

// Logits of a block of `within`: few, as most blocks have none that is high.
constexpr int32_t small_block = 4 * lanes;

// What float arithmetic may be off by, as a part of the numbers.
constexpr float inexact = 1e-5f;

// The highest of some logits that count, -INFINITY if there are none.
float highest_that_counts(const float * logits, int32_t first, int32_t last,
                          const std::function<bool(llama_token)> & counts) {
    float highest = -INFINITY;
    for (int32_t i = first; i < last; i++) {
        if (logits[i] > highest && counts(i)) {
            highest = logits[i];
        }
    }
    return highest;
}

void append_from(const float * logits, int32_t first, int32_t last, float bound, std::vector<llama_token_data> & out) {
    for (int32_t i = first; i < last; i++) {
        if (logits[i] >= bound) {
            out.push_back({i, logits[i], 0.0f});
        }
    }
}

}  // namespace

bool top_k(const float * logits, int32_t n, int32_t k, std::vector<llama_token_data> & out) {
    const int32_t block = k > 0 ? block_size(n, k) : 0;
    if (block < min_block) {
        return false;
    }
    // The k-th highest maximum is a bound from below: k blocks have a logit that reaches it.
    const int32_t                          n_blocks = n / block;
    static thread_local std::vector<float> maxima;
    static thread_local std::vector<float> ordered;
    maxima.resize(static_cast<size_t>(n_blocks));
    block_maxima(logits, n_blocks, block, maxima.data());
    ordered = maxima;
    std::nth_element(ordered.begin(), ordered.begin() + (k - 1), ordered.end(), std::greater<float>());
    const float bound = ordered[static_cast<size_t>(k - 1)];
    if (!(bound > -INFINITY)) {
        return false;
    }
    for (int32_t b = 0; b < n_blocks; b++) {
        if (maxima[static_cast<size_t>(b)] >= bound) {
            append_from(logits, b * block, (b + 1) * block, bound, out);
        }
    }
    append_from(logits, n_blocks * block, n, bound, out);
    return true;
}

bool within(const float * logits, int32_t n, float depth, const std::function<bool(llama_token)> & counts,
            std::vector<llama_token_data> & out) {
    const int32_t                          n_blocks = n / small_block;
    const int32_t                          n_whole  = n_blocks * small_block;
    static thread_local std::vector<float> maxima;
    static thread_local std::vector<float> counted;
    maxima.resize(static_cast<size_t>(n_blocks));
    block_maxima(logits, n_blocks, small_block, maxima.data());
    counted       = maxima;
    float highest = highest_that_counts(logits, n_whole, n, counts);
    while (n_blocks > 0) {
        const auto at = std::max_element(counted.begin(), counted.end());
        if (!(*at > highest)) {
            break;
        }
        const auto  first = static_cast<int32_t>(at - counted.begin()) * small_block;
        const float found = highest_that_counts(logits, first, first + small_block, counts);
        highest           = std::max(highest, found);
        *at               = found;
    }
    if (!std::isfinite(highest)) {
        return false;
    }
    const float bound = highest - depth - inexact * (std::fabs(highest) + depth);
    for (int32_t b = 0; b < n_blocks; b++) {
        if (maxima[static_cast<size_t>(b)] >= bound) {
            append_from(logits, b * small_block, (b + 1) * small_block, bound, out);
        }
    }
    append_from(logits, n_whole, n, bound, out);
    return true;
}

void all_logits(const float * logits, int32_t n, std::vector<llama_token_data> & out) {
    const size_t first = out.size();
    out.resize(first + static_cast<size_t>(n));
    for (int32_t i = 0; i < n; i++) {
        out[first + static_cast<size_t>(i)] = {i, logits[i], 0.0f};
    }
}

}  // namespace shm
