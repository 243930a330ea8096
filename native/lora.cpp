// lora: guarded loading and use of adapters.
#include "guard.hpp"
#include "shim.h"

#include <vector>

struct llama_adapter_lora * shm_lora_load(struct llama_model * model, const char * path) {
    return shm::guarded(static_cast<llama_adapter_lora *>(nullptr), [&] {
        llama_adapter_lora * adapter = llama_adapter_lora_init(model, path);
        if (adapter == nullptr) {
            const char * abort_message = shm::caught_abort();
            shm::set_error(abort_message != nullptr ? shm::fault::aborted : shm::fault::runtime,
                           abort_message != nullptr ? abort_message : "llama.cpp could not load the adapter");
        }
        return adapter;
    });
}

int shm_set_loras(struct llama_context * ctx, struct llama_adapter_lora ** adapters, size_t n, const float * scales) {
    return shm::guarded(SHM_FAULT, [&] {
        std::vector<float> own(scales, scales + n);  // llama.cpp's parameter is not const
        if (llama_set_adapters_lora(ctx, adapters, n, own.data()) != 0) {
            throw std::runtime_error("llama.cpp refused the adapters");
        }
        return 0;
    });
}
