// The segments of one partition as the holder of its persister role sees them: those that exist, those that are open
// for writing, the next one, the ones that expire.
//
// Making, recycling and expiring happen here and wait for the file system (not for log bytes). While less is there than
// is to be retained, the next file is made ahead of need; then the oldest segment goes, when the next one is begun and
// not before, and its file is used again: so the limit holds at any instant, spares included, and readers keep what they
// can. Only a spare in which a dead process' I/O is under way comes on top. Segments that are too old go once that is
// noticed: one file becomes the spare, the others make room on the disk.
// Thread safety: one thread at a time (the persister's mutex).
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "spillway/ipc/partition.h"
#include "spillway/persist/horizon_file.h"
#include "spillway/persist/segment_store.h"
#include "spillway/persist/segment_writer.h"

namespace spillway {

class WriterRow {
 public:
  WriterRow(const Partition& partition, IoOwner& owner);

  // Looks at the directory (again): nothing is open afterwards. `horizon` says what lies before the ring. No
  // operation may be under way. Throws Error.
  void load(const HorizonFields& horizon);
  // Closes everything, so that the locks go. No operation may be under way.
  void close() noexcept { open_.clear(); }

  // Segments that are opened from now on are used without O_DIRECT: the file system refused a direct write.
  void go_buffered() {
    store_ = SegmentStore(store_.directory(), store_.log(), partition_.config().sharing, FileIo::buffered);
  }

  SegmentStore& store() noexcept { return store_; }
  bool exists(Offset base) const { return existing_.contains(base); }
  Offset segment_base(Offset offset) const noexcept { return align_down(offset, store_.log().segment_bytes); }
  Offset segment_end(Offset offset) const noexcept { return segment_base(offset) + store_.log().segment_bytes; }

  // The writer of the segment that holds `offset`, if it is open.
  SegmentWriter* find(Offset offset) noexcept;
  // The same; opens or makes it. nullptr: not now. `error` is then an errno, or 0: I/O of a dead process is still
  // under way in it, or the row is crowded().
  SegmentWriter* open(Offset offset, int& error) noexcept;
  // Takes one that was opened by somebody else into the row.
  SegmentWriter& take(SegmentFile file);
  std::deque<std::unique_ptr<SegmentWriter>>& writers() noexcept { return open_; }

  // Up to where index entries are written; kOffsetEnd when nothing is missing.
  Offset index_end() const noexcept;
  bool index_under_way() const noexcept;
  // Where writing would begin again after a failure: segments before it may be closed, and may go.
  void note_safe(Offset end) noexcept { safe_end_ = end; }
  // Closes what is finished: all of it is safe; nothing is under way, nothing to sync.
  void close_finished() noexcept;

  // Half-way through a segment: makes sure that the next one costs no allocation. Returns 0 or an errno; called
  // again, it tries again after a second.
  int prepare(Offset written_end, std::uint64_t now_ns) noexcept;
  // The next segment can't be made before the oldest has gone, which is not safe or not synced yet.
  bool crowded() const noexcept { return crowded_; }
  // There may be more segments than are retained, of earlier holders or since an expiry failed.
  bool surplus() const noexcept { return surplus_; }
  // Lets the oldest go until what stays fits, as far as they are safe. Throws Error; what has not gone then goes when
  // it is called again.
  void expire();
  // Lets go of segments that are too old, as far as they are durable, finished and needed by no cursor: the oldest of them,
  // a few at a time. Returns after how many nanoseconds to look again. Throws Error; what has not gone then goes when it
  // is called again.
  std::uint64_t expire_aged(Offset durable_end);

 private:
  SegmentBirth birth_of(Offset base) const noexcept;
  bool limited() const noexcept { return partition_.config().retain_bytes != 0; }
  std::uint64_t room() const noexcept;   // how many segments are retained at most
  Offset finished_end() const noexcept;  // what lies before is safe, and in segments that are not open
  Offset needed_from() const;            // by the topic's cursors
  void make_room(std::uint64_t room, std::uint64_t coming);
  void let_go(std::span<const Offset> going, std::size_t spares_max);
  SegmentFile make(Offset base);
  std::optional<SegmentFile> leftover(Offset base);

  const Partition& partition_;
  IoOwner& owner_;
  SegmentStore store_;
  HorizonFields horizon_;
  std::set<Offset> existing_;
  std::map<Offset, std::optional<std::uint64_t>> newest_ns_;  // of finished ones, as far as it was asked for
  std::deque<std::unique_ptr<SegmentWriter>> open_;           // ascending
  Offset safe_end_ = 0;
  bool crowded_ = false;
  bool surplus_ = false;
  bool removal_unsynced_ = true;  // a segment went, by us or an earlier holder, and the directory was not synced since
  Offset prepared_ = kOffsetEnd;  // base of the segment for whose successor was cared
  std::uint64_t prepare_again_ns_ = 0;
};

}  // namespace spillway
