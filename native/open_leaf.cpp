#include "open_leaf.hpp"

#include <algorithm>
#include <cctype>

#include "chat-peg-parser.h"

namespace shm {

namespace {

using tags = common_chat_peg_builder;

// Nothing: the tag says nothing about the field. Second: whether the text can be followed at all.
std::pair<std::optional<field>, bool> field_of(const std::string & tag) {
    if (tag == tags::CONTENT) {
        return {field::content, true};
    }
    if (tag == tags::REASONING) {
        return {field::reasoning, true};
    }
    if (tag == tags::TOOL_ARGS) {
        return {field::arguments, true};
    }
    if (tag == tags::TOOL_ARG_STRING_VALUE) {
        return {field::string, true};
    }
    if (tag == tags::TOOL || tag == tags::TOOL_ARG || tag == tags::REASONING_BLOCK) {
        return {std::nullopt, true};
    }
    return {std::nullopt, false};
}

}  // namespace

// Walks down to the parser that ran out of input, as the parse itself did.
class leaf_finder {
  public:
    leaf_finder(const common_peg_arena & arena, common_peg_parse_context & ctx) : arena_(arena), ctx_(ctx) {}

    std::optional<open_leaf> descend(common_peg_parser_id id, size_t pos) {
        return std::visit([&](const auto & parser) { return into(parser, pos); }, arena_.get(id));
    }

  private:
    using leaf = std::optional<open_leaf>;

    leaf into(const common_peg_sequence_parser & p, size_t pos) {
        for (const auto child : p.children) {
            const auto result = arena_.parse(child, ctx_, pos);
            if (!result.success()) {
                return result.fail() ? std::nullopt : descend(child, pos);
            }
            pos = result.end;
        }
        return std::nullopt;
    }

    leaf into(const common_peg_choice_parser & p, size_t pos) {
        for (const auto child : p.children) {
            const auto result = arena_.parse(child, ctx_, pos);
            if (!result.fail()) {
                return result.success() ? std::nullopt : descend(child, pos);
            }
        }
        return std::nullopt;
    }

    leaf into(const common_peg_repetition_parser & p, size_t pos) {
        for (int n = 0; pos < ctx_.input.size() && (p.max_count < 0 || n < p.max_count); n++) {
            const auto result = arena_.parse(p.child, ctx_, pos);
            if (!result.success()) {
                return result.fail() ? std::nullopt : descend(p.child, pos);
            }
            if (result.end == pos) {
                return std::nullopt;
            }
            pos = result.end;
        }
        return std::nullopt;
    }

    leaf into(const common_peg_tag_parser & p, size_t pos) {
        const auto [belongs, followed] = field_of(p.tag);
        if (!followed) {
            return std::nullopt;
        }
        if (belongs && !hidden_) {
            field_ = belongs;
            begin_ = pos;
        }
        return descend(p.child, pos);
    }

    leaf into(const common_peg_rule_parser & p, size_t pos) {
        return p.name == "json-value" ? json(pos) : descend(p.child, pos);
    }

    leaf into(const common_peg_ref_parser & p, size_t pos) { return descend(arena_.get_rule(p.name), pos); }

    leaf into(const common_peg_schema_parser & p, size_t pos) { return descend(p.child, pos); }

    leaf into(const common_peg_gbnf_parser & p, size_t pos) { return descend(p.child, pos); }

    leaf into(const common_peg_ac_parser & p, size_t pos) { return descend(p.child, pos); }

    // What is inside shows only when all of it is there.
    leaf into(const common_peg_atomic_parser & p, size_t pos) {
        hidden_ = true;
        field_  = field::nothing;
        begin_  = pos;
        return descend(p.child, pos);
    }

    leaf into(const common_peg_until_parser & p, size_t pos) {
        if (!field_ || *field_ == field::arguments || pos >= ctx_.input.size()) {
            return std::nullopt;
        }
        return open_leaf(*field_, begin_, pos, p.delimiters, /*json=*/false);
    }

    template <class P>
    leaf into(const P & /*parser*/, size_t /*pos*/) {
        return std::nullopt;
    }

    leaf json(size_t pos) {
        const bool verbatim = field_ && (*field_ == field::nothing || *field_ == field::content ||
                                         (*field_ == field::arguments && ctx_.input[begin_] == '{'));
        if (!verbatim || pos >= ctx_.input.size() || std::string("{[\"").find(ctx_.input[pos]) == std::string::npos) {
            return std::nullopt;
        }
        return open_leaf(*field_, begin_, pos, {}, /*json=*/true);
    }

    const common_peg_arena &   arena_;
    common_peg_parse_context & ctx_;
    std::optional<field>       field_;
    size_t                     begin_  = 0;
    bool                       hidden_ = false;
};

std::optional<open_leaf> open_leaf::find(const common_peg_arena & arena, common_peg_parse_context & ctx) {
    auto leaf = leaf_finder(arena, ctx).descend(arena.root(), 0);
    if (leaf && !leaf->read(ctx.input)) {
        leaf.reset();
    }
    return leaf;
}

open_leaf::open_leaf(field belongs, size_t begin, size_t start, std::vector<std::string> delimiters, bool json)
    : field_(belongs), begin_(begin), end_(start), next_(start), delimiters_(std::move(delimiters)), json_(json) {
    for (const auto & delimiter : delimiters_) {
        first_bytes_ += delimiter.substr(0, 1);
    }
}

bool open_leaf::read(const std::string & text) { return json_ ? read_json(text) : read_until(text); }

bool open_leaf::read_until(const std::string & text) {
    while (next_ < text.size()) {
        next_ = first_bytes_.empty() ? text.size() : std::min(text.find_first_of(first_bytes_, next_), text.size());
        for (const auto & delimiter : delimiters_) {
            const size_t n = std::min(delimiter.size(), text.size() - next_);
            if (n == 0 || text.compare(next_, n, delimiter, 0, n) != 0) {
                continue;
            }
            end_ = next_;
            return n < delimiter.size();  // a part of a marker waits for the rest
        }
        if (next_ < text.size()) {
            next_++;
        }
    }
    end_ = next_;
    return true;
}

bool open_leaf::read_json(const std::string & text) {
    while (next_ < text.size()) {
        if (!read_json_char(text[next_])) {
            return false;
        }
        next_++;
        if (escape_ == 0) {
            end_ = next_;
        }
        if (depth_ == 0 && !in_string_) {
            return false;  // the value is complete
        }
    }
    return true;
}

// False for what cannot be: the parser will say so.
bool open_leaf::read_json_char(char c) {
    if (escape_ > 0) {
        escape_ = escape_ == 6 ? (c == 'u' ? 4 : 0) : escape_ - 1;
        return true;
    }
    if (in_string_) {
        if (c == '\\') {
            escape_ = 6;
        }
        in_string_ = c != '"';
        return true;
    }
    switch (c) {
        case '"': in_string_ = true; return true;
        case '{':
        case '[': depth_++; return true;
        case '}':
        case ']': depth_--; return depth_ >= 0;
        default: return true;
    }
}

}  // namespace shm
