#include "spillway/core/fork.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <vector>

#include "spillway/core/mapping.h"

namespace spillway {

struct ForkRegistry {
  std::mutex mutex;
  std::vector<bool> descriptors;  // indexed by number
  std::map<void*, std::size_t> mappings;
  ForkListener* listeners = nullptr;

  void add(ForkListener* listener) {
    std::lock_guard lock(mutex);
    listener->next_ = listeners;
    if (listeners) listeners->previous_ = listener;
    listeners = listener;
  }
  void remove(ForkListener* listener) {
    std::lock_guard lock(mutex);
    if (listener->previous_) listener->previous_->next_ = listener->next_;
    if (listener->next_) listener->next_->previous_ = listener->previous_;
    if (listeners == listener) listeners = listener->next_;
  }
  void in_child() noexcept {
    detail::fork_generation_value.fetch_add(1, std::memory_order_relaxed);
    for (std::size_t fd = 0; fd < descriptors.size(); ++fd) {
      if (descriptors[fd]) ::close(static_cast<int>(fd));
    }
    std::fill(descriptors.begin(), descriptors.end(), false);
    for (const auto& [address, bytes] : mappings) replace_mapping_in_child(address, bytes);
    for (ForkListener* l = listeners; l; l = l->next_) l->forked_in_child();
  }
};

namespace {

// Leaked: handles with static storage duration may outlive any object of ours.
ForkRegistry& registry() {
  static ForkRegistry* instance = [] {
    auto* made = new ForkRegistry;
    pthread_atfork([] { registry().mutex.lock(); }, [] { registry().mutex.unlock(); },
                   [] {
                     registry().in_child();
                     registry().mutex.unlock();
                   });
    return made;
  }();
  return *instance;
}

}  // namespace

ForkListener::ForkListener() { registry().add(this); }
ForkListener::~ForkListener() { registry().remove(this); }

void fork_registry_add_descriptor(int fd) {
  ForkRegistry& r = registry();
  std::lock_guard lock(r.mutex);
  if (r.descriptors.size() <= static_cast<std::size_t>(fd)) r.descriptors.resize(static_cast<std::size_t>(fd) + 64);
  r.descriptors[static_cast<std::size_t>(fd)] = true;
}

void fork_registry_remove_descriptor(int fd) noexcept {
  ForkRegistry& r = registry();
  std::lock_guard lock(r.mutex);
  if (static_cast<std::size_t>(fd) < r.descriptors.size()) r.descriptors[static_cast<std::size_t>(fd)] = false;
}

void fork_registry_add_mapping(void* address, std::size_t bytes) {
  ForkRegistry& r = registry();
  std::lock_guard lock(r.mutex);
  r.mappings[address] = bytes;
}

void fork_registry_remove_mapping(void* address) noexcept {
  ForkRegistry& r = registry();
  std::lock_guard lock(r.mutex);
  r.mappings.erase(address);
}

}  // namespace spillway
