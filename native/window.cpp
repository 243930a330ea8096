#include "window.hpp"

#include <algorithm>

#include "guard.hpp"
#include "llama-kv-cache-iswa.h"
#include "llama-model.h"
#include "shim.h"

namespace {

// Null where all layers keep all, or the memory is recurrent too.
llama_kv_cache_iswa * parts_of(llama_memory_t memory) { return dynamic_cast<llama_kv_cache_iswa *>(memory); }

llama_kv_cache & window_of(llama_memory_t memory) {
    llama_kv_cache_iswa * parts = parts_of(memory);
    if (parts == nullptr) {
        throw std::invalid_argument("this memory has no sliding window");
    }
    return *parts->get_swa();
}

llama_seq_id n_sequences() { return static_cast<llama_seq_id>(llama_max_parallel_sequences()); }

void check_seq(llama_seq_id seq) {
    if (seq < 0 || seq >= n_sequences()) {
        throw std::invalid_argument("sequence id " + std::to_string(seq) + " is outside 0.." +
                                    std::to_string(n_sequences() - 1));
    }
}

// The first position that a token at `pos` sees in the layers of the window.
llama_pos first_seen(const llama_model * model, llama_pos pos) {
    const llama_hparams & hparams = model->hparams;
    llama_pos             first   = std::max(0, pos - static_cast<llama_pos>(hparams.n_swa));
    while (first < pos && llama_hparams::is_masked_swa(hparams.n_swa, hparams.swa_type, first, pos)) {
        first++;
    }
    return first;
}

}  // namespace

namespace shm {

llama_pos last_position(llama_memory_t memory, llama_seq_id seq) {
    const llama_kv_cache_iswa * parts = parts_of(memory);
    return parts != nullptr ? parts->get_base()->seq_pos_max(seq) : llama_memory_seq_pos_max(memory, seq);
}

}  // namespace shm

int32_t shm_window_cells(llama_memory_t memory) {
    return shm::guarded<int32_t>(SHM_FAULT, [&] {
        const llama_kv_cache_iswa * parts = memory != nullptr ? parts_of(memory) : nullptr;
        return parts != nullptr ? static_cast<int32_t>(parts->get_swa()->get_size()) : 0;
    });
}

int shm_window_remove(llama_memory_t memory, llama_seq_id seq) {
    return shm::guarded<int>(SHM_FAULT, [&] {
        check_seq(seq);
        window_of(memory).seq_rm(seq, -1, -1);
        return 0;
    });
}

bool shm_window_reaches(const llama_model * model, llama_memory_t memory, llama_seq_id seq, llama_pos n_tokens) {
    return shm::guarded<bool>(false, [&] {
        check_seq(seq);
        const llama_kv_cache & window = window_of(memory);
        const llama_pos        first  = window.seq_pos_min(seq);
        return n_tokens == 0 ||
               (first >= 0 && first <= first_seen(model, n_tokens) && window.seq_pos_max(seq) >= n_tokens - 1);
    });
}

int32_t shm_window_trim(const llama_model * model, llama_memory_t memory) {
    return shm::guarded<int32_t>(SHM_FAULT, [&] {
        llama_kv_cache & window    = window_of(memory);
        int32_t          n_trimmed = 0;
        for (llama_seq_id seq = 0; seq < n_sequences(); seq++) {
            const llama_pos first = window.seq_pos_min(seq);
            const llama_pos seen  = first_seen(model, window.seq_pos_max(seq) + 1);
            if (first >= 0 && first < seen) {
                window.seq_rm(seq, 0, seen);
                n_trimmed++;
            }
        }
        return n_trimmed;
    });
}

llama_pos shm_memory_last(llama_memory_t memory, llama_seq_id seq) {
    return shm::guarded<llama_pos>(SHM_FAULT, [&] {
        check_seq(seq);
        if (memory == nullptr) {
            throw std::invalid_argument("this context has no memory");
        }
        return shm::last_position(memory, seq);
    });
}
