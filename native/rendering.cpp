#include "rendering.hpp"

#include <stdexcept>

#include "grammar.hpp"
#include "guard.hpp"
#include "llama-cpp.h"
#include "prefill.hpp"

namespace shm {

namespace {

// llama.cpp's built-in templates are code that takes messages only.
rendering render_built_in(const chat & chat, const conversation & talk) {
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

// Only the prompt: as "pure content", a rendering makes no analysis.
rendering render_jinja(const chat & chat, const conversation & talk) {
    common_chat_templates_inputs inputs = talk.inputs;
    inputs.force_pure_content           = true;
    try {
        const common_chat_params params = common_chat_templates_apply(chat.templates.get(), inputs);
        return {params.prompt, params.generation_prompt, nullptr};
    } catch (const abort_error &) {
        throw;
    } catch (const std::exception & e) {
        refuse(e.what());
    }
}

std::shared_ptr<const known_output> output_of(const chat & chat, const common_chat_params & params) {
    const std::string name = params.grammar + '\0' + params.parser;
    if (auto found = chat.outputs.find(name)) {
        return found;
    }
    check_format(chat.vocab, params.grammar);
    auto made = std::make_shared<known_output>();
    if (!params.grammar.empty()) {
        made->grammar = std::make_shared<known_grammar>(params.grammar, /*is_schema=*/false);
    }
    if (!params.parser.empty()) {
        made->arena = load_arena(params.parser);
    }
    chat.outputs.keep(name, made, kept_bytes(params));
    return made;
}

// llama.cpp's own code for a template makes everything in one; a tool by name needs it once more, for that tool alone.
rendering render_specialised(const chat & chat, const conversation & talk) {
    common_chat_templates_inputs inputs = talk.inputs;
    common_chat_params           params;
    try {
        params = common_chat_templates_apply(chat.templates.get(), inputs);
    } catch (const abort_error &) {
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
        params.grammar      = forced_grammar(params.parser, talk.format);
        params.grammar_lazy = false;
        params.grammar_triggers.clear();
    }
    params.grammar = strict_strings(params.grammar);
    rendering  out{prompt, params.generation_prompt, nullptr};
    const auto known  = output_of(chat, params);
    auto       format = std::make_shared<chat_format>();
    format->grammar   = known->grammar;
    format->arena     = known->arena;
    format->forced    = talk.format.forces();
    format->marks     = thinking_marks(params, talk.format);
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
        for (const llama_token token : prefill_of(vocab, made.generation_prompt)) {
            llama_sampler_accept(grammar.get(), token);
        }
    } catch (const std::exception &) {
        throw std::invalid_argument("the last message cannot be continued: no answer that is asked for begins with it");
    }
}

}  // namespace

rendering render(const chat & chat, conversation & talk) {
    const chat_template & side    = chat.choose(!talk.inputs.tools.empty());
    const bool            general = talk.format.general && talk.format.has_tools();
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

}  // namespace shm
