// A log's bytes as its segments hold them, checked: nothing is handed out that an index entry's CRC does not vouch
// for.
//
// Reads whole chunks ahead of the caller into a window of a few MiB, with O_DIRECT where the file system has it.
// Used by whoever reads segments: history, recovery, verify. Takes no locks and creates nothing.
// Thread safety: one thread at a time. May throw std::bad_alloc and Error (setting up I/O); damage is never thrown.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "spillway/core/mapping.h"
#include "spillway/ipc/record_layout.h"
#include "spillway/persist/io_queue.h"
#include "spillway/persist/segment_file.h"
#include "spillway/persist/segment_index.h"

namespace spillway {

// Why bytes can't be had.
enum class RangeFault : std::uint8_t {
  none,
  no_file,      // the segment is missing
  no_entry,     // the index has no valid entry that covers them
  truncated,    // the file ends before them
  mismatch,     // they are not what the index says
  record,       // they are what the index says, but hold no record where one must begin
  unsupported,  // a segment, or a record's kind or flag, of a newer version
  failed,       // reading failed: errno
};
std::string_view describe(RangeFault fault) noexcept;

// What is known of one range of kRangeBytes.
struct CheckedRange {
  Offset checked_end = 0;               // bytes from the range's begin to here match `entry`
  RangeFault fault = RangeFault::none;  // why not the whole range
  int error = 0;
  IndexEntry entry{};  // meaningful when checked_end is past the range's begin
};

// A record's header, checked: commit word and shape.
struct FoundRecord {
  RangeFault fault = RangeFault::none;  // record or unsupported: it can't be used
  RecordKind kind = RecordKind::data;
  GapCause cause = GapCause::none;  // of a gap record
  bool more_in_batch = false;
  Offset end = 0;
};

class SegmentReader {
 public:
  static constexpr std::size_t kChunkBytesMax = kMiB;
  static constexpr std::size_t kSlots = 4;  // for a consumer: of a window, one chunk is used, the rest under way
  static constexpr std::size_t kSlotsOfVerify = 9;  // eight under way: what it takes to keep a disk busy

  SegmentReader(std::string directory, const LogIdentity& log, FileIo io = FileIo::direct,
                IoKind io_kind = IoKind::automatic, std::size_t slots = kSlots);
  ~SegmentReader();
  SegmentReader(const SegmentReader&) = delete;
  SegmentReader& operator=(const SegmentReader&) = delete;

  // Bytes before `limit` are known to be in their files; nothing is read ahead past it. What was read under a smaller
  // limit and is not enough is read again. UINT64_MAX: not known, all there is.
  void set_limit(Offset limit) noexcept { limit_ = limit; }

  // The range that begins at `range_begin` (a multiple of kRangeBytes), checked at least up to `wanted_end` if that
  // can be had. `again` reads the index and the bytes anew if it could not be the last time.
  const CheckedRange& check(Offset range_begin, Offset wanted_end, bool again = false);
  // What lies at `from`, a known record boundary; nothing that reaches past `to` (a claim boundary in from's
  // segment, or its end) counts.
  struct Piece {
    enum class What : std::uint8_t {
      records,  // `bytes`: whole data and padding records, valid until the next call, checked record by record
      padding,  // one padding record, too long to be handed out; its body was not looked at
      gap,      // one gap record, of `cause`
      bad,      // nothing usable: `fault` in the range `bad_range`, which the record at `from` lies in or reaches into
    };
    What what = What::bad;
    Offset end = 0;             // of the last record
    Offset claim_end = 0;       // of the last record that ends a claim; from, if none does
    std::uint64_t records = 0;  // data records
    std::span<const std::byte> bytes;
    GapCause cause = GapCause::none;
    RangeFault fault = RangeFault::none;
    int error = 0;
    Offset bad_range = 0;
  };
  Piece piece(Offset from, Offset to);

  // The valid entries of a range, from the index alone; none when there is no file. `error`: an errno where a home of the index
  // can't be read.
  Candidates entries(Offset range_begin, int& error);
  // The open segment that holds `offset`, or null when there is none.
  const SegmentFile* segment(Offset offset);
  // Forgets everything about the segment at `base`: it may have been recycled.
  void forget(Offset base) noexcept;
  std::uint64_t ranges_checked() const noexcept { return ranges_checked_; }

 private:
  enum class SlotState : std::uint8_t { empty, reading, ready };
  static constexpr std::size_t kRangesPerChunk = kChunkBytesMax / kRangeBytes;
  static constexpr std::uint64_t kIndexBlocksHeld = 16;
  static constexpr std::uint64_t kNoChunk = UINT64_MAX;

  struct Slot {
    std::uint64_t chunk = kNoChunk;
    SlotState state = SlotState::empty;
    std::shared_ptr<SegmentFile> file;
    Offset limit = 0;        // when it was read: bytes before it are final
    std::size_t wanted = 0;  // bytes asked for
    // By range, as one bad sector is no reason to give the others up: the bytes that the file had, and why not all.
    std::array<std::size_t, kRangesPerChunk> had;
    std::array<int, kRangesPerChunk> errors;
    std::array<CheckedRange, kRangesPerChunk> ranges;
    std::array<Offset, kRangesPerChunk> checked_under;  // the limit when the range was checked; 0: never
  };
  struct IndexWindow {
    std::shared_ptr<SegmentFile> file;
    std::uint64_t first = 0;  // block
    std::uint64_t count = 0;
    std::array<Offset, kIndexBlocksHeld> limits;  // when the block was read
    std::array<int, kIndexBlocksHeld> errors;     // of either home: what could not be read has no entries
  };

  // [from, to) in one piece of memory, valid until the next call; they don't cross a segment's end. Checks every
  // range of it; on a fault `bytes` is empty and `bad_range` names the first range that can't be had.
  struct Bytes {
    std::span<const std::byte> bytes;
    RangeFault fault = RangeFault::none;
    int error = 0;
    Offset bad_range = 0;
  };
  Bytes bytes(Offset from, Offset to);
  // The checked bytes from `from` on that lie in its chunk, up to `to`.
  std::span<const std::byte> run(Offset from, Offset to);
  FoundRecord parse(const std::byte* header_bytes, Offset at) const noexcept;
  static Piece bad_piece(Offset from, RangeFault fault, int error, Offset bad_range) noexcept;

  std::byte* slot_memory(std::size_t slot) const noexcept { return window_.data() + slot * chunk_bytes_; }
  std::byte* home_memory(unsigned home) const noexcept;
  std::size_t slot_of(std::uint64_t chunk) const noexcept { return chunk % slots_.size(); }
  std::shared_ptr<SegmentFile> open_segment(Offset base, int& error);
  Slot& load(std::uint64_t chunk);
  bool start_read(std::uint64_t chunk);
  void read_ahead(std::uint64_t chunk);
  void wait_for(Slot& slot);
  void finish_read(Slot& slot, int error) noexcept;
  void read_now(Slot& slot, std::size_t from, std::size_t to) noexcept;
  FileRead read_part(Slot& slot, std::size_t from, std::size_t to) noexcept;
  std::size_t bytes_wanted(std::uint64_t chunk) const noexcept;
  const CheckedRange& check_now(Slot& slot, Offset range_begin, bool again);
  const CheckedRange& unreadable(Offset range_begin, RangeFault fault, int error) noexcept;
  void load_index(const std::shared_ptr<SegmentFile>& file, std::uint64_t block, bool again) noexcept;
  Candidates fresh_candidates(const std::shared_ptr<SegmentFile>& file, Offset range_begin, Offset wanted_end,
                              bool again);
  void read_index_blocks(std::uint64_t block, std::uint64_t count) noexcept;
  int read_home(unsigned home, std::uint64_t block, std::uint64_t count) noexcept;
  int index_error(std::uint64_t block) const noexcept { return index_.errors[block - index_.first]; }
  Candidates candidates_in_window(Offset range_begin) const noexcept;

  std::string directory_;
  LogIdentity log_;
  CommitMix mix_;
  FileIo io_;
  std::uint64_t chunk_bytes_;
  Offset limit_ = UINT64_MAX;
  std::vector<Slot> slots_;
  Mapping window_;
  std::unique_ptr<IoQueue> queue_;
  std::uint64_t pinned_ = kNoChunk;                  // read-ahead leaves its slot alone
  std::vector<std::shared_ptr<SegmentFile>> files_;  // the newest first, a few
  IndexWindow index_;
  std::vector<std::byte> stitched_;  // a record that does not lie in the window in one piece
  CheckedRange missing_;
  std::uint64_t ranges_checked_ = 0;
};

}  // namespace spillway
