#include "spillway/ipc/waker.h"

namespace spillway {
namespace {
constexpr std::uint64_t kWakeIntervalNs = 1'000'000;
}

void Waker::wake() noexcept {
  // relaxed throughout but for the step of the futex word: the kernel's futex orders the rest, and a wake-up too many or
  // a millisecond late is all that a stale value causes (ARCHITECTURE.md, "Waking").
  auto& last = partition_->control().notices.last_wake_ns;
  const std::uint64_t now = monotonic_ns();
  const std::uint64_t before = last.load(std::memory_order_relaxed);
  if (now - before < kWakeIntervalNs && now >= before) return;
  // The announcement goes first, so that one of a dead sleeper costs one call and not one per record.
  partition_->consumers().announcement.asleep.store(0, std::memory_order_relaxed);
  auto& sequence = partition_->consumers().wake.sequence;
  sequence.fetch_add(1, std::memory_order_release);  // pairs with the acquire in Sleeper: it then sees the commit
  futex_wake_all(sequence);
  last.store(now, std::memory_order_relaxed);
}

}  // namespace spillway
