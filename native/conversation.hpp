// conversation: what shm_chat_apply is asked, read from JSON.
#pragma once

#include "chat.h"
#include "chat_format.hpp"

namespace shm {

// A conversation to render: llama.cpp's inputs, and which tools may be called.
struct conversation {
    common_chat_templates_inputs inputs;
    shm::format_request          format;
    bool                         continues = false;
};

// Throws what llama.cpp throws for messages that are none, and std::invalid_argument for an unknown tool.
conversation read_conversation(const common_json & in);

}  // namespace shm
