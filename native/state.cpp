// state: saving and restoring a context or one sequence; restored bytes may not fit the context.
#include "guard.hpp"
#include "shim.h"

namespace {

constexpr size_t FAILED = 0;

void check_seq(llama_seq_id seq) {
    const auto limit = static_cast<llama_seq_id>(llama_max_parallel_sequences());
    if (seq < -1 || seq >= limit) {
        throw std::invalid_argument("sequence id " + std::to_string(seq) + " is outside 0.." +
                                    std::to_string(limit - 1));
    }
}

}  // namespace

size_t shm_state_size(struct llama_context * ctx, llama_seq_id seq, uint32_t flags) {
    return shm::guarded(FAILED, [&] {
        check_seq(seq);
        return seq < 0 ? llama_state_get_size(ctx) : llama_state_seq_get_size_ext(ctx, seq, flags);
    });
}

size_t shm_state_get(struct llama_context * ctx, uint8_t * dst, size_t cap, llama_seq_id seq, uint32_t flags) {
    return shm::guarded(FAILED, [&] {
        check_seq(seq);
        return seq < 0 ? llama_state_get_data(ctx, dst, cap) : llama_state_seq_get_data_ext(ctx, dst, cap, seq, flags);
    });
}

size_t shm_state_set(struct llama_context * ctx, const uint8_t * src, size_t size, llama_seq_id seq, uint32_t flags) {
    return shm::guarded(FAILED, [&] {
        check_seq(seq);
        return seq < 0 ? llama_state_set_data(ctx, src, size)
                       : llama_state_seq_set_data_ext(ctx, src, size, seq, flags);
    });
}
