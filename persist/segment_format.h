// <base offset, 20 digits>.log: a range of the log on disk.
//
//                    0  +----------------------+
//                       | SegmentHeader, zeros |  once, synced before the file gets its name
//                 4096  +----------------------+
//                       | log bytes, 1:1       |  the holder of the persister role
//    4096 + segment     +----------------------+
//                       | index, home A        |  the holder of the persister role: whole 4 KiB blocks of 64
//                       | index, home B        |  entries each; entry i of a home is for log bytes
//                       +----------------------+  [base + i * 64 KiB, base + (i + 1) * 64 KiB)
//
// INV-1  The log's byte O (base <= O < base + segment) lies at 4096 + O - base.
// INV-2  An index entry is valid if and only if its checksum (keyed with the log's salt) holds and range_begin is its
//        range's first offset: what a recycled file held before is never valid.
// INV-3  Each 4 KiB index block has two homes. The home that the last completed sync covered is never overwritten
//        until a later sync has covered the other. So of each range the newest synced entry always survives.
// INV-4  Bytes that an entry of a synced home covers are only ever rewritten with the same bytes.
// INV-5  Of a range's valid entries the one that covers more bytes counts; while a persister lives, one that reaches
//        past its written_end describes data that may still be under way, and does not count.
// INV-6  The log's end in the newest segment is not in its header; it is recovered from the index (recovery.h) or is
//        sealed in the horizon file. What lies behind it means nothing.
// INV-7  Where records were overwritten in the ring before they could be written, a gap record stands at the claim
//        boundary where they stop and ends where they resume, or at the segment's end if they don't before. Behind
//        its header the rest of that range, and the beginning of the range in which records resume, hold zeros and
//        are covered by their entries; ranges wholly inside the gap have no valid entry, segments wholly inside have
//        no file. A segment in whose first byte no claim begins that was written starts with a gap record.
// INV-8  A padding or gap record's body is never read. A range wholly inside one need not have an entry, and the
//        entry of the range with its header need not cover more than the header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "spillway/core/bytes.h"
#include "spillway/ipc/record_layout.h"

namespace spillway {

inline constexpr std::uint64_t kSegmentMagic = 0x31474553'4C495053U;  // "SPILSEG1"
inline constexpr std::uint32_t kSegmentVersion = 1;
inline constexpr std::uint64_t kSegmentHeaderBytes = kBlock;
inline constexpr std::uint64_t kRangeBytes = 64 * kKiB;
inline constexpr std::uint64_t kIndexEntriesPerBlock = 64;
inline constexpr std::uint64_t kSegmentBytesMax = std::uint64_t{1} << 36;  // a padding record spans any of them

struct SegmentHeader {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t partition;
  std::uint64_t topic_id;
  std::uint64_t salt;           // of the log's commit words
  std::uint64_t base;           // first offset; a multiple of segment_bytes
  std::uint64_t segment_bytes;  // log bytes the file has room for
  std::uint64_t ring_bytes;     // every multiple of it is a claim boundary
  std::uint64_t incarnation;    // of the ring it was written from
  std::uint64_t previous_end;   // where the log before this segment ends; == base when there is no gap between
  std::uint64_t gap_cause;      // GapCause of [previous_end, base): none = padding of a clean stop
  std::uint64_t created_ns;     // wall clock
  std::uint64_t checksum;       // XXH3 of everything before
};
static_assert(sizeof(SegmentHeader) == 96 && std::has_unique_object_representations_v<SegmentHeader>);

struct IndexEntry {
  std::uint64_t range_begin;  // first offset of the range
  std::uint32_t bytes;        // how many of the range's bytes are written: a multiple of 16 from 16 to kRangeBytes
  std::uint32_t crc;          // CRC32C of exactly those
  std::uint64_t boundary;     // the last claim boundary at or before range_begin + bytes; may lie in an earlier range
  std::uint64_t first_boundary;  // the first claim boundary at or after range_begin and before range_begin + bytes, or
                                 // kNoBoundary
  std::uint64_t commit_time_ns;  // when the persister took the range's last bytes, by the log's clock (log_clock.h)
  std::uint64_t records;         // data records in this ring's log that begin before range_begin + bytes
  std::uint64_t durable_end;     // as known when this was written
  std::uint64_t checksum;        // XXH3 of everything before, with the log's salt exclusive-ored in
};
static_assert(sizeof(IndexEntry) == 64 && std::has_unique_object_representations_v<IndexEntry>);
inline constexpr std::uint64_t kNoBoundary = UINT64_MAX;

constexpr std::uint64_t index_blocks(std::uint64_t segment_bytes) noexcept {
  return (segment_bytes / kRangeBytes + kIndexEntriesPerBlock - 1) / kIndexEntriesPerBlock;
}
constexpr std::uint64_t segment_file_bytes(std::uint64_t segment_bytes) noexcept {
  return kSegmentHeaderBytes + segment_bytes + 2 * index_blocks(segment_bytes) * kBlock;
}
// Where block `block` of home 0 (A) or 1 (B) lies in the file.
constexpr std::uint64_t index_block_pos(std::uint64_t segment_bytes, std::uint64_t block, unsigned home) noexcept {
  return kSegmentHeaderBytes + segment_bytes + (home * index_blocks(segment_bytes) + block) * kBlock;
}

}  // namespace spillway
