// How far a producer may go, and waiting until it may go further.
//
// Thread safety: one Space per producer, used by its thread only.
#pragma once

#include "spillway/core/clock.h"
#include "spillway/core/file_lock.h"
#include "spillway/core/futex.h"
#include "spillway/ipc/partition.h"
#include "spillway/ipc/producer_types.h"

namespace spillway {

class Space {
 public:
  explicit Space(std::shared_ptr<Partition> partition);

  // The offset no claim may go past, by the topic's policy: what is not reclaimed, the horizon, gates; on the records'
  // grid. Does not include the shared mode's own bound. Loads of other processes' lines: called per chunk, not per record.
  Offset limit() noexcept;
  // Why `wanted` is past the limit.
  Blocked cause(Offset wanted) noexcept;
  // Sleeps until a claim may end at `wanted`, or some milliseconds passed; asks for the persister's work meanwhile.
  // `round` counts the caller's tries: the first ones only spin.
  void wait(Offset wanted, Deadline deadline, unsigned round) noexcept;
  // Tells a lazy persister that there is a good deal to write. Called per chunk; a system call at most once per quarter of
  // the ring, and none on an ephemeral topic.
  void mention(Offset reserved_end) noexcept;

 private:
  Offset gates_limit() noexcept;

  std::shared_ptr<Partition> partition_;
  LockProbe consumers_;  // ephemeral block topics only
  LockProbe role_;
  LockProbe slots_;
  Offset mentioned_ = 0;
};

// Whether this errno is that of what is damaged, missing, or stands in the place of a file, and not of a disk that fails.
bool tells_damage(int error) noexcept;
// What a persister in this state, with this errno, holds others up with; none if it is well.
Blocked trouble_of(PersisterState state, int error) noexcept;
// Wakes the persister of a partition, wherever it is: steps control's wake word and the listener of this process.
void want_persister(Partition& partition) noexcept;
// Sleeps on control's progress word for at most `ns` unless `ready()` already says yes.
template <class Ready>
void wait_progress(Partition& partition, std::uint64_t ns, Ready&& ready) noexcept {
  PersisterArea& area = partition.control().persister;
  // The drawing is in ARCHITECTURE.md, "Progress": the waiter stores waiters then looks; the persister stores a watermark
  // then looks at waiters; seq_cst on both sides, so one of them sees the other.
  const std::uint32_t seen = area.progress.load(std::memory_order_acquire);
  area.waiters.store(1, std::memory_order_seq_cst);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (ready()) return;
  futex_wait(area.progress, seen, Deadline::after_ns(ns));
}
// The other side: whoever moved a watermark that somebody may wait for.
void tell_progress(Partition& partition) noexcept;

}  // namespace spillway
