// One record, as it lies in the ring and, byte for byte, in a segment.
//
//   0        8        12       14     15      16
//   +--------+--------+--------+------+-------+------------------------+-----------+-----+-----------+
//   | commit | length | key    | kind | flags | extension (if flagged) | payload   | key | pad to 16 |
//   | u64    | u32    | bytes  | u8   | u8    | multiple of 16         | 16-aligned|     |           |
//   +--------+--------+--------+------+-------+------------------------+-----------+-----+-----------+
//
// INV-1  A record at a known boundary O is readable if and only if its commit word is CommitMix::word(O).
//        Boundaries are never found by scanning: the inside of a dead batch holds valid words.
// INV-2  `length` counts bytes of extension + payload + key in a data record; in padding and gap it counts the
//        record's 16-byte units, header included, so that one can span any ring or segment.
// INV-3  No record crosses a multiple of the ring's capacity; hence none crosses a segment's end.
// INV-4  All records of a claim but the last carry more_in_batch; the first one's commit word is stored last.
//        So a record is visible if and only if its whole claim is.
// INV-5  An unknown kind or flag is `unsupported`, never skipped.
// INV-6  The second half of the header, `meta`, is one 64-bit word, stored before `commit`.
//
// Only writers store here; a repairer stores padding over the claim of a dead one.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "spillway/core/bytes.h"
#include "spillway/core/points.h"

namespace spillway {

using Offset = std::uint64_t;  // a byte position in the log since its birth; a multiple of 16 at a record's boundary

static_assert(std::endian::native == std::endian::little, "the log is little-endian, in memory and on disk");

inline constexpr std::size_t kRecordAlign = 16;
inline constexpr std::size_t kRecordHeaderBytes = 16;
inline constexpr std::uint32_t kKeyBytesMax = 65535;
inline constexpr Offset kOffsetEnd = Offset{1} << 62;  // a log that got here stops: 146 years at 1 GB/s

enum class RecordKind : std::uint8_t { data = 1, padding = 2, gap = 3 };

namespace flag {
inline constexpr std::uint8_t kHasKey = 1;  // distinguishes an empty key from none
inline constexpr std::uint8_t kTombstone = 2;
inline constexpr std::uint8_t kHasExtension = 4;
inline constexpr std::uint8_t kMoreInBatch = 8;
inline constexpr std::uint8_t kKnown = 15;
}  // namespace flag

// Why a range of offsets can't be had. The values are on disk (a gap record's key-bytes field).
enum class GapCause : std::uint16_t { none = 0, overwritten = 1, expired = 2, crash = 3, damaged = 4 };

// The header's second half, unpacked.
struct RecordMeta {
  std::uint32_t length = 0;
  std::uint16_t key_bytes = 0;  // a gap record: its GapCause
  RecordKind kind = RecordKind::data;
  std::uint8_t flags = 0;

  constexpr std::uint64_t pack() const noexcept {
    return std::uint64_t{length} | std::uint64_t{key_bytes} << 32 |
           std::uint64_t{static_cast<std::uint8_t>(kind)} << 48 | std::uint64_t{flags} << 56;
  }
  static constexpr RecordMeta unpack(std::uint64_t word) noexcept {
    return {static_cast<std::uint32_t>(word), static_cast<std::uint16_t>(word >> 32),
            static_cast<RecordKind>(static_cast<std::uint8_t>(word >> 48)), static_cast<std::uint8_t>(word >> 56)};
  }
};

struct RecordHeader {
  Shared<std::uint64_t> commit;
  Shared<std::uint64_t> meta;
};
static_assert(sizeof(RecordHeader) == kRecordHeaderBytes && alignof(RecordHeader) == 8);
static_assert(Shared<std::uint64_t>::is_always_lock_free);

// The commit word of each offset of one log: a bijection, so that what a previous lap left at the same place never
// matches; salted, so that another log's bytes (a recycled block) don't either; odd, so never zero.
class CommitMix {
 public:
  explicit constexpr CommitMix(std::uint64_t salt = 0) noexcept : salt_(salt & kMask63) {}
  constexpr std::uint64_t word(Offset offset) const noexcept {
    std::uint64_t x = ((offset >> 4) * 0x9E3779B97F4A7C15U & kMask63) ^ salt_;  // odd factor: a bijection of 63 bits
    x ^= x >> 32;
    return x << 1 | 1;
  }

 private:
  static constexpr std::uint64_t kMask63 = ~std::uint64_t{0} >> 1;
  std::uint64_t salt_;
};

// The extension: a presence bitmap and a tag, then what the bitmap names in this order, 8 bytes each, padded to 16.
namespace extension {
inline constexpr std::uint32_t kEventTime = 1;  // ns since the Unix epoch
inline constexpr std::uint32_t kSendTime = 2;
inline constexpr std::uint32_t kCommitTime = 4;
inline constexpr std::uint32_t kSequence = 8;  // the caller's
inline constexpr std::uint32_t kTag = 16;      // the caller's; lies beside the bitmap
inline constexpr std::uint32_t kKnown = 31;

constexpr std::uint32_t bytes_of(std::uint32_t bitmap) noexcept {
  const auto words = static_cast<std::uint32_t>(std::popcount(bitmap & (kKnown & ~kTag)));
  return bitmap == 0 ? 0 : static_cast<std::uint32_t>(align_up(8 + 8 * words, kRecordAlign));
}
}  // namespace extension

// Bytes a data record takes in the log.
constexpr std::uint64_t record_bytes(std::uint64_t length) noexcept {
  return align_up(kRecordHeaderBytes + length, kRecordAlign);
}

enum class ShapeStatus : std::uint8_t { ok, corrupt, unsupported };
struct RecordShape {
  ShapeStatus status;
  std::uint64_t bytes;  // whole record; valid when ok, and then at least 16 and at most the room given
};

// What a header says about its record's size, checked: `room` is how many bytes there are up to the next multiple of
// the ring's capacity (or the end of what was read). Reads nothing else.
constexpr RecordShape shape_of(RecordMeta meta, std::uint64_t room) noexcept {
  std::uint64_t bytes = 0;
  switch (meta.kind) {
    case RecordKind::data:
      if ((meta.flags & ~flag::kKnown) != 0) return {ShapeStatus::unsupported, 0};
      if (meta.key_bytes > meta.length) return {ShapeStatus::corrupt, 0};
      if ((meta.flags & flag::kHasKey) == 0 && meta.key_bytes != 0) return {ShapeStatus::corrupt, 0};
      bytes = record_bytes(meta.length);
      break;
    case RecordKind::padding:
    case RecordKind::gap:
      if (meta.flags != 0) return {ShapeStatus::unsupported, 0};
      bytes = std::uint64_t{meta.length} * kRecordAlign;
      if (bytes == 0) return {ShapeStatus::corrupt, 0};
      break;
    default: return {ShapeStatus::unsupported, 0};
  }
  if (bytes > room) return {ShapeStatus::corrupt, 0};
  return {ShapeStatus::ok, bytes};
}

}  // namespace spillway
