// log: llama.cpp's and ggml's lines in a bounded ring, with the last warnings and errors kept apart.
//
// The callback runs on any thread, at any time, with fragments of lines; it never waits for a reader and never enters
// Python. Fragments (GGML_LOG_LEVEL_CONT) are joined per thread until their newline.
#pragma once

#include <string>

namespace shm {

// Takes over llama.cpp's and ggml's logging. Any thread; later calls do nothing new.
void install_log_callback();

// The same for mtmd, which has a callback of its own.
void install_media_log();

// Adds whole lines of our own. Any thread.
void log_line(int level, const std::string & text) noexcept;

}  // namespace shm
