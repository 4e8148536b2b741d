// The consumer's side of waking: sleeping until somebody commits to one of several partitions.
//
// Short sleeps first (a millisecond, no barrier); a long one only when nobody was woken for a whole short one, and only
// after a membarrier. Why that can't miss a wake-up for long is argued in ARCHITECTURE.md, "Waking".
// Thread safety: one Sleeper per consumer, used by its thread.
#pragma once

#include <vector>

#include "spillway/core/futex.h"
#include "spillway/ipc/partition_reader.h"

namespace spillway {

class Sleeper {
 public:
  // Sleeps until something may have happened in one of the readers' partitions, or `deadline`. Returns at once when one is
  // ready().
  void sleep(std::span<PartitionReader> readers, Deadline deadline) noexcept;
  // Something was delivered: the next sleep is a short one again.
  void reset() noexcept { quiet_ = false; }

 private:
  bool announce(std::span<PartitionReader> readers) noexcept;

  std::vector<FutexWatch> watches_;
  std::vector<FutexWatch> before_;
  bool quiet_ = false;  // the last short sleep ran its full time and no word has been stepped since it began
};

}  // namespace spillway
