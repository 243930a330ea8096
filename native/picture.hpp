// picture: an image, cut into the runs of a prompt that it becomes.
#pragma once

#include <memory>
#include <vector>

#include "media.h"
#include "medium.hpp"

namespace shm {

// Tokens, or a medium.
struct piece {
    std::vector<llama_token> tokens;
    std::shared_ptr<medium>  what;
};

}  // namespace shm

struct shm_picture {
    std::vector<shm::piece> pieces;
};
