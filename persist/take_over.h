// Where a persister goes on: what it has to know of the log's tail when it takes the role, or after a failure.
//
// Thread safety: one thread at a time (the persister's mutex).
#pragma once

#include <optional>
#include <vector>

#include "spillway/core/error.h"
#include "spillway/ipc/partition.h"
#include "spillway/persist/range_builder.h"
#include "spillway/persist/writer_row.h"

namespace spillway {

// Control's watermarks, copied once and checked: begin <= durable_end <= written_end <= reserved_end, reclaimable_end
// no further than where writing begins again. Nothing: they can't be right.
struct WatermarkCopy {
  Offset durable_end = 0;
  Offset written_end = 0;
  Offset reclaimable_end = 0;
  std::uint64_t records = 0;
};
std::optional<WatermarkCopy> copy_watermarks(const Partition& partition) noexcept;

// The log's end as it is on disk, made durable on the way. A claim boundary, and what RangeBuilder::start needs of it.
struct Tail {
  Offset at = 0;
  std::vector<std::byte> before;
  Offset first_boundary = kNoBoundary;
  std::uint64_t records = 0;
  bool damaged = false;

  RangeBuilder::Start start() const noexcept { return {at, before, first_boundary, records, damaged}; }
};

// A sync of what the dead holder had written failed: nobody knows what of it is on disk, and a second try that succeeds
// tells nothing about it.
class SyncFailed : public Error {
 public:
  using Error::Error;
};

// Opens the segment that holds `at` and reads the tail: the beginning of at's range from the segment, its CRC checked, or,
// where that is damaged, from the ring, its claims checked; the index block from its two homes. Every segment
// that holds bytes of [durable_end, at) is synced before, so that afterwards the log is durable up to `at`. Where
// writing goes on from written_end the range's entry is written anew, ending at `at`, before anything else is. Nothing:
// I/O of a dead process is still under way; ask again. `known_home` as IndexBlock::load has it. Throws Error, SyncFailed.
std::optional<Tail> read_tail(const Partition& partition, WriterRow& row, Offset at, const WatermarkCopy& watermarks,
                              std::optional<unsigned> known_home);

}  // namespace spillway
