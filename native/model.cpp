// model: guarded loading with progress and cancellation, and what a loaded model says about its tensors.
#include "guard.hpp"
#include "json.hpp"
#include "shim.h"

#include <atomic>
#include <regex>
#include <utility>
#include <vector>

// Not in llama.cpp's public headers, but exported for its own tests; the one way to learn where tensors were put.
const std::vector<std::pair<std::string, ggml_tensor *>> & llama_internal_get_tensor_map(const llama_model * model);

struct shm_load {
    std::atomic<bool>  cancelled{false};
    std::atomic<float> progress{0.0F};
};

namespace {

struct progress_relay {
    shm_load *              load;
    llama_progress_callback next;
    void *                  next_data;
    float                   reported = -1.0F;
};

// Called by llama.cpp on the loading thread, once for each tensor; false gives the load up.
bool on_progress(float progress, void * data) {
    auto * relay = static_cast<progress_relay *>(data);
    if (relay->load != nullptr) {
        relay->load->progress.store(progress, std::memory_order_relaxed);
        if (relay->load->cancelled.load(std::memory_order_relaxed)) {
            return false;
        }
    }
    if (relay->next == nullptr || (progress < 1.0F && progress - relay->reported < 0.01F)) {
        return true;
    }
    relay->reported = progress;
    return relay->next(progress, relay->next_data);
}

// The loader takes these types, but no kernel does: computing with them aborts, on threads that no guard covers.
const ggml_tensor * not_computable(const llama_model * model) {
    for (const auto & [name, tensor] : llama_internal_get_tensor_map(model)) {
        switch (tensor->type) {
            case GGML_TYPE_F64:
            case GGML_TYPE_I8:
            case GGML_TYPE_I16:
            case GGML_TYPE_I64: return tensor;
            default: break;
        }
    }
    return nullptr;
}

}  // namespace

struct shm_load * shm_load_new(void) { return new (std::nothrow) shm_load; }

void shm_load_free(struct shm_load * load) { delete load; }

void shm_load_cancel(struct shm_load * load) { load->cancelled.store(true, std::memory_order_relaxed); }

bool shm_load_cancelled(const struct shm_load * load) { return load->cancelled.load(std::memory_order_relaxed); }

float shm_load_progress(const struct shm_load * load) { return load->progress.load(std::memory_order_relaxed); }

struct llama_model * shm_model_load(const char * const * paths, size_t n_paths,
                                    const struct llama_model_params * params, struct shm_load * load) {
    return shm::guarded(static_cast<llama_model *>(nullptr), [&]() -> llama_model * {
        if (n_paths == 0) {
            throw std::invalid_argument("no path given");
        }
        if (load != nullptr && shm_load_cancelled(load)) {
            return nullptr;
        }
        progress_relay     relay{load, params->progress_callback, params->progress_callback_user_data};
        llama_model_params own          = *params;
        own.progress_callback           = on_progress;
        own.progress_callback_user_data = &relay;

        llama_model * model = nullptr;
        if (n_paths == 1) {
            model = llama_model_load_from_file(paths[0], own);
        } else {
            std::vector<const char *> shards(paths, paths + n_paths);
            model = llama_model_load_from_splits(shards.data(), shards.size(), own);
        }
        if (model == nullptr) {
            // llama.cpp has caught the exception that our abort callback threw
            if (const char * abort_message = shm::caught_abort()) {
                shm::set_error(shm::fault::aborted, abort_message);
            } else {
                shm::set_error(shm::fault::runtime, "llama.cpp could not load the model");
            }
        } else if (const ggml_tensor * tensor = not_computable(model)) {
            shm::set_error(shm::fault::runtime, std::string("tensor ") + tensor->name + " has type " +
                                                    ggml_type_name(tensor->type) + ", which cannot be computed with");
            llama_model_free(model);
            return nullptr;
        }
        return model;
    });
}

char * shm_model_tensors(const struct llama_model * model) {
    return shm::guarded(static_cast<char *>(nullptr), [model] {
        std::string json = "[";
        for (const auto & [name, tensor] : llama_internal_get_tensor_map(model)) {
            const char * buffer = tensor->buffer == nullptr ? "" : ggml_backend_buffer_name(tensor->buffer);
            json += json.size() > 1 ? ",\n" : "";
            json +=
                "{\"name\":" + shm::json_quote(name) + ",\"type\":" + shm::json_quote(ggml_type_name(tensor->type)) +
                ",\"bytes\":" + std::to_string(ggml_nbytes(tensor)) + ",\"buffer\":" + shm::json_quote(buffer) + "}";
        }
        return shm::copy_string(json + "]");
    });
}

int shm_regex_check(const char * pattern) {
    return shm::guarded(SHM_FAULT, [pattern] {
        try {
            const std::regex compiled(pattern);
        } catch (const std::regex_error & e) {
            throw std::invalid_argument(e.what());
        }
        return 0;
    });
}
