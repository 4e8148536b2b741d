// Turns the log's bytes, as they were copied out of the ring, into index entries: CRC, claim boundaries, record counts.
//
// Pure: works on the persister's own copy, which it checks (the ring is other processes' memory), and touches no
// file. Two places matter: end(), up to which bytes were taken, and boundary(), the last claim boundary at or before
// it. A range is indexed only once every claim that reaches into it was taken whole: of a claim that is lapped
// half-way nothing may be promised, and rewind() goes back to the boundary. Thread safety: one thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <deque>
#include <optional>
#include <span>

#include "spillway/ipc/record_layout.h"
#include "spillway/persist/segment_index.h"

namespace spillway {

class RangeBuilder {
 public:
  RangeBuilder(const CommitMix& mix, std::uint64_t ring_bytes) noexcept : mix_(mix), ring_bytes_(ring_bytes) {}

  // What is known of the place to start at, a claim boundary.
  struct Start {
    Offset at = 0;
    std::span<const std::byte> before;    // the bytes of [range_begin_of(at), at)
    Offset first_boundary = kNoBoundary;  // of the range, if it lies before `at`
    std::uint64_t records = 0;            // data records that begin before `at`
    bool damaged = false;                 // `before` is not what was written: the range's CRC shall not match either
  };
  void start(const Start& start) noexcept;

  // The next bytes of the log, from end() on; they don't cross a range's end. On `corrupt` and `unsupported` nothing is
  // taken.
  ShapeStatus take(std::span<const std::byte> bytes) noexcept;
  // A gap record at boundary() == end() that ends at `to`, at most the segment's end. Fills `header` with its bytes.
  // Afterwards end() is behind the header; `zeros` takes the zeros that stand for what is missing, and `skip` leaves
  // out ranges wholly inside the gap.
  void gap(Offset to, GapCause cause, std::span<std::byte, kRecordHeaderBytes> header) noexcept;
  void zeros(std::uint64_t bytes) noexcept;  // does not cross a range's end, nor the gap's
  void skip(Offset range_begin) noexcept;    // from a range's end to a later range's beginning

  // Back to boundary(): what was taken behind it is forgotten, and so are entries that reach past it.
  void rewind() noexcept;

  Offset end() const noexcept { return now_.end; }
  Offset boundary() const noexcept { return safe_.end; }
  std::uint64_t records() const noexcept { return now_.records; }
  // The bytes of [align_down(boundary(), kBlock), boundary()): the beginning of a block that is not full yet.
  std::span<const std::byte> block() const noexcept { return {block_.data(), safe_.end % kBlock}; }

  // The next range that is full and may be indexed; durable_end and commit_time_ns are the caller's to fill in.
  std::optional<IndexEntry> pop() noexcept;
  // The entry of boundary()'s range up to boundary(); nothing when that is where the range begins.
  std::optional<IndexEntry> partial() const noexcept;

 private:
  struct State {
    Offset end = 0;
    std::uint32_t crc = 0;  // of [range_begin_of(end), end)
    Offset first_boundary = kNoBoundary;
    std::uint64_t records = 0;
  };
  IndexEntry entry_of(Offset range_begin, std::uint64_t bytes, const State& state) const noexcept;
  // Bytes whose CRC is in already. Keeps the beginning of the block that is not full.
  void advance(std::span<const std::byte> bytes) noexcept;
  void reach_boundary() noexcept;

  CommitMix mix_;
  std::uint64_t ring_bytes_;
  State now_;
  State safe_;              // the state as it was at the last claim boundary
  Offset next_record_ = 0;  // where the next header lies: at or after now_.end
  bool in_batch_ = false;   // the record at next_record_ belongs to a claim that began before
  std::deque<IndexEntry> whole_;
  std::array<std::byte, kBlock> recent_{};  // [align_down(end(), kBlock), end())
  std::array<std::byte, kBlock> block_{};   // [align_down(boundary(), kBlock), boundary())
};

}  // namespace spillway
