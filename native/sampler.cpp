// sampler: guarded calls on single llama.cpp samplers and chains (a row of the engine has its own: row_sampler.cpp).
#include "grammar.hpp"
#include "guard.hpp"
#include "shim.h"

#include <vector>

namespace {

llama_sampler * parsed(llama_sampler * smpl) {
    if (smpl == nullptr) {
        // what check_grammar() cannot see: left recursion
        throw std::invalid_argument("the grammar cannot be used");
    }
    return smpl;
}

std::vector<llama_token_data> candidates(const float * logits, int32_t n) {
    std::vector<llama_token_data> all(static_cast<size_t>(n));
    for (int32_t i = 0; i < n; i++) {
        all[static_cast<size_t>(i)] = {i, logits[i], 0.0F};
    }
    return all;
}

}  // namespace

struct llama_sampler * shm_smpl_grammar(const struct llama_vocab * vocab, const char * grammar, const char * root) {
    return shm::guarded(static_cast<llama_sampler *>(nullptr), [&] {
        shm::check_grammar(vocab, grammar, root);
        return parsed(llama_sampler_init_grammar(vocab, grammar, root));
    });
}

struct llama_sampler * shm_smpl_grammar_lazy(const struct llama_vocab * vocab, const char * grammar, const char * root,
                                             const char ** patterns, size_t n_patterns, const llama_token * tokens,
                                             size_t n_tokens) {
    return shm::guarded(static_cast<llama_sampler *>(nullptr), [&] {
        shm::check_grammar(vocab, grammar, root);
        for (size_t i = 0; i < n_patterns; i++) {
            if (shm_regex_check(patterns[i]) != 0) {
                throw std::invalid_argument("trigger pattern '" + std::string(patterns[i]) +
                                            "' is no regular expression: " + shm::last_error());
            }
        }
        return parsed(
            llama_sampler_init_grammar_lazy_patterns(vocab, grammar, root, patterns, n_patterns, tokens, n_tokens));
    });
}

struct llama_sampler * shm_smpl_dry(const struct llama_vocab * vocab, float multiplier, float base,
                                    int32_t allowed_length, int32_t last_n, const char ** breakers, size_t n) {
    return shm::guarded(static_cast<llama_sampler *>(nullptr), [&] {
        return llama_sampler_init_dry(vocab, multiplier, base, allowed_length, last_n, breakers, n);
    });
}

int32_t shm_smpl_apply(struct llama_sampler * smpl, const float * logits, int32_t n, llama_token_data * out,
                       int64_t * selected) {
    return shm::guarded(static_cast<int32_t>(SHM_FAULT), [&] {
        std::vector<llama_token_data> all   = candidates(logits, n);
        llama_token_data_array        array = {all.data(), all.size(), -1, false};
        llama_sampler_apply(smpl, &array);
        std::copy(array.data, array.data + array.size, out);
        *selected = array.selected;
        return static_cast<int32_t>(array.size);
    });
}

llama_token shm_smpl_sample(struct llama_sampler * smpl, struct llama_context * ctx, int32_t idx) {
    return shm::guarded(static_cast<llama_token>(SHM_FAULT), [&] {
        const float * logits = llama_get_logits_ith(ctx, idx);
        if (logits == nullptr) {
            throw std::invalid_argument("the last batch asked for no logits at index " + std::to_string(idx));
        }
        const llama_vocab *           vocab = llama_model_get_vocab(llama_get_model(ctx));
        std::vector<llama_token_data> all   = candidates(logits, llama_vocab_n_tokens(vocab));
        llama_token_data_array        array = {all.data(), all.size(), -1, false};
        llama_sampler_apply(smpl, &array);
        if (array.selected < 0 || array.selected >= static_cast<int64_t>(array.size)) {
            throw std::invalid_argument("nothing selects a token: end the chain with greedy, dist or mirostat");
        }
        const llama_token token = array.data[array.selected].id;
        llama_sampler_accept(smpl, token);
        return token;
    });
}

int shm_smpl_accept(struct llama_sampler * smpl, llama_token token) {
    return shm::guarded(SHM_FAULT, [&] {
        llama_sampler_accept(smpl, token);
        return 0;
    });
}

int shm_smpl_reset(struct llama_sampler * smpl) {
    return shm::guarded(SHM_FAULT, [&] {
        llama_sampler_reset(smpl);
        return 0;
    });
}

struct llama_sampler * shm_smpl_clone(const struct llama_sampler * smpl) {
    return shm::guarded(static_cast<llama_sampler *>(nullptr), [&] { return llama_sampler_clone(smpl); });
}
