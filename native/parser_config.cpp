#include "parser_config.hpp"

#include <mutex>
#include <unordered_map>

#include "chat-peg-parser.h"

namespace {

constexpr size_t MAX_ARENAS = 64;

using arena_ptr = std::shared_ptr<const common_peg_arena>;

// The arenas that were read last, by their text: reading that of some tools takes a millisecond.
class arena_cache {
  public:
    arena_ptr get(const std::string & text) {
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto                        found = arenas_.find(text);
        if (found != arenas_.end()) {
            return found->second;
        }
        auto arena = std::make_shared<common_peg_arena>();
        arena->load(text);
        if (arenas_.size() >= MAX_ARENAS) {
            arenas_.clear();
        }
        return arenas_[text] = std::move(arena);
    }

  private:
    std::mutex                                 mutex_;
    std::unordered_map<std::string, arena_ptr> arenas_;
};

arena_ptr read_arena(const std::string & text) {
    static arena_cache cache;
    if (!text.empty()) {
        return cache.get(text);
    }
    return std::make_shared<common_peg_arena>(
        build_chat_peg_parser([](common_chat_peg_builder & p) { return p.content(p.rest()) + p.end(); }));
}

}  // namespace

namespace shm {

parser_config::parser_config(const common_json & in)
    : format(static_cast<common_chat_format>(in.at("format").get<int>())),
      generation_prompt(in.value("generation_prompt", "")),
      arena(read_arena(in.value("arena", ""))),
      forced(in.value("forced", false)),
      reasoning_end(in.value("reasoning_end", "")) {
    if (in.contains("marks")) {
        marks = in.at("marks").get<std::vector<std::string>>();
    }
}

}  // namespace shm
