#include "ambiguity.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// Ways to read a character times what each leads to. 45 optional parts of the same kind make about 1000, and a token
// then takes a tenth of a second with a vocabulary of 150,000.
constexpr uint32_t MAX_WORK = 1024;

// Places where the text may go on. llama.cpp compares each with all others.
constexpr uint32_t MAX_PLACES = 8192;

// Sums stop here instead of wrapping.
constexpr uint32_t PLENTY = 1U << 24;

// Characters that are told apart: ASCII, and all others as one.
constexpr uint32_t n_chars = 129;

using counts = std::array<uint32_t, n_chars>;

uint32_t plus(uint32_t a, uint64_t b) { return static_cast<uint32_t>(std::min<uint64_t>(a + b, PLENTY)); }

bool is_end(const llama_grammar_element & element) {
    return element.type == LLAMA_GRETYPE_END || element.type == LLAMA_GRETYPE_ALT;
}

bool continues(const llama_grammar_element & element) {
    return element.type == LLAMA_GRETYPE_CHAR_RNG_UPPER || element.type == LLAMA_GRETYPE_CHAR_ALT;
}

// The places where a rule, or what is left of a sequence, may begin to read: how many there are, how many of them take
// each character, and whether it may read nothing at all.
struct first {
    uint32_t n_places = 0;
    counts   takes{};
    bool     nullable = false;

    void add(const first & other) {
        n_places = plus(n_places, other.n_places);
        for (uint32_t c = 0; c < n_chars; c++) {
            takes[c] = plus(takes[c], other.takes[c]);
        }
    }
};

// A character or a class of them, from `element` on.
first first_of_char(const llama_grammar_element * element) {
    first out;
    out.n_places = 1;
    if (element->type == LLAMA_GRETYPE_CHAR_ANY) {
        out.takes.fill(1);
        return out;
    }
    if (element->type != LLAMA_GRETYPE_CHAR && element->type != LLAMA_GRETYPE_CHAR_NOT) {
        return out;  // a token
    }
    const bool negated = element->type == LLAMA_GRETYPE_CHAR_NOT;
    do {
        const uint32_t low  = element->value;
        uint32_t       high = low;
        if (element[1].type == LLAMA_GRETYPE_CHAR_RNG_UPPER) {
            high = (++element)->value;
        }
        for (uint32_t c = low; c <= high && c < n_chars; c++) {
            out.takes[c] = 1;
        }
        if (high >= n_chars - 1) {
            out.takes[n_chars - 1] = 1;
        }
        element++;
    } while (element->type == LLAMA_GRETYPE_CHAR_ALT);
    for (uint32_t c = 0; negated && c < n_chars; c++) {
        out.takes[c] = c == n_chars - 1 ? 1 : 1 - out.takes[c];
    }
    return out;
}

class analysis {
  public:
    explicit analysis(const llama_grammar_rules & rules)
        : rules_(rules), states_(rules.size()), firsts_(rules.size()) {}

    void check() {
        for (size_t id = 0; id < rules_.size(); id++) {
            check_places(of_rule(id).n_places);
        }
        for (const auto & rule : rules_) {
            check_rule(rule);
        }
    }

  private:
    enum class state : uint8_t { unknown, in_progress, known };

    // A rule that begins with itself is none that llama.cpp accepts: what it adds does not matter.
    const first & of_rule(size_t id) {
        if (states_[id] != state::unknown) {
            return firsts_[id];
        }
        states_[id] = state::in_progress;
        first sum;
        bool  open = true;  // whether everything before, in this alternative, may read nothing
        for (size_t i = 0; i < rules_[id].size(); i++) {
            const auto & element = rules_[id][i];
            if (is_end(element)) {
                sum.nullable = sum.nullable || open;
                open         = true;
            } else if (open && !continues(element)) {
                const first part = of_element(&element);
                sum.add(part);
                open = part.nullable;
            }
        }
        firsts_[id] = sum;
        states_[id] = state::known;
        return firsts_[id];
    }

    first of_element(const llama_grammar_element * element) {
        return element->type == LLAMA_GRETYPE_RULE_REF ? of_rule(element->value) : first_of_char(element);
    }

    // Each run of parts that may read nothing, with the part that ends it.
    void check_rule(const llama_grammar_rule & rule) {
        std::vector<first> run;
        for (const auto & element : rule) {
            if (continues(element)) {
                continue;
            }
            if (!is_end(element)) {
                run.push_back(of_element(&element));
            }
            if (is_end(element) || !run.back().nullable) {
                check_run(run);
                run.clear();
            }
        }
    }

    static void check_places(uint32_t n) {
        if (n > MAX_PLACES) {
            throw std::invalid_argument("the grammar has more than " + std::to_string(MAX_PLACES) +
                                        " alternatives in one place");
        }
    }

    // After a part of the run was read, everything behind it in the run may come.
    static void check_run(const std::vector<first> & run) {
        first    behind;
        counts   work{};
        uint32_t worst = 0;
        for (auto part = run.rbegin(); part != run.rend(); ++part) {
            for (uint32_t c = 0; c < n_chars; c++) {
                work[c] = plus(work[c], static_cast<uint64_t>(part->takes[c]) * (behind.n_places + 1));
                worst   = std::max(worst, work[c]);
            }
            behind.add(*part);
        }
        if (worst > MAX_WORK) {
            throw std::invalid_argument(
                "the grammar is too ambiguous: a character can be read in too many ways where " +
                std::to_string(run.size()) + " optional parts follow each other; use {0,n} around one of them");
        }
        check_places(behind.n_places);
    }

    const llama_grammar_rules & rules_;
    std::vector<state>          states_;
    std::vector<first>          firsts_;
};

}  // namespace

namespace shm {

void check_ambiguity(const llama_grammar_rules & rules) { analysis(rules).check(); }

}  // namespace shm
