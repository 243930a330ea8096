// json: the few lines needed to write flat JSON; parsing is Python's.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>

namespace shm {

// `text` as a JSON string; bytes that are no UTF-8 are passed through for the reader to replace.
inline std::string json_quote(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (byte < 0x20) {
            char escape[8];
            std::snprintf(escape, sizeof(escape), "\\u%04x", byte);
            out += escape;
        } else {
            out += c;
        }
    }
    return out += '"';
}

}  // namespace shm
