// The index of a segment: entries, blocks of entries, and which of a block's two homes may be written.
//
// All of it is pure: no file is touched here. The writer (persister) keeps an IndexBlock per block that is still
// changing; readers (history, recovery) take candidates() from the two homes as they read them.
// Thread safety: values; one thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "spillway/persist/segment_format.h"

namespace spillway {

inline constexpr std::uint64_t kIndexBlockLogBytes = kIndexEntriesPerBlock * kRangeBytes;  // log that a block indexes
static_assert(kIndexEntriesPerBlock * sizeof(IndexEntry) == kBlock);

// Where in a segment something about `offset` is. `base` <= offset < base + segment_bytes.
constexpr Offset range_begin_of(Offset offset) noexcept { return align_down(offset, kRangeBytes); }
constexpr std::uint64_t index_block_of(Offset base, Offset offset) noexcept {
  return (offset - base) / kIndexBlockLogBytes;
}
constexpr std::uint64_t log_pos(Offset base, Offset offset) noexcept { return kSegmentHeaderBytes + (offset - base); }

// Fills in the checksum.
IndexEntry sealed(IndexEntry entry, std::uint64_t salt) noexcept;
// INV-2 of the format, and every field in its range: bytes in whole 16s up to kRangeBytes, boundary <= range_begin +
//       bytes,
// first_boundary inside or kNoBoundary, durable_end <= kOffsetEnd and on the records' grid.
bool entry_valid(const IndexEntry& entry, std::uint64_t salt, Offset range_begin) noexcept;

// Holds something, but not its checksum: a bit of it has flipped. What a recycled file held before is whole and of another
// range, and an entry lies in one sector, so that a power cut leaves the old one or the new one.
bool entry_spoilt(const IndexEntry& entry, std::uint64_t salt) noexcept;

using IndexHome = std::span<const std::byte, kBlock>;

// The valid entries of one range, the one that covers more bytes first; equal ones count once.
struct Candidates {
  std::array<IndexEntry, 2> entries;
  unsigned count = 0;
};
// The homes are of the block that has the range: index_block_of(base, range_begin).
Candidates candidates(IndexHome home_a, IndexHome home_b, std::uint64_t salt, Offset base, Offset range_begin) noexcept;

// A writer's image of one index block and the state of its two homes. Steps, driven by the persister:
//   update(entry) ...            -> dirty()
//   submit a write of image() to *home_to_write()    -> write_submitted()
//   that write completed         -> write_completed(ok)
//   submit a sync of the file    -> sync_submitted()      (covers writes that completed before)
//   that sync completed          -> sync_completed(ok)
// home_to_write() is empty while a write of this block is under way, and while a sync is under way that covers the
// newest write: the home it covers must survive if it succeeds, the other if it does not.
// One sync of a file at a time. Whoever moves durable_end by a sync submits it with no write of a block under way:
// such a write is replacing what completed before, so the sync covers nothing of that block. The bytes of image()
// must not change under a write: copy them into the I/O buffer.
class IndexBlock {
 public:
  // A block of a new segment: no valid entries, no home written. `first` is its first range's first offset.
  IndexBlock(std::uint64_t salt, Offset first) noexcept;
  // At take-over, from both homes as they are in the file. The caller holds the segment's lock, and has synced the
  // file once, so that what it read is durable. `durable_end` and `written_end` are control's. Entries that reach
  // past written_end don't count (INV-5): they are not gone on from. Of the homes, the one that covers the block's log
  // up to durable_end is kept, be it with an entry that reaches past written_end, if entries never go out ahead of their
  // bytes (`entries_prove`); of two such, the one that covers more; or, whatever is read, `known_home`: the one that the caller's own
  // last completed sync covered, if it has one. (After a sync that failed, what is read is not proof that it is on
  // disk.)
  static IndexBlock load(IndexHome home_a, IndexHome home_b, std::uint64_t salt, Offset first, Offset durable_end,
                         Offset written_end, bool entries_prove,
                         std::optional<unsigned> known_home = std::nullopt) noexcept;

  // Seals the entry and puts it in its place. Its range must be one of this block's.
  void update(const IndexEntry& entry) noexcept;
  // The image's entry for a range, if it has a valid one: what a take-over goes on from.
  std::optional<IndexEntry> entry(Offset range_begin) const noexcept;
  IndexHome image() const noexcept;
  Offset first() const noexcept { return first_; }

  bool dirty() const noexcept { return dirty_; }  // the image has what no completed or submitted write has
  std::optional<unsigned> home_to_write() const noexcept;
  void write_submitted() noexcept;
  void write_completed(bool ok) noexcept;
  void sync_submitted() noexcept;
  void sync_completed(bool ok) noexcept;
  // The home that the last completed sync covered; empty when none ever did.
  std::optional<unsigned> durable_home() const noexcept { return durable_home_; }
  // Nothing under way, nothing to write, newest image synced: the block can be forgotten once its ranges are full.
  bool settled() const noexcept;

 private:
  std::uint64_t salt_;
  Offset first_;
  alignas(8) std::array<std::byte, kBlock> image_{};
  std::optional<unsigned> durable_home_;
  bool dirty_ = false;
  bool writing_ = false;   // a write to the other home is under way
  bool written_ = false;   // one completed since the last sync was submitted
  bool syncing_ = false;   // a sync is under way that covers the newest write
  bool in_doubt_ = false;  // a sync failed while the write was under way: it has to be repeated
};

}  // namespace spillway
