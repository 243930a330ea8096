// rendering: a conversation as the model reads it, and what is known of the answer to it.
#pragma once

#include <memory>
#include <string>

#include "chat.h"
#include "chat_format.hpp"
#include "conversation.hpp"
#include "lru.hpp"

namespace shm {

// What the output of llama.cpp's own code for a template comes down to, which it writes anew for each request.
struct known_output {
    known_grammar_ptr grammar;
    arena_ptr         arena;
};

// A model's templates. Thread: any; immutable after it is made, apart from what is kept.
struct chat {
    common_chat_templates_ptr      templates;
    std::unique_ptr<chat_template> ordinary;
    std::unique_ptr<chat_template> tool_use;  // of models that have one for tools
    const llama_model *            model;
    const llama_vocab *            vocab;
    mutable lru<known_output>      outputs{MAX_FORMATS, MAX_FORMAT_BYTES};

    const chat_template & choose(bool has_tools) const { return has_tools && tool_use ? *tool_use : *ordinary; }
};

struct rendering {
    std::string     prompt;
    std::string     generation_prompt;
    chat_format_ptr format;
};

// Throws std::invalid_argument for a conversation that the template refuses, or that cannot be continued.
rendering render(const chat & chat, conversation & talk);

// What Python gets of it; `whole`: with the texts of grammar and arena, which are large.
common_json as_json(const rendering & made, bool continues, bool whole);

}  // namespace shm
