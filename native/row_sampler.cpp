#include "row_sampler.hpp"

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "guard.hpp"
#include "prefill.hpp"
#include "reasoning-budget.h"
#include "sampling_params.hpp"
#include "topk.hpp"
#include "topp.hpp"

namespace {

// Candidates from which on our own top-p is the faster one.
constexpr size_t many = 1024;

// A step of a chain, null if there is none of that name.
const llama_sampler * step_named(llama_sampler * chain, const char * name) {
    for (int32_t i = 0; i < llama_sampler_chain_n(chain); i++) {
        const llama_sampler * step = llama_sampler_chain_get(chain, i);
        if (std::strcmp(llama_sampler_name(step), name) == 0) {
            return step;
        }
    }
    return nullptr;
}

common_params_sampling without_grammar(common_params_sampling params) {
    params.grammar = {};
    params.grammar_triggers.clear();
    params.generation_prompt.clear();
    params.reasoning_budget_start.clear();
    return params;
}

}  // namespace

shm_sampler::shm_sampler(const llama_model * model, common_params_sampling params, const shm::known_grammar * known)
    : params_(std::move(params)), preserved_(params_.preserved_tokens) {
    const llama_vocab *    vocab = llama_model_get_vocab(model);
    common_params_sampling plain = without_grammar(params_);
    n_vocab_                     = llama_vocab_n_tokens(vocab);
    chain_.reset(common_sampler_init(model, plain));
    if (!chain_) {
        throw std::runtime_error("the sampler could not be made");
    }
    prefill_ = shm::prefill_of(vocab, params_.generation_prompt);
    make_grammar(vocab, known);
    make_budget(vocab);

    top_p_               = params_.top_p < 1.0f ? step_named(common_sampler_get(chain_.get()), "top-p") : nullptr;
    bound_               = shm::bound_of(params_);
    window_              = shm::window_of(params_);
    int32_t n_suppressed = 0;
    for (const auto & bias : params_.logit_bias) {
        touched_[bias.token]++;
    }
    const llama_token * suppressed = llama_vocab_get_suppress_tokens(vocab, &n_suppressed);
    for (int32_t i = 0; i < n_suppressed; i++) {
        touched_[suppressed[i]]++;
    }
}

void shm_sampler::make_grammar(const llama_vocab * vocab, const shm::known_grammar * known) {
    const std::string & text = common_grammar_value(params_.grammar);
    if (text.empty()) {
        return;
    }
    auto compiled =
        known != nullptr ? known->compiled(vocab) : std::make_shared<const shm::compiled_grammar>(vocab, text);
    grammar_ = std::make_unique<shm::row_grammar>(std::move(compiled), params_);
    if (!params_.grammar_lazy && common_grammar_needs_prefill(params_.grammar)) {
        for (const llama_token token : prefill_) {
            grammar_->accept(token);
        }
    }
}

// A lazy grammar needs it too: inside a reasoning block its triggers do not count.
void shm_sampler::make_budget(const llama_vocab * vocab) {
    const bool wanted = params_.grammar_lazy || params_.reasoning_budget_tokens >= 0 || params_.reasoning_control;
    if (params_.reasoning_budget_start.empty() || params_.reasoning_budget_end.empty() || !wanted) {
        return;
    }
    const int32_t budget = params_.reasoning_budget_tokens < 0 ? INT_MAX : params_.reasoning_budget_tokens;
    const auto    make   = [&](int32_t n) {
        budget_.reset(common_reasoning_budget_init(vocab, {params_.reasoning_budget_start},
                                                   params_.reasoning_budget_end, params_.reasoning_budget_forced, n));
    };
    make(INT_MAX);
    for (const llama_token token : prefill_) {
        llama_sampler_accept(budget_.get(), token);
    }
    const bool open = common_reasoning_budget_get_state(budget_.get()) == REASONING_BUDGET_COUNTING;
    make(budget);
    for (const llama_token token : prefill_) {
        // what the template puts after the start tag is no part of the end that is forced
        if (open && common_reasoning_budget_get_state(budget_.get()) == REASONING_BUDGET_FORCING) {
            break;
        }
        llama_sampler_accept(budget_.get(), token);
    }
}

bool shm_sampler::grammar_applies() const {
    if (!grammar_ || !budget_ || !params_.grammar_lazy) {
        return grammar_ != nullptr;
    }
    const auto state = common_reasoning_budget_get_state(budget_.get());
    return state == REASONING_BUDGET_IDLE || state == REASONING_BUDGET_DONE;
}

bool shm_sampler::grammar_allows(llama_token token) {
    llama_token_data       one  = {token, 1.0f, 0.0f};
    llama_token_data_array list = {&one, 1, -1, false};
    grammar_->apply(list);
    return one.logit != -INFINITY;
}

// The highest of the row, false if the whole row has to be looked at.
bool shm_sampler::high(const float * logits, std::vector<llama_token_data> & out) const {
    if (bound_.depth > 0.0f) {
        const auto untouched = [&](llama_token token) { return touched_.count(token) == 0; };
        return shm::within(logits, n_vocab_, bound_.depth, untouched, out);
    }
    const auto n_touched = static_cast<int32_t>(std::min<size_t>(touched_.size(), INT_MAX / 2));
    return bound_.n > 0 && bound_.n <= n_vocab_ && shm::top_k(logits, n_vocab_, bound_.n + n_touched, out);
}

// The highest of the row and every token that the chain may lift above them.
void shm_sampler::few(const float * logits, std::vector<llama_token_data> & out) const {
    out.clear();
    if (!high(logits, out)) {
        shm::all_logits(logits, n_vocab_, out);
        return;
    }
    const size_t n_high = out.size();
    const auto   by_id  = [](const llama_token_data & data, llama_token id) { return data.id < id; };
    for (const auto & [token, _] : touched_) {
        const auto end = out.begin() + static_cast<std::ptrdiff_t>(n_high);
        const auto at  = std::lower_bound(out.begin(), end, token, by_id);
        if (at == end || at->id != token) {
            out.push_back({token, logits[token], 0.0f});
        }
    }
    if (bound_.depth > 0.0f && out.size() > n_high) {
        // nothing sorts them before one is drawn
        std::sort(out.begin(), out.end(),
                  [](const llama_token_data & a, const llama_token_data & b) { return a.id < b.id; });
    }
}

llama_token shm_sampler::choose(llama_token_data_array & candidates) {
    static thread_local std::vector<llama_token_data> sorted;

    llama_sampler * chain = common_sampler_get(chain_.get());
    for (int32_t i = 0; i < llama_sampler_chain_n(chain); i++) {
        llama_sampler * step = llama_sampler_chain_get(chain, i);
        if (step == top_p_ && !candidates.sorted && candidates.size > many) {
            shm::top_p(candidates, params_.top_p, static_cast<size_t>(std::max(params_.min_keep, 0)), sorted);
        } else if (step->iface->apply != nullptr) {
            llama_sampler_apply(step, &candidates);
        }
    }
    if (candidates.selected < 0 || candidates.selected >= static_cast<int64_t>(candidates.size)) {
        throw std::runtime_error("the sampler chose no token: check its settings");
    }
    return candidates.data[candidates.selected].id;
}

llama_token shm_sampler::sample(const float * logits, std::vector<llama_token_data> & scratch) {
    const bool forcing = budget_ && common_reasoning_budget_get_state(budget_.get()) != REASONING_BUDGET_IDLE &&
                         common_reasoning_budget_get_state(budget_.get()) != REASONING_BUDGET_DONE;
    if (forcing) {
        scratch.clear();
        shm::all_logits(logits, n_vocab_, scratch);
    } else {
        few(logits, scratch);
    }
    llama_token_data_array candidates = {scratch.data(), scratch.size(), -1, false};
    if (forcing) {
        llama_sampler_apply(budget_.get(), &candidates);
    }
    const llama_token token = choose(candidates);
    if (!grammar_applies() || grammar_allows(token)) {
        return token;
    }
    // Rejected: the grammar first, then the chain, both over the whole vocabulary, as common_sampler does.
    scratch.clear();
    shm::all_logits(logits, n_vocab_, scratch);
    candidates = {scratch.data(), scratch.size(), -1, false};
    if (budget_) {
        llama_sampler_apply(budget_.get(), &candidates);
    }
    grammar_->apply(candidates);
    const auto possible = [](const llama_token_data & data) { return data.logit > -INFINITY; };
    if (!std::any_of(scratch.begin(), scratch.end(), possible)) {
        return LLAMA_TOKEN_NULL;
    }
    // the chain bans tokens too: when it has banned all that the grammar allows, it chooses any
    const llama_token allowed = choose(candidates);
    return grammar_allows(allowed) ? allowed : LLAMA_TOKEN_NULL;
}

void shm_sampler::remember(llama_token token) {
    if (window_ == 0) {
        return;
    }
    recent_.push_back(token);
    touched_[token]++;
    if (recent_.size() > window_) {
        const auto oldest = touched_.find(recent_.front());
        if (--oldest->second == 0) {
            touched_.erase(oldest);
        }
        recent_.pop_front();
    }
}

// The end of the reasoning may hold the beginning of a trigger, which the grammar has not seen.
void shm_sampler::replay_end() {
    if (common_reasoning_budget_get_state(budget_.get()) != REASONING_BUDGET_DONE) {
        return;
    }
    if (const llama_tokens * end = common_reasoning_budget_get_end_match(budget_.get())) {
        for (const llama_token token : *end) {
            grammar_->accept(token);
        }
    }
}

void shm_sampler::accept(llama_token token) {
    const bool to_grammar = grammar_applies();  // asked before the budget moves on
    if (budget_) {
        llama_sampler_accept(budget_.get(), token);
        if (grammar_ && !to_grammar) {
            replay_end();
        }
    }
    if (to_grammar) {
        grammar_->accept(token);
    }
    common_sampler_accept(chain_.get(), token, /*is_generated=*/true);
    remember(token);
}

void shm_sampler::prime(const llama_token * tokens, size_t n) {
    const auto   longest = std::max({params_.penalty_last_n, params_.dry_penalty_last_n, params_.n_prev});
    const size_t first   = n > static_cast<size_t>(longest) ? n - static_cast<size_t>(longest) : 0;
    for (size_t i = first; i < n; i++) {
        common_sampler_accept(chain_.get(), tokens[i], /*is_generated=*/false);
        remember(tokens[i]);
    }
}

shm_sampler * shm_sampler_new(const llama_model * model, const shm_tokens * ends, int32_t n_ctx, const char * json,
                              size_t n_json, const shm_grammar * grammar) {
    return shm::guarded<shm_sampler *>(nullptr, [&] {
        const shm::known_grammar * known = grammar == nullptr ? nullptr : grammar->grammar.get();
        return new shm_sampler(model, shm::read_sampling_params(model, *ends, n_ctx, std::string(json, n_json), known),
                               known);
    });
}

void shm_sampler_free(shm_sampler * sampler) { delete sampler; }

uint32_t shm_sampler_seed(const shm_sampler * sampler) { return sampler->seed(); }

llama_token shm_sampler_draw(shm_sampler * sampler, const float * logits) {
    return shm::guarded<llama_token>(SHM_FAULT, [&] {
        static thread_local std::vector<llama_token_data> scratch;
        const llama_token                                 token = sampler->sample(logits, scratch);
        if (token == LLAMA_TOKEN_NULL) {
            throw std::runtime_error("the grammar allows no token here");
        }
        sampler->accept(token);
        return token;
    });
}

int shm_sampler_prime(shm_sampler * sampler, const llama_token * tokens, int32_t n) {
    return shm::guarded<int>(SHM_FAULT, [&] {
        sampler->prime(tokens, static_cast<size_t>(std::max(n, 0)));
        return 0;
    });
}
