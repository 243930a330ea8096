// trial: small computations on a device, held against the same in double precision. What a driver or a CPU variant gets
// wrong shows here, in a process that may die of it. Each kernel reads its weights in a layout of its own, so each
// family of quantisations has one try, in each kind of buffer that weights may lie in: the CPU repacks them for kernels
// of their own (AMX's among them), which plain buffers never reach.
#include "guard.hpp"
#include "json.hpp"
#include "shim.h"

#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

namespace {

using floats = std::vector<float>;

constexpr double MAX_ERROR = 5e-3;  // of the mean square; f16 accumulators and q8 activations stay ten times below it

struct context_free {
    void operator()(ggml_context * ctx) const { ggml_free(ctx); }
};

struct buffer_free {
    void operator()(ggml_backend_buffer_t buffer) const { ggml_backend_buffer_free(buffer); }
};

struct backend_free {
    void operator()(ggml_backend_t backend) const { ggml_backend_free(backend); }
};

using context_ptr = std::unique_ptr<ggml_context, context_free>;
using buffer_ptr  = std::unique_ptr<ggml_backend_buffer, buffer_free>;
using backend_ptr = std::unique_ptr<ggml_backend, backend_free>;

floats numbers(int64_t n, uint32_t seed) {
    floats out(static_cast<size_t>(n));
    for (float & x : out) {
        seed = seed * 1664525U + 1013904223U;
        x    = static_cast<float>(seed >> 8) / static_cast<float>(1U << 23) - 1.0F;
    }
    return out;
}

// What the device reads back from `values` in `type`, and the bytes that it is given.
floats stored_as(ggml_type type, const floats & values, int64_t n_per_row, std::vector<uint8_t> & bytes) {
    if (type == GGML_TYPE_F32) {
        bytes.resize(values.size() * sizeof(float));
        std::memcpy(bytes.data(), values.data(), bytes.size());
        return values;
    }
    const auto n_rows = static_cast<int64_t>(values.size()) / n_per_row;
    bytes.resize(static_cast<size_t>(n_rows) * ggml_row_size(type, n_per_row));
    ggml_quantize_chunk(type, values.data(), bytes.data(), 0, n_rows, n_per_row, nullptr);
    floats out(values.size());
    ggml_get_type_traits(type)->to_float(bytes.data(), out.data(), static_cast<int64_t>(out.size()));
    return out;
}

// One graph of one operation on one device; its weights in a buffer of their own.
struct attempt {
    explicit attempt(ggml_backend_t backend) : backend(backend) {
        const size_t size = 16 * ggml_tensor_overhead() + ggml_graph_overhead();
        weights.reset(ggml_init({size, nullptr, true}));
        ctx.reset(ggml_init({size, nullptr, true}));
    }

    // Empty when the device cannot do it: then llama.cpp does not ask for it either.
    floats run(ggml_tensor * result, ggml_backend_buffer_type_t buft, const std::function<void()> & fill) {
        buffers[0].reset(ggml_backend_alloc_ctx_tensors_from_buft(weights.get(), buft));
        if (!buffers[0]) {
            throw std::runtime_error("no memory for a few KiB");
        }
        if (!ggml_backend_supports_op(backend, result)) {
            return {};
        }
        ggml_cgraph * graph = ggml_new_graph(ctx.get());
        ggml_build_forward_expand(graph, result);
        buffers[1].reset(ggml_backend_alloc_ctx_tensors(ctx.get(), backend));
        if (!buffers[1]) {
            throw std::runtime_error("no memory for a few KiB");
        }
        fill();
        if (ggml_backend_graph_compute(backend, graph) != GGML_STATUS_SUCCESS) {
            throw std::runtime_error(std::string(ggml_op_name(result->op)) + " failed");
        }
        floats out(static_cast<size_t>(ggml_nelements(result)));
        ggml_backend_tensor_get(result, out.data(), 0, out.size() * sizeof(float));
        return out;
    }

    ggml_backend_t            backend;
    context_ptr               weights;
    context_ptr               ctx;
    std::array<buffer_ptr, 2> buffers;
};

void compare(const std::string & what, const floats & got, const floats & expected) {
    double error = 0.0;
    double norm  = 0.0;
    for (size_t i = 0; i < expected.size(); i++) {
        const double off = static_cast<double>(got[i]) - expected[i];
        error += off * off;
        norm += static_cast<double>(expected[i]) * expected[i];
    }
    if (!(error <= MAX_ERROR * norm)) {  // a NaN is an error too
        throw std::runtime_error(what + " is wrong by " + std::to_string(error / norm) + " of the mean square");
    }
}

// Returns whether the device can do it at all.
bool try_mul_mat(ggml_backend_t backend, ggml_backend_buffer_type_t buft, ggml_type type, int64_t n_tokens) {
    constexpr int64_t    k = 256;
    constexpr int64_t    m = 64;
    std::vector<uint8_t> bytes;
    const floats         weights = stored_as(type, numbers(k * m, 1), k, bytes);
    const floats         x       = numbers(k * n_tokens, 2);

    attempt       a(backend);
    ggml_tensor * w   = ggml_new_tensor_2d(a.weights.get(), type, k, m);
    ggml_tensor * in  = ggml_new_tensor_2d(a.ctx.get(), GGML_TYPE_F32, k, n_tokens);
    const floats  got = a.run(ggml_mul_mat(a.ctx.get(), w, in), buft, [&] {
        ggml_backend_tensor_set(w, bytes.data(), 0, bytes.size());
        ggml_backend_tensor_set(in, x.data(), 0, x.size() * sizeof(float));
    });
    if (got.empty()) {
        return false;
    }
    floats expected(got.size());
    for (int64_t t = 0; t < n_tokens; t++) {
        for (int64_t row = 0; row < m; row++) {
            double sum = 0.0;
            for (int64_t i = 0; i < k; i++) {
                sum += static_cast<double>(weights[row * k + i]) * x[t * k + i];
            }
            expected[t * m + row] = static_cast<float>(sum);
        }
    }
    const std::string what = std::string("a matrix product with ") + ggml_type_name(type) + " weights";
    compare(what + " in a buffer of " + ggml_backend_buft_name(buft), got, expected);
    return true;
}

// What llama.cpp puts weights into: the device's own buffers, and on a CPU those whose contents are repacked.
std::vector<ggml_backend_buffer_type_t> weight_buffers(ggml_backend_dev_t device) {
    std::vector<ggml_backend_buffer_type_t> found{ggml_backend_dev_buffer_type(device)};
    const auto                              extra = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(
        ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts"));
    for (auto * buft = extra ? extra(device) : nullptr; buft && *buft; buft++) {
        found.push_back(*buft);
    }
    return found;
}

// Returns the names of the buffers with weights in them that were computed with.
std::vector<std::string> try_compute(ggml_backend_t backend) {
    // a GPU driver may take seconds to compile each of these, and fails at all of them or none
    ggml_backend_dev_t           device = ggml_backend_get_device(backend);
    const bool                   cpu    = ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU;
    const std::vector<ggml_type> types =
        cpu ? std::vector<ggml_type>{GGML_TYPE_F32,  GGML_TYPE_F16,  GGML_TYPE_BF16, GGML_TYPE_Q4_0,   GGML_TYPE_Q5_1,
                                     GGML_TYPE_Q8_0, GGML_TYPE_Q4_K, GGML_TYPE_Q6_K, GGML_TYPE_IQ4_XS, GGML_TYPE_MXFP4}
            : std::vector<ggml_type>{GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_K};
    std::vector<std::string> tried;
    for (ggml_backend_buffer_type_t buft : weight_buffers(device)) {
        bool any = false;
        for (const ggml_type type : types) {
            for (const int64_t n_tokens : {1, 40}) {
                any |= try_mul_mat(backend, buft, type, n_tokens);
            }
        }
        if (any) {
            tried.emplace_back(ggml_backend_buft_name(buft));
        }
    }
    return tried;
}

}  // namespace

char * shm_backend_trial(ggml_backend_reg_t reg) {
    return shm::guarded(static_cast<char *>(nullptr), [&] {
        std::string json = "[";
        for (size_t i = 0; i < ggml_backend_reg_dev_count(reg); i++) {
            ggml_backend_dev_t device = ggml_backend_reg_dev_get(reg, i);
            const std::string  name   = ggml_backend_dev_name(device);
            const backend_ptr  backend(ggml_backend_dev_init(device, nullptr));
            std::string        problem;
            std::string        buffers;
            try {
                if (!backend) {
                    throw std::runtime_error("it does not start");
                }
                for (const std::string & buffer : try_compute(backend.get())) {
                    buffers += (buffers.empty() ? "" : ",") + shm::json_quote(buffer);
                }
            } catch (const std::exception & e) {
                problem = e.what();
            }
            json += json.size() > 1 ? "," : "";
            json += "{\"device\":" + shm::json_quote(name) + ",\"problem\":" + shm::json_quote(problem) +
                    ",\"buffers\":[" + buffers + "]}";
        }
        return shm::copy_string(json + "]");
    });
}
