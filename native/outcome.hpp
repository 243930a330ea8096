// outcome: what came of a step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine.h"
#include "guard.hpp"

namespace shm {

struct outcome {
    int32_t                    code = SHM_STEP_OK;  // an enum shm_step_code, or SHM_FAULT
    fault                      kind = fault::none;
    std::string                message;
    std::vector<shm_row_event> events;
    std::vector<shm_row_score> scored;
    std::vector<shm_logprob>   logprobs;
    std::string                text;
    int64_t                    decode_us = 0;
    int64_t                    sample_us = 0;
    bool                       goes_on   = false;  // every row of the step has one more token to feed
    bool                       followed  = false;  // the next step is in flight

    void clear() {
        code = SHM_STEP_OK;
        kind = fault::none;
        message.clear();
        events.clear();
        scored.clear();
        logprobs.clear();
        text.clear();
        goes_on = followed = false;
    }
};

}  // namespace shm
