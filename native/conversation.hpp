// conversation: what shm_chat_apply is asked, read from JSON.
#pragma once

#include <string>
#include <vector>

#include "chat.h"
#include "chat_format.hpp"

namespace shm {

// A conversation to render: llama.cpp's inputs, and which tools may be called.
struct conversation {
    common_chat_templates_inputs inputs;
    shm::format_request          format;
    bool                         continues = false;
};

// Tools that requests have in common, read once.
struct tool_list {
    explicit tool_list(const std::string & json);

    std::vector<common_chat_tool> tools;
    common_json                   json;  // as llama.cpp writes them
    std::string                   text;
};

// `tools` stand for those in the JSON, or are null. Throws what llama.cpp throws for messages that are none, and
// std::invalid_argument for an unknown tool.
conversation read_conversation(const common_json & in, const tool_list * tools);

}  // namespace shm

// Python's.
struct shm_tools {
    shm::tool_list list;
};
