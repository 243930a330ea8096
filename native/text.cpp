#include "text.hpp"

#include <algorithm>

namespace shm {

namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";

bool is_continuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

// Length of the character that `lead` begins, 0 if no character begins so.
size_t sequence_length(unsigned char lead) {
    if (lead < 0x80) {
        return 1;
    }
    if (lead >= 0xC2 && lead <= 0xDF) {
        return 2;
    }
    if (lead >= 0xE0 && lead <= 0xEF) {
        return 3;
    }
    return lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
}

// The second byte rules out overlong forms, surrogates and what lies beyond U+10FFFF.
bool second_byte_fits(unsigned char lead, unsigned char second) {
    switch (lead) {
        case 0xE0: return second >= 0xA0;
        case 0xED: return second <= 0x9F;
        case 0xF0: return second >= 0x90;
        case 0xF4: return second <= 0x8F;
        default: return true;
    }
}

// How many bytes from `at` on belong to a valid character or to the beginning of one, at least 1.
size_t valid_run(std::string_view text, size_t at, bool & complete) {
    const auto   lead = static_cast<unsigned char>(text[at]);
    const size_t size = sequence_length(lead);
    complete          = size == 1;
    size_t n          = 1;
    while (n < size && at + n < text.size()) {
        const auto byte = static_cast<unsigned char>(text[at + n]);
        if (!is_continuation(byte) || (n == 1 && !second_byte_fits(lead, byte))) {
            break;
        }
        n++;
    }
    complete = size != 0 && n == size;
    return n;
}

// Bytes of `text` that are not the beginning of a character which more bytes could complete.
size_t whole_characters(std::string_view text) {
    const size_t back = std::min<size_t>(text.size(), 3);
    for (size_t i = 1; i <= back; i++) {
        const size_t at   = text.size() - i;
        const auto   byte = static_cast<unsigned char>(text[at]);
        if (is_continuation(byte)) {
            continue;
        }
        bool         complete = false;
        const size_t n        = valid_run(text, at, complete);
        const bool   pending  = !complete && sequence_length(byte) > 1 && at + n == text.size();
        return pending ? at : text.size();
    }
    return text.size();
}

// Appends `text`, with U+FFFD for each run of bytes that is no character.
void append_valid(std::string_view text, std::string & out) {
    for (size_t at = 0; at < text.size();) {
        bool         complete = false;
        const size_t n        = valid_run(text, at, complete);
        out += complete ? text.substr(at, n) : replacement;
        at += n;
    }
}

// Bytes at the end of `text` that may be the beginning of `stop`.
size_t partial_stop(std::string_view text, std::string_view stop) {
    for (size_t n = std::min(text.size(), stop.size() - 1); n > 0; n--) {
        if (text.compare(text.size() - n, n, stop, 0, n) == 0) {
            return n;
        }
    }
    return 0;
}

}  // namespace

int output_text::add(std::string_view piece, std::string & out, bool may_stop) {
    held_ += piece;
    int    found = -1;
    size_t end   = std::string::npos;
    size_t hold  = 0;
    for (size_t i = 0; may_stop && i < stops_.size(); i++) {
        const size_t at = held_.find(stops_[i]);
        if (at < end) {
            end   = at;
            found = static_cast<int>(i);
        }
        hold = std::max(hold, partial_stop(held_, stops_[i]));
    }
    if (found >= 0) {
        append_valid(std::string_view(held_).substr(0, end), out);
        held_.clear();
        return found;
    }
    const size_t n = std::min(whole_characters(held_), held_.size() - hold);
    append_valid(std::string_view(held_).substr(0, n), out);
    held_.erase(0, n);
    return -1;
}

void output_text::flush(std::string & out) {
    append_valid(std::string_view(held_).substr(0, whole_characters(held_)), out);
    held_.clear();
}

}  // namespace shm
