#include "parser_config.hpp"

#include <utility>

#include "chat-peg-parser.h"

namespace {

std::shared_ptr<const common_peg_arena> read_arena(const std::string & text) {
    if (text.empty()) {
        return std::make_shared<common_peg_arena>(
            build_chat_peg_parser([](common_chat_peg_builder & p) { return p.content(p.rest()) + p.end(); }));
    }
    auto arena = std::make_shared<common_peg_arena>();
    arena->load(text);
    return arena;
}

}  // namespace

namespace shm {

parser_config::parser_config(const common_json & in, std::shared_ptr<const common_peg_arena> known)
    : format(static_cast<common_chat_format>(in.at("format").get<int>())),
      generation_prompt(in.value("generation_prompt", "")),
      arena(known ? std::move(known) : read_arena(in.value("arena", ""))),
      forced(in.value("forced", false)),
      reasoning_end(in.value("reasoning_end", "")) {
    if (in.contains("marks")) {
        marks = in.at("marks").get<std::vector<std::string>>();
    }
}

}  // namespace shm
