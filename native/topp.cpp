#include "topp.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <numeric>

namespace shm {

namespace {

// Logits are counted by how far below the highest they are, in steps of this size; what is further down than all steps
// makes one more.
constexpr float  step    = 0.25f;
constexpr size_t n_steps = 128;

// The sum of the parts may differ from the sum in order by as much.
constexpr double margin = 1e-3;

// From so many on, sorting by digits beats sorting by comparison.
constexpr size_t many = 2048;

float highest_logit(const llama_token_data_array & candidates) {
    float highest = candidates.data[0].logit;
    for (size_t i = 1; i < candidates.size; i++) {
        highest = std::max(highest, candidates.data[i].logit);
    }
    return highest;
}

// As llama.cpp: floats, in the order of the candidates.
void softmax(llama_token_data_array & candidates, float highest) {
    float sum = 0.0f;
    for (size_t i = 0; i < candidates.size; i++) {
        const float p        = expf(candidates.data[i].logit - highest);
        candidates.data[i].p = p;
        sum += p;
    }
    for (size_t i = 0; i < candidates.size; i++) {
        candidates.data[i].p /= sum;
    }
}

// How far down the likeliest reach that have probability p together, and are at least min_keep. -INFINITY: all the way.
float bound_of(const llama_token_data_array & candidates, float highest, float p, size_t min_keep) {
    double mass[n_steps] = {};
    size_t n[n_steps]    = {};
    for (size_t i = 0; i < candidates.size; i++) {
        const float depth = (highest - candidates.data[i].logit) / step;
        if (depth < static_cast<float>(n_steps)) {
            mass[static_cast<size_t>(depth)] += candidates.data[i].p;
            n[static_cast<size_t>(depth)]++;
        }
    }
    double sum    = 0.0;
    size_t n_kept = 0;
    for (size_t i = 0; i < n_steps; i++) {
        sum += mass[i];
        n_kept += n[i];
        if (sum >= p + margin && n_kept >= min_keep) {
            // half a step more: a logit on the edge may be counted on either side
            return highest - (static_cast<float>(i) + 1.5f) * step;
        }
    }
    return -INFINITY;
}

// The order of floats as that of unsigned numbers, the highest first.
uint32_t key_of(float logit) {
    uint32_t bits = 0;
    std::memcpy(&bits, &logit, sizeof(bits));
    return bits & 0x80000000U ? bits : ~bits & 0x7FFFFFFFU;
}

// By digits of eleven bits, the lowest first; keeps the order of what is equal.
void sort_by_digits(std::vector<llama_token_data> & data) {
    constexpr uint32_t n_digits = 1U << 11;

    static thread_local std::vector<llama_token_data> other;
    other.resize(data.size());
    for (const uint32_t shift : {0U, 11U, 22U}) {
        std::array<uint32_t, n_digits + 1> starts{};
        const auto                         digit = [shift](const llama_token_data & one) {
            return key_of(one.logit) >> shift & (n_digits - 1);
        };
        for (const auto & one : data) {
            starts[digit(one) + 1]++;
        }
        std::partial_sum(starts.begin(), starts.end(), starts.begin());
        for (const auto & one : data) {
            other[starts[digit(one)]++] = one;
        }
        data.swap(other);
    }
}

void sort(std::vector<llama_token_data> & data) {
    if (data.size() >= many) {
        sort_by_digits(data);
        return;
    }
    std::sort(data.begin(), data.end(),
              [](const llama_token_data & a, const llama_token_data & b) { return a.logit > b.logit; });
}

// How many of the first it takes, 0 if all of them do not suffice.
size_t nucleus(const std::vector<llama_token_data> & sorted, float p, size_t min_keep) {
    float sum = 0.0f;
    for (size_t i = 0; i < sorted.size(); i++) {
        sum += sorted[i].p;
        if (sum >= p && i + 1 >= min_keep) {
            return i + 1;
        }
    }
    return 0;
}

}  // namespace

void top_p(llama_token_data_array & candidates, float p, size_t min_keep, std::vector<llama_token_data> & scratch) {
    const float highest = highest_logit(candidates);
    softmax(candidates, highest);
    size_t n_kept = 0;
    for (float bound = bound_of(candidates, highest, p, min_keep); n_kept == 0; bound = -INFINITY) {
        scratch.clear();
        std::copy_if(candidates.data, candidates.data + candidates.size, std::back_inserter(scratch),
                     [bound](const llama_token_data & data) { return data.logit >= bound; });
        sort(scratch);
        n_kept = nucleus(scratch, p, min_keep);
        if (n_kept == 0 && bound == -INFINITY) {
            n_kept = scratch.size();
        }
    }
    std::copy(scratch.begin(), scratch.begin() + static_cast<std::ptrdiff_t>(n_kept), candidates.data);
    candidates.size   = n_kept;
    candidates.sorted = true;
}

}  // namespace shm
