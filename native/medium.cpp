#include "medium.hpp"

#include <algorithm>

namespace shm {

namespace {

// While it lives, tokens see those behind them too.
class seeing_all {
  public:
    seeing_all(llama_context * ctx, bool enabled) : ctx_(enabled ? ctx : nullptr) {
        if (ctx_ != nullptr) {
            llama_set_causal_attn(ctx_, false);
        }
    }

    ~seeing_all() {
        if (ctx_ != nullptr) {
            llama_set_causal_attn(ctx_, true);
        }
    }

    seeing_all(const seeing_all &)             = delete;
    seeing_all & operator=(const seeing_all &) = delete;

  private:
    llama_context * ctx_;
};

// The positions of n embeddings from number `begin` on: one for each, or all first coordinates, then all second ones...
std::vector<llama_pos> positions(const medium & what, llama_pos pos, int32_t begin, int32_t n) {
    if (!what.two_dimensional) {
        std::vector<llama_pos> out(static_cast<size_t>(n));
        for (int32_t i = 0; i < n; i++) {
            out[static_cast<size_t>(i)] = pos + begin + i;
        }
        return out;
    }
    const auto             width = static_cast<size_t>(n);
    std::vector<llama_pos> out(4 * width);
    const auto *           image = mtmd_input_chunk_get_tokens_image(what.chunk.get());
    for (size_t i = 0; i < width; i++) {
        const auto at      = mtmd_image_tokens_get_decoder_pos(image, pos, static_cast<size_t>(begin) + i);
        out[i]             = static_cast<llama_pos>(at.t);
        out[i + width]     = static_cast<llama_pos>(at.y);
        out[i + 2 * width] = static_cast<llama_pos>(at.x);
        out[i + 3 * width] = static_cast<llama_pos>(at.z);
    }
    return out;
}

}  // namespace

int32_t decode_medium(llama_context * ctx, const medium & what, llama_seq_id seq_id, llama_pos pos) {
    const seeing_all scope(ctx, what.non_causal);
    const auto       n_batch = static_cast<int32_t>(llama_n_batch(ctx));
    const size_t     n_embd  = what.embeddings.size() / static_cast<size_t>(what.n_tokens);
    for (int32_t begin = 0; begin < what.n_tokens; begin += n_batch) {
        const int32_t               n     = std::min(n_batch, what.n_tokens - begin);
        std::vector<llama_pos>      where = positions(what, pos, begin, n);
        std::vector<int32_t>        n_ids(static_cast<size_t>(n), 1);
        std::vector<llama_seq_id *> ids(static_cast<size_t>(n), &seq_id);
        std::vector<int8_t>         outputs(static_cast<size_t>(n), 0);
        // llama_batch has no const; llama_decode only reads
        auto * embeddings       = const_cast<float *>(what.embeddings.data() + static_cast<size_t>(begin) * n_embd);
        const llama_batch batch = {n, nullptr, embeddings, where.data(), n_ids.data(), ids.data(), outputs.data()};
        const int32_t     code  = llama_decode(ctx, batch);
        if (code != 0) {
            return code;
        }
    }
    return 0;
}

}  // namespace shm
