// stepper: the rows of one context, and the step that feeds and samples them. The step is in feed.cpp and
// stepper.cpp, what is done to a row between steps in rows.cpp.
//
// The tokens of a row that are not in its cells wait to be fed; there is no other difference between taking in a prompt
// and generating. A row that has been fed all its tokens samples the next one, which then waits. Rewinding a row
// (preemption) sets n_past to 0.
//
// Thread: the owner of the context, for all of it. A step that runs ahead (ahead.hpp) has the context and the rows to
// itself until its outcome is taken.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "ahead.hpp"
#include "engine.h"
#include "guard.hpp"
#include "outcome.hpp"
#include "pool.hpp"
#include "row.hpp"

namespace shm {

// The arrays of a llama_batch, allocated once.
class step_batch {
  public:
    explicit step_batch(int32_t capacity) : impl_(llama_batch_init(capacity, 0, 1)) {}

    ~step_batch() { llama_batch_free(impl_); }

    step_batch(const step_batch &)             = delete;
    step_batch & operator=(const step_batch &) = delete;

    void clear() { impl_.n_tokens = 0; }

    void add(llama_token token, llama_pos pos, llama_seq_id seq_id, bool output) {
        const int32_t i    = impl_.n_tokens++;
        impl_.token[i]     = token;
        impl_.pos[i]       = pos;
        impl_.n_seq_id[i]  = 1;
        impl_.seq_id[i][0] = seq_id;
        impl_.logits[i]    = output ? 1 : 0;
    }

    int32_t size() const { return impl_.n_tokens; }

    const llama_batch & get() const { return impl_; }

  private:
    llama_batch impl_;
};

// A row's choice of its next token.
struct draw {
    int32_t     row;
    float *     logits;  // null: the row ends with its prompt
    size_t      logprobs;
    llama_token token;
    std::string error;
    bool        by_grammar;  // whose fault the error is
};

// A token of a prompt whose log-probability is to be told.
struct score {
    const float * logits;
    llama_token   token;
    int32_t       n_top;
    size_t        logprobs;
};

}  // namespace shm

struct shm_stepper {
    shm_stepper(llama_context * ctx, int32_t n_rows, int32_t n_outputs, const shm_tokens & ends);

    // Throws std::invalid_argument for a row that is not open, and while a step is in flight.
    shm::row & at(int32_t index);

    // Throws std::invalid_argument while a step is in flight.
    void require_rest() const;

    // Runs a step of these bites; never throws.
    void run(const shm_bite * plan, int32_t n_plan, shm::outcome & into);
    void run_on(shm::outcome & into);

    bool    reaches(const shm::row & row, int32_t n) const;
    void    place(const shm::row & row, llama_seq_id source);
    void    check(const shm_bite * plan, int32_t n_plan);
    void    fill(const shm_bite * plan, int32_t n_plan);
    void    undo(const shm_bite * plan, int32_t n_plan);
    void    advance(const shm_bite * plan, int32_t n_plan);
    int32_t decode(const shm_bite * plan, int32_t n_plan);
    int32_t decode_all(const shm_bite * plan, int32_t n_plan);
    void    sample(const shm_bite * plan, int32_t n_plan);
    void    collect_scores(const shm_bite & bite, int32_t first_output);
    void    choose(shm::draw & draw);
    void    deliver(shm::draw & draw);
    bool    has_media(const shm_bite * plan, int32_t n_plan) const;
    bool    all_go_on(int32_t n_plan) const;

    float * logits_of(int32_t output);
    size_t  reserve_logprobs(int32_t n_top);

    llama_context *                        ctx;
    int32_t                                n_outputs;
    const llama_vocab *                    vocab;
    llama_memory_t                         memory;
    std::vector<llama_token>               ends;
    std::vector<std::unique_ptr<shm::row>> rows;
    shm::step_batch                        batch;
    std::vector<int32_t>                   order;   // indexes into the plan, by sequence id
    std::vector<int32_t>                   starts;  // batch index of each bite's first token
    std::vector<shm::draw>                 draws;
    std::vector<shm::score>                scores;
    shm::outcome *                         into = nullptr;  // of the step that runs
    shm::outcome                           own;             // of those that the caller waits for
    std::vector<shm_bite>                  next;            // one token for each row of the last step
    shm::pool                              pool;
    shm::ahead                             ahead;  // last: its thread uses all of the above
};
