// ORDER.
//   P1 reserved_end  <- the claiming CAS (C1 in shared_producer.cpp): whoever sees a claim sees the note stored before it
//   P2 note          <- every store to a note is a release: who sees one sees the commit that went before it
//   P3 commit at h   <- R4 of the claim's owner
//   R7 padding       -> W1, A1: length and kind are written before the padding shows
//   R8 committed_end -> W3, C2: everything before it is committed
#include "spillway/ipc/repair.h"

#include <fcntl.h>

#include "spillway/core/error.h"
#include "spillway/ipc/record_writer.h"
#include "spillway/ipc/ring_walk.h"
#include "spillway/ipc/space.h"

namespace spillway {
namespace {

std::uint64_t room_to_ring_end(const Partition& p, Offset at) noexcept { return p.capacity() - (at & p.mask()); }

bool committed_at(const Partition& p, Offset at) noexcept {
  return p.header_at(at)->commit.load(std::memory_order_acquire) == p.mix().word(at);  // P3
}

// Reads every slot's note, its owner's lock, and the note again. False: one changed meanwhile.
bool read_notes(const Partition& p, const LockProbe& locks, std::array<NoteSeen, kProducerSlots>& notes) noexcept {
  for (std::size_t i = 0; i < kProducerSlots; ++i) {
    const ProducerSlot& slot = p.control().slots[i];
    const std::uint64_t first = slot.start_state.load(std::memory_order_acquire);  // P2
    const std::uint64_t state = first & kNoteStateMask;
    if (state == 0) {
      notes[i] = {};
      continue;
    }
    const Offset end = slot.end.load(std::memory_order_acquire);  // P2
    const bool dead = !locks.held(i);
    if (slot.start_state.load(std::memory_order_acquire) != first) return false;  // P2
    notes[i] = {first & ~kNoteStateMask, end, state == 1 ? NoteState::tentative : NoteState::confirmed, dead};
  }
  return true;
}

// The lock of a repairer, on the partition's own files; empty when another has it.
FileLock try_repair_lock(const Partition& p) noexcept {
  try {
    return FileLock::try_lock(p.paths().repair_lock(), LockMode::exclusive);
  } catch (const Error&) {
    return {};
  }
}

// The hole at h, with the repair lock held.
RepairResult close_hole(Partition& p, Offset h) noexcept {
  // P1: T comes first, so that every claim before it has its note in what is read next.
  const Offset reserved = p.control().claims.reserved_end.load(std::memory_order_acquire);
  if (h >= reserved) return RepairResult::nothing;
  std::array<NoteSeen, kProducerSlots> notes;
  try {
    const LockProbe locks(p.paths().slots_lock());
    if (!read_notes(p, locks, notes)) return RepairResult::look_again;
  } catch (const Error&) {
    return RepairResult::busy;  // out of descriptors, for one; nobody is taken for dead
  }
  if (committed_at(p, h)) return RepairResult::look_again;
  // Still stuck at h: nobody has passed it, so the ring cannot have lapped it.
  if (p.control().commits.committed_end.load(std::memory_order_acquire) != h) return RepairResult::look_again;  // R8
  const RepairDecision decision =
      decide_repair(h, reserved, notes, room_to_ring_end(p, h), p.claim_bytes_max(),
                    [&](Offset e) { return (e & p.mask()) != 0 ? committed_at(p, e) : true; });
  switch (decision.choice) {
    case RepairChoice::wait_for_live: return RepairResult::waiting_for_live;
    case RepairChoice::look_again: return RepairResult::look_again;
    case RepairChoice::corrupt: return RepairResult::corrupt;
    case RepairChoice::close: break;
  }
  write_padding(*p.header_at(h), decision.end - h, p.mix().word(h));  // R7
  advance_committed(p);
  return RepairResult::repaired;
}

}  // namespace

Offset advance_committed(Partition& p) noexcept {
  auto& committed_end = p.control().commits.committed_end;
  Offset floor = committed_end.load(std::memory_order_acquire);  // R8
  for (;;) {
    const Walk walk = walk_committed(p, floor, kOffsetEnd);
    if (walk.end == floor) return floor;
    // release: R8. A failed CAS brought a larger floor: go on from there.
    if (committed_end.compare_exchange_strong(floor, walk.end, std::memory_order_acq_rel, std::memory_order_acquire)) {
      tell_progress(p);
      return walk.end;
    }
    if (floor >= walk.end) return floor;
  }
}

RepairResult repair_claim_at_committed_end(Partition& p) noexcept {
  const Offset before = p.control().commits.committed_end.load(std::memory_order_acquire);  // R8
  const Offset h = advance_committed(p);
  if (h >= p.control().claims.reserved_end.load(std::memory_order_acquire)) {
    return h == before ? RepairResult::nothing : RepairResult::repaired;
  }
  const FileLock lock = try_repair_lock(p);
  if (!lock) return RepairResult::busy;
  return close_hole(p, h);
}

namespace {

void settle_exclusive(Partition& p) {
  const Walk walk = find_committed_end(p);
  if (walk.status == WalkStatus::corrupt || walk.status == WalkStatus::unsupported) {
    throw Error(Code::corrupt, p.paths().ring + " holds a record at offset " + std::to_string(walk.end) +
                                   " that can't be right; stop everything that uses the topic and run `spillway clean "
                                   "--yes`, which keeps what comes before");
  }
  const Offset reserved = p.control().claims.reserved_end.load(std::memory_order_acquire);
  Offset at = walk.end;
  // Closed as a whole (no chunk crosses the ring's end, so it is one padding record): a dead batch has valid inner words,
  // which lie behind this header and are never looked at.
  while (at < reserved) {
    const std::uint64_t bytes = std::min(reserved - at, room_to_ring_end(p, at));
    write_padding(*p.header_at(at), bytes, p.mix().word(at));  // R7
    at += bytes;
  }
  p.control().commits.committed_end.store(at, std::memory_order_release);  // R8
  tell_progress(p);
}

void settle_shared(Partition& p) {
  const Deadline deadline = Deadline::after_ns(10'000'000'000U);
  for (;;) {
    const RepairResult result = repair_claim_at_committed_end(p);
    if (result == RepairResult::nothing) return;
    if (result == RepairResult::repaired &&
        p.control().commits.committed_end.load(std::memory_order_acquire) ==
            p.control().claims.reserved_end.load(std::memory_order_acquire)) {
      return;
    }
    if (result == RepairResult::corrupt) {
      throw Error(Code::corrupt, p.paths().control + " holds claims that can't be right; stop everything that uses the "
                                                     "topic and run `spillway clean --yes`");
    }
    if (result != RepairResult::repaired) {
      // The owners are dead: this is another repairer at work, or one that is paused.
      if (deadline.passed()) {
        throw Error(Code::busy, "the claims that dead producers left in " + p.paths().ring +
                                    " can't be settled: another process holds " + p.paths().repair_lock());
      }
      pause_about(100'000);
    }
  }
}

}  // namespace

void settle(Partition& p) {
  // relaxed: the exclusive mode lock orders it after the last writer's store.
  switch (p.control().notices.mode.load(std::memory_order_relaxed)) {
    case ProducerMode::none: return;
    case ProducerMode::exclusive: return settle_exclusive(p);
    case ProducerMode::shared: return settle_shared(p);
  }
  throw Error(Code::corrupt, p.paths().control + " names a producer mode that does not exist; stop everything that uses "
                                                 "the topic and run `spillway clean --yes`");
}

bool note_settled(const Partition& p, std::size_t i) noexcept {
  const ProducerSlot& slot = p.control().slots[i];
  const std::uint64_t note = slot.start_state.load(std::memory_order_acquire);  // P2
  const std::uint64_t state = note & kNoteStateMask;
  if (state == 0) return true;
  const Offset start = note & ~kNoteStateMask;
  if (p.control().commits.committed_end.load(std::memory_order_acquire) > start) return true;  // R8
  // Never confirmed, and nobody has claimed at its start even now, after the proof of death: its CAS never came.
  return state == 1 && p.control().claims.reserved_end.load(std::memory_order_acquire) == start;  // P1
}

}  // namespace spillway
