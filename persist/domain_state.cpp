#include "spillway/persist/domain_state.h"

#include <algorithm>
#include <chrono>

#include "spillway/core/clock.h"
#include "spillway/core/error.h"
#include "spillway/core/futex.h"
#include "spillway/ipc/repair.h"
#include "spillway/persist/topic_state.h"

namespace spillway {
namespace {

constexpr std::uint64_t kGoneNs = 1'000'000'000;  // how often files are looked after
constexpr std::uint64_t kRepairNs = 4'000'000;    // ... and claims: two looks find a dead one

// An ephemeral topic has no persister that repairs it: that is for its writers. An exclusive one leaves nothing to repair.
bool may_repair(const Partition& p) noexcept {
  // relaxed: looked at again and again.
  return p.config().ephemeral && p.access() == Access::read_write && !p.gone() &&
         p.control().notices.mode.load(std::memory_order_relaxed) != ProducerMode::exclusive;
}

// A stream moves committed_end by itself, if only once per sixteenth of the ring. Returns where it was found.
Offset repair_if_stuck(Partition& p, Offset last) noexcept {
  // acquire: the smaller one first (INV-2).
  const Offset committed = p.control().commits.committed_end.load(std::memory_order_acquire);
  if (committed == last && p.control().claims.reserved_end.load(std::memory_order_acquire) != committed) repair_all(p);
  return committed;
}

}  // namespace

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
  guarded_->changed.notify_all();
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
  {
    std::lock_guard lock(guarded_->mutex);
    guarded_->watched.push_back({partition});
    if (!guarded_->watcher) guarded_->watcher = std::make_unique<std::thread>([this] { watch_loop(); });
  }
  guarded_->changed.notify_all();
}

void DomainState::watch_loop() {
  Guarded& g = *guarded_;
  std::unique_lock lock(g.mutex);
  for (std::uint64_t looked_ns = 0; !g.stopping;) {
    const bool look = monotonic_ns() - looked_ns >= kGoneNs;
    if (look) looked_ns = monotonic_ns();
    std::erase_if(g.watched, [](const Watched& w) { return w.partition.expired(); });
    bool claims = false;
    for (Watched& w : g.watched) {
      const auto partition = w.partition.lock();
      if (!partition) continue;
      if (look) partition->look_whether_gone();
      if (!may_repair(*partition)) continue;
      claims = true;
      w.committed_end = repair_if_stuck(*partition, w.committed_end);
    }
    g.changed.wait_for(lock, std::chrono::nanoseconds(claims ? kRepairNs : kGoneNs));
  }
}

}  // namespace spillway
