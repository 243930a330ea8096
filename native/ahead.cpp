#include "ahead.hpp"

namespace shm {

ahead::~ahead() {
    if (!thread_.joinable()) {
        return;
    }
    hold();
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        ending_ = true;
    }
    wake_.notify_one();
    thread_.join();
}

void ahead::begin() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        allowed_ = false;
        n_begun_++;
    }
    in_flight_ = true;
    if (!thread_.joinable()) {
        thread_ = std::thread([this] { work(); });
    }
    wake_.notify_one();
}

outcome & ahead::take(bool more) {
    allowed_ = more;
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return n_done_ > n_taken_; });
    outcome & taken = outcomes_[n_taken_++ % 2];
    // it was through before `more` was said
    if (n_begun_ == n_taken_ && taken.goes_on && allowed_.exchange(false)) {
        n_begun_++;
        wake_.notify_one();
    }
    in_flight_ = taken.followed = n_begun_ > n_taken_;
    return taken;
}

void ahead::work() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        wake_.wait(lock, [this] { return n_begun_ > n_done_ || ending_; });
        if (n_begun_ == n_done_) {
            return;
        }
        outcome & into = outcomes_[n_done_ % 2];
        lock.unlock();
        step_(into);
        lock.lock();
        n_done_++;
        if (into.goes_on && !ending_ && allowed_.exchange(false)) {
            n_begun_++;
        }
        done_.notify_one();
    }
}

}  // namespace shm
