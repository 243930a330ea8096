// picture: projectors, and what they make of images.
#include "picture.hpp"

#include <stdexcept>
#include <string>
#include <utility>

#include "guard.hpp"
#include "log.hpp"
#include "mtmd-helper.h"

using shm::require;

struct shm_projector {
    mtmd::context_ptr mtmd;
    size_t            n_embd;  // floats of an embedding
};

namespace {

mtmd_context_params params_of(const shm_projector_params & given) {
    mtmd_context_params params = mtmd_context_params_default();
    params.use_gpu             = given.device != nullptr;
    if (given.device != nullptr) {
        params.device = ggml_backend_dev_by_name(given.device);
        require(params.device != nullptr, "device: there is none of this name");
    }
    params.n_threads        = given.n_threads;
    params.image_min_tokens = given.image_min_tokens;
    params.image_max_tokens = given.image_max_tokens;
    params.print_timings    = false;
    return params;
}

// `text` has the marker in the image's place.
mtmd::input_chunks_ptr cut(mtmd_context * ctx, const std::string & text, const mtmd::bitmap & image) {
    mtmd::input_chunks_ptr chunks(mtmd_input_chunks_init());
    const mtmd_input_text  input = {text.data(), text.size(), /*add_special=*/false, /*parse_special=*/true};
    const mtmd_bitmap *    list  = image.ptr.get();
    const int32_t          code  = mtmd_tokenize(ctx, chunks.get(), &input, &list, 1);
    if (code != 0) {
        throw std::invalid_argument("the projector cannot take an image of " + std::to_string(image.nx()) + "x" +
                                    std::to_string(image.ny()) + " pixels");
    }
    return chunks;
}

shm::piece piece_of(mtmd_context * ctx, const mtmd_input_chunk * chunk) {
    if (mtmd_input_chunk_get_type(chunk) == MTMD_INPUT_CHUNK_TYPE_TEXT) {
        size_t              n      = 0;
        const llama_token * tokens = mtmd_input_chunk_get_tokens_text(chunk, &n);
        return {{tokens, tokens + n}, nullptr};
    }
    auto what             = std::make_shared<shm::medium>();
    what->n_tokens        = static_cast<int32_t>(mtmd_input_chunk_get_n_tokens(chunk));
    what->n_pos           = static_cast<int32_t>(mtmd_input_chunk_get_n_pos(chunk));
    what->non_causal      = mtmd_decode_use_non_causal(ctx, chunk);
    what->two_dimensional = mtmd_decode_use_mrope(ctx);
    what->chunk.reset(mtmd_input_chunk_copy(chunk));
    return {{}, std::move(what)};
}

size_t encode(shm_projector & projector, shm::medium & what) {
    if (what.embeddings.empty()) {
        mtmd_context * ctx = projector.mtmd.get();
        if (mtmd_encode_chunk(ctx, what.chunk.get()) != 0) {
            throw std::runtime_error("the projector could not compute the image");
        }
        const float * found = mtmd_get_output_embd(ctx);
        what.embeddings.assign(found, found + projector.n_embd * static_cast<size_t>(what.n_tokens));
        // its pixels are not needed any more
        mtmd::input_chunk_ptr without_pixels(mtmd_input_chunk_get_placeholder(what.chunk.get()));
        if (without_pixels != nullptr) {
            what.chunk = std::move(without_pixels);
        }
    }
    return what.embeddings.size() * sizeof(float);
}

}  // namespace

shm_projector * shm_projector_new(const char * path, const llama_model * model, const shm_projector_params * params) {
    return shm::guarded(static_cast<shm_projector *>(nullptr), [&]() -> shm_projector * {
        shm::install_media_log();
        auto made  = std::make_unique<shm_projector>();
        made->mtmd = mtmd::context_ptr(mtmd_init_from_file(path, model, params_of(*params)));
        if (made->mtmd == nullptr) {
            const char * abort_message = shm::caught_abort();
            shm::set_error(abort_message != nullptr ? shm::fault::aborted : shm::fault::runtime,
                           abort_message != nullptr ? abort_message : "llama.cpp could not load the projector");
            return nullptr;
        }
        made->n_embd = static_cast<size_t>(llama_model_n_embd_inp(model));
        return made.release();
    });
}

void shm_projector_free(shm_projector * projector) { delete projector; }

bool shm_projector_sees(const shm_projector * projector) { return mtmd_support_vision(projector->mtmd.get()); }

int64_t shm_projector_size(const char * path, const shm_projector_params * params) {
    return shm::guarded<int64_t>(-1, [&] {
        shm::install_media_log();
        const auto used = mtmd_get_memory_usage(path, params_of(*params));
        if (used.empty()) {
            throw std::runtime_error("llama.cpp could not read the projector");
        }
        int64_t size = 0;
        for (const auto & [device, n_bytes] : used) {
            size += static_cast<int64_t>(n_bytes);
        }
        return size;
    });
}

shm_picture * shm_picture_new(const shm_projector * projector, const uint8_t * pixels, int32_t nx, int32_t ny) {
    return shm::guarded(static_cast<shm_picture *>(nullptr), [&] {
        require(nx > 0 && ny > 0, "pixels: an image without pixels");
        mtmd_context *     ctx = projector->mtmd.get();
        const mtmd::bitmap image(static_cast<uint32_t>(nx), static_cast<uint32_t>(ny), pixels);
        const auto         chunks = cut(ctx, mtmd_get_marker(ctx), image);
        auto               made   = std::make_unique<shm_picture>();
        for (size_t i = 0; i < mtmd_input_chunks_size(chunks.get()); i++) {
            made->pieces.push_back(piece_of(ctx, mtmd_input_chunks_get(chunks.get(), i)));
        }
        return made.release();
    });
}

void shm_picture_free(shm_picture * picture) { delete picture; }

int32_t shm_picture_n_pieces(const shm_picture * picture) { return static_cast<int32_t>(picture->pieces.size()); }

int shm_picture_piece(const shm_picture * picture, int32_t i, shm_piece * out) {
    return shm::guarded<int>(SHM_FAULT, [&] {
        require(i >= 0 && i < shm_picture_n_pieces(picture), "piece: out of range");
        const shm::piece & piece = picture->pieces[static_cast<size_t>(i)];
        if (piece.what == nullptr) {
            const auto n = static_cast<int32_t>(piece.tokens.size());
            *out         = {piece.tokens.data(), n, n, false};
        } else {
            *out = {nullptr, piece.what->n_tokens, piece.what->n_pos, piece.what->non_causal};
        }
        return 0;
    });
}

int64_t shm_picture_encode(shm_projector * projector, shm_picture * picture) {
    return shm::guarded<int64_t>(-1, [&] {
        size_t n_bytes = 0;
        for (auto & piece : picture->pieces) {
            if (piece.what != nullptr) {
                n_bytes += encode(*projector, *piece.what);
            }
        }
        return static_cast<int64_t>(n_bytes);
    });
}

int32_t shm_picture_reference(shm_projector * projector, llama_context * ctx, const char * before, const char * after,
                              const uint8_t * pixels, int32_t nx, int32_t ny) {
    return shm::guarded<int32_t>(SHM_FAULT, [&] {
        mtmd_context *     own = projector->mtmd.get();
        const mtmd::bitmap image(static_cast<uint32_t>(nx), static_cast<uint32_t>(ny), pixels);
        const auto         chunks = cut(own, std::string(before) + mtmd_get_marker(own) + after, image);
        llama_pos          n_past = 0;
        if (mtmd_helper_eval_chunks(own, ctx, chunks.get(), 0, 0, static_cast<int32_t>(llama_n_batch(ctx)),
                                    /*logits_last=*/true, &n_past) != 0) {
            throw std::runtime_error("llama.cpp's helper failed");
        }
        return n_past;
    });
}
