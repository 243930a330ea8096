// lru: what was made last, by its name. Bounded in number and in bytes, as the names are the clients' choice.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace shm {

// Thread: any. What goes lives on with whoever has it.
template <class T>
class lru {
  public:
    using ptr = std::shared_ptr<const T>;

    lru(size_t max_items, size_t max_bytes) : max_items_(max_items), max_bytes_(max_bytes) {}

    // Null for what was never kept, or is gone.
    ptr find(const std::string & name) {
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto                        found = known_.find(name);
        if (found == known_.end()) {
            return nullptr;
        }
        items_.splice(items_.begin(), items_, found->second);
        return found->second->made;
    }

    // `n_bytes` is what it takes beside its name.
    void keep(const std::string & name, ptr made, size_t n_bytes) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (known_.count(name) > 0) {
            return;
        }
        items_.push_front({name, std::move(made), n_bytes + name.size()});
        known_[items_.front().name] = items_.begin();
        n_bytes_ += items_.front().n_bytes;
        while (items_.size() > max_items_ || n_bytes_ > max_bytes_) {
            known_.erase(items_.back().name);
            n_bytes_ -= items_.back().n_bytes;
            items_.pop_back();
        }
    }

  private:
    struct item {
        std::string name;
        ptr         made;
        size_t      n_bytes;
    };

    const size_t                                                             max_items_;
    const size_t                                                             max_bytes_;
    std::mutex                                                               mutex_;
    size_t                                                                   n_bytes_ = 0;
    std::list<item>                                                          items_;  // the last used first
    std::unordered_map<std::string_view, typename std::list<item>::iterator> known_;  // by names that are the items'
};

}  // namespace shm
