// Where a log ends when its ring is gone: read from the segments, without changing anything.
//
// Used by whoever reads with no ring, as it is; and by whoever makes the next ring, who holds the writers' lock in
// its exclusive form, has seen that no I/O of the dead is under way (SegmentStore::busy_segment), and then seals:
//   recover() -> check_sealable() -> sync_recovered() -> remove what `dead` names (SegmentStore::remove): only the
//   horizon as it is tells it from the log -> HorizonFile::write(seal_fields(...)) -> remove what is dead by the new
//   horizon -> create the ring.
// A crash between any two steps is repaired by doing all of them again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "spillway/persist/horizon_file.h"
#include "spillway/persist/segment_file.h"

namespace spillway {

// Log bytes [from, to) can't be had; `what` says why in words. `segment` is the base of the file that is to blame.
struct LogDamage {
  Offset segment = 0;
  Offset from = 0;
  Offset to = 0;
  std::string what;
};

struct RecoveredLog {
  Offset begin = 0;                 // the oldest offset on disk; == end when there is nothing
  Offset end = 0;                   // the log's end, a claim boundary
  Offset synced_end = 0;            // <= end: this much was known to be synced; the rest is after sync_recovered()
  Offset horizon = 0;               // no offset past it was ever handed out
  GapCause cause = GapCause::none;  // of what follows `end` up to the next ring's begin
  bool clean = false;               // the last writers stopped cleanly
  std::optional<HorizonSlot> slot;  // as it was read
  std::vector<Offset> dead;         // segments that an earlier recovery sealed away, or that begin past the horizon and
                                    // hold nothing
  std::vector<LogDamage> damage;    // noticed on the way, all of it before `end`; not a full check (verify.h is)
  // Not 0: an errno with which reading failed at `error_at`. The log may go on behind `end`.
  int error = 0;
  Offset error_at = 0;
};

// Reads the horizon, the index of the newest two segments, and what lies behind the largest durable_end they name;
// so its cost does not grow with the log. Throws Error: corrupt or unsupported horizon file, or one that is older
// than the segments beside it (it was restored: offsets past it were handed out); io. Without a horizon file: the
// segments alone say what they can, and `slot` is empty.
RecoveredLog recover(const std::string& directory, const LogIdentity& log, FileIo io = FileIo::direct);
// The same by a horizon that is known already; empty: as if there were none, for who must make do without (verify).
RecoveredLog recover_by(const std::optional<HorizonSlot>& horizon, const std::string& directory, const LogIdentity& log,
                        FileIo io = FileIo::direct);

// Throws Error when no new ring may be made: corrupt, segments, but no horizon file to say which offsets were handed out; io,
// it could not be read where the log ends.
void check_sealable(const std::string& directory, const RecoveredLog& recovered);

// Syncs the segments that hold [synced_end, end), and their names, so that the end may be promised. Returns 0 or an errno.
int sync_recovered(const std::string& directory, const LogIdentity& log, const RecoveredLog& recovered) noexcept;

// What the horizon file must say before the next ring is created: it begins at the old horizon, rounded up to a
// segment, and may hand out `step` bytes.
HorizonFields seal_fields(const RecoveredLog& recovered, std::uint64_t segment_bytes, std::uint64_t incarnation,
                          std::uint64_t step) noexcept;

}  // namespace spillway
