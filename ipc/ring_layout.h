// <partition>.ring
//
//       0  +---------------------+
//          | Identity, padding   |  creator, once
//    4096  +---------------------+
//          | `capacity` bytes of |  writers; a repairer over a dead writer's claim
//          | records             |
//          +---------------------+
//
// INV-1  The byte of offset O lies at 4096 + (O & (capacity - 1)).
// INV-2  Before any byte of [O, O + capacity) of a new lap is stored, control's reserved_end is past it.
#pragma once

#include "spillway/core/bytes.h"

namespace spillway {

inline constexpr std::uint64_t kRingHeaderBytes = kBlock;
inline constexpr std::uint64_t kRingBytesMin = 64 * kKiB;
inline constexpr std::uint64_t kRingBytesMax = std::uint64_t{1} << 40;

}  // namespace spillway
