#include "logprobs.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "simd.hpp"
#include "topk.hpp"

namespace shm {

namespace {

constexpr int32_t lanes = 16;
constexpr int32_t block = 256 * lanes;  // summed in floats; the blocks' sums in doubles

SHM_MULTIVERSION float highest_of(const float * logits, int32_t n) {
    float high[lanes];
    for (float & value : high) {
        value = -INFINITY;
    }
    const int32_t whole = n / lanes * lanes;
    for (int32_t i = 0; i < whole; i += lanes) {
        for (int32_t j = 0; j < lanes; j++) {
            high[j] = logits[i + j] > high[j] ? logits[i + j] : high[j];
        }
    }
    float highest = high[0];
    for (int32_t j = 1; j < lanes; j++) {
        highest = high[j] > highest ? high[j] : highest;
    }
    for (int32_t i = whole; i < n; i++) {
        highest = logits[i] > highest ? logits[i] : highest;
    }
    return highest;
}

// exp(x) to about 2e-7 for x <= 0: 2^k * e^r with |r| <= ln(2) / 2. In loops over lanes, so that each becomes a few
// instructions.
SHM_MULTIVERSION float sum_of_exp(const float * logits, int32_t n, float shift) {
    float   sums[lanes] = {};
    float   padded[lanes];
    float   x[lanes];
    int32_t k[lanes];
    float   scale[lanes];
    for (int32_t i = 0; i < n; i += lanes) {
        const float * row = logits + i;
        if (n - i < lanes) {
            std::fill(padded, padded + lanes, -INFINITY);
            std::copy(row, row + (n - i), padded);
            row = padded;
        }
        for (int32_t j = 0; j < lanes; j++) {
            x[j] = row[j] - shift;
            x[j] = x[j] > -87.0f ? x[j] : -87.0f;  // false for a NaN too
            k[j] = static_cast<int32_t>(x[j] * 1.44269504f - 0.5f);
        }
        for (int32_t j = 0; j < lanes; j++) {
            const auto whole = static_cast<float>(k[j]);
            x[j]             = (x[j] - whole * 0.693359375f) + whole * 2.12194440e-4f;
            k[j]             = (k[j] + 127) << 23;
        }
        std::memcpy(scale, k, sizeof(scale));
        for (int32_t j = 0; j < lanes; j++) {
            const float r = x[j];
            float       y = 1.9875691500e-4f;
            y             = y * r + 1.3981999507e-3f;
            y             = y * r + 8.3334519073e-3f;
            y             = y * r + 4.1665795894e-2f;
            y             = y * r + 1.6666665459e-1f;
            y             = y * r + 5.0000001201e-1f;
            sums[j] += (y * r * r + r + 1.0f) * scale[j];
        }
    }
    float sum = 0.0f;
    for (const float lane : sums) {
        sum += lane;
    }
    return sum;
}

bool likelier(const llama_token_data & a, const llama_token_data & b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

float floored(float logprob) { return logprob > lowest_logprob ? logprob : lowest_logprob; }

}  // namespace

float log_sum_exp(const float * logits, int32_t n) {
    const float highest = highest_of(logits, n);
    double      sum     = 0.0;
    for (int32_t i = 0; i < n; i += block) {
        sum += sum_of_exp(logits + i, std::min(block, n - i), highest);
    }
    return highest + static_cast<float>(std::log(sum));
}

void write_logprobs(const float * logits, int32_t n, llama_token token, int32_t n_top, shm_logprob * out) {
    const float norm = log_sum_exp(logits, n);
    out[0]           = {token, floored(logits[token] - norm)};
    if (n_top == 0) {
        return;
    }
    static thread_local std::vector<llama_token_data> high;
    high.clear();
    if (!top_k(logits, n, n_top, high)) {
        all_logits(logits, n, high);
        for (auto & data : high) {
            data.logit = std::isnan(data.logit) ? -INFINITY : data.logit;  // a NaN has no place in an order
        }
    }
    std::partial_sort(high.begin(), high.begin() + n_top, high.end(), likelier);
    for (int32_t i = 0; i < n_top; i++) {
        out[1 + i] = {high[i].id, floored(high[i].logit - norm)};
    }
}

}  // namespace shm
