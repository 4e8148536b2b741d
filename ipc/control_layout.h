// <partition>.control: the watermarks of one partition, its producers and its persister.
//
//       0  +---------------------+
//          | Identity            |  creator, once; read-only ever after
//     256  +---------------------+
//          | Claims              |  producers (shared: by CAS; exclusive: the one)
//     512  +---------------------+
//          | Commits             |  the exclusive producer; in shared mode persister, repairers and producers by CAS
//     768  +---------------------+
//          | Notices             |  writers
//    1024  +---------------------+
//          | Persister           |  the holder of the persister role, unless a field says otherwise
//    2048  +---------------------+
//          | boundaries          |  producers: the one whose claim enters the sixteenth
//    2304  +---------------------+
//          | gaps                |  the holder of the persister role
//    3328  +---------------------+
//          | lost                |  the holder of the persister role
//    4096  +---------------------+
//          | ProducerSlot x 128  |  the slot's owner; a note of a dead owner: nobody, until it is settled
//   20480  +---------------------+
//
// Writers map it read-write, consumers read-only. Nothing in it is followed without a check against its range.
//
// INV-1  Every *_end and retained_begin only grows while the ring lives.
// INV-2  retained_begin <= durable_end <= written_end <= committed_end <= reserved_end <= horizon, where defined. They
//        are stored one by one: who loads several loads the smaller one first.
// INV-3  reserved_end is past every byte that was ever stored in the ring, with a release fence between.
// INV-4  committed_end is a floor: a claim boundary at or before the true end, which is found by walking on from it.
// INV-5  persistent, block or drop_new: reserved_end <= reclaimable_end + capacity.
// INV-6  shared mode: reserved_end <= committed_end + capacity.
// INV-7  boundaries[i] is a claim boundary whenever it lies within [reserved_end - capacity, reserved_end].
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "spillway/core/points.h"
#include "spillway/ipc/identity_layout.h"
#include "spillway/ipc/record_layout.h"

namespace spillway {

enum class ProducerMode : std::uint32_t { none = 0, exclusive = 1, shared = 2 };
// What the persister is doing; `none`: no one ever held the role with this ring.
enum class PersisterState : std::uint32_t { none = 0, working = 1, stopped = 2, no_space = 3, io_error = 4 };
enum class IoPath : std::uint32_t { none = 0, uring = 1, pwrite = 2 };

inline constexpr std::size_t kProducerSlots = 128;
inline constexpr std::size_t kBoundaries = 16;
inline constexpr std::size_t kGapNotices = 64;
inline constexpr std::size_t kLostRanges = 16;

struct Claims {
  Shared<std::uint64_t> reserved_end;
};

struct Commits {
  Shared<std::uint64_t> committed_end;
};

struct Notices {
  Shared<ProducerMode> mode;  // of the last writers; stored under the exclusive mode lock
  Shared<std::uint32_t> unused;
  Shared<std::uint64_t> last_wake_ns;  // monotonic; limits wake-ups to one a millisecond
  Shared<std::uint64_t> dropped;       // records refused by drop_new
};

// Several words are hints for display (`stat`): a wrong value misleads a reader of `stat`, nothing else. They are
// marked (display).
struct PersisterArea {
  Shared<std::uint64_t> retained_begin;
  Shared<std::uint64_t> durable_end;
  Shared<std::uint64_t> written_end;
  Shared<std::uint64_t> reclaimable_end;  // what lies before may be overwritten in the ring
  Shared<std::uint64_t> horizon;          // durable promise: no claim goes past it
  Shared<std::uint64_t> gap_count;        // notices ever written; the newest kGapNotices are kept
  Shared<PersisterState> state;
  Shared<std::int32_t> error;             // errno of the last failure; 0 once it cleared
  Shared<IoPath> path;                    // (display)
  Shared<std::uint32_t> pid;              // (display) of the holder, in its own pid namespace
  Shared<std::uint32_t> daemon;           // (display) 1: `spillway persist`
  Shared<std::uint32_t> request;          // who asks for the role: its producer slot + 1; counts while that
                                          // slot's lock is held. Stored by the asker
  Shared<std::uint32_t> wake;             // futex: stepped by whoever needs something written or synced
  Shared<std::uint32_t> sync_wanted;      // stepped by whoever waits for durable_end
  Shared<std::uint32_t> waiters;          // not 0: somebody sleeps on progress. Stored by waiters, cleared by a waker
  Shared<std::uint32_t> progress;         // futex: stepped when reclaimable_end, written_end, durable_end, horizon,
                                          // state or committed_end (by a repairer) moved and somebody waits
  Shared<std::uint64_t> since_ns;         // (display) wall clock, when the role was taken
  Shared<std::uint64_t> syncs;            // (display)
  Shared<std::uint64_t> records_written;  // (display)
  Shared<std::uint64_t> lost_count;       // how many of `lost` are used
};

struct GapNotice {
  Shared<std::uint64_t> from;
  Shared<std::uint64_t> to;
};

// What a failed sync may have lost and the ring need not have any more (policy none, or `overwrite`). Ascending; once
// all are used the last one grows instead.
struct LostRange {
  Shared<std::uint64_t> from;
  Shared<std::uint64_t> to;
};

// INV-8  start_state holds the claim's start with the NoteState in its low four bits; a shared producer stores
//        end, then start|tentative, then CASes, then start|confirmed, and 0 after the commit. All release.
enum class NoteState : std::uint64_t { none = 0, tentative = 1, confirmed = 2 };
inline constexpr std::uint64_t kNoteStateMask = 15;

struct alignas(128) ProducerSlot {
  Shared<std::uint64_t> start_state;
  Shared<std::uint64_t> end;
  Shared<std::uint32_t> pid;       // (display)
  Shared<ProducerMode> mode;       // (display); none: not a producer (a persister, say)
  Shared<std::uint64_t> since_ns;  // (display) wall clock
  Shared<std::uint64_t> blocked;   // (display) times it waited for space
};

struct Control {
  Identity identity;
  alignas(256) Claims claims;
  alignas(256) Commits commits;
  alignas(256) Notices notices;
  alignas(1024) PersisterArea persister;
  alignas(1024) std::array<Shared<std::uint64_t>, kBoundaries> boundaries;
  alignas(256) std::array<GapNotice, kGapNotices> gaps;
  alignas(256) std::array<LostRange, kLostRanges> lost;
  alignas(4096) std::array<ProducerSlot, kProducerSlots> slots;
};
static_assert(offsetof(Control, claims) == 256);
static_assert(offsetof(Control, commits) == 512);
static_assert(offsetof(Control, notices) == 768);
static_assert(offsetof(Control, persister) == 1024);
static_assert(offsetof(Control, boundaries) == 2048);
static_assert(offsetof(Control, gaps) == 2304);
static_assert(offsetof(Control, lost) == 3328);
static_assert(offsetof(Control, slots) == 4096);
static_assert(sizeof(ProducerSlot) == 128 && sizeof(Control) == 20480);

}  // namespace spillway
