// chat: renders conversations with llama.cpp's common/chat, as JSON in and out.
//
// Thread: any. A chat is immutable after it is made, apart from its cache of formats.
#include "chat.h"

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "chat_format.hpp"
#include "conversation.hpp"
#include "cut_texts.hpp"
#include "engine.h"
#include "guard.hpp"
#include "llama-cpp.h"
#include "prefill.hpp"

namespace {

constexpr size_t MAX_KNOWN       = 64;
constexpr size_t MAX_KNOWN_BYTES = size_t(64) << 20;
// about what an arena takes for each byte of its text
constexpr size_t ARENA_BYTES     = 4;

// What the output of llama.cpp's own code for a template comes down to, which it writes anew for each request.
struct known_output {
    shm::known_grammar_ptr grammar;
    shm::arena_ptr         arena;
};

}  // namespace

struct shm_chat {
    common_chat_templates_ptr           templates;
    std::unique_ptr<shm::chat_template> ordinary;
    std::unique_ptr<shm::chat_template> tool_use;  // of models that have one for tools
    const llama_model *                 model;
    const llama_vocab *                 vocab;
    mutable shm::lru<known_output>      outputs{MAX_KNOWN, MAX_KNOWN_BYTES};

    const shm::chat_template & choose(bool has_tools) const { return has_tools && tool_use ? *tool_use : *ordinary; }
};

namespace {

struct rendering {
    std::string          prompt;
    std::string          generation_prompt;
    shm::chat_format_ptr format;
};

bool is_built_in(const std::string & name) {
    std::vector<const char *> names(static_cast<size_t>(llama_chat_builtin_templates(nullptr, 0)));
    llama_chat_builtin_templates(names.data(), names.size());
    for (const char * known : names) {
        if (name == known) {
            return true;
        }
    }
    return false;
}

// llama.cpp's built-in templates are code that takes messages only.
rendering render_built_in(const shm_chat & chat, const shm::conversation & talk) {
    common_chat_templates_inputs inputs = talk.inputs;
    inputs.use_jinja                    = false;
    inputs.json_schema.clear();
    if (talk.continues) {
        inputs.messages.pop_back();
    }
    rendering out;
    inputs.add_generation_prompt = false;
    const std::string before     = common_chat_templates_apply(chat.templates.get(), inputs).prompt;
    inputs.add_generation_prompt = true;
    const std::string with       = common_chat_templates_apply(chat.templates.get(), inputs).prompt;
    if (with.compare(0, before.size(), before) == 0) {
        out.generation_prompt = with.substr(before.size());
    }
    out.prompt = talk.continues ? with.substr(0, with.size() - out.generation_prompt.size()) : with;
    return out;
}

// A template's own refusal, without the source that llama.cpp puts around it.
[[noreturn]] void refuse(const std::string & what) {
    const std::string mark = "Jinja Exception: ";
    const size_t      at   = what.find(mark);
    throw std::invalid_argument("the chat template refuses this conversation: " +
                                (at == std::string::npos ? what : what.substr(at + mark.size())));
}

// llama.cpp throws a copy of what was wrong with a template, and the copy has lost its words; they are asked for again.
common_chat_templates_ptr parse(const llama_model * model, const std::string & given) {
    try {
        return common_chat_templates_init(model, given);
    } catch (const shm::abort_error &) {
        throw;
    } catch (const std::exception &) {
        const char *      own    = llama_model_chat_template(model, nullptr);
        const std::string source = given.empty() && own != nullptr ? own : given;
        try {
            const common_chat_template again(source, "", "");
        } catch (const std::exception & e) {
            throw std::runtime_error(e.what());
        }
        throw;
    }
}

// Only the prompt: as "pure content", a rendering makes no analysis.
rendering render_jinja(const shm_chat & chat, const shm::conversation & talk) {
    common_chat_templates_inputs inputs = talk.inputs;
    inputs.force_pure_content           = true;
    try {
        const common_chat_params params = common_chat_templates_apply(chat.templates.get(), inputs);
        return {params.prompt, params.generation_prompt, nullptr};
    } catch (const shm::abort_error &) {
        throw;
    } catch (const std::exception & e) {
        refuse(e.what());
    }
}

std::shared_ptr<const known_output> output_of(const shm_chat & chat, const common_chat_params & params) {
    const std::string name = params.grammar + '\0' + params.parser;
    if (auto found = chat.outputs.find(name)) {
        return found;
    }
    shm::check_format(chat.vocab, params.grammar);
    auto made = std::make_shared<known_output>();
    if (!params.grammar.empty()) {
        made->grammar = std::make_shared<shm::known_grammar>(params.grammar, /*is_schema=*/false);
    }
    if (!params.parser.empty()) {
        made->arena = shm::load_arena(params.parser);
    }
    chat.outputs.keep(name, made, 2 * params.grammar.size() + ARENA_BYTES * params.parser.size());
    return made;
}

// llama.cpp's own code for a template makes everything in one; a tool by name needs it once more, for that tool alone.
rendering render_specialised(const shm_chat & chat, const shm::conversation & talk) {
    common_chat_templates_inputs inputs = talk.inputs;
    common_chat_params           params;
    try {
        params = common_chat_templates_apply(chat.templates.get(), inputs);
    } catch (const shm::abort_error &) {
        throw;
    } catch (const std::exception & e) {
        refuse(e.what());
    }
    const std::string prompt = params.prompt;
    if (talk.format.has_tools() && talk.format.tools.size() != inputs.tools.size() && !talk.format.general) {
        inputs.tools = common_chat_tools_parse_oaicompat(talk.format.tools);
        params       = common_chat_templates_apply(chat.templates.get(), inputs);
    }
    if (talk.format.forces()) {
        params.grammar      = shm::forced_grammar(params.parser, talk.format);
        params.grammar_lazy = false;
        params.grammar_triggers.clear();
    }
    params.grammar = shm::strict_strings(params.grammar);
    rendering  out{prompt, params.generation_prompt, nullptr};
    const auto known  = output_of(chat, params);
    auto       format = std::make_shared<shm::chat_format>();
    format->grammar   = known->grammar;
    format->arena     = known->arena;
    format->forced    = talk.format.forces();
    format->marks     = shm::thinking_marks(params, talk.format);
    if (talk.format.split) {
        format->marks.insert(format->marks.end(), params.preserved_tokens.begin(), params.preserved_tokens.end());
    }
    format->params = std::move(params);
    format->params.prompt.clear();
    out.format = std::move(format);
    return out;
}

// A grammar that must hold from the first token on must hold for the text that is continued, too.
void check_continued(const llama_vocab * vocab, const rendering & made) {
    const common_chat_params & params = made.format->params;
    if (params.grammar.empty() || params.grammar_lazy) {
        return;
    }
    const llama_sampler_ptr grammar(llama_sampler_init_grammar(vocab, params.grammar.c_str(), "root"));
    try {
        for (const llama_token token : shm::prefill_of(vocab, made.generation_prompt)) {
            llama_sampler_accept(grammar.get(), token);
        }
    } catch (const std::exception &) {
        throw std::invalid_argument("the last message cannot be continued: no answer that is asked for begins with it");
    }
}

rendering render(const shm_chat & chat, shm::conversation & talk) {
    const shm::chat_template & side    = chat.choose(!talk.inputs.tools.empty());
    const bool                 general = talk.format.general && talk.format.has_tools();
    if (side.specialised() && !general) {
        rendering out = render_specialised(chat, talk);
        if (talk.continues) {
            check_continued(chat.vocab, out);
        }
        return out;
    }
    rendering out                 = side.built_in() ? render_built_in(chat, talk) : render_jinja(chat, talk);
    talk.format.generation_prompt = out.generation_prompt;
    out.format                    = side.format(chat.vocab, talk.format);
    if (talk.continues) {
        out.generation_prompt = side.continuation(out.generation_prompt, talk.inputs.messages.back());
        out.prompt += out.generation_prompt;
        check_continued(chat.vocab, out);
    }
    return out;
}

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

// `whole`: with the texts of grammar and arena, which are large.
common_json as_json(const rendering & made, bool continues, bool whole) {
    common_json out = common_json::object();
    out["prompt"]   = made.prompt;
    out["sampler"]  = sampler_fields(made.format->params, made.generation_prompt, whole);
    out["stop"]     = made.format->params.additional_stops;
    out["parser"]   = parser_config(made, continues, whole);
    return out;
}

std::string piece(const llama_vocab * vocab, llama_token token) {
    return token == LLAMA_TOKEN_NULL ? "" : common_token_to_piece(vocab, token, /*special=*/true);
}

// The texts that make a token only where special tokens are read.
common_json control_texts(const llama_vocab * vocab) {
    common_json out = common_json::array();
    for (llama_token token = 0; token < llama_vocab_n_tokens(vocab); token++) {
        if ((llama_vocab_get_attr(vocab, token) & (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN)) != 0) {
            out.push_back(llama_vocab_get_text(vocab, token));
        }
    }
    return out;
}

common_json cut_texts_of(const shm_chat & chat) {
    const std::string source = common_chat_templates_source(chat.templates.get()) +
                               common_chat_templates_source(chat.templates.get(), "tool_use");
    return shm::cut_texts(chat.model, source);
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
        const std::string given    = source == nullptr ? "" : source;
        const bool        built_in = is_built_in(given) && given != "chatml";  // that one has a Jinja form
        auto              chat     = std::make_unique<shm_chat>();
        chat->model                = model;
        chat->vocab                = llama_model_get_vocab(model);
        chat->templates            = parse(model, given);
        const std::string bos      = piece(chat->vocab, llama_vocab_bos(chat->vocab));
        const std::string eos      = piece(chat->vocab, llama_vocab_eos(chat->vocab));
        const auto        side     = [&](const std::string & text) {
            return std::make_unique<shm::chat_template>(text, bos, eos, built_in);
        };
        chat->ordinary            = side(common_chat_templates_source(chat->templates.get()));
        const std::string variant = common_chat_templates_source(chat->templates.get(), "tool_use");
        if (!variant.empty()) {
            chat->tool_use = side(variant);
        }
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
        out["enable_thinking"] = !chat->ordinary->built_in() && supports_thinking(*chat);
        out["tools"]           = chat->choose(true).has_tools();
        out["caps"]            = caps;
        out["control"]         = control_texts(chat->vocab);
        out["cuts"]            = cut_texts_of(*chat);
        return shm::copy_string(out.dump_safe());
    });
}

shm_tools * shm_tools_new(const char * json, size_t n_json) {
    return shm::guarded<shm_tools *>(nullptr, [&] { return new shm_tools{shm::tool_list(std::string(json, n_json))}; });
}

void shm_tools_free(shm_tools * tools) { delete tools; }

char * shm_chat_apply(const shm_chat * chat, const char * json, size_t n_json, const shm_tools * tools,
                      shm_format ** format) {
    return shm::guarded<char *>(nullptr, [&] {
        shm::conversation talk = shm::read_conversation(common_json::parse(std::string(json, n_json)),
                                                        tools == nullptr ? nullptr : &tools->list);
        const rendering   made = render(*chat, talk);
        const std::string out  = as_json(made, talk.continues, format == nullptr).dump_safe();
        auto   reference       = format == nullptr ? nullptr : std::make_unique<shm_format>(shm_format{made.format});
        char * text            = shm::copy_string(out);
        if (format != nullptr) {
            *format = reference.release();
        }
        return text;
    });
}

void shm_format_free(shm_format * format) { delete format; }

shm_grammar * shm_format_grammar(const shm_format * format) {
    return shm::guarded<shm_grammar *>(nullptr, [&] {
        const shm::known_grammar_ptr & grammar = format->format->grammar;
        return grammar ? new shm_grammar{grammar} : nullptr;
    });
}

char * shm_chat_reference(const shm_chat * chat, const char * json, size_t n_json) {
    return shm::guarded<char *>(nullptr, [&] {
        shm::conversation  talk   = shm::read_conversation(common_json::parse(std::string(json, n_json)), nullptr);
        common_chat_params params = common_chat_templates_apply(chat->templates.get(), talk.inputs);
        rendering          made{params.prompt, params.generation_prompt, nullptr};
        auto               format = std::make_shared<shm::chat_format>();
        format->params            = std::move(params);
        made.format               = std::move(format);
        return shm::copy_string(as_json(made, talk.continues, /*whole=*/true).dump_safe());
    });
}

char * shm_chat_names(void) {
    return shm::guarded<char *>(nullptr, [&] {
        std::vector<const char *> names(static_cast<size_t>(llama_chat_builtin_templates(nullptr, 0)));
        llama_chat_builtin_templates(names.data(), names.size());
        common_json out = common_json::array();
        for (const char * name : names) {
            out.push_back(name);
        }
        return shm::copy_string(out.dump_safe());
    });
}
