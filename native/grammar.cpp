#include "grammar.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "ambiguity.hpp"
#include "guard.hpp"
#include "shim.h"
#include "src/llama-grammar.h"

namespace {

// llama.cpp recurses once for each open parenthesis and for each rule of a chain; a thread's stack of 8 MB overflows at
// some tens of thousands.
constexpr int    MAX_NESTING  = 1000;
constexpr size_t MAX_RULES    = 20000;
constexpr size_t MAX_BYTES    = 1 << 20;
constexpr size_t MAX_ELEMENTS = 1000000;
constexpr size_t MAX_REASON   = 120;

// Skips what may stand between rules: white space and comments.
const char * skip_space(const char * pos) {
    while (*pos == ' ' || *pos == '\t' || *pos == '\r' || *pos == '\n' || *pos == '#') {
        if (*pos == '#') {
            while (*pos != '\0' && *pos != '\n' && *pos != '\r') {
                pos++;
            }
        } else {
            pos++;
        }
    }
    return pos;
}

// Skips a literal or a character class; `close` ends it.
const char * skip_until(const char * pos, char close) {
    while (*pos != '\0' && *pos != close) {
        pos += pos[0] == '\\' && pos[1] != '\0' ? 2 : 1;
    }
    return pos;
}

// llama.cpp writes a repeated literal out as often as it may come.
void check_repetition(const char * brace, size_t n_item) {
    size_t n_times = 0;
    for (const char * pos = brace; *pos != '\0' && *pos != '}'; pos++) {
        n_times = std::max<size_t>(n_times, *pos >= '0' && *pos <= '9' ? std::strtoul(pos, nullptr, 10) : 0);
    }
    if (n_item > 0 && n_times > MAX_ELEMENTS / n_item) {
        throw std::invalid_argument("the grammar repeats " + std::to_string(n_item) + " characters " +
                                    std::to_string(n_times) + " times, which is too much");
    }
}

void check_nesting(const char * grammar) {
    int    depth  = 0;
    size_t n_item = 1;  // characters of the literal or class that was read last
    for (const char * pos = grammar; *pos != '\0'; pos++) {
        const char * start = pos;
        switch (*pos) {
            case '"':
                pos    = skip_until(pos + 1, '"');
                n_item = static_cast<size_t>(pos - start);
                break;
            case '[':
                pos    = skip_until(pos + 1, ']');
                n_item = static_cast<size_t>(pos - start);
                break;
            case '{': check_repetition(pos + 1, n_item); break;
            case '#': pos = skip_space(pos) - 1; break;
            case '(': depth++; break;
            case ')':
                depth--;
                n_item = 1;
                break;
            default: break;
        }
        if (depth > MAX_NESTING) {
            throw std::invalid_argument("the grammar nests more than " + std::to_string(MAX_NESTING) + " groups");
        }
        if (*pos == '\0') {
            return;
        }
    }
}

// The parser's reasons end in everything that it had not read: that tells the line, and need not be repeated.
std::string with_line(const std::string & reason, const std::string & grammar) {
    const size_t at = reason.find(" at ");
    if (at == std::string::npos) {
        return reason.substr(0, MAX_REASON);
    }
    const std::string rest = reason.substr(at + 4);
    if (rest.size() > grammar.size() || grammar.compare(grammar.size() - rest.size(), rest.size(), rest) != 0) {
        return reason.substr(0, MAX_REASON);
    }
    const auto end  = grammar.end() - static_cast<std::ptrdiff_t>(rest.size());
    const auto line = 1 + std::count(grammar.begin(), end, '\n');
    return reason.substr(0, at) + " in line " + std::to_string(line) + " at '" + rest.substr(0, rest.find('\n')) + "'";
}

}  // namespace

namespace shm {

void check_grammar(const llama_vocab * vocab, const char * grammar, const char * root) {
    if (root == nullptr || *root == '\0') {
        throw std::invalid_argument("the grammar's root rule has no name");
    }
    const char * pos = skip_space(grammar == nullptr ? "" : grammar);
    if (*pos == '\0') {
        throw std::invalid_argument("the grammar is empty");
    }
    if (std::strlen(grammar) > MAX_BYTES) {
        throw std::invalid_argument("the grammar has more than " + std::to_string(MAX_BYTES >> 10) + " KiB");
    }
    check_nesting(grammar);
    llama_grammar_parser parser(vocab);
    size_t               n_elements = 0;
    try {
        while (*pos != '\0') {
            pos = parser.parse_rule(pos);
            if (parser.rules.size() > MAX_RULES) {
                throw std::runtime_error("more than " + std::to_string(MAX_RULES) + " rules");
            }
            n_elements += parser.rules.back().size();
            if (n_elements > MAX_ELEMENTS) {
                throw std::runtime_error("more than " + std::to_string(MAX_ELEMENTS) + " characters and rules");
            }
        }
        for (const auto & [name, id] : parser.symbol_ids) {
            if (id >= parser.rules.size() || parser.rules[id].empty()) {
                throw std::runtime_error("rule '" + name + "' is used, but not defined");
            }
        }
        if (parser.symbol_ids.count(root) == 0) {
            throw std::runtime_error("there is no rule '" + std::string(root) + "'");
        }
    } catch (const abort_error &) {
        throw;
    } catch (const std::exception & e) {
        throw std::invalid_argument("the grammar does not parse: " + with_line(e.what(), grammar));
    }
    check_ambiguity(parser.rules);
}

std::string strict_strings(std::string grammar) {
    static const std::string loose  = R"([^"\\] | "\\" ( ["\\/ bfnrt])";
    static const std::string strict = R"([^"\\\x00-\x1F] | "\\" ( ["\\/bfnrt])";
    for (size_t at = grammar.find(loose); at != std::string::npos; at = grammar.find(loose, at + strict.size())) {
        grammar.replace(at, loose.size(), strict);
    }
    return grammar;
}

}  // namespace shm

int shm_grammar_check(const struct llama_vocab * vocab, const char * grammar, const char * root) {
    return shm::guarded(SHM_FAULT, [&] {
        shm::check_grammar(vocab, grammar, root);
        return 0;
    });
}
