// The clock of one log, by which its records age.
//
// Born with a ring: at the wall clock's time, but not before the newest record that the disk has by then. From there on it
// is the host's uptime. So it never steps when somebody sets the wall clock, time asleep counts, every process of the host
// reads the same, and it does not go back when the ring is lost; how long the host was down is what the wall clock says, less
// what that was ahead of the log's when the newest segment was begun: its header and its first index entry have the two.
//
//   what happens                            what the clock does
//   the wall clock is set, ring lives       nothing
//   the host sleeps                         goes on: CLOCK_BOOTTIME; by CLOCK_MONOTONIC a laptop's data would not age at night
//   another time namespace                  nothing: what that adds to the uptime is taken off again
//   reboot, wall clock right                goes on as if it had been read all the time
//   reboot, wall clock behind the newest    begins at the newest record: time down does not count, data is kept longer
//   reboot, wall clock too far ahead        data is as old as it says: across boots nothing else tells
//   log was born with a clock behind, which  right ages, in this boot and after the next; but where no segment was begun since,
//   was set right since                      the next ring's is later by what the clock was set by
//   ring's files outlived the host          stands still until the uptime is what it was at birth; data is kept longer
//
// Thread safety: a value; const calls from any thread.
#pragma once

#include <cstdint>

#include "spillway/ipc/identity_layout.h"

namespace spillway {

class LogClock {
 public:
  // A new ring's, of a log whose newest record on disk is of `newest_ns` (0: it has none), and whose clock the wall clock was
  // so much ahead of.
  static LogClock born_now(std::uint64_t newest_ns, std::uint64_t wall_ahead_ns = 0);
  explicit LogClock(const Identity& checked);

  std::uint64_t now_ns() const noexcept;  // since the epoch, as the wall clock was at birth
  std::uint64_t born_ns() const noexcept { return born_ns_; }
  std::uint64_t born_uptime_ns() const noexcept { return born_uptime_ns_; }

 private:
  LogClock(std::uint64_t born_ns, std::uint64_t born_uptime_ns, std::int64_t uptime_shift_ns) noexcept
      : born_ns_(born_ns), born_uptime_ns_(born_uptime_ns), uptime_shift_ns_(uptime_shift_ns) {}

  std::uint64_t born_ns_;
  std::uint64_t born_uptime_ns_;
  std::int64_t uptime_shift_ns_;
};

}  // namespace spillway
