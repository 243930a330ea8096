#include "guard.hpp"

#include "ggml.h"
#include "log.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace shm {
namespace {

struct thread_state {
    int         depth        = 0;
    fault       kind         = fault::none;
    bool        abort_caught = false;
    std::string message;
    std::string abort_message;
};

thread_local thread_state state;

// Called by ggml_abort() on the thread whose assertion failed. Returning lets ggml call abort().
void on_abort(const char * message) {
    log_line(GGML_LOG_LEVEL_ERROR, message);
    if (state.depth > 0) {
        state.abort_caught  = true;
        state.abort_message = message;
        throw abort_error(message);
    }
    std::fprintf(stderr, "shimmy: llama.cpp aborts: %s\n", message);
    std::fflush(stderr);
}

}  // namespace

void install_abort_callback() { ggml_set_abort_callback(on_abort); }

void set_error(fault kind, const std::string & message) noexcept {
    state.kind = kind;
    try {
        state.message = message;
    } catch (...) {
        state.message.clear();
    }
}

void clear_error() noexcept {
    state.kind = fault::none;
    state.message.clear();
}

fault last_fault() noexcept { return state.kind; }

const char * last_error() noexcept { return state.message.c_str(); }

const char * caught_abort() noexcept { return state.abort_caught ? state.abort_message.c_str() : nullptr; }

char * copy_string(const std::string & text) {
    char * copy = static_cast<char *>(std::malloc(text.size() + 1));
    if (copy == nullptr) {
        throw std::bad_alloc();
    }
    std::memcpy(copy, text.c_str(), text.size() + 1);
    return copy;
}

abort_guard::abort_guard() noexcept {
    if (state.depth++ == 0) {
        state.abort_caught = false;
    }
}

abort_guard::~abort_guard() { state.depth--; }

}  // namespace shm
