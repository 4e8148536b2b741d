// <partition>.consumers: what consumers say of themselves, and the word they sleep on.
//
//       0  +---------------------+
//          | Identity            |  creator, once
//     256  +---------------------+
//          | Announcement        |  sleepers set it; a waker clears it
//     512  +---------------------+
//          | Wake                |  wakers step it
//    4096  +---------------------+
//          | ConsumerSlot x 128  |  the slot's owner
//   20480  +---------------------+
//
// Everybody with the right to consume maps it read-write, so all of it is a hint: a writer that believed a lie here
// makes a futex call too many, or (gate, only on a topic that allows gates) waits until the liar's lock is free.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "spillway/core/points.h"
#include "spillway/ipc/identity_layout.h"

namespace spillway {

inline constexpr std::size_t kConsumerSlots = 128;
inline constexpr std::size_t kConsumerNameBytes = 48;

enum class ConsumerState : std::uint32_t { none = 0, live = 1, replay = 2, waiting = 3 };

struct Announcement {
  Shared<std::uint32_t> asleep;      // not 0: somebody sleeps or is about to
  Shared<std::uint32_t> gate_slots;  // slots from here on never held a gate; only grows
};
struct Wake {
  Shared<std::uint32_t> sequence;  // the futex
};

struct alignas(128) ConsumerSlot {
  Shared<std::uint64_t> offset;                       // (display) the next it wants
  Shared<std::uint64_t> gate;                         // kNoGate, or the offset it still needs in the ring
  Shared<ConsumerState> state;                        // (display); none: the slot is free
  Shared<std::uint32_t> pid;                          // (display)
  Shared<std::uint64_t> since_ns;                     // (display) wall clock
  std::array<Shared<char>, kConsumerNameBytes> name;  // (display) the cursor's, or empty
};
inline constexpr std::uint64_t kNoGate = UINT64_MAX;

struct Consumers {
  Identity identity;
  alignas(256) Announcement announcement;
  alignas(256) Wake wake;
  alignas(4096) std::array<ConsumerSlot, kConsumerSlots> slots;
};
static_assert(offsetof(Consumers, announcement) == 256);
static_assert(offsetof(Consumers, wake) == 512);
static_assert(offsetof(Consumers, slots) == 4096);
static_assert(sizeof(ConsumerSlot) == 128 && sizeof(Consumers) == 20480);

}  // namespace spillway
