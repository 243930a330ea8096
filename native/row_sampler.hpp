// row_sampler: chooses a row's next token, as llama.cpp's common_sampler would, from few candidates where that is
// exact.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

#include "bound.hpp"
#include "engine.h"
#include "known_grammar.hpp"
#include "llama-cpp.h"
#include "row_grammar.hpp"
#include "sampling.h"

// Thread: one at a time.
struct shm_sampler {
    // `known` is the grammar of `params`, or null.
    shm_sampler(const llama_model * model, common_params_sampling params, const shm::known_grammar * known);

    // Chooses from a row of logits; does not accept. LLAMA_TOKEN_NULL: the grammar allows no token that the logits do.
    // `scratch` is the calling thread's, its content does not matter.
    llama_token sample(const float * logits, std::vector<llama_token_data> & scratch);

    // Tells the chain, the grammar and the reasoning budget what was generated.
    void accept(llama_token token);

    // Tells the chain the end of the prompt, for penalties and DRY.
    void prime(const llama_token * tokens, size_t n);

    uint32_t seed() const { return common_sampler_get_seed(chain_.get()); }

    bool has_grammar() const { return grammar_ != nullptr; }

    bool grammar_may_end() const { return grammar_ != nullptr && grammar_->may_end(); }

    bool is_preserved(llama_token token) const { return preserved_.count(token) > 0; }

  private:
    void        make_grammar(const llama_vocab * vocab, const shm::known_grammar * known);
    void        make_budget(const llama_vocab * vocab);
    bool        grammar_applies() const;
    bool        grammar_allows(llama_token token);
    void        replay_end();
    void        remember(llama_token token);
    bool        high(const float * logits, std::vector<llama_token_data> & out) const;
    void        few(const float * logits, std::vector<llama_token_data> & out) const;
    llama_token choose(llama_token_data_array & candidates);

    common_params_sampling                   params_;
    int32_t                                  n_vocab_;
    common_sampler_ptr                       chain_;  // without grammar and budget, which are ours below
    const llama_sampler *                    top_p_;  // the chain's, null if it does nothing
    std::unique_ptr<shm::row_grammar>        grammar_;
    llama_sampler_ptr                        budget_;
    std::vector<llama_token>                 prefill_;    // the generation prompt, which the grammar has passed
    std::set<llama_token>                    preserved_;  // control tokens whose text the output parser needs
    shm::bound                               bound_;      // what the chain can choose from
    size_t                                   window_;     // how many last tokens change logits
    std::deque<llama_token>                  recent_;
    std::unordered_map<llama_token, int32_t> touched_;  // tokens whose logits the chain changes, with counts
};
