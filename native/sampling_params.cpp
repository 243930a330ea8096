#include "sampling_params.hpp"

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <vector>

#include "grammar.hpp"
#include "json-schema-to-grammar.h"
#include "json.h"
#include "sampling.h"

namespace {

template <class T>
void read(const common_json & in, const char * key, T & out) {
    if (in.contains(key) && !in.at(key).is_null()) {
        out = in.at(key).get<T>();
    }
}

// A model's own advice: general.sampling.* in its metadata.
std::string advice(const llama_model * model, llama_model_meta_key key) {
    char      text[512];
    const int n = llama_model_meta_val_str(model, llama_model_meta_key_str(key), text, sizeof(text));
    return n > 0 && n < static_cast<int>(sizeof(text)) ? std::string(text) : std::string();
}

void advise(const llama_model * model, llama_model_meta_key key, float & out) {
    const std::string text  = advice(model, key);
    char *            end   = nullptr;
    const float       value = std::strtof(text.c_str(), &end);
    if (end != text.c_str() && std::isfinite(value)) {
        out = value;
    }
}

void advise(const llama_model * model, llama_model_meta_key key, int32_t & out) {
    const std::string text  = advice(model, key);
    char *            end   = nullptr;
    const long        value = std::strtol(text.c_str(), &end, 10);
    if (end != text.c_str() && value >= INT_MIN && value <= INT_MAX) {
        out = static_cast<int32_t>(value);
    }
}

void take_advice(const llama_model * model, common_params_sampling & params) {
    advise(model, LLAMA_MODEL_META_KEY_SAMPLING_TOP_K, params.top_k);
    advise(model, LLAMA_MODEL_META_KEY_SAMPLING_TOP_P, params.top_p);
    advise(model, LLAMA_MODEL_META_KEY_SAMPLING_MIN_P, params.min_p);
    advise(model, LLAMA_MODEL_META_KEY_SAMPLING_XTC_PROBABILITY, params.xtc_probability);
    advise(model, LLAMA_MODEL_META_KEY_SAMPLING_XTC_THRESHOLD, params.xtc_threshold);
    advise(model, LLAMA_MODEL_META_KEY_SAMPLING_TEMP, params.temp);
    advise(model, LLAMA_MODEL_META_KEY_SAMPLING_PENALTY_LAST_N, params.penalty_last_n);
    advise(model, LLAMA_MODEL_META_KEY_SAMPLING_PENALTY_REPEAT, params.penalty_repeat);
    advise(model, LLAMA_MODEL_META_KEY_SAMPLING_MIROSTAT, params.mirostat);
    advise(model, LLAMA_MODEL_META_KEY_SAMPLING_MIROSTAT_TAU, params.mirostat_tau);
    advise(model, LLAMA_MODEL_META_KEY_SAMPLING_MIROSTAT_ETA, params.mirostat_eta);
    const std::string order = advice(model, LLAMA_MODEL_META_KEY_SAMPLING_SEQUENCE);
    if (!order.empty()) {
        params.samplers = common_sampler_types_from_names(string_split<std::string>(order, ';'));
    }
}

void read_numbers(const common_json & in, common_params_sampling & params) {
    read(in, "seed", params.seed);
    read(in, "temperature", params.temp);
    read(in, "top_k", params.top_k);
    read(in, "top_p", params.top_p);
    read(in, "min_p", params.min_p);
    read(in, "typ_p", params.typ_p);
    read(in, "top_n_sigma", params.top_n_sigma);
    read(in, "xtc_probability", params.xtc_probability);
    read(in, "xtc_threshold", params.xtc_threshold);
    read(in, "dynatemp_range", params.dynatemp_range);
    read(in, "dynatemp_exponent", params.dynatemp_exponent);
    read(in, "repeat_last_n", params.penalty_last_n);
    read(in, "repeat_penalty", params.penalty_repeat);
    read(in, "presence_penalty", params.penalty_present);
    read(in, "frequency_penalty", params.penalty_freq);
    read(in, "dry_multiplier", params.dry_multiplier);
    read(in, "dry_base", params.dry_base);
    read(in, "dry_allowed_length", params.dry_allowed_length);
    read(in, "dry_penalty_last_n", params.dry_penalty_last_n);
    read(in, "mirostat", params.mirostat);
    read(in, "mirostat_tau", params.mirostat_tau);
    read(in, "mirostat_eta", params.mirostat_eta);
    read(in, "adaptive_target", params.adaptive_target);
    read(in, "adaptive_decay", params.adaptive_decay);
    read(in, "min_keep", params.min_keep);
    read(in, "ignore_eos", params.ignore_eos);
}

void read_lists(const common_json & in, common_params_sampling & params) {
    read(in, "dry_sequence_breakers", params.dry_sequence_breakers);
    std::vector<std::string> names;
    read(in, "samplers", names);
    if (in.contains("samplers") && !in.at("samplers").is_null()) {
        params.samplers = common_sampler_types_from_names(names);
        if (params.samplers.size() != names.size()) {
            throw std::invalid_argument("samplers: one of the names is unknown");
        }
    }
}

// One entry for each token: llama.cpp adds up several for a token only while the candidates are in vocabulary order.
void read_biases(const common_json & in, const llama_vocab * vocab, const shm_tokens & ends,
                 common_params_sampling & params) {
    const int32_t                n_vocab = llama_vocab_n_tokens(vocab);
    std::map<llama_token, float> biases;
    if (in.contains("logit_bias")) {
        for (const auto & [key, value] : in.at("logit_bias").items()) {
            const long token = std::strtol(key.c_str(), nullptr, 10);
            if (token < 0 || token >= n_vocab) {
                throw std::invalid_argument("logit_bias: token " + key + " is not in the vocabulary of " +
                                            std::to_string(n_vocab) + " tokens");
            }
            // JSON has no infinity: null bans the token
            biases[static_cast<llama_token>(token)] = value.is_null() ? -INFINITY : value.get<float>();
        }
    }
    int32_t             n_suppressed = 0;
    const llama_token * suppressed   = llama_vocab_get_suppress_tokens(vocab, &n_suppressed);
    for (int32_t i = 0; i < n_suppressed; i++) {
        biases.erase(suppressed[i]);  // common_sampler bans these itself
    }
    for (int32_t i = 0; params.ignore_eos && i < ends.size; i++) {
        biases[ends.data[i]] = -INFINITY;
    }
    for (const auto & [token, bias] : biases) {
        params.logit_bias.push_back({token, bias});
    }
}

void read_preserved(const common_json & in, const llama_vocab * vocab, common_params_sampling & params) {
    std::vector<std::string> texts;
    read(in, "preserved_tokens", texts);
    for (const auto & text : texts) {
        const auto ids = common_tokenize(vocab, text, false, true);
        if (ids.size() == 1) {
            params.preserved_tokens.insert(ids[0]);
        }
    }
}

// A trigger word that is one preserved token is matched by its id, as the token's text may not be generated otherwise.
void read_triggers(const common_json & in, const llama_vocab * vocab, common_params_sampling & params) {
    if (!in.contains("grammar_triggers")) {
        return;
    }
    for (const auto & [_, entry] : in.at("grammar_triggers").items()) {
        common_grammar_trigger trigger;
        trigger.type  = static_cast<common_grammar_trigger_type>(entry.at("type").get<int>());
        trigger.value = entry.at("value").get<std::string>();
        trigger.token = entry.value("token", LLAMA_TOKEN_NULL);
        if (trigger.type == COMMON_GRAMMAR_TRIGGER_TYPE_WORD) {
            const auto ids = common_tokenize(vocab, trigger.value, false, true);
            if (ids.size() == 1 && params.preserved_tokens.count(ids[0]) > 0) {
                trigger.type  = COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN;
                trigger.token = ids[0];
            }
        }
        params.grammar_triggers.push_back(trigger);
    }
}

std::string grammar_text(const common_json & in, const shm::known_grammar * known) {
    if (known != nullptr) {
        return known->text();
    }
    std::string text;
    read(in, "grammar", text);
    if (text.empty() && in.contains("json_schema") && !in.at("json_schema").is_null()) {
        text = shm::strict_strings(json_schema_to_grammar(in.at("json_schema")));
    }
    return text;
}

void read_grammar(const common_json & in, const llama_vocab * vocab, const shm::known_grammar * known,
                  common_params_sampling & params) {
    read_preserved(in, vocab, params);
    read(in, "generation_prompt", params.generation_prompt);
    const std::string text = grammar_text(in, known);
    if (text.empty()) {
        return;
    }
    if (text.compare(0, 11, "%llguidance") == 0) {
        throw std::invalid_argument("grammar: llguidance grammars are not supported, use GBNF");
    }
    const auto type =
        in.value("grammar_type", "user") == "template" ? COMMON_GRAMMAR_TYPE_TOOL_CALLS : COMMON_GRAMMAR_TYPE_USER;
    params.grammar = common_grammar(type, text);
    read(in, "grammar_lazy", params.grammar_lazy);
    read_triggers(in, vocab, params);
    if (params.grammar_lazy && params.grammar_triggers.empty()) {
        throw std::invalid_argument("grammar: a lazy grammar needs a trigger");
    }
}

void read_reasoning(const common_json & in, const llama_vocab * vocab, common_params_sampling & params) {
    std::string              start;
    std::vector<std::string> ends;
    read(in, "thinking_start_tag", start);
    read(in, "thinking_end_tags", ends);
    read(in, "reasoning_budget_tokens", params.reasoning_budget_tokens);
    if (start.empty() || ends.empty()) {
        return;
    }
    params.reasoning_budget_start = common_tokenize(vocab, start, false, true);
    for (const auto & end : ends) {
        params.reasoning_budget_end.push_back(common_tokenize(vocab, end, false, true));
    }
    params.reasoning_budget_forced = params.reasoning_budget_end.front();
}

}  // namespace

namespace shm {

common_params_sampling read_sampling_params(const llama_model * model, const shm_tokens & ends, int32_t n_ctx,
                                            const std::string & json, const known_grammar * known) {
    const common_json      in    = common_json::parse(json);
    const llama_vocab *    vocab = llama_model_get_vocab(model);
    common_params_sampling params;
    params.no_perf = true;
    take_advice(model, params);
    read_numbers(in, params);
    read_lists(in, params);
    read_biases(in, vocab, ends, params);
    read_grammar(in, vocab, known, params);
    read_reasoning(in, vocab, params);
    for (int32_t * window : {&params.penalty_last_n, &params.dry_penalty_last_n}) {
        if (*window < 0) {
            *window = n_ctx;
        }
    }
    if (params.mirostat < 0 || params.mirostat > 2) {
        throw std::invalid_argument("mirostat must be 0, 1 or 2");
    }
    return params;
}

}  // namespace shm
