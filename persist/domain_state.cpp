#include "spillway/persist/domain_state.h"

#include <algorithm>
#include <chrono>

#include "spillway/core/error.h"
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
    static_cast<void>(guarded_.release());
    return;
  }
  {
    std::lock_guard lock(guarded_->mutex);
    guarded_->stopping = true;
  }
  guarded_->stop_wanted.notify_all();
  if (guarded_->watcher) guarded_->watcher->join();
}

void DomainState::check_fork() const {
  if (!mark_.forked()) return;
  throw Error(Code::forked, "this process was forked from the one that opened the domain " + directories_.data +
                                "; open it anew in the child");
}

std::shared_ptr<TopicState> DomainState::open(const TopicConfig& config) {
  check_fork();
  std::lock_guard lock(guarded_->mutex);
  auto& known = guarded_->topics[config.name];
  if (auto state = known.lock(); state && state->config().id == config.id) return state;
  auto state = std::make_shared<TopicState>(shared_from_this(), config);
  known = state;
  return state;
}

void DomainState::forget(const std::string& name) {
  check_fork();
  std::lock_guard lock(guarded_->mutex);
  guarded_->topics.erase(name);
}

void DomainState::watch(const std::shared_ptr<Partition>& partition) {
  check_fork();
  std::lock_guard lock(guarded_->mutex);
  guarded_->watched.push_back(partition);
  if (!guarded_->watcher) guarded_->watcher = std::make_unique<std::thread>([this] { watch_loop(); });
}

void DomainState::watch_loop() {
  Guarded& g = *guarded_;
  std::unique_lock lock(g.mutex);
  while (!g.stop_wanted.wait_for(lock, std::chrono::seconds(1), [&] { return g.stopping; })) {
    std::erase_if(g.watched, [](const auto& weak) { return weak.expired(); });
    for (const auto& weak : g.watched) {
      if (const auto partition = weak.lock()) partition->look_whether_gone();
    }
  }
}

}  // namespace spillway
