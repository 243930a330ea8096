// init: start-up of the shim, the calling thread's error, and memory handed out.
#include "guard.hpp"
#include "log.h"
#include "log.hpp"
#include "shim.h"

#include <cstdlib>
#include <mutex>

int shm_abi_version(void) { return SHM_ABI_VERSION; }

void shm_init(void) {
    static std::once_flag once;
    std::call_once(once, [] {
        shm::install_log_callback();
        shm::install_abort_callback();
        // common's log has a worker thread that prints to our stdout and stderr; its callers throw as well, and the
        // thread would not survive a fork.
        common_log_pause(common_log_main());
    });
}

int shm_last_fault(void) { return static_cast<int>(shm::last_fault()); }

const char * shm_last_error(void) { return shm::last_error(); }

void shm_free(void * ptr) { std::free(ptr); }
