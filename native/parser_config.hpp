// parser_config: what an output parser is made from, read from JSON.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "chat.h"

namespace shm {

struct parser_config {
    common_chat_format                      format;
    std::string                             generation_prompt;
    std::shared_ptr<const common_peg_arena> arena;
    bool                                    forced;         // nothing but a call comes behind the reasoning
    std::string                             reasoning_end;  // the tag, or nothing
    std::vector<std::string>                marks;          // texts that are never the answer's own words

    // Without `known` the text of the arena is in the JSON, or there is none.
    parser_config(const common_json & in, std::shared_ptr<const common_peg_arena> known);
};

}  // namespace shm
