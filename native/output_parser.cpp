// output_parser: splits the output of one request into content, reasoning and tool calls, as it comes.
//
// llama.cpp parses the whole text each time. That is done here only where the structure changes; in between, an
// open_leaf follows the text, so that the cost for each token does not grow with the answer.
//
// Thread: one at a time.
#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "chat-peg-parser.h"
#include "chat.h"
#include "chat_format.hpp"
#include "engine.h"
#include "guard.hpp"
#include "open_leaf.hpp"
#include "parser_config.hpp"

namespace {

// After so many parses in a row without any result, the text must grow by an eighth before the next.
constexpr int MAX_FRUITLESS = 16;

void map_message(common_chat_msg & message, common_chat_format format, const common_peg_ast_arena & ast,
                 const common_peg_parse_result & result) {
    if (format == COMMON_CHAT_FORMAT_PEG_GEMMA4) {
        common_chat_peg_gemma4_mapper(message).from_ast(ast, result);
    } else if (format == COMMON_CHAT_FORMAT_PEG_MINIMAX_M3) {
        common_chat_peg_minimax_m3_mapper(message).from_ast(ast, result);
    } else {
        common_chat_peg_mapper(message).from_ast(ast, result);
    }
}

// The end of the last text that is part of the message, and what it is part of.
struct covered {
    size_t end          = 0;
    bool   in_call      = false;
    bool   in_reasoning = false;
};

covered covered_by(const common_peg_ast_arena & ast, const common_peg_parse_result & result) {
    covered out;
    ast.visit(result, [&](const common_peg_ast_node & node) {
        const std::string & tag     = node.tag;
        const bool          text    = tag == common_chat_peg_builder::CONTENT;
        const bool          thought = tag == common_chat_peg_builder::REASONING;
        // a call shows from its name on
        const bool          hidden =
            tag == common_chat_peg_builder::TOOL_OPEN || (tag == common_chat_peg_builder::TOOL && node.is_partial);
        const bool call = tag.compare(0, 4, common_chat_peg_builder::TOOL) == 0 && !hidden;
        // a reasoning is open before it has a word
        if ((((text || call) && node.end > node.start) || thought) && node.end >= out.end) {
            out = {node.end, call, thought};
        }
    });
    return out;
}

bool begins_with(const std::string & text, const std::string & start) {
    return text.compare(0, start.size(), start) == 0;
}

std::string escaped(const std::string & text) {
    const std::string quoted = common_json::make(text).dump_safe();
    return quoted.substr(1, quoted.size() - 2);
}

size_t without_space(const std::string & text, size_t begin, size_t end) {
    while (end > begin && std::isspace(static_cast<unsigned char>(text[end - 1])) != 0) {
        end--;
    }
    return end;
}

}  // namespace

struct shm_parser {
    explicit shm_parser(const common_json & config, std::shared_ptr<const common_peg_arena> arena)
        : config_(config, std::move(arena)), input_(config_.generation_prompt), n_prompt_(input_.size()) {
        if (config.value("prompt_is_said", false)) {
            parse(/*final=*/false);
            leaf_.reset();
        }
        covered_ = std::max(covered_, n_prompt_);
    }

    common_json feed(const char * text, size_t n_text, bool final) {
        pending_ = common_json::array();
        input_.append(text, n_text);
        if (broken_) {
            say_rest();
        } else if (final || !follow()) {
            parse(final);
        }
        return std::move(pending_);
    }

  private:
    // Goes on inside of the open leaf; false when a parse is due.
    bool follow() {
        if (!leaf_) {
            return fruitless_ > MAX_FRUITLESS && input_.size() < next_parse_;
        }
        if (!leaf_->read(input_)) {
            leaf_.reset();
            return false;
        }
        show_leaf();
        return true;
    }

    void show_leaf() {
        size_t end = leaf_->end();
        if (leaf_->belongs() == shm::field::arguments) {
            end = without_space(input_, shown_, end);
        }
        if (end <= shown_) {
            return;
        }
        const std::string text = input_.substr(shown_, end - shown_);
        shown_                 = end;
        covered_               = std::max(covered_, end);
        switch (leaf_->belongs()) {
            case shm::field::content: say("content", message_.content, text); break;
            case shm::field::reasoning: say("reasoning", message_.reasoning_content, text); break;
            case shm::field::arguments: say_arguments(message_.tool_calls.size() - 1, text); break;
            case shm::field::string: say_arguments(message_.tool_calls.size() - 1, escaped(text)); break;
            case shm::field::nothing: break;
        }
    }

    void parse(bool final) {
        common_peg_parse_context ctx(input_, COMMON_PEG_PARSE_FLAG_LENIENT);
        const auto               result = config_.arena->parse(ctx);
        if (result.fail()) {
            fruitless_++;
            next_parse_ = input_.size() + input_.size() / 8;
            if (final) {
                broken_ = true;
                say_rest();
            }
            return;
        }
        fruitless_ = 0;
        common_chat_msg now;
        map_message(now, config_.format, ctx.ast, result);
        show(now);
        const covered reached = covered_by(ctx.ast, result);
        covered_              = std::max({covered_, reached.end, n_prompt_});
        if (!result.need_more_input()) {
            return;
        }
        if (final) {
            if (!reached.in_call && !config_.forced) {
                say_held(reached.in_reasoning);
            }
            return;
        }
        leaf_ = shm::open_leaf::find(*config_.arena, ctx);
        if (leaf_ && !adopt_leaf(now)) {
            leaf_.reset();
        }
    }

    // The leaf continues what has just been shown, or cannot be followed.
    bool adopt_leaf(const common_chat_msg & now) {
        const bool base =
            config_.format != COMMON_CHAT_FORMAT_PEG_GEMMA4 && config_.format != COMMON_CHAT_FORMAT_PEG_MINIMAX_M3;
        const size_t begin = leaf_->begin();
        shown_             = leaf_->end();
        switch (leaf_->belongs()) {
            case shm::field::content: return ends_with(now.content, begin) && now.content == message_.content;
            case shm::field::reasoning:
                return ends_with(now.reasoning_content, begin) && now.reasoning_content == message_.reasoning_content;
            case shm::field::arguments: {
                shown_ = without_space(input_, begin, shown_);
                return base && follows_call(now) && now.tool_calls.back().arguments == raw(begin);
            }
            case shm::field::string:
                return base && follows_call(now) &&
                       ends_in(now.tool_calls.back().arguments, "\"" + escaped(raw(begin)));
            case shm::field::nothing: return base;
        }
        return false;
    }

    std::string raw(size_t begin) const { return input_.substr(begin, shown_ - begin); }

    static bool ends_in(const std::string & text, const std::string & end) {
        return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
    }

    bool ends_with(const std::string & text, size_t begin) const { return shown_ > begin && ends_in(text, raw(begin)); }

    bool follows_call(const common_chat_msg & now) const {
        return !now.tool_calls.empty() && now.tool_calls.size() == message_.tool_calls.size() &&
               now.tool_calls.back().arguments == message_.tool_calls.back().arguments;
    }

    // Says what is new in a message; what was said and is no more cannot be taken back.
    void show(const common_chat_msg & now) {
        grow("reasoning", message_.reasoning_content, now.reasoning_content);
        grow("content", message_.content, now.content);
        for (size_t i = 0; i < now.tool_calls.size(); i++) {
            show_call(i, now.tool_calls[i]);
        }
    }

    void grow(const char * name, std::string & said, const std::string & now) {
        if (now.size() > said.size() && begins_with(now, said)) {
            say(name, said, now.substr(said.size()));
        }
    }

    void say(const char * name, std::string & said, const std::string & text) {
        said += text;
        common_json entry = common_json::object();
        entry[name]       = text;
        pending_.push_back(entry);
    }

    void show_call(size_t i, const common_chat_tool_call & now) {
        if (i == message_.tool_calls.size()) {
            message_.tool_calls.push_back(now);
            common_json entry  = common_json::object();
            entry["index"]     = static_cast<int64_t>(i);
            // a model that gives none: the reader makes one up, which then differs from turn to turn
            entry["id"]        = now.id;
            entry["name"]      = now.name;
            entry["arguments"] = now.arguments;
            pending_.push_back(entry);
            return;
        }
        const std::string & said = message_.tool_calls[i].arguments;
        if (now.arguments.size() > said.size() && begins_with(now.arguments, said)) {
            say_arguments(i, now.arguments.substr(said.size()));
        }
    }

    void say_arguments(size_t i, const std::string & text) {
        message_.tool_calls[i].arguments += text;
        common_json entry  = common_json::object();
        entry["index"]     = static_cast<int64_t>(i);
        entry["arguments"] = text;
        pending_.push_back(entry);
    }

    // What was held back as the beginning of a mark, or of a call without a name: the text ends there. It is content,
    // unless it is a whole mark, or the end of the reasoning.
    void say_held(bool in_reasoning) {
        if (in_reasoning) {
            covered_ = behind_reasoning();
        }
        const auto within = [&](const std::string & mark) { return input_.find(mark, covered_) != std::string::npos; };
        if (std::none_of(config_.marks.begin(), config_.marks.end(), within)) {
            say_rest();
        }
    }

    // Where the content would begin: behind what there is of the reasoning's end.
    size_t behind_reasoning() const {
        const std::string & tag   = config_.reasoning_end;
        const size_t        begin = next_word(covered_);
        const size_t        n     = std::min(tag.size(), input_.size() - begin);
        return input_.compare(begin, n, tag, 0, n) == 0 ? next_word(begin + n) : covered_;
    }

    size_t next_word(size_t at) const { return std::min(input_.find_first_not_of(" \t\r\n", at), input_.size()); }

    // What could not be made sense of is content.
    void say_rest() {
        if (covered_ < input_.size()) {
            say("content", message_.content, input_.substr(covered_));
            covered_ = input_.size();
        }
    }

    shm::parser_config            config_;
    std::string                   input_;  // the generation prompt, and the output so far
    size_t                        n_prompt_;
    common_chat_msg               message_;  // what has been said
    std::optional<shm::open_leaf> leaf_;
    size_t                        shown_      = 0;  // the end of the leaf's text that has been said
    size_t                        covered_    = 0;  // the end of the text that is part of the message
    common_json                   pending_    = common_json::array();
    int                           fruitless_  = 0;
    size_t                        next_parse_ = 0;
    bool                          broken_     = false;
};

shm_parser * shm_parser_new(const char * json, size_t n_json, const shm_format * format) {
    return shm::guarded<shm_parser *>(nullptr, [&] {
        return new shm_parser(common_json::parse(std::string(json, n_json)),
                              format == nullptr ? nullptr : format->format->arena);
    });
}

void shm_parser_free(shm_parser * parser) { delete parser; }

char * shm_parser_feed(shm_parser * parser, const char * text, size_t n_text, bool final) {
    return shm::guarded<char *>(nullptr,
                                [&] { return shm::copy_string(parser->feed(text, n_text, final).dump_safe()); });
}

char * shm_parser_reference(const char * config, size_t n_config, const char * text, size_t n_text, bool partial) {
    return shm::guarded<char *>(nullptr, [&] {
        const shm::parser_config  read(common_json::parse(std::string(config, n_config)), nullptr);
        common_chat_parser_params params;
        params.format                 = read.format;
        params.generation_prompt      = read.generation_prompt;
        params.parser                 = *read.arena;
        const common_chat_msg message = common_chat_parse(std::string(text, n_text), partial, params);
        common_json           out     = common_json::object();
        common_json           calls   = common_json::array();
        for (const auto & call : message.tool_calls) {
            common_json entry  = common_json::object();
            entry["name"]      = call.name;
            entry["arguments"] = call.arguments;
            calls.push_back(entry);
        }
        out["content"]   = message.content;
        out["reasoning"] = message.reasoning_content;
        out["calls"]     = calls;
        return shm::copy_string(out.dump_safe());
    });
}
