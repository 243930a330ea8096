/* native/media.h */
struct shm_projector;
struct shm_picture;
struct shm_projector_params {
    const char *device;
    int32_t n_threads;
    int32_t image_min_tokens;
    int32_t image_max_tokens;
};
struct shm_piece {
    const llama_token *tokens;
    int32_t n_tokens;
    int32_t n_pos;
    bool whole;
};
struct shm_projector *shm_projector_new(const char *, const struct llama_model *, const struct shm_projector_params *);
void shm_projector_free(struct shm_projector *);
bool shm_projector_sees(const struct shm_projector *);
int64_t shm_projector_size(const char *, const struct shm_projector_params *);
struct shm_picture *shm_picture_new(const struct shm_projector *, const uint8_t *, int32_t, int32_t);
void shm_picture_free(struct shm_picture *);
int32_t shm_picture_n_pieces(const struct shm_picture *);
int shm_picture_piece(const struct shm_picture *, int32_t, struct shm_piece *);
int64_t shm_picture_encode(struct shm_projector *, struct shm_picture *);
int32_t shm_picture_reference(struct shm_projector *, struct llama_context *, const char *, const char *, const uint8_t *, int32_t, int32_t);
