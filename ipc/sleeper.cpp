// ORDER.
//   Z1 wake.sequence (acquire)  <- Waker::wake's release step: a sleeper that sees the step sees the commit
//   asleep and the commit words: ordered by the membarrier (ARCHITECTURE.md, "Waking"); relaxed otherwise
#include "spillway/ipc/sleeper.h"

#include <algorithm>

namespace spillway {
namespace {

constexpr std::uint64_t kShortNs = 1'000'000;
constexpr std::uint64_t kLongNs = 100'000'000;  // bounds what a waker that died between its steps can cost
constexpr std::uint64_t kHeldNs = 10'000'000;   // somebody holds a claim ahead: look again soon whether it died

}  // namespace

// Tells every partition that we sleep, and collects the words to sleep on. False: some can't be told (an observer, a
// topic without wake-ups, no ring), so sleeps stay short.
bool Sleeper::announce(std::span<PartitionReader> readers) noexcept {
  watches_.clear();
  bool all = true;
  for (const PartitionReader& reader : readers) {
    const auto& ring = reader.ring();
    if (!ring || !ring->config().wakeups || !ring->can_announce() || reader.replaying() || ring->gone() ||
        watches_.size() == kFutexWatchMax) {
      all = false;
      continue;
    }
    Consumers& consumers = ring->consumers();
    watches_.push_back({&consumers.wake.sequence, consumers.wake.sequence.load(std::memory_order_acquire)});  // Z1
    consumers.announcement.asleep.store(1, std::memory_order_relaxed);
  }
  return all;
}

void Sleeper::sleep(std::span<PartitionReader> readers, Deadline deadline) noexcept {
  const auto any_ready = [&] {
    return std::any_of(readers.begin(), readers.end(), [](PartitionReader& r) { return r.ready(); });
  };
  watches_.reserve(std::min<std::size_t>(readers.size(), kFutexWatchMax));
  const bool all = announce(readers);
  const auto same = [](const FutexWatch& a, const FutexWatch& b) {
    return a.word == b.word && a.expected == b.expected;
  };
  const bool unstepped = quiet_ && std::equal(watches_.begin(), watches_.end(), before_.begin(), before_.end(), same);
  std::uint64_t ns = kShortNs;
  if (all && unstepped && membarrier_everyone()) {
    ns = kLongNs;
    for (const PartitionReader& reader : readers) {
      const Control& control = reader.ring()->control();
      // What is committed and not yet durable shows without anybody stepping the word.
      if (reader.reads_durable() && reader.committed_here()) ns = kShortNs;
      // relaxed: hints that shorten the sleep.
      if (control.notices.mode.load(std::memory_order_relaxed) == ProducerMode::shared &&
          control.claims.reserved_end.load(std::memory_order_relaxed) > reader.offset()) {
        ns = std::min(ns, kHeldNs);
      }
    }
  }
  // After the barrier: whoever commits from here on sees the announcement.
  if (any_ready()) {
    quiet_ = false;
    return;
  }
  const std::uint64_t start = monotonic_ns();
  futex_wait_any(watches_, Deadline::after_ns(std::min(ns, deadline.left_ns())));
  quiet_ = ns != kShortNs || monotonic_ns() - start >= kShortNs;
  before_ = watches_;
}

}  // namespace spillway
