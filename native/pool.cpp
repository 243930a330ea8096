#include "pool.hpp"

namespace shm {

pool::pool(int n_helpers) {
    for (int i = 0; i < n_helpers; i++) {
        helpers_.emplace_back([this] { help(); });
    }
}

pool::~pool() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        ending_ = true;
    }
    wake_.notify_all();
    for (auto & helper : helpers_) {
        helper.join();
    }
}

void pool::run(int n, const std::function<void(int)> & body) {
    if (n < 2 || helpers_.empty()) {
        for (int i = 0; i < n; i++) {
            body(i);
        }
        return;
    }
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        body_   = &body;
        n_      = n;
        next_   = 0;
        n_busy_ = static_cast<int>(helpers_.size());
        round_++;
    }
    wake_.notify_all();
    work();
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return n_busy_ == 0; });
}

void pool::work() {
    for (int i = next_++; i < n_; i = next_++) {
        (*body_)(i);
    }
}

void pool::help() {
    uint64_t seen = 0;
    for (;;) {
        {
            std::unique_lock<std::mutex> lock(mutex_);
            wake_.wait(lock, [&] { return ending_ || round_ != seen; });
            if (ending_) {
                return;
            }
            seen = round_;
        }
        work();
        const std::lock_guard<std::mutex> lock(mutex_);
        if (--n_busy_ == 0) {
            done_.notify_one();
        }
    }
}

}  // namespace shm
