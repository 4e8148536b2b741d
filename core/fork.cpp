#include "spillway/core/fork.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <mutex>
#include <vector>

#include "spillway/core/disk.h"
#include "spillway/core/mapping.h"

namespace spillway {

struct ForkRegistry {
  std::mutex mutex;
  std::vector<bool> descriptors;  // indexed by number
  std::map<void*, std::size_t> mappings;
  ForkListener* listeners = nullptr;

  void add_descriptor(int fd) {
    if (descriptors.size() <= static_cast<std::size_t>(fd)) descriptors.resize(static_cast<std::size_t>(fd) + 64);
    descriptors[static_cast<std::size_t>(fd)] = true;
  }
  void remove_descriptor(int fd) noexcept {
    if (static_cast<std::size_t>(fd) < descriptors.size()) descriptors[static_cast<std::size_t>(fd)] = false;
  }
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

int fork_registry_open(const char* path, int flags, mode_t mode) {
  ForkRegistry& r = registry();
  std::lock_guard lock(r.mutex);
  int fd;
  do fd = disk::open(path, flags, mode);
  while (fd < 0 && errno == EINTR);
  if (fd >= 0) r.add_descriptor(fd);
  return fd;
}

void fork_registry_add_descriptor(int fd) {
  ForkRegistry& r = registry();
  std::lock_guard lock(r.mutex);
  r.add_descriptor(fd);
}

void fork_registry_close(int fd) noexcept {
  ForkRegistry& r = registry();
  std::lock_guard lock(r.mutex);
  r.remove_descriptor(fd);
  ::close(fd);
}

void fork_registry_remove_descriptor(int fd) noexcept {
  ForkRegistry& r = registry();
  std::lock_guard lock(r.mutex);
  r.remove_descriptor(fd);
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
