// open_leaf: where a parse of unfinished output stopped, so that what follows need not be parsed from the start.
//
// While the end of the text lies inside of free text (up to a marker) or of a JSON value, more text changes nothing
// before it: the answer only grows. A leaf reads on from there, until the marker or the end of the value is reached.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "peg-parser.h"

namespace shm {

// What the text at the end belongs to.
enum class field {
    content,
    reasoning,
    arguments,  // JSON, taken over as it is
    string,     // free text that becomes a JSON string of the arguments
    nothing,    // shown only when it is whole
};

class open_leaf {
  public:
    // Finds the leaf at the end of a parse that wants more input; none where only a full parse can tell.
    static std::optional<open_leaf> find(const common_peg_arena & arena, common_peg_parse_context & ctx);

    // Reads the text from where the last call stopped. False when the leaf has ended: parse again.
    bool read(const std::string & text);

    field  belongs() const { return field_; }
    size_t begin() const { return begin_; }  // of the field's value
    size_t end() const { return end_; }      // of what is certain: what follows may be the beginning of a marker

  private:
    friend class leaf_finder;

    open_leaf(field belongs, size_t begin, size_t start, std::vector<std::string> delimiters, bool json);

    bool read_until(const std::string & text);
    bool read_json(const std::string & text);
    bool read_json_char(char c);

    field                    field_;
    size_t                   begin_;
    size_t                   end_;
    size_t                   next_;  // what has not been looked at
    std::vector<std::string> delimiters_;
    bool                     json_;
    std::string              first_bytes_;
    int                      depth_     = 0;
    bool                     in_string_ = false;
    int                      escape_    = 0;  // bytes of an escape sequence that are still to come
};

}  // namespace shm
