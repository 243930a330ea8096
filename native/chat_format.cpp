#include "chat_format.hpp"

#include <algorithm>
#include <functional>
#include <stdexcept>

#include "chat-peg-parser.h"
#include "grammar.hpp"
#include "json-schema-to-grammar.h"

namespace {

// about what an arena takes for each byte of its text, which is kept too
constexpr size_t ARENA_BYTES = 5;

using arena_t = common_peg_arena;

void foreach_schema(const shm::format_request & request, const std::function<void(const common_json &)> & each) {
    if (request.has_tools()) {
        for (const auto & [_, tool] : request.tools.items()) {
            const common_json & function = tool.at("function");
            each(function.contains("parameters") ? function.at("parameters") : common_json::object());
        }
    }
    if (request.json_schema.is_object()) {
        each(request.json_schema);
    }
}

std::string grammar_of(const arena_t & arena, const shm::format_request & request, bool lazy) {
    return shm::strict_strings(build_grammar([&](const common_grammar_builder & builder) {
        foreach_schema(request, [&](common_json schema) { builder.resolve_refs(schema); });
        arena.build_grammar(builder, lazy);
    }));
}

// One call: the generators allow more wherever each has tags of its own.
void allow_one_call(arena_t & arena, common_peg_parser_id id) {
    if (auto * repetition = std::get_if<common_peg_repetition_parser>(&arena.get(id))) {
        repetition->max_count = 1;
    }
}

void limit_calls(arena_t & arena) {
    for (size_t id = 0; id < arena.size(); id++) {
        const auto * rule = std::get_if<common_peg_rule_parser>(&arena.get(id));
        if (rule != nullptr && rule->trigger && (rule->name == "tool-calls" || rule->name == "tool-call")) {
            allow_one_call(arena, rule->child);
        }
    }
}

bool is_content(const arena_t & arena, common_peg_parser_id id) {
    if (const auto * repetition = std::get_if<common_peg_repetition_parser>(&arena.get(id))) {
        return is_content(arena, repetition->child);
    }
    const auto * tag = std::get_if<common_peg_tag_parser>(&arena.get(id));
    return tag != nullptr && tag->tag == common_chat_peg_builder::CONTENT;
}

void drop_content(arena_t & arena) {
    for (size_t id = 0; id < arena.size(); id++) {
        if (auto * sequence = std::get_if<common_peg_sequence_parser>(&arena.get(id))) {
            auto & parts = sequence->children;
            parts.erase(std::remove_if(parts.begin(), parts.end(), [&](auto part) { return is_content(arena, part); }),
                        parts.end());
        }
    }
}

// Calls as most models with tags write them; the worker describes them in the system prompt.
void set_general_tools(autoparser::autoparser & parser) {
    parser.tools                          = {};
    parser.tools.format.mode              = autoparser::tool_format::JSON_NATIVE;
    parser.tools.format.per_call_start    = "<tool_call>";
    parser.tools.format.per_call_end      = "</tool_call>";
    parser.content                        = {};
    parser.jinja_caps.supports_tool_calls = true;
}

std::string trimmed(const std::string & text) {
    const char * space = " \t\r\n";
    const size_t first = text.find_first_not_of(space);
    return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(space) - first + 1);
}

std::string key_of(const shm::format_request & request) {
    common_json key   = common_json::object();
    key["choice"]     = static_cast<int>(request.choice);
    key["parallel"]   = request.parallel;
    key["split"]      = request.split;
    key["general"]    = request.general;
    key["schema"]     = request.json_schema;
    key["generation"] = request.generation_prompt;
    return key.dump_safe() + request.tools_text;
}

}  // namespace

namespace shm {

void check_format(const llama_vocab * vocab, const std::string & grammar) {
    if (!grammar.empty()) {
        check_grammar(vocab, grammar.c_str(), "root");
    }
}

std::vector<std::string> thinking_marks(const common_chat_params & params, const format_request & request) {
    if (!request.split || params.thinking_start_tag.empty()) {
        return {};
    }
    std::vector<std::string> out = params.thinking_end_tags;
    out.push_back(params.thinking_start_tag);
    return out;
}

size_t kept_bytes(const common_chat_params & params) {
    return 2 * params.grammar.size() + ARENA_BYTES * params.parser.size();
}

arena_ptr load_arena(const std::string & text) {
    auto arena = std::make_shared<arena_t>();
    arena->load(text);
    return arena;
}

std::string forced_grammar(const std::string & saved, const format_request & request) {
    arena_t arena;
    arena.load(saved);
    drop_content(arena);
    if (!request.parallel) {
        limit_calls(arena);
    }
    return grammar_of(arena, request, /*lazy=*/false);
}

chat_template::chat_template(const std::string & source, const std::string & bos, const std::string & eos,
                             bool built_in)
    : built_in_(built_in), formats_(MAX_FORMATS, MAX_FORMAT_BYTES) {
    if (!built_in) {
        jinja_ = std::make_unique<common_chat_template>(source, bos, eos);
        autoparser::generation_params probe;
        probe.messages              = common_json::array();
        probe.tools                 = nullptr;
        probe.add_generation_prompt = true;
        common_json message         = common_json::object();
        message["role"]             = "user";
        message["content"]          = "x";
        probe.messages.push_back(message);
        try {
            specialised_ = common_chat_try_specialized_template(*jinja_, jinja_->source(), probe).has_value();
        } catch (const std::exception &) {
            specialised_ = true;  // it is one, and dislikes the probe
        }
    }
    if (!built_in && !specialised_) {
        try {
            analysis_.analyze_template(*jinja_);
        } catch (const std::exception &) {
            analysis_ = {};  // refused all examples: its answers are plain text
        }
    }
    analysis_.analysis_complete = true;
    general_                    = analysis_;
    set_general_tools(general_);
}

bool chat_template::has_tools() const {
    if (built_in_) {
        return false;
    }
    const auto caps = jinja_->original_caps();
    if (specialised_) {
        return caps.supports_tools || caps.supports_tool_calls;
    }
    return caps.supports_tools && caps.supports_tool_calls &&
           analysis_.tools.format.mode != autoparser::tool_format::NONE;
}

chat_format_ptr chat_template::format(const llama_vocab * vocab, const format_request & request) const {
    const std::string key = key_of(request);
    if (chat_format_ptr found = formats_.find(key)) {
        return found;
    }
    chat_format_ptr made = build(vocab, request);
    formats_.keep(key, made, kept_bytes(made->params));
    return made;
}

chat_format_ptr chat_template::build(const llama_vocab * vocab, const format_request & request) const {
    const autoparser::autoparser & parser = request.general ? general_ : analysis_;
    autoparser::generation_params  inputs;
    inputs.tools               = request.tools;
    inputs.tool_choice         = request.choice;
    inputs.parallel_tool_calls = request.parallel;
    inputs.json_schema         = request.json_schema;
    inputs.reasoning_format    = request.split ? COMMON_REASONING_FORMAT_AUTO : COMMON_REASONING_FORMAT_NONE;

    auto                 made   = std::make_shared<chat_format>();
    common_chat_params & params = made->params;
    const arena_t        arena  = parser.build_parser(inputs, request.generation_prompt);
    params.format               = COMMON_CHAT_FORMAT_PEG_NATIVE;
    params.parser               = arena.save();
    params.preserved_tokens     = parser.preserved_tokens;
    params.additional_stops     = parser.additional_stops;
    params.supports_thinking    = parser.reasoning.mode != autoparser::reasoning_mode::NONE;
    if (params.supports_thinking) {
        params.thinking_start_tag = trimmed(parser.reasoning.start);
        const std::string end     = trimmed(parser.reasoning.end);
        if (!end.empty()) {
            params.thinking_end_tags = {end};
        }
    }
    made->plain  = !request.has_tools() && !request.json_schema.is_object() && !params.supports_thinking &&
                   !parser.content.is_always_wrapped();
    made->forced = request.forces();
    made->marks  = thinking_marks(params, request);

    const auto &      form    = parser.tools.format;
    const std::string trigger = form.section_start.empty() ? form.per_call_start : form.section_start;
    if (request.has_tools() && !trigger.empty()) {
        made->marks.push_back(trigger);
    }
    if (made->forced) {
        params.grammar = forced_grammar(params.parser, request);
    } else if (request.json_schema.is_object()) {
        params.grammar = grammar_of(arena, request, /*lazy=*/false);
    } else if (request.has_tools() && !trigger.empty()) {
        arena_t limited = arena;
        if (!request.parallel) {
            limit_calls(limited);
        }
        params.grammar_lazy     = true;
        params.grammar          = grammar_of(limited, request, /*lazy=*/true);
        params.grammar_triggers = {{COMMON_GRAMMAR_TRIGGER_TYPE_WORD, trigger}};
        if (form.openai_wrapper_trigger) {
            params.grammar_triggers.push_back({COMMON_GRAMMAR_TRIGGER_TYPE_WORD, "{\"type\": \"function\","});
        }
    }
    check_format(vocab, params.grammar);
    if (!params.grammar.empty()) {
        made->grammar = std::make_shared<known_grammar>(params.grammar, /*is_schema=*/false);
    }
    if (!made->plain) {
        made->arena = load_arena(params.parser);
    }
    return made;
}

std::string chat_template::continuation(const std::string & generation_prompt, const common_chat_msg & message) const {
    const bool   in_content = !message.content.empty() || message.reasoning_content.empty();
    const auto & reasoning  = analysis_.reasoning;
    std::string  out        = generation_prompt;
    if (!reasoning.start.empty()) {
        out = out.substr(0, out.find(reasoning.start)) + reasoning.start + message.reasoning_content;
        if (in_content) {
            out += reasoning.end;
        }
    }
    return in_content ? out + message.content : out;
}

}  // namespace shm
