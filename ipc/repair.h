// Mending what a dead producer left in the ring.
//
// The protocol and its failure table are in ARCHITECTURE.md ("Repair"); tests/model has it as a Spin model.
// Thread safety: any thread; the repair lock keeps repairers of all processes apart.
#pragma once

#include <array>

#include "spillway/core/file_lock.h"
#include "spillway/ipc/partition.h"

namespace spillway {

// A slot's note, read between two looks at its owner's lock.
struct NoteSeen {
  Offset start = 0;
  Offset end = 0;
  NoteState state = NoteState::none;
  bool dead = false;
};

enum class RepairChoice : std::uint8_t { wait_for_live, close, look_again, corrupt };
struct RepairDecision {
  RepairChoice choice;
  Offset end;  // close: [h, end) becomes one padding record
};

// Decides what closes the hole at h, by notes alone: pure. `reserved` was loaded before the notes; `is_claim_start(e)` says
// whether a valid commit word stands at e; `room` is the bytes from h to the ring's end; `claim_max` the largest claim.
template <class IsClaimStart>
RepairDecision decide_repair(Offset h, Offset reserved, std::span<const NoteSeen> notes, std::uint64_t room,
                             std::uint64_t claim_max, IsClaimStart&& is_claim_start) {
  const auto plausible = [&](Offset end) {
    // A padding claim up to the ring's end is smaller than a quarter of the ring too.
    return end > h && end <= reserved && end - h <= room && end - h <= claim_max && (end & (kRecordAlign - 1)) == 0;
  };
  for (const NoteSeen& n : notes) {
    if (n.state == NoteState::none || n.start != h) continue;
    if (!n.dead) return {RepairChoice::wait_for_live, 0};
  }
  for (const NoteSeen& n : notes) {
    if (n.state != NoteState::confirmed || n.start != h) continue;
    return plausible(n.end) ? RepairDecision{RepairChoice::close, n.end} : RepairDecision{RepairChoice::corrupt, 0};
  }
  Offset best = 0;
  for (const NoteSeen& n : notes) {
    if (n.state != NoteState::tentative || n.start != h || !plausible(n.end)) continue;
    bool starts = n.end == reserved || is_claim_start(n.end);
    for (const NoteSeen& other : notes) starts = starts || (other.state != NoteState::none && other.start == n.end);
    if (starts && (best == 0 || n.end < best)) best = n.end;
  }
  if (best == 0) return {RepairChoice::look_again, 0};
  return {RepairChoice::close, best};
}

enum class RepairResult : std::uint8_t {
  nothing,           // no hole: everything that was claimed is committed; or the mode is not shared
  repaired,          // one dead claim was closed, or committed_end moved: there may be more
  waiting_for_live,  // the claim at committed_end has a live owner
  look_again,        // the scene changed while it was looked at
  busy,              // another process is repairing
  corrupt,           // the notes or headers can't be right
};

// Shared mode. Moves committed_end over what is committed, then closes the claim at it if its owner is dead; one claim a
// call. Needs read_write access, and is called by whoever holds the persister role (persistent), by any writer (ephemeral:
// one that attaches, is stuck or looks after it now and then), or under the exclusive mode lock (settling).
RepairResult repair_claim_at_committed_end(Partition& partition) noexcept;

// The same for every claim that dead producers left, as far as no live one stands in the way. Does nothing in another mode
// than shared.
void repair_all(Partition& partition) noexcept;

// Moves committed_end (CAS, shared mode) over what is found committed. Returns where it stands.
Offset advance_committed(Partition& partition) noexcept;

// Under the exclusive mode lock, before the first claim of a new generation of writers: settles what the last ones left,
// by the rule of their mode, so that committed_end == reserved_end. Throws Error (corrupt, busy).
void settle(Partition& partition);

// Whether a slot's note is settled, asked by who has just locked the slot: it may then be reused.
bool note_settled(const Partition& partition, std::size_t slot) noexcept;

}  // namespace spillway
