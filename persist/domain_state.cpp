#include "spillway/persist/domain_state.h"

#include <algorithm>
#include <chrono>

#include "spillway/core/futex.h"
#include "spillway/persist/topic_state.h"

namespace spillway {

DomainState::DomainState(DomainOptions options)
    : options_(std::move(options)), directories_{options_.data, options_.shm} {
  // While the process may still have one thread: it is a thousand times cheaper then.
  membarrier_register();
  persister_ = std::make_unique<Persister>();
}

DomainState::~DomainState() {
  if (mark_.forked()) {
    static_cast<void>(watcher_.release());
    return;
  }
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_wanted_.notify_all();
  if (watcher_) watcher_->join();
}

std::shared_ptr<TopicState> DomainState::open(const TopicConfig& config) {
  std::lock_guard lock(mutex_);
  auto& known = topics_[config.name];
  if (auto state = known.lock(); state && state->config().id == config.id) return state;
  auto state = std::make_shared<TopicState>(shared_from_this(), config);
  known = state;
  return state;
}

void DomainState::forget(const std::string& name) {
  std::lock_guard lock(mutex_);
  topics_.erase(name);
}

void DomainState::watch(const std::shared_ptr<Partition>& partition) {
  std::lock_guard lock(mutex_);
  watched_.push_back(partition);
  if (!watcher_) watcher_ = std::make_unique<std::thread>([this] { watch_loop(); });
}

void DomainState::watch_loop() {
  std::unique_lock lock(mutex_);
  while (!stop_wanted_.wait_for(lock, std::chrono::seconds(1), [&] { return stopping_; })) {
    std::erase_if(watched_, [](const auto& weak) { return weak.expired(); });
    for (const auto& weak : watched_) {
      if (const auto partition = weak.lock()) partition->look_whether_gone();
    }
  }
}

}  // namespace spillway
