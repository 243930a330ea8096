// medium: embeddings that stand in a prompt like tokens: an image, or a part of one.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "llama.h"
#include "mtmd.h"

namespace shm {

struct medium {
    mtmd::input_chunk_ptr chunk;  // what the projector computes from, and where its embeddings are
    int32_t               n_tokens;
    int32_t               n_pos;
    bool                  non_causal;
    bool                  two_dimensional;  // M-RoPE
    std::vector<float>    embeddings;       // n_tokens of them, once they are computed
};

// A medium in a row: its first embedding is the row's token number `start`.
struct medium_span {
    int32_t                       start;
    std::shared_ptr<const medium> what;

    int32_t end() const { return start + what->n_tokens; }
};

// Feeds a medium at position `pos`. llama_decode's code: after another than 0 a part of it may be in the cells.
// Thread: the context's.
int32_t decode_medium(llama_context * ctx, const medium & what, llama_seq_id seq_id, llama_pos pos);

}  // namespace shm
