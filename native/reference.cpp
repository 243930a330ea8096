// reference: llama.cpp's own common_sampler behind the C ABI, for the tests that hold shm_sampler against it.
#include "engine.h"
#include "grammar.hpp"
#include "guard.hpp"
#include "sampling.h"
#include "sampling_params.hpp"

struct shm_reference {
    common_sampler_ptr impl;
};

shm_reference * shm_reference_new(const llama_model * model, const shm_tokens * ends, int32_t n_ctx, const char * json,
                                  size_t n_json) {
    return shm::guarded<shm_reference *>(nullptr, [&] {
        common_params_sampling params = shm::read_sampling_params(model, *ends, n_ctx, std::string(json, n_json));
        return new shm_reference{common_sampler_ptr(common_sampler_init(model, params))};
    });
}

void shm_reference_free(shm_reference * reference) { delete reference; }

llama_token shm_reference_draw(shm_reference * reference, llama_context * ctx, int32_t idx) {
    return shm::guarded<llama_token>(SHM_FAULT, [&] {
        const llama_token token = common_sampler_sample(reference->impl.get(), ctx, idx);
        common_sampler_accept(reference->impl.get(), token, /*is_generated=*/true);
        return token;
    });
}

int shm_reference_prime(shm_reference * reference, const llama_token * tokens, int32_t n) {
    return shm::guarded<int>(SHM_FAULT, [&] {
        for (int32_t i = 0; i < n; i++) {
            common_sampler_accept(reference->impl.get(), tokens[i], /*is_generated=*/false);
        }
        return 0;
    });
}
