// memory: guarded operations on a context's KV or recurrent memory.
#include "guard.hpp"
#include "shim.h"

namespace {

// llama.cpp asserts this instead of reporting it; the common mistake gets a message of its own.
void check_seq(llama_seq_id seq, llama_seq_id lowest = 0) {
    const auto limit = static_cast<llama_seq_id>(llama_max_parallel_sequences());
    if (seq < lowest || seq >= limit) {
        throw std::invalid_argument("sequence id " + std::to_string(seq) + " is outside 0.." +
                                    std::to_string(limit - 1));
    }
}

// llama_get_memory() returns NULL for models that keep none (encoders).
void check_memory(llama_memory_t mem) {
    if (mem == nullptr) {
        throw std::invalid_argument("this context has no memory");
    }
}

}  // namespace

int shm_memory_clear(llama_memory_t mem, bool data) {
    return shm::guarded(SHM_FAULT, [&] {
        check_memory(mem);
        llama_memory_clear(mem, data);
        return 0;
    });
}

int shm_memory_seq_rm(llama_memory_t mem, llama_seq_id seq, llama_pos p0, llama_pos p1) {
    return shm::guarded(SHM_FAULT, [&] {
        check_memory(mem);
        check_seq(seq, -1);  // all sequences
        return llama_memory_seq_rm(mem, seq, p0, p1) ? 1 : 0;
    });
}

int shm_memory_seq_cp(llama_memory_t mem, llama_seq_id src, llama_seq_id dst, llama_pos p0, llama_pos p1) {
    return shm::guarded(SHM_FAULT, [&] {
        check_memory(mem);
        check_seq(src);
        check_seq(dst);
        llama_memory_seq_cp(mem, src, dst, p0, p1);
        return 0;
    });
}

int shm_memory_seq_keep(llama_memory_t mem, llama_seq_id seq) {
    return shm::guarded(SHM_FAULT, [&] {
        check_memory(mem);
        check_seq(seq);
        llama_memory_seq_keep(mem, seq);
        return 0;
    });
}

int shm_memory_seq_add(llama_memory_t mem, llama_seq_id seq, llama_pos p0, llama_pos p1, llama_pos delta) {
    return shm::guarded(SHM_FAULT, [&] {
        check_memory(mem);
        check_seq(seq);
        if (!llama_memory_can_shift(mem)) {
            throw std::invalid_argument("this model's memory cannot shift positions");
        }
        llama_memory_seq_add(mem, seq, p0, p1, delta);
        return 0;
    });
}

int shm_memory_seq_div(llama_memory_t mem, llama_seq_id seq, llama_pos p0, llama_pos p1, int d) {
    return shm::guarded(SHM_FAULT, [&] {
        check_memory(mem);
        check_seq(seq);
        if (d < 1) {
            throw std::invalid_argument("positions can only be divided by 1 or more, not " + std::to_string(d));
        }
        if (!llama_memory_can_shift(mem)) {
            throw std::invalid_argument("this model's memory cannot shift positions");
        }
        llama_memory_seq_div(mem, seq, p0, p1, d);
        return 0;
    });
}

llama_pos shm_memory_seq_pos_min(llama_memory_t mem, llama_seq_id seq) {
    return shm::guarded(SHM_FAULT, [&] {
        check_memory(mem);
        check_seq(seq);
        return llama_memory_seq_pos_min(mem, seq);
    });
}

llama_pos shm_memory_seq_pos_max(llama_memory_t mem, llama_seq_id seq) {
    return shm::guarded(SHM_FAULT, [&] {
        check_memory(mem);
        check_seq(seq);
        return llama_memory_seq_pos_max(mem, seq);
    });
}
