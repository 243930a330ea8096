#include "row.hpp"

#include <algorithm>
#include <cmath>
#include <ctime>

namespace shm {

namespace {

int64_t thread_time_us() {
#ifdef CLOCK_THREAD_CPUTIME_ID
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<int64_t>(now.tv_sec) * 1000000 + now.tv_nsec / 1000;
#else
    return llama_time_us();
#endif
}

// Takes tokens out of a row of logits while it lives.
class without {
  public:
    without(float * logits, const std::vector<llama_token> & tokens) : logits_(logits) {
        for (const llama_token token : tokens) {
            kept_.push_back({token, logits[token], 0.0f});
            logits[token] = -INFINITY;
        }
    }

    ~without() {
        // backwards: a token may be in the list twice
        for (auto data = kept_.rbegin(); data != kept_.rend(); ++data) {
            logits_[data->id] = data->logit;
        }
    }

    without(const without &)             = delete;
    without & operator=(const without &) = delete;

  private:
    float *                       logits_;
    std::vector<llama_token_data> kept_;
};

void read_piece(const llama_vocab * vocab, llama_token token, bool special, std::string & out) {
    out.resize(64);
    int32_t n = llama_token_to_piece(vocab, token, out.data(), static_cast<int32_t>(out.size()), 0, special);
    if (n < 0) {
        out.resize(static_cast<size_t>(-n));
        n = llama_token_to_piece(vocab, token, out.data(), static_cast<int32_t>(out.size()), 0, special);
    }
    out.resize(static_cast<size_t>(std::max(n, 0)));
}

}  // namespace

row::row(const shm_row_params & params, std::vector<llama_token> prompt, std::unique_ptr<shm_sampler> chooser,
         std::vector<std::string> stops, std::vector<medium_span> media)
    : seq_id(params.seq_id),
      max_tokens(params.max_tokens),
      min_tokens(params.min_tokens),
      n_ctx(params.n_ctx),
      shifts(params.shifts != 0),
      grammar_us(params.grammar_us),
      n_logprobs(params.n_logprobs),
      n_prompt_logprobs(params.n_prompt_logprobs),
      n_prompt(static_cast<int32_t>(prompt.size())),
      n_past(params.n_past),
      tokens(std::move(prompt)),
      media(std::move(media)),
      stop_tokens(params.stop_tokens, params.stop_tokens + params.n_stop_tokens),
      sampler(std::move(chooser)),
      text(std::move(stops)) {}

const medium * row::next_medium() const {
    for (const auto & span : media) {
        if (span.start == n_past) {
            return span.what.get();
        }
    }
    return nullptr;
}

int32_t row::n_run() const {
    for (const auto & span : media) {
        if (span.start == n_past) {
            return span.what->n_tokens;
        }
        if (span.start > n_past) {
            return span.start - n_past;
        }
    }
    return n_waiting();
}

bool row::ends_in_medium(int32_t n) const {
    for (const auto & span : media) {
        if (span.end() == n) {
            return true;
        }
    }
    return false;
}

void row::bar(const std::vector<llama_token> & ends) {
    barred = ends;
    barred.insert(barred.end(), stop_tokens.begin(), stop_tokens.end());
}

llama_token row::choose(float * logits, std::vector<llama_token_data> & scratch) {
    const int64_t began = sampler->has_grammar() ? thread_time_us() : 0;
    llama_token   token = LLAMA_TOKEN_NULL;
    if (n_generated() < min_tokens) {
        const without ends(logits, barred);
        token = sampler->sample(logits, scratch);
    }
    // a grammar that is at its end allows nothing but an end
    if (token == LLAMA_TOKEN_NULL) {
        token = sampler->sample(logits, scratch);
    }
    if (token == LLAMA_TOKEN_NULL) {
        if (sampler->grammar_may_end()) {
            return token;
        }
        throw grammar_error("the grammar allows no token here that the other settings do not forbid");
    }
    sampler->accept(token);
    if (sampler->has_grammar() && grammar_us > 0 && thread_time_us() - began > grammar_us) {
        throw grammar_error("the grammar is too ambiguous: a token took more than " +
                            std::to_string(static_cast<double>(grammar_us) / 1e6) + " s, and all others waited");
    }
    return token;
}

void row::take(llama_token token, const llama_vocab * vocab, std::string & out, shm_row_event & event) {
    tokens.push_back(token);
    event.finish = finish_of(token, vocab, out, event.stop);
    if (event.finish != SHM_FINISH_NONE && event.finish != SHM_FINISH_STOP && event.finish != SHM_FINISH_SHIFT) {
        text.flush(out);
    }
}

int32_t row::finish_of(llama_token token, const llama_vocab * vocab, std::string & out, int32_t & stop) {
    if (std::find(stop_tokens.begin(), stop_tokens.end(), token) != stop_tokens.end()) {
        return SHM_FINISH_TOKEN;
    }
    if (llama_vocab_is_eog(vocab, token)) {
        return SHM_FINISH_EOG;
    }
    static thread_local std::string piece;
    read_piece(vocab, token, sampler->is_preserved(token), piece);
    stop = text.add(piece, out, /*may_stop=*/n_generated() >= min_tokens);
    if (stop >= 0) {
        return SHM_FINISH_STOP;
    }
    if (max_tokens >= 0 && n_generated() >= max_tokens) {
        return SHM_FINISH_LIMIT;
    }
    if (static_cast<int32_t>(tokens.size()) < n_ctx) {
        return SHM_FINISH_NONE;
    }
    return shifts ? SHM_FINISH_SHIFT : SHM_FINISH_CONTEXT;
}

}  // namespace shm
