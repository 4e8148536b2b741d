// The persister of a process: one thread, one I/O queue, many partitions; and the waits for the disk.
//
// A partition is stood by for from add() to remove(): whenever its role is free, it is taken. Who waits for the disk
// here does the work on the calling thread if nobody else is at it; else the holder of the role, wherever it is, is
// asked. A clean stop of one partition: producers closed -> stop_cleanly() -> seal_if_last() (clean_stop.h).
//
// Thread safety: thread-safe. After a fork the child's copy does nothing, answers `forked`, and its thread is the
// parent's.
#pragma once

#include <functional>
#include <memory>

#include "spillway/core/clock.h"
#include "spillway/core/fork.h"
#include "spillway/ipc/producer_types.h"
#include "spillway/persist/durable.h"
#include "spillway/persist/io_queue.h"
#include "spillway/persist/partition_persister.h"

namespace spillway {

struct PersisterOptions {
  IoKind io = IoKind::automatic;
  // Called without locks, from the persister's thread or one that waits for the disk: once per change of state.
  std::function<void(const PersisterEvent&)> on_event = {};
  // In the place of make_io_queue, for tests that make I/O fail.
  std::function<std::unique_ptr<IoQueue>()> make_queue = {};
};

struct StandByOptions {
  bool daemon = false;   // asks holders that are no daemons for the role, and does not let go when asked
  bool stand_by = true;  // false: never takes the role; waits only
};

class Persister {
 public:
  explicit Persister(PersisterOptions options = {});
  // Lets roles go and does not wait for the disk: what is under way ends by itself, and keeps its segment locked
  // until then.
  ~Persister();
  Persister(const Persister&) = delete;
  Persister& operator=(const Persister&) = delete;

  // A partition of a persistent topic, open for writing. Throws Error when lock or horizon files can't be opened.
  void add(std::shared_ptr<Partition> partition, const StandByOptions& options);
  // Lets the role go as soon as nothing is under way, without waiting for it. Nothing for a partition that is not here.
  void remove(const std::shared_ptr<Partition>& partition) noexcept;

  // Waits until everything before `end` is in its segment (written) or synced (durable). `lost`: it never will be. The
  // partition need not be stood by for.
  Durable wait_written(Partition& partition, Offset end, Deadline deadline) noexcept;
  Durable wait_durable(Partition& partition, Offset end, Deadline deadline) noexcept;
  // The same for all that is committed now. `yes` also when some of it was lost to a gap on the way: nothing is missing
  // that could still be written.
  Durable drain(Partition& partition, Deadline deadline) noexcept;
  // drain() and remove(), and waits until the role is free. Anything but yes: the partition is stood by for as before.
  Durable stop_cleanly(const std::shared_ptr<Partition>& partition, Deadline deadline) noexcept;

  bool holds_role(const Partition& partition) const noexcept;
  // How this process does its I/O; none before the first partition was added.
  IoPath path() const noexcept;

 private:
  struct Impl;
  enum class Level : std::uint8_t { written, durable };
  Durable wait(Partition& partition, Offset end, Level level, Deadline deadline) noexcept;

  std::unique_ptr<Impl> impl_;  // leaked in a forked child
  ForkMark mark_;
};

// Why a wait for the disk is not over, as far as control tells. Any process may ask.
Blocked persister_blocked(const Partition& partition) noexcept;

}  // namespace spillway
