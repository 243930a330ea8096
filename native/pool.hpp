// pool: a few threads that share out the rows of a step.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace shm {

// Thread: run() from one thread at a time. The others sleep between runs, so an idle engine costs nothing.
class pool {
  public:
    explicit pool(int n_helpers);
    ~pool();
    pool(const pool &)             = delete;
    pool & operator=(const pool &) = delete;

    // Calls body(i) for every i below n, on this thread and the helpers, and returns when all are done. body must not
    // throw.
    void run(int n, const std::function<void(int)> & body);

  private:
    void help();
    void work();

    std::vector<std::thread>         helpers_;
    std::mutex                       mutex_;
    std::condition_variable          wake_;
    std::condition_variable          done_;
    const std::function<void(int)> * body_ = nullptr;
    int                              n_    = 0;
    std::atomic<int>                 next_{0};
    int                              n_busy_ = 0;
    uint64_t                         round_  = 0;
    bool                             ending_ = false;
};

}  // namespace shm
