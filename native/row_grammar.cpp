#include "row_grammar.hpp"

#include <algorithm>
#include <utility>

#include "common.h"

namespace shm {

namespace {

// Bytes. The longest trigger of llama.cpp's templates has some sixty.
constexpr size_t window = 256;

}  // namespace

trigger::trigger(const std::vector<common_grammar_trigger> & triggers) {
    for (const auto & given : triggers) {
        pattern made;
        switch (given.type) {
            case COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN: tokens_.push_back(given.token); continue;
            case COMMON_GRAMMAR_TRIGGER_TYPE_WORD: made.word = given.value; break;
            case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN: made.regex = std::regex(given.value); break;
            case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN_FULL:
                made.regex = std::regex("^(?:" + given.value + ")$");
                made.whole = true;
                break;
        }
        const bool is_pattern = given.type == COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN && !given.value.empty();
        made.from_start       = made.whole || (is_pattern && given.value.front() == '^');
        made.whole            = made.whole || (made.from_start && given.value.back() == '$');
        patterns_.push_back(std::move(made));
    }
}

size_t trigger::find(const pattern & pattern) const {
    if (!pattern.word.empty()) {
        return text_.find(pattern.word);
    }
    if (pattern.from_start && cut_) {
        return std::string::npos;
    }
    std::smatch match;
    const bool  found = (pattern.whole && std::regex_match(text_, match, pattern.regex)) ||
                        std::regex_search(text_, match, pattern.regex);
    if (!found) {
        return std::string::npos;
    }
    for (size_t i = 1; i < match.size(); i++) {
        if (match.length(i) > 0) {
            return static_cast<size_t>(match.position(i));
        }
    }
    return static_cast<size_t>(match.position(0));
}

// Drops whole pieces from the front, so that the next token has a window before it.
void trigger::shorten() {
    size_t n_pieces = 0;
    size_t n_bytes  = 0;
    while (n_pieces < sizes_.size() && text_.size() - n_bytes > window) {
        n_bytes += sizes_[n_pieces++].second;
    }
    if (n_pieces > 0) {
        text_.erase(0, n_bytes);
        sizes_.erase(sizes_.begin(), sizes_.begin() + static_cast<std::ptrdiff_t>(n_pieces));
        cut_ = true;
    }
}

bool trigger::take(llama_token token, const std::string & piece,
                   std::vector<std::pair<llama_token, std::string>> & out) {
    out.clear();
    if (std::find(tokens_.begin(), tokens_.end(), token) != tokens_.end()) {
        out.emplace_back(token, piece);
        return true;
    }
    text_ += piece;
    sizes_.emplace_back(token, piece.size());
    for (const auto & pattern : patterns_) {
        const size_t start = find(pattern);
        if (start == std::string::npos) {
            continue;
        }
        size_t at = 0;
        for (const auto & [id, size] : sizes_) {
            const size_t first = std::max(at, start);  // the trigger may begin inside of a token
            at += size;
            if (at > first) {
                out.emplace_back(id, text_.substr(first, at - first));
            }
        }
        return true;
    }
    shorten();
    return false;
}

row_grammar::row_grammar(compiled_grammar_ptr compiled, const common_params_sampling & params)
    : compiled_(std::move(compiled)) {
    if (params.grammar_lazy) {
        trigger_ = std::make_unique<trigger>(params.grammar_triggers);
    } else {
        impl_ = compiled_->begin();
    }
}

bool row_grammar::may_end() const {
    if (trigger_) {
        return false;
    }
    const auto & stacks = llama_grammar_get_stacks(impl_.get());
    return std::any_of(stacks.begin(), stacks.end(), [](const auto & stack) { return stack.empty(); });
}

void row_grammar::apply(llama_token_data_array & candidates) const {
    if (!trigger_) {
        llama_grammar_apply_impl(*impl_, &candidates);
    }
}

void row_grammar::accept(llama_token token) {
    if (!trigger_) {
        llama_grammar_accept_impl(*impl_, token);
        return;
    }
    std::vector<std::pair<llama_token, std::string>> begun;
    if (trigger_->take(token, common_token_to_piece(compiled_->vocab(), token, /*special=*/true), begun)) {
        impl_ = compiled_->begin();
        trigger_.reset();
        for (const auto & [id, piece] : begun) {
            llama_grammar_accept_token(*impl_, id, piece);
        }
    }
}

}  // namespace shm
