/* media: images as the model reads them, by way of a projector (llama.cpp's mtmd).
 *
 * A picture is cut into pieces: tokens, and embeddings that stand in a prompt like so many tokens. Faults are reported
 * as in shim.h.
 */
#ifndef SHIMMY_MEDIA_H
#define SHIMMY_MEDIA_H

#include "shim.h"

#ifdef __cplusplus
extern "C" {
#endif

struct shm_projector;
struct shm_picture;

struct shm_projector_params {
    const char * device; /* ggml's name of the device that computes; NULL: the CPU */
    int32_t      n_threads;
    int32_t      image_min_tokens; /* of an image whose size decides; -1: the projector's own */
    int32_t      image_max_tokens;
};

/* Loads the projector of a model, which outlives it. NULL on a fault: not a projector, or another model's. */
SHM_API struct shm_projector * shm_projector_new(const char * path, const struct llama_model * model,
                                                 const struct shm_projector_params * params);
SHM_API void                   shm_projector_free(struct shm_projector * projector);

/* Whether it takes images: others take sound. Any thread. */
SHM_API bool shm_projector_sees(const struct shm_projector * projector);

/* What a projector takes: weights and buffers, in bytes, without loading it. -1 on a fault. */
SHM_API int64_t shm_projector_size(const char * path, const struct shm_projector_params * params);

/* A run of a prompt that a picture becomes: tokens, or embeddings (tokens NULL), which are `whole`: fed together. */
struct shm_piece {
    const llama_token * tokens;
    int32_t             n_tokens; /* cells that it takes */
    int32_t             n_pos;    /* positions that it takes: fewer than cells where positions have two dimensions */
    bool                whole;    /* every embedding sees all others, so one ubatch must hold them */
};

/* Cuts an image of nx * ny pixels, three bytes (RGB) each, row by row. Any thread. NULL on a fault. */
SHM_API struct shm_picture * shm_picture_new(const struct shm_projector * projector, const uint8_t * pixels, int32_t nx,
                                             int32_t ny);
SHM_API void                 shm_picture_free(struct shm_picture * picture);
SHM_API int32_t              shm_picture_n_pieces(const struct shm_picture * picture);

/* Valid as long as the picture. 0, or SHM_FAULT. */
SHM_API int shm_picture_piece(const struct shm_picture * picture, int32_t i, struct shm_piece * piece);

/* Computes the embeddings: before the picture is any row's, and for one picture of a projector at a time.
 * The bytes that they take, or -1 on a fault. */
SHM_API int64_t shm_picture_encode(struct shm_projector * projector, struct shm_picture * picture);

/* What llama.cpp's own helper makes of a text with a picture in it, for tests: feeds the text before, the picture and
 * the text after into sequence 0 of an empty context. The positions that were taken, or SHM_FAULT. */
SHM_API int32_t shm_picture_reference(struct shm_projector * projector, struct llama_context * ctx, const char * before,
                                      const char * after, const uint8_t * pixels, int32_t nx, int32_t ny);

#ifdef __cplusplus
}
#endif

#endif
