// chat: templates and output parsers of llama.cpp's common/chat, as JSON in and out.
//
// Thread: any. A chat is immutable after it is made; a parser belongs to one thread at a time.
#include "chat.h"

#include "engine.h"
#include "guard.hpp"
#include "json.h"

#include <memory>
#include <string>
#include <vector>

struct shm_chat {
    common_chat_templates_ptr templates;
};

struct shm_parser {
    common_chat_parser_params params;
    std::string               text;
    common_chat_msg           message;
    std::vector<std::string>  call_ids;
    std::vector<bool>         announced;  // calls whose id and name are out
    bool                      broken = false;
};

namespace {

common_chat_templates_inputs read_inputs(const common_json & in) {
    common_chat_templates_inputs inputs;
    inputs.messages = common_chat_msgs_parse_oaicompat(in.at("messages"));
    if (in.contains("tools")) {
        inputs.tools = common_chat_tools_parse_oaicompat(in.at("tools"));
    }
    inputs.tool_choice         = common_chat_tool_choice_parse_oaicompat(in.value("tool_choice", "auto"));
    inputs.parallel_tool_calls = in.value("parallel_tool_calls", false);
    inputs.grammar             = in.value("grammar", "");
    if (in.contains("json_schema") && !in.at("json_schema").is_null()) {
        inputs.json_schema = in.at("json_schema").dump();
    }
    inputs.reasoning_format = COMMON_REASONING_FORMAT_AUTO;
    inputs.enable_thinking  = in.value("enable_thinking", true);
    if (in.contains("template_kwargs")) {
        for (const auto & [key, value] : in.at("template_kwargs").items()) {
            inputs.chat_template_kwargs[key] = value.dump();
        }
    }
    return inputs;
}

common_json sampler_fields(const common_chat_params & params) {
    common_json out = common_json::object();
    if (!params.grammar.empty()) {
        out["grammar"]       = params.grammar;
        out["grammar_type"]  = "template";
        out["grammar_lazy"]  = params.grammar_lazy;
        common_json triggers = common_json::array();
        for (const auto & trigger : params.grammar_triggers) {
            common_json entry = common_json::object();
            entry["type"]     = static_cast<int>(trigger.type);
            entry["value"]    = trigger.value;
            entry["token"]    = trigger.token;
            triggers.push_back(entry);
        }
        out["grammar_triggers"] = triggers;
    }
    out["preserved_tokens"]  = params.preserved_tokens;
    out["generation_prompt"] = params.generation_prompt;
    if (!params.thinking_end_tags.empty()) {
        out["thinking_start_tag"] = params.thinking_start_tag;
        out["thinking_end_tags"]  = params.thinking_end_tags;
    }
    return out;
}

// Null when the output is the content as it stands: no tools offered and no thinking to split off.
common_json parser_config(const common_chat_params & params, bool has_tools) {
    if (!has_tools && !params.supports_thinking) {
        return nullptr;
    }
    common_json out          = common_json::object();
    out["format"]            = static_cast<int>(params.format);
    out["generation_prompt"] = params.generation_prompt;
    out["arena"]             = params.parser;
    out["tools"]             = has_tools;
    return out;
}

common_json call_delta(shm_parser & parser, const common_chat_msg_diff & diff) {
    const size_t index = diff.tool_call_index;
    if (parser.announced.size() <= index) {
        parser.announced.resize(index + 1, false);
    }
    common_json out = common_json::object();
    out["index"]    = static_cast<int64_t>(index);
    if (!parser.announced[index]) {
        parser.announced[index] = true;
        out["id"]               = parser.message.tool_calls[index].id;
        out["name"]             = parser.message.tool_calls[index].name;
    }
    out["arguments"] = diff.tool_call_delta.arguments;
    return out;
}

void append_diff(shm_parser & parser, const common_chat_msg_diff & diff, common_json & out) {
    if (!diff.reasoning_content_delta.empty()) {
        common_json entry  = common_json::object();
        entry["reasoning"] = diff.reasoning_content_delta;
        out.push_back(entry);
    }
    if (!diff.content_delta.empty()) {
        common_json entry = common_json::object();
        entry["content"]  = diff.content_delta;
        out.push_back(entry);
    }
    if (diff.tool_call_index != std::string::npos) {
        out.push_back(call_delta(parser, diff));
    }
}

std::string next_call_id(const shm_parser & parser) { return "call_" + std::to_string(parser.call_ids.size()); }

// What the parser could not make sense of is content: the reader gets the text, not an error.
common_json unparsed(shm_parser & parser, size_t n_known) {
    parser.broken     = true;
    common_json out   = common_json::array();
    common_json entry = common_json::object();
    entry["content"]  = parser.text.substr(n_known);
    if (n_known < parser.text.size()) {
        out.push_back(entry);
    }
    return out;
}

// How much of the text the reader has seen: exact as long as it was content only.
size_t n_shown(const shm_parser & parser, size_t n_before) {
    const common_chat_msg & message = parser.message;
    const bool              plain   = message.tool_calls.empty() && message.reasoning_content.empty();
    return plain && parser.text.compare(0, message.content.size(), message.content) == 0 ? message.content.size()
                                                                                         : n_before;
}

// llama.cpp finds out by rendering an example, which a template may refuse.
bool supports_thinking(const shm_chat & chat) {
    try {
        return common_chat_templates_support_enable_thinking(chat.templates.get());
    } catch (const std::exception &) {
        return false;
    }
}

}  // namespace

shm_chat * shm_chat_new(const llama_model * model, const char * source) {
    return shm::guarded<shm_chat *>(nullptr, [&] {
        if (model == nullptr) {
            throw std::invalid_argument("model: missing");
        }
        auto chat       = std::make_unique<shm_chat>();
        chat->templates = common_chat_templates_init(model, source == nullptr ? "" : source);
        return chat.release();
    });
}

void shm_chat_free(shm_chat * chat) { delete chat; }

char * shm_chat_info(const shm_chat * chat) {
    return shm::guarded<char *>(nullptr, [&] {
        common_json caps = common_json::object();
        for (const auto & [name, value] : common_chat_templates_get_caps(chat->templates.get())) {
            caps[name] = value;
        }
        common_json out        = common_json::object();
        out["source"]          = common_chat_templates_source(chat->templates.get());
        out["explicit"]        = common_chat_templates_was_explicit(chat->templates.get());
        out["enable_thinking"] = supports_thinking(*chat);
        out["caps"]            = caps;
        return shm::copy_string(out.dump_safe());
    });
}

char * shm_chat_apply(const shm_chat * chat, const char * json, size_t n_json) {
    return shm::guarded<char *>(nullptr, [&] {
        common_chat_templates_inputs inputs = read_inputs(common_json::parse(std::string(json, n_json)));
        const bool has_tools            = !inputs.tools.empty() && inputs.tool_choice != COMMON_CHAT_TOOL_CHOICE_NONE;
        const common_chat_params params = common_chat_templates_apply(chat->templates.get(), inputs);
        common_json              out    = common_json::object();
        out["prompt"]                   = params.prompt;
        out["sampler"]                  = sampler_fields(params);
        out["stop"]                     = params.additional_stops;
        out["parser"]                   = parser_config(params, has_tools);
        return shm::copy_string(out.dump_safe());
    });
}

shm_parser * shm_parser_new(const char * json, size_t n_json) {
    return shm::guarded<shm_parser *>(nullptr, [&] {
        const common_json in             = common_json::parse(std::string(json, n_json));
        auto              parser         = std::make_unique<shm_parser>();
        parser->params.format            = static_cast<common_chat_format>(in.at("format").get<int>());
        parser->params.generation_prompt = in.value("generation_prompt", "");
        parser->params.reasoning_format  = COMMON_REASONING_FORMAT_AUTO;
        parser->params.parse_tool_calls  = in.value("tools", false);
        const std::string arena          = in.value("arena", "");
        if (!arena.empty()) {
            parser->params.parser.load(arena);
        }
        return parser.release();
    });
}

void shm_parser_free(shm_parser * parser) { delete parser; }

char * shm_parser_feed(shm_parser * parser, const char * text, size_t n_text, bool final) {
    return shm::guarded<char *>(nullptr, [&] {
        const size_t n_before = parser->text.size();
        parser->text.append(text, n_text);
        if (parser->broken) {
            return shm::copy_string(unparsed(*parser, n_before).dump_safe());
        }
        common_chat_msg parsed;
        try {
            parsed = common_chat_parse(parser->text, /*is_partial=*/!final, parser->params);
        } catch (const std::exception &) {
            return shm::copy_string(unparsed(*parser, n_shown(*parser, n_before)).dump_safe());
        }
        common_json out = common_json::array();
        if (!parsed.empty()) {
            parsed.set_tool_call_ids(parser->call_ids, [&] { return next_call_id(*parser); });
            const common_chat_msg before = parser->message;
            parser->message              = parsed;
            for (const auto & diff : common_chat_msg_diff::compute_diffs(before, parsed)) {
                append_diff(*parser, diff, out);
            }
        }
        return shm::copy_string(out.dump_safe());
    });
}
