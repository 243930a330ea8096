#include "rendering.hpp"

namespace shm {

namespace {

common_json triggers_of(const common_chat_params & params) {
    common_json out = common_json::array();
    for (const auto & trigger : params.grammar_triggers) {
        common_json entry = common_json::object();
        entry["type"]     = static_cast<int>(trigger.type);
        entry["value"]    = trigger.value;
        entry["token"]    = trigger.token;
        out.push_back(entry);
    }
    return out;
}

common_json sampler_fields(const common_chat_params & params, const std::string & generation_prompt, bool whole) {
    common_json out = common_json::object();
    if (!params.grammar.empty()) {
        if (whole) {
            out["grammar"] = params.grammar;
        }
        out["grammar_type"] = "template";
        out["grammar_lazy"] = params.grammar_lazy;
        if (params.grammar_lazy) {
            out["grammar_triggers"] = triggers_of(params);
        }
    }
    out["preserved_tokens"]  = params.preserved_tokens;
    out["generation_prompt"] = generation_prompt;
    if (!params.thinking_end_tags.empty()) {
        out["thinking_start_tag"] = params.thinking_start_tag;
        out["thinking_end_tags"]  = params.thinking_end_tags;
    }
    return out;
}

// Whether the prompt leaves the answer inside of a reasoning that it has opened.
bool opens_reasoning(const rendering & made) {
    const std::string & tag = made.format->params.thinking_start_tag;
    const size_t        end = made.generation_prompt.find_last_not_of(" \t\r\n") + 1;
    return !tag.empty() && end >= tag.size() && made.generation_prompt.compare(end - tag.size(), tag.size(), tag) == 0;
}

common_json parser_config(const rendering & made, bool continues, bool whole) {
    if (made.format->plain) {
        return nullptr;
    }
    common_json out          = common_json::object();
    out["format"]            = static_cast<int>(made.format->params.format);
    out["generation_prompt"] = made.generation_prompt;
    if (whole) {
        out["arena"] = made.format->params.parser;
    }
    out["prompt_is_said"] = continues || !opens_reasoning(made);
    out["forced"]         = made.format->forced;
    out["marks"]          = made.format->marks;
    if (!made.format->params.thinking_end_tags.empty()) {
        out["reasoning_end"] = made.format->params.thinking_end_tags.front();
    }
    return out;
}

}  // namespace

common_json as_json(const rendering & made, bool continues, bool whole) {
    common_json out = common_json::object();
    out["prompt"]   = made.prompt;
    out["sampler"]  = sampler_fields(made.format->params, made.generation_prompt, whole);
    out["stop"]     = made.format->params.additional_stops;
    out["parser"]   = parser_config(made, continues, whole);
    return out;
}

}  // namespace shm
