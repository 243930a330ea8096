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

ggml_backend_reg_t shm_backend_load(const char * path) {
    return shm::guarded(static_cast<ggml_backend_reg_t>(nullptr), [path] {
        ggml_backend_reg_t reg = ggml_backend_load(path);
        if (reg == nullptr) {
            shm::set_error(shm::fault::runtime, "ggml could not load " + std::string(path));
        }
        return reg;
    });
}

int shm_backend_load_dir(const char * dir) {
    return shm::guarded(SHM_FAULT, [dir] {
        ggml_backend_load_all_from_path(dir);
        return 0;
    });
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
