// A log's older part, read from its segments: what a consumer replays until it is live again, and what `verify`
// walks.
//
// With a ring (a Partition) it reads what the persister has written; without one, what recovery finds (recovery.h),
// and then the log's end stays where it was at construction: who waits for more attaches to a ring and makes another.
// Takes no locks, creates nothing, follows nothing that it has not checked. Records are handed out only after the
// CRC of every range they lie in and their own commit word were checked, and after it was seen that the segment was
// not recycled meanwhile. Memory: about 4.2 MiB, and a record's size where one is larger.
// Thread safety: belongs to one reader.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "spillway/core/fork.h"
#include "spillway/ipc/history.h"
#include "spillway/ipc/partition.h"
#include "spillway/ipc/topic_config.h"
#include "spillway/persist/recovery.h"
#include "spillway/persist/segment_reader.h"
#include "spillway/persist/segment_row.h"

namespace spillway {

class SegmentHistory : public History {
 public:
  // `directory` is PartitionPaths::data. `partition` may be null: no ring. Throws Error: with no ring what recover()
  // throws; no memory.
  SegmentHistory(const std::string& directory, const TopicConfig& config, std::uint32_t partition_number,
                 std::shared_ptr<const Partition> partition, FileIo io = FileIo::direct,
                 IoKind io_kind = IoKind::automatic, std::size_t slots = SegmentReader::kSlots);
  // With no ring and the log's end known already. `slots`: how many chunks of up to a MiB the reader has.
  SegmentHistory(const std::string& directory, const TopicConfig& config, std::uint32_t partition_number,
                 RecoveredLog recovered, FileIo io = FileIo::direct, IoKind io_kind = IoKind::automatic,
                 std::size_t slots = SegmentReader::kSlots);
  ~SegmentHistory() override;

  // As History says. A gap's cause is damaged from the first record that can't be had to the first claim boundary
  // behind the damage from which records can be had again; expired up to begin(). `failed` with EPROTONOSUPPORT: of
  // a newer version; with EINVAL: `from` is no offset.
  HistoryRead read(Offset from) noexcept override;
  Offset begin() noexcept override;
  Offset end() noexcept override;
  Offset durable_end() noexcept override;
  Offset boundary_before(Offset offset) noexcept override;
  // Behind it a new holder of the persister's role writes anew, from the ring, and read() answers `nothing` to what can't be
  // read: it is no damage. Before it that answer is given for about a second at most.
  Offset final_end() noexcept;

  // The first claim boundary at or after the range that begins at `range_begin` from which something can be had;
  // end() at the latest. For who goes on behind a `failed`.
  Offset boundary_after(Offset range_begin);

  // Why the last gap that read() gave with cause damaged is one.
  struct Fault {
    RangeFault fault = RangeFault::none;
    int error = 0;
    Offset range = 0;  // the first range that can't be had
  };
  const Fault& last_fault() const noexcept { return last_fault_; }
  // Checks the ranges of [from, to) that read() left out because they lie inside a padding record; what lies before `read_end`
  // is read besides. Nothing, or the first that is not what its index entry says.
  std::optional<Fault> check_padding(Offset from, Offset to, Offset read_end);
  std::uint64_t ranges_checked() const noexcept { return reader_.ranges_checked(); }
  const RecoveredLog& recovered() const noexcept { return recovered_; }  // meaningful without a ring

 private:
  HistoryRead step(Offset from, Offset limit);
  HistoryRead read_data(Offset from, Offset to, Offset limit);
  SegmentReader::Piece look_again(Offset from, Offset to, Offset durable, SegmentReader::Piece piece);
  HistoryRead damage(Offset from, const SegmentReader::Piece& piece, Offset to, Offset durable, Offset limit);
  HistoryRead missing(Offset from, Offset to);
  HistoryRead before_first(Offset from);
  Offset gap_end(Offset range_begin, Offset to);
  Offset overwritten_end(Offset from, Offset to);
  Offset noticed_end(Offset from, Offset to) const noexcept;
  bool expired(Offset from);
  bool settled_tail(Offset from) noexcept;
  Offset limit() noexcept;
  Offset oldest() noexcept;
  Offset boundary_in_segment(Offset base, Offset offset);

  std::string directory_;
  LogIdentity log_;
  bool overwrite_;
  // Who takes the persister's role begins at durable_end, and writes anew what the index says of the log behind it.
  // The ring has all of that, so there nothing is damage yet.
  bool rewrites_ = false;
  std::shared_ptr<const Partition> partition_;
  RecoveredLog recovered_;
  bool synced_ = false;  // without a ring: the recovered end is on disk for certain
  SegmentRow row_;
  SegmentReader reader_;
  Offset gap_reached_ = 0;  // where the last gap record of this log that was read ends
  struct Doubt {
    Offset from = kOffsetEnd;
    std::uint64_t looks = 0;
    std::uint64_t since_ns = 0;
  };
  Doubt doubt_;
  Fault last_fault_;
  ForkMark fork_mark_;
};

}  // namespace spillway
