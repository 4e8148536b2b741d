// What a reader that is behind the ring reads from: the log's older part, wherever it is kept.
//
// The one implementation is persist/segment_history.h; this interface keeps ipc from knowing the disk.
// Thread safety: a History belongs to one reader.
#pragma once

#include <cstddef>
#include <span>

#include "spillway/ipc/record_layout.h"

namespace spillway {

enum class HistoryStatus {
  data,     // `bytes` are whole records from `begin` on, checked against their CRC
  gap,      // [begin, end) can't be had, for `cause`; then go on at `end`
  nothing,  // there is nothing at that offset yet: the ring has it, or it is about to be written; ask again
  end,      // the log ends there and no ring lives that could go on
  failed,   // reading failed (errno in `error`); asking again tries again
};

struct HistoryRead {
  HistoryStatus status = HistoryStatus::nothing;
  Offset begin = 0;
  Offset end = 0;
  GapCause cause = GapCause::none;
  int error = 0;
  std::span<const std::byte> bytes;  // valid until the next call
};

class History {
 public:
  virtual ~History() = default;
  // Reads on from a record's boundary. With GapCause::none a gap is padding: go on at `end` and tell nobody.
  virtual HistoryRead read(Offset from) noexcept = 0;
  // The oldest offset that can be read: a claim boundary.
  virtual Offset begin() noexcept = 0;
  // The end of what is on disk for certain: recovered or written so far, a claim boundary.
  virtual Offset end() noexcept = 0;
  // Same, but only what would survive a power loss.
  virtual Offset durable_end() noexcept = 0;
  // A claim boundary at or before `offset`, from which a reader walks to the record it wants; at most a quarter of a
  // ring away where the index is whole. begin() when `offset` lies before it.
  virtual Offset boundary_before(Offset offset) noexcept = 0;
};

}  // namespace spillway
