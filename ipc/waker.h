// How somebody who commits wakes those who sleep, without paying anything while nobody does.
//
// The drawing (ARCHITECTURE.md has it with every interleaving):
//   producer                       sleeper
//   store commit word              store asleep = 1
//   (compiler barrier)             membarrier (only before a long sleep)
//   load asleep                    load commit word
// Without the membarrier the producer's load may be satisfied before its store is visible: both miss. A sleep that is not
// preceded by one therefore lasts a millisecond at most.
#pragma once

#include "spillway/core/futex.h"
#include "spillway/ipc/partition.h"

namespace spillway {

class Waker {
 public:
  // `fence`: this process could not register for membarriers and pays a fence for each look instead.
  Waker(Partition& partition, bool fence) noexcept
      : partition_(&partition), on_(partition.config().wakeups), fence_(fence) {}

  // After a commit. Inline: one load of a line that nobody writes while nobody sleeps.
  void notify() noexcept {
    if (!on_) return;
    if (fence_) {
      std::atomic_thread_fence(std::memory_order_seq_cst);  // the drawing's other way: a fence on both sides
    } else {
      std::atomic_signal_fence(std::memory_order_seq_cst);  // keeps the compiler from moving the load up
    }
    // relaxed: a hint; the membarrier orders it.
    if (partition_->consumers().announcement.asleep.load(std::memory_order_relaxed) != 0) [[unlikely]] {
      wake();
    }
  }
  // Wakes all sleepers of the partition if a millisecond has passed since the last time (promise 4: a hostile consumer
  // that announces itself without end costs a futex call a millisecond). Those skipped are in their short sleeps.
  void wake() noexcept;

 private:
  Partition* partition_;
  bool on_;
  bool fence_;
};

}  // namespace spillway
