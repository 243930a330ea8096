// guard: errors and aborts of the shim, in one place.
//
// Every function of the C ABI that calls llama.cpp with something a caller chose runs its body in guarded(). Inside it
// a C++ exception, and a GGML_ASSERT or GGML_ABORT on the calling thread, become a fault value and a thread-local
// message that shm_last_fault() and shm_last_error() read. Not covered: asserts on llama.cpp's own worker threads and
// in noexcept frames; those still end the process, which is why a server keeps models in worker processes.
#pragma once

#include <new>
#include <stdexcept>
#include <string>
#include <utility>

namespace shm {

enum class fault : int { none = 0, invalid_argument = 1, runtime = 2, aborted = 3, out_of_memory = 4 };

// What a guarded GGML_ASSERT or GGML_ABORT throws; what() is ggml's "file:line: text". It is a std::exception so that
// llama.cpp's own handlers (model and context creation) release what they hold and return NULL.
class abort_error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// Installs ggml's abort callback; later calls do nothing. Any thread.
void install_abort_callback();

// The calling thread's error. Never throws: a message that cannot be stored is dropped, its kind is kept.
void         set_error(fault kind, const std::string & message) noexcept;
void         clear_error() noexcept;
fault        last_fault() noexcept;
const char * last_error() noexcept;

// The message of the last abort caught on this thread since the outermost guard was entered, or NULL. For callees that
// swallow the exception and report only a NULL: llama_model_load_from_file and llama_init_from_model do.
const char * caught_abort() noexcept;

// For what a caller chose: throws std::invalid_argument.
inline void require(bool condition, const char * message) {
    if (!condition) {
        throw std::invalid_argument(message);
    }
}

// malloc'd, for the caller to release with shm_free(); throws std::bad_alloc.
char * copy_string(const std::string & text);

// While one lives, aborts on this thread throw abort_error. Nests.
class abort_guard {
  public:
    abort_guard() noexcept;
    ~abort_guard();
    abort_guard(const abort_guard &)             = delete;
    abort_guard & operator=(const abort_guard &) = delete;
};

// Runs body() with the guard armed and the thread's error cleared; on a fault, sets the error and returns on_fault.
template <class R, class F>
R guarded(R on_fault, F && body) noexcept {
    clear_error();
    const abort_guard guard;
    try {
        return std::forward<F>(body)();
    } catch (const abort_error & e) {
        set_error(fault::aborted, e.what());
    } catch (const std::bad_alloc &) {
        set_error(fault::out_of_memory, "out of memory");
    } catch (const std::invalid_argument & e) {
        set_error(fault::invalid_argument, e.what());
    } catch (const std::exception & e) {
        set_error(fault::runtime, e.what());
    } catch (...) {
        set_error(fault::runtime, "an unknown C++ exception");
    }
    return on_fault;
}

}  // namespace shm
