// backend: loading of backend modules and what only their proc addresses offer. One thread at a time: ggml does not
// lock its registry.
#include "build-info.h"
#include "ggml/src/ggml-backend-impl.h"
#include "guard.hpp"
#include "json.hpp"
#include "shim.h"

#ifndef _WIN32
#include <dlfcn.h>
#endif

namespace {

// While one lives, what ggml logs is collected, and goes to the log as information: that a driver is absent is no
// error.
class listener {
  public:
    listener() {
        ggml_log_get(&next, &next_data);
        ggml_log_set(on_log, this);
    }

    ~listener() { ggml_log_set(next, next_data); }

    listener(const listener &)             = delete;
    listener & operator=(const listener &) = delete;

    std::string said;

  private:
    static void on_log(ggml_log_level level, const char * text, void * data) {
        auto * self = static_cast<listener *>(data);
        try {
            self->said += text;
        } catch (const std::bad_alloc &) {  // the line is lost, the caller is C
            return;
        }
        const bool alarming = level == GGML_LOG_LEVEL_WARN || level == GGML_LOG_LEVEL_ERROR;
        self->next(alarming ? GGML_LOG_LEVEL_INFO : level, text, self->next_data);
    }

    ggml_log_callback next      = nullptr;
    void *            next_data = nullptr;
};

}  // namespace

ggml_backend_reg_t shm_backend_load(const char * path, char ** said) {
    return shm::guarded(static_cast<ggml_backend_reg_t>(nullptr), [&] {
        ggml_backend_reg_t reg = nullptr;
        if (said == nullptr) {
            reg = ggml_backend_load(path);
        } else {
            *said = nullptr;
            listener ear;
            reg   = ggml_backend_load(path);
            *said = shm::copy_string(ear.said);
        }
        if (reg == nullptr) {
            shm::set_error(shm::fault::runtime, "ggml could not load " + std::string(path));
        }
        return reg;
    });
}

int shm_backend_score(const char * path) {
#ifdef _WIN32
    (void)path;
    return 1;
#else
    void * module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (module == nullptr) {
        return -1;
    }
    const auto score = reinterpret_cast<ggml_backend_score_t>(dlsym(module, "ggml_backend_score"));
    const int  found = score == nullptr ? 1 : score();
    dlclose(module);
    return found;
#endif
}

int shm_rpc_add_server(const char * endpoint) {
    return shm::guarded(SHM_FAULT, [endpoint] {
        ggml_backend_reg_t rpc = ggml_backend_reg_by_name("RPC");
        if (rpc == nullptr) {
            throw std::invalid_argument("this build has no RPC backend (GGML_RPC)");
        }
        using add_server_t = ggml_backend_reg_t (*)(const char *);
        const auto add_server =
            reinterpret_cast<add_server_t>(ggml_backend_reg_get_proc_address(rpc, "ggml_backend_rpc_add_server"));
        if (add_server == nullptr) {
            throw std::runtime_error("the RPC backend has no ggml_backend_rpc_add_server");
        }
        ggml_backend_reg_t server = add_server(endpoint);
        if (server == nullptr) {
            throw std::runtime_error("no RPC server answers at " + std::string(endpoint));
        }
        ggml_backend_register(server);
        return static_cast<int>(ggml_backend_reg_dev_count(server));
    });
}

char * shm_backend_features(ggml_backend_reg_t reg) {
    return shm::guarded(static_cast<char *>(nullptr), [reg] {
        const auto get_features = reinterpret_cast<ggml_backend_get_features_t>(
            ggml_backend_reg_get_proc_address(reg, "ggml_backend_get_features"));
        std::string json = "{";
        if (get_features != nullptr) {
            for (const ggml_backend_feature * f = get_features(reg); f->name != nullptr; f++) {
                json += json.size() > 1 ? "," : "";
                json += shm::json_quote(f->name) + ":" + shm::json_quote(f->value);
            }
        }
        return shm::copy_string(json + "}");
    });
}

char * shm_backend_file(ggml_backend_reg_t reg) {
    return shm::guarded(static_cast<char *>(nullptr), [reg] {
#ifdef _WIN32
        (void)reg;
        return shm::copy_string("");
#else
        // ggml does not keep the path, but a backend's functions lie in its own library
        Dl_info    info{};
        const bool found = dladdr(reinterpret_cast<void *>(reg->iface.get_name), &info) != 0;
        return shm::copy_string(found && info.dli_fname != nullptr ? info.dli_fname : "");
#endif
    });
}

int shm_llama_build(void) { return llama_build_number(); }

const char * shm_llama_commit(void) { return llama_commit(); }
