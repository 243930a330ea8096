// ahead: steps that run on a thread of their own while what came of the one before is still being told.
//
// A step may be followed by the next one at once where that is what its owner would ask for anyway: every row goes on
// with one token. The owner allows it one step at a time, so at most one outcome waits to be taken.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "outcome.hpp"

namespace shm {

class ahead {
  public:
    // Runs one step into the outcome that it is given; must not throw.
    using stepping = std::function<void(outcome &)>;

    explicit ahead(stepping step) : step_(std::move(step)) {}

    // Waits for the step that runs.
    ~ahead();

    ahead(const ahead &)             = delete;
    ahead & operator=(const ahead &) = delete;

    // Whether a step was begun whose outcome has not been taken. Thread: the owner's, as for begin and take.
    bool in_flight() const { return in_flight_; }

    // Begins a step; none is in flight.
    void begin();

    // Waits for the outcome of the step in flight. With `more` the next one begins without waiting, where it can.
    // The outcome is valid until the next call.
    outcome & take(bool more);

    // Takes back a `more` that has not been made use of. Thread: any.
    void hold() { allowed_ = false; }

  private:
    void work();

    stepping                step_;
    std::array<outcome, 2>  outcomes_;
    std::atomic<bool>       allowed_{false};
    std::mutex              mutex_;
    std::condition_variable wake_;
    std::condition_variable done_;
    bool                    in_flight_ = false;  // the owner's
    bool                    ending_    = false;
    uint64_t                n_begun_   = 0;  // steps: none runs where so many are done
    uint64_t                n_done_    = 0;
    uint64_t                n_taken_   = 0;
    std::thread             thread_;  // from the first begin on
};

}  // namespace shm
