// chat_format: how an answer is constrained and parsed, for one template. llama.cpp finds out about a template by
// rendering it dozens of times; that is done once, here, and what follows from it for a set of tools or a schema is
// kept.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "chat-auto-parser.h"
#include "chat.h"
#include "known_grammar.hpp"
#include "lru.hpp"

namespace shm {

// What the answer must be, apart from the messages before it.
struct format_request {
    common_json             tools;       // those that may be called, in OpenAI's form, or null
    std::string             tools_text;  // the same
    common_chat_tool_choice choice   = COMMON_CHAT_TOOL_CHOICE_AUTO;
    bool                    parallel = false;
    bool                    split    = true;   // reasoning apart from the content
    bool                    general  = false;  // the template knows no tools: a format of our own
    common_json             json_schema;       // or null
    std::string             generation_prompt;

    bool has_tools() const { return tools.is_array() && !tools.empty() && choice != COMMON_CHAT_TOOL_CHOICE_NONE; }

    bool forces() const { return has_tools() && choice == COMMON_CHAT_TOOL_CHOICE_REQUIRED; }
};

using arena_ptr = std::shared_ptr<const common_peg_arena>;

// A format is immutable and shared.
struct chat_format {
    common_chat_params       params;         // without prompt and generation prompt
    bool                     plain = false;  // the text is the content as it stands
    // For whoever samples and parses; null where there is nothing to hold, or to parse.
    known_grammar_ptr        grammar;
    arena_ptr                arena;
    bool                     forced = false;  // behind the reasoning the answer is a call from its first character on
    // Texts that are never an answer's own words, for a text that ends among them.
    std::vector<std::string> marks;
};

using chat_format_ptr = std::shared_ptr<const chat_format>;

// One template with its analysis. Immutable, apart from what it keeps; any thread.
class chat_template {
  public:
    // `name` is one of llama.cpp's built-in templates, which are no Jinja, or empty.
    chat_template(const std::string & source, const std::string & bos, const std::string & eos, bool built_in);

    bool built_in() const { return built_in_; }

    // Whether llama.cpp has code of its own for the template: no analysis is needed, nor possible.
    bool specialised() const { return specialised_; }

    // Whether the template shows tools and takes their calls.
    bool has_tools() const;

    chat_format_ptr format(const llama_vocab * vocab, const format_request & request) const;

    // The prompt of an answer that goes on with `message`.
    std::string continuation(const std::string & generation_prompt, const common_chat_msg & message) const;

  private:
    chat_format_ptr build(const llama_vocab * vocab, const format_request & request) const;

    bool                                  built_in_;
    bool                                  specialised_ = false;
    std::unique_ptr<common_chat_template> jinja_;
    autoparser::autoparser                analysis_;
    autoparser::autoparser                general_;  // the same with our own format of tool calls

    mutable lru<chat_format> formats_;
};

// The tags around a reasoning that is told apart from the content.
std::vector<std::string> thinking_marks(const common_chat_params & params, const format_request & request);

// How much of what follows from texts is kept: so many, and so many bytes.
constexpr size_t MAX_FORMATS      = 64;
constexpr size_t MAX_FORMAT_BYTES = size_t(64) << 20;

// About what a grammar and a parser's rules take.
size_t kept_bytes(const common_chat_params & params);

// The arena that was saved as a text.
arena_ptr load_arena(const std::string & text);

// The grammar of forced calls: no text before them, and one only unless several are allowed.
std::string forced_grammar(const std::string & arena, const format_request & request);

// Throws std::invalid_argument for a grammar that llama.cpp could not use.
void check_format(const llama_vocab * vocab, const std::string & grammar);

}  // namespace shm

// A reference of Python's to one.
struct shm_format {
    shm::chat_format_ptr format;
};
