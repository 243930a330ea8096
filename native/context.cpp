// context: guarded creation and evaluation, and the flag that stops a running decode.
#include "../src/llama-ext.h"
#include "guard.hpp"
#include "json.hpp"
#include "shim.h"

#include <atomic>

struct shm_flag {
    std::atomic<bool> value{false};
};

namespace {

// Polled thousands of times by the compute threads of the CPU backend.
bool flag_is_set(void * data) { return static_cast<const shm_flag *>(data)->value.load(std::memory_order_relaxed); }

}  // namespace

struct shm_flag * shm_flag_new(void) { return new (std::nothrow) shm_flag; }

void shm_flag_free(struct shm_flag * flag) { delete flag; }

void shm_flag_set(struct shm_flag * flag, bool value) { flag->value.store(value, std::memory_order_relaxed); }

bool shm_flag_get(const struct shm_flag * flag) { return flag->value.load(std::memory_order_relaxed); }

struct llama_context * shm_context_new(struct llama_model * model, const struct llama_context_params * params,
                                       struct shm_flag * abort_flag) {
    return shm::guarded(static_cast<llama_context *>(nullptr), [&] {
        llama_context_params own = *params;
        if (abort_flag != nullptr) {
            own.abort_callback      = flag_is_set;
            own.abort_callback_data = abort_flag;
        }
        llama_context * ctx = llama_init_from_model(model, own);
        if (ctx == nullptr) {
            // llama.cpp has caught the exception that our abort callback threw
            if (const char * abort_message = shm::caught_abort()) {
                shm::set_error(shm::fault::aborted, abort_message);
            } else {
                shm::set_error(shm::fault::runtime, "llama.cpp could not create the context");
            }
        }
        return ctx;
    });
}

int32_t shm_decode(struct llama_context * ctx, const struct llama_batch * batch) {
    return shm::guarded(static_cast<int32_t>(SHM_FAULT), [&] { return llama_decode(ctx, *batch); });
}

int32_t shm_encode(struct llama_context * ctx, const struct llama_batch * batch) {
    return shm::guarded(static_cast<int32_t>(SHM_FAULT), [&] { return llama_encode(ctx, *batch); });
}

int shm_set_causal_attn(struct llama_context * ctx, bool value) {
    return shm::guarded(SHM_FAULT, [&] {
        llama_set_causal_attn(ctx, value);
        return 0;
    });
}

int shm_set_embeddings(struct llama_context * ctx, bool value) {
    return shm::guarded(SHM_FAULT, [&] {
        llama_set_embeddings(ctx, value);
        return 0;
    });
}

char * shm_memory_breakdown(const struct llama_context * ctx) {
    return shm::guarded(static_cast<char *>(nullptr), [ctx] {
        std::string json = "[";
        for (const auto & [buffer_type, bytes] : llama_get_memory_breakdown(ctx)) {
            json += json.size() > 1 ? ",\n" : "";
            json += "{\"buffer\":" + shm::json_quote(ggml_backend_buft_name(buffer_type)) +
                    ",\"host\":" + (ggml_backend_buft_is_host(buffer_type) ? "true" : "false") +
                    ",\"model\":" + std::to_string(bytes.model) + ",\"context\":" + std::to_string(bytes.context) +
                    ",\"compute\":" + std::to_string(bytes.compute) + "}";
        }
        return shm::copy_string(json + "]");
    });
}
