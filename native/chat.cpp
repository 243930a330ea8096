// chat: renders conversations with llama.cpp's common/chat, as JSON in and out.
//
// Thread: any. A chat is immutable after it is made, apart from its cache of formats.
#include "chat.h"

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "cut_texts.hpp"
#include "engine.h"
#include "guard.hpp"
#include "rendering.hpp"

struct shm_chat : shm::chat {};

namespace {

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
        shm::conversation    talk = shm::read_conversation(common_json::parse(std::string(json, n_json)),
                                                           tools == nullptr ? nullptr : &tools->list);
        const shm::rendering made = shm::render(*chat, talk);
        const std::string    out  = shm::as_json(made, talk.continues, format == nullptr).dump_safe();
        auto   reference          = format == nullptr ? nullptr : std::make_unique<shm_format>(shm_format{made.format});
        char * text               = shm::copy_string(out);
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
        shm::rendering     made{params.prompt, params.generation_prompt, nullptr};
        auto               format = std::make_shared<shm::chat_format>();
        format->params            = std::move(params);
        made.format               = std::move(format);
        return shm::copy_string(shm::as_json(made, talk.continues, /*whole=*/true).dump_safe());
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
