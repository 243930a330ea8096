#include "log.hpp"

#include "guard.hpp"
#include "mtmd-helper.h"
#include "shim.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <string_view>
#include <thread>

namespace {

constexpr size_t MAX_RING_BYTES = 256 * 1024;
constexpr size_t MAX_LINE_BYTES = 4 * 1024;
constexpr size_t MAX_ERRORS     = 256;
constexpr size_t MAX_REPORTED   = 32;

struct line {
    int         level;
    std::string text;
};

struct error_line {
    uint64_t        seq;
    std::thread::id thread;
    std::string     text;
};

struct ring {
    std::mutex              mutex;
    std::condition_variable added;
    std::deque<line>        lines;
    std::deque<error_line>  errors;  // not drained by readers
    size_t                  bytes   = 0;
    uint64_t                seq     = 0;
    uint64_t                dropped = 0;
};

// Read without the lock: most lines are dropped for their level, and a decode has many of them.
std::atomic<int> min_level{GGML_LOG_LEVEL_INFO};

// Never destroyed: backends' threads may still log while the process exits.
ring & the_ring() {
    static ring * instance = new ring;
    return *instance;
}

// A line that has no newline yet.
struct fragment {
    int         level = GGML_LOG_LEVEL_INFO;
    std::string text;
};

thread_local fragment pending;

void push(int level, std::string_view text) {
    text = text.substr(0, MAX_LINE_BYTES);
    while (!text.empty() && (text.back() == '\r' || text.back() == ' ')) {
        text.remove_suffix(1);
    }
    if (text.empty()) {
        return;
    }
    ring & r = the_ring();
    {
        const std::lock_guard<std::mutex> lock(r.mutex);
        r.seq++;
        if (level >= GGML_LOG_LEVEL_WARN) {
            r.errors.push_back({r.seq, std::this_thread::get_id(), std::string(text)});
            if (r.errors.size() > MAX_ERRORS) {
                r.errors.pop_front();
            }
        }
        if (level < min_level.load(std::memory_order_relaxed)) {
            return;  // a warning or error that is kept only for messages
        }
        r.lines.push_back({level, std::string(text)});
        r.bytes += text.size();
        while (r.bytes > MAX_RING_BYTES) {
            r.bytes -= r.lines.front().text.size();
            r.lines.pop_front();
            r.dropped++;
        }
    }
    r.added.notify_one();
}

void flush_pending() {
    if (!pending.text.empty()) {
        push(pending.level, pending.text);
        pending.text.clear();
    }
}

void add(int level, std::string_view text) {
    if (level == GGML_LOG_LEVEL_NONE) {
        level = GGML_LOG_LEVEL_INFO;
    }
    if (level != GGML_LOG_LEVEL_CONT) {
        flush_pending();
        pending.level = level;
    }
    if (pending.level < GGML_LOG_LEVEL_WARN && pending.level < min_level.load(std::memory_order_relaxed)) {
        return;  // and so are the fragments that continue it
    }
    while (!text.empty()) {
        const size_t end = text.find('\n');
        pending.text.append(text.substr(0, end));
        if (end == std::string_view::npos) {
            break;
        }
        flush_pending();
        text.remove_prefix(end + 1);
    }
    if (pending.text.size() > MAX_LINE_BYTES) {
        flush_pending();
    }
}

void on_log(enum ggml_log_level level, const char * text, void * /* user_data */) {
    try {
        add(level, text);
    } catch (...) {  // out of memory: the line is lost, the caller is C
    }
}

}  // namespace

namespace shm {

void install_log_callback() { llama_log_set(on_log, nullptr); }

void install_media_log() { mtmd_helper_log_set(on_log, nullptr); }

void log_line(int level, const std::string & text) noexcept {
    try {
        add(level, text);
        flush_pending();
    } catch (...) {  // as in on_log
    }
}

}  // namespace shm

void shm_log_set_level(int level) { min_level.store(level, std::memory_order_relaxed); }

size_t shm_log_read(char * buf, size_t cap) {
    ring &                            r = the_ring();
    const std::lock_guard<std::mutex> lock(r.mutex);
    size_t                            used = 0;
    while (!r.lines.empty() && cap > 2) {
        const line & next = r.lines.front();
        size_t       size = next.text.size();
        if (used + size + 2 > cap) {
            if (used > 0) {
                break;
            }
            size = cap - 2;  // a line longer than the whole buffer is cut
        }
        buf[used++] = static_cast<char>('0' + next.level);
        std::memcpy(buf + used, next.text.data(), size);
        used += size;
        buf[used++] = '\n';
        r.bytes -= next.text.size();
        r.lines.pop_front();
    }
    return used;
}

bool shm_log_wait(int timeout_ms) {
    ring &                       r = the_ring();
    std::unique_lock<std::mutex> lock(r.mutex);
    return r.added.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&r] { return !r.lines.empty(); });
}

uint64_t shm_log_dropped(void) {
    ring &                            r = the_ring();
    const std::lock_guard<std::mutex> lock(r.mutex);
    return r.dropped;
}

void shm_log_write(int level, const char * text) { shm::log_line(level, text); }

uint64_t shm_log_mark(void) {
    ring &                            r = the_ring();
    const std::lock_guard<std::mutex> lock(r.mutex);
    return r.seq;
}

char * shm_log_errors_since(uint64_t mark) {
    return shm::guarded(static_cast<char *>(nullptr), [mark] {
        ring &                            r = the_ring();
        const std::lock_guard<std::mutex> lock(r.mutex);
        const auto                        self     = std::this_thread::get_id();
        bool                              any_mine = false;
        for (const error_line & e : r.errors) {
            any_mine = any_mine || (e.seq > mark && e.thread == self);
        }
        std::deque<const error_line *> chosen;
        for (const error_line & e : r.errors) {
            if (e.seq > mark && (!any_mine || e.thread == self)) {
                chosen.push_back(&e);
                if (chosen.size() > MAX_REPORTED) {
                    chosen.pop_front();
                }
            }
        }
        std::string joined;
        for (const error_line * e : chosen) {
            joined += joined.empty() ? "" : "\n";
            joined += e->text;
        }
        return shm::copy_string(joined);
    });
}
