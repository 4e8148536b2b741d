// horizon: what must be known of a partition before its ring may be used, and after it is gone.
//
//       0  +------+   4096  +------+
//          | slot |         | slot |    each in a block of its own, written in turn, synced before use
//          +------+         +------+
//
// INV-1  Of the slots whose checksum holds the one with the later sequence (they wrap) counts. Only the other is ever written,
//        and then, synced between, the first one too: but for the sequence number they say the same.
// INV-2  No claim of incarnation `incarnation` goes past `horizon`. The horizon of a living ring only grows; only who holds
//        the exclusive form of the writers' lock may trim it (a clean stop) or change the incarnation.
// INV-3  The log before `begin` ends at `previous_end`, for ever: what segments hold of [previous_end, begin) is dead.
// INV-4  clean == 1: the log ends exactly at `horizon`, all of it is on disk and synced, and no writer has attached since.
// Written by: the holder of the persister role (horizon), the holder of the writers' lock in its exclusive form (all).
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace spillway {

inline constexpr std::uint64_t kHorizonMagic = 0x31524F48'4C495053U;  // "SPILHOR1"
inline constexpr std::uint32_t kHorizonVersion = 1;

struct HorizonSlot {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t partition;
  std::uint64_t topic_id;
  std::uint64_t sequence;
  std::uint64_t incarnation;
  std::uint64_t begin;  // the ring's first offset
  std::uint64_t horizon;
  std::uint64_t previous_end;
  std::uint64_t previous_cause;  // GapCause of [previous_end, begin); none after a clean stop
  std::uint64_t clean;           // 0 or 1
  std::uint64_t checksum;        // XXH3 of everything before
};
static_assert(sizeof(HorizonSlot) == 88 && std::has_unique_object_representations_v<HorizonSlot>);

}  // namespace spillway
