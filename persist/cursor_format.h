// <data>/<topic>/cursors/<name>: how far a consumer got, in every partition, for good.
//
//       0  +------------------------+  12288  +------------------------+  24576  +-------------+
//          | CursorSlot, offsets    |         | CursorSlot, offsets    |         | CursorOwner |
//          +------------------------+         +------------------------+         +-------------+  28672
//
// INV-1  Of the slots whose checksum holds the one with the later sequence (they wrap) counts. Only the other is ever written,
//        and synced before it is relied on.
// INV-2  A partition's offset never goes backward. kNoCursorOffset: the consumer has not got anywhere yet, and
//        begins at the earliest record. Anything else is a record boundary.
// INV-3  Who writes holds the exclusive OFD lock on byte 0, through the description it writes with.
// INV-4  CursorOwner is for display, never synced, and means something only while that lock is held.
// Written by: the cursor's owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "spillway/core/bytes.h"
#include "spillway/ipc/topic_config.h"

namespace spillway {

inline constexpr std::uint64_t kCursorMagic = 0x31525543'4C495053U;       // "SPILCUR1"
inline constexpr std::uint64_t kCursorOwnerMagic = 0x314E574F'4C495053U;  // "SPILOWN1"
inline constexpr std::uint32_t kCursorVersion = 1;
inline constexpr std::uint64_t kNoCursorOffset = UINT64_MAX;

struct CursorSlot {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t partitions;  // offsets that follow, one for each
  std::uint64_t topic_id;
  std::uint64_t sequence;
  std::uint64_t written_ns;  // wall clock, for display
  std::uint64_t checksum;    // XXH3 of the slot, this field 0, and of the offsets behind it
};
static_assert(sizeof(CursorSlot) == 48 && std::has_unique_object_representations_v<CursorSlot>);

struct CursorOwner {
  std::uint64_t magic;
  std::uint64_t pid;       // in the owner's pid namespace
  std::uint64_t since_ns;  // wall clock
  std::uint64_t checksum;  // XXH3 of everything before
};
static_assert(sizeof(CursorOwner) == 32 && std::has_unique_object_representations_v<CursorOwner>);

inline constexpr std::uint64_t kCursorSlotBytes =
    align_up(sizeof(CursorSlot) + kPartitionsMax * sizeof(std::uint64_t), kBlock);
inline constexpr std::uint64_t kCursorOwnerPos = 2 * kCursorSlotBytes;
inline constexpr std::uint64_t kCursorFileBytes = kCursorOwnerPos + kBlock;
static_assert(kCursorSlotBytes == 12288 && kCursorFileBytes == 28672);

}  // namespace spillway
