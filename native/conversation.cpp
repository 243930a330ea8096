#include "conversation.hpp"

#include <stdexcept>
#include <string>

namespace {

common_json only_tool(const common_json & tools, const std::string & name) {
    common_json out = common_json::array();
    for (const auto & [_, tool] : tools.items()) {
        if (tool.at("function").at("name").get<std::string>() == name) {
            out.push_back(tool);
        }
    }
    if (out.empty()) {
        throw std::invalid_argument("there is no tool '" + name + "'");
    }
    return out;
}

void read_tools(const common_json & in, const shm::tool_list * known, shm::conversation & out) {
    auto & inputs              = out.inputs;
    inputs.tool_choice         = common_chat_tool_choice_parse_oaicompat(in.value("tool_choice", "auto"));
    inputs.parallel_tool_calls = in.value("parallel_tool_calls", false);
    if (known != nullptr) {
        inputs.tools          = known->tools;
        out.format.tools      = known->json;
        out.format.tools_text = known->text;
    } else {
        if (in.contains("tools")) {
            inputs.tools = common_chat_tools_parse_oaicompat(in.at("tools"));
        }
        out.format.tools      = common_chat_tools_to_json_oaicompat(inputs.tools);
        out.format.tools_text = out.format.tools.dump_safe();
    }
    out.format.general       = in.value("general_tools", false);
    const std::string forced = in.value("tool_name", "");
    if (!forced.empty()) {
        out.format.tools      = only_tool(out.format.tools, forced);
        out.format.tools_text = out.format.tools.dump_safe();
        inputs.tool_choice    = COMMON_CHAT_TOOL_CHOICE_REQUIRED;
    }
    out.format.choice   = inputs.tool_choice;
    out.format.parallel = inputs.parallel_tool_calls;
    if (out.format.general) {
        inputs.tools.clear();  // the messages describe them
    }
}

}  // namespace

namespace shm {

tool_list::tool_list(const std::string & given)
    : tools(common_chat_tools_parse_oaicompat(common_json::parse(given))),
      json(common_chat_tools_to_json_oaicompat(tools)),
      text(json.dump_safe()) {}

conversation read_conversation(const common_json & in, const tool_list * tools) {
    conversation out;
    auto &       inputs = out.inputs;
    inputs.messages     = common_chat_msgs_parse_oaicompat(in.at("messages"));
    read_tools(in, tools, out);
    if (in.contains("json_schema") && !in.at("json_schema").is_null()) {
        out.format.json_schema = in.at("json_schema");
        inputs.json_schema     = out.format.json_schema.dump();
    }
    out.format.split        = in.value("split_reasoning", true);
    inputs.reasoning_format = out.format.split ? COMMON_REASONING_FORMAT_AUTO : COMMON_REASONING_FORMAT_NONE;
    inputs.enable_thinking  = in.value("enable_thinking", true);
    if (in.contains("template_kwargs")) {
        for (const auto & [key, value] : in.at("template_kwargs").items()) {
            inputs.chat_template_kwargs[key] = value.dump();
        }
    }
    out.continues = in.value("continue_final", false);
    if (out.continues) {
        if (inputs.messages.empty() || inputs.messages.back().role != "assistant") {
            throw std::invalid_argument("only an assistant's message can be continued");
        }
        inputs.continue_final_message = COMMON_CHAT_CONTINUATION_AUTO;
    }
    return out;
}

}  // namespace shm
