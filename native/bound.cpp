#include "bound.hpp"

#include <algorithm>
#include <cmath>

namespace shm {

namespace {

bool penalises(const common_params_sampling & params) {
    return params.penalty_last_n > 0 &&
           (params.penalty_repeat != 1.0f || params.penalty_freq != 0.0f || params.penalty_present != 0.0f);
}

bool repeats_cost(const common_params_sampling & params) {
    return params.dry_multiplier != 0.0f && params.dry_base >= 1.0f && params.dry_penalty_last_n > 0;
}

// min_p keeps what is as far below the highest as its logarithm. With a min_keep it may keep others too.
bound bound_of_min_p(const common_params_sampling & params, float temperature) {
    const bool bounds = params.min_keep <= 1 && params.min_p <= 1.0f;
    // a little more: it is asked about logits that were divided, and the smallest depth is not none
    return bounds ? bound{0, temperature * -std::log(params.min_p) + 1e-6f} : bound{};
}

// The steps before the first that bounds must keep the order of logits, apart from the tokens they touch one by one.
bound bound_of_chain(const common_params_sampling & params) {
    if (params.mirostat != 0) {
        return {};
    }
    float temperature = 1.0f;
    for (const auto type : params.samplers) {
        switch (type) {
            case COMMON_SAMPLER_TYPE_PENALTIES:
            case COMMON_SAMPLER_TYPE_DRY: break;
            case COMMON_SAMPLER_TYPE_TOP_K:
                if (params.top_k > 0) {
                    return {params.top_k, 0.0f};
                }
                break;
            case COMMON_SAMPLER_TYPE_TOP_N_SIGMA:
                if (params.top_n_sigma > 0.0f) {
                    return {};
                }
                break;
            case COMMON_SAMPLER_TYPE_TYPICAL_P:
                if (params.typ_p < 1.0f) {
                    return {};
                }
                break;
            case COMMON_SAMPLER_TYPE_XTC:
                if (params.xtc_probability > 0.0f) {
                    return {};
                }
                break;
            case COMMON_SAMPLER_TYPE_TOP_P:
                if (params.top_p < 1.0f) {
                    return {};
                }
                break;
            case COMMON_SAMPLER_TYPE_MIN_P:
                if (params.min_p > 0.0f) {
                    return bound_of_min_p(params, temperature);
                }
                break;
            case COMMON_SAMPLER_TYPE_TEMPERATURE:
                if (params.dynatemp_range > 0.0f) {
                    return {};
                }
                if (params.temp <= 0.0f) {
                    return {1, 0.0f};  // only the highest is left
                }
                temperature = params.temp;
                break;
            default: return {};
        }
    }
    return {};
}

// Greedy from the first step to the last: what comes before the temperature can only drop tokens below the highest.
bool takes_highest(const common_params_sampling & params) {
    const auto has = [&](common_sampler_type type) {
        return std::find(params.samplers.begin(), params.samplers.end(), type) != params.samplers.end();
    };
    return params.mirostat == 0 && params.temp <= 0.0f && params.dynatemp_range <= 0.0f &&
           has(COMMON_SAMPLER_TYPE_TEMPERATURE) && !has(COMMON_SAMPLER_TYPE_ADAPTIVE_P) &&
           !has(COMMON_SAMPLER_TYPE_INFILL) && (params.typ_p >= 1.0f || !has(COMMON_SAMPLER_TYPE_TYPICAL_P)) &&
           (params.xtc_probability <= 0.0f || !has(COMMON_SAMPLER_TYPE_XTC));
}

}  // namespace

bound bound_of(const common_params_sampling & params) {
    return takes_highest(params) ? bound{1, 0.0f} : bound_of_chain(params);
}

size_t window_of(const common_params_sampling & params) {
    return static_cast<size_t>(
        std::max(penalises(params) ? params.penalty_last_n : 0, repeats_cost(params) ? params.dry_penalty_last_n : 0));
}

}  // namespace shm
