// ORDER.
//   P1 reserved_end  <- the claiming CAS (C1 in shared_producer.cpp): whoever sees a claim sees the note stored before it
//   P2 note          <- every store to a note is a release: who sees one sees the commit that went before it
//   P3 commit at h   <- R4 of the claim's owner
//   R7 padding       -> W1, A1: length and kind are written before the padding shows
//   R8 committed_end -> W3, C2: everything before it is committed
#include "spillway/ipc/repair.h"

#include "spillway/core/error.h"
#include "spillway/ipc/record_writer.h"
#include "spillway/ipc/ring_walk.h"
#include "spillway/ipc/space.h"
#include "spillway/ipc/waker.h"

namespace spillway {
namespace {

constexpr unsigned kUnclearMax = 100;

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

// Whether the watermarks are what they must be, whatever died when: in order, on the records' grid, and not further apart
// than a ring. Nobody may be producing.
bool watermarks_sane(const Partition& p) noexcept {
  // acquire: the smaller one first (INV-2).
  const Offset committed = p.control().commits.committed_end.load(std::memory_order_acquire);
  const Offset reserved = p.control().claims.reserved_end.load(std::memory_order_acquire);
  return p.begin() <= committed && committed <= reserved && reserved - committed <= p.capacity() &&
         reserved <= kOffsetEnd && is_aligned(committed, kRecordAlign) && is_aligned(reserved, kRecordAlign);
}

// Padding over a dead writer's claim. The fence stands for the dead one's (R3, C1): whoever copies a byte of the padding
// finds reserved_end past it.
void close_with_padding(Partition& p, Offset from, Offset to) noexcept {
  std::atomic_thread_fence(std::memory_order_release);
  write_padding(*p.header_at(from), to - from, p.mix().word(from));  // R7
}

// The hole at h, with the repair lock held.
RepairResult close_hole(Partition& p, Offset h) noexcept {
  // relaxed: the repair lock orders it; whoever changes the mode holds that (store_mode in producer_session.cpp). In
  // another mode than shared the notes are those of a generation that is settled.
  if (p.control().notices.mode.load(std::memory_order_relaxed) != ProducerMode::shared) return RepairResult::nothing;
  // P1: T comes first, so that every claim before it has its note in what is read next.
  const Offset reserved = p.control().claims.reserved_end.load(std::memory_order_acquire);
  if (h >= reserved) return RepairResult::nothing;
  if (h < p.begin() || reserved > kOffsetEnd || !is_aligned(reserved, kRecordAlign)) return RepairResult::corrupt;
  std::array<NoteSeen, kProducerSlots> notes;
  try {
    const LockProbe locks(p.paths().slots_lock());
    if (!read_notes(p, locks, notes)) return RepairResult::look_again;
  } catch (const Error&) {
    return RepairResult::busy;  // out of descriptors, for one; nobody is taken for dead
  }
  if (committed_at(p, h)) {
    const WalkStatus there = walk_committed(p, h, kOffsetEnd).status;
    const bool bad = there == WalkStatus::corrupt || there == WalkStatus::unsupported;
    return bad ? RepairResult::corrupt : RepairResult::look_again;
  }
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
  close_with_padding(p, h, decision.end);
  advance_committed(p);
  Waker(p, true).notify();  // who was woken for a record behind the hole saw none, and sleeps again
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
  if (!is_aligned(before, kRecordAlign)) return RepairResult::corrupt;
  const Offset h = advance_committed(p);
  if (h >= p.control().claims.reserved_end.load(std::memory_order_acquire)) {
    return h == before ? RepairResult::nothing : RepairResult::repaired;
  }
  const FileLock lock = try_repair_lock(p);
  if (!lock) return RepairResult::busy;
  return close_hole(p, h);
}

void repair_all(Partition& p) noexcept {
  // relaxed: only saves the walk; close_hole() looks again under the repair lock.
  if (p.control().notices.mode.load(std::memory_order_relaxed) != ProducerMode::shared) return;
  // Each slot has one claim at most, and committed_end may have to be moved before each.
  for (std::size_t i = 0; i < 2 * kProducerSlots; ++i) {
    if (repair_claim_at_committed_end(p) != RepairResult::repaired) return;
  }
}

namespace {

[[noreturn]] void refuse_control(const Partition& p, const std::string& what) {
  throw Error(Code::corrupt, p.paths().control + " holds " + what +
                                 " that can't be right; stop everything that uses the "
                                 "topic and run `spillway clean --yes`");
}

void settle_exclusive(Partition& p) {
  const Walk walk = find_committed_end(p);
  if (walk.status != WalkStatus::boundary) {
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
    close_with_padding(p, at, at + bytes);
    at += bytes;
  }
  p.control().commits.committed_end.store(at, std::memory_order_release);  // R8
  tell_progress(p);
}

void settle_shared(Partition& p) {
  const Deadline deadline = Deadline::after_ns(10'000'000'000U);
  unsigned unclear = 0;
  for (;;) {
    const RepairResult result = repair_claim_at_committed_end(p);
    if (result == RepairResult::nothing) return;
    if (result == RepairResult::repaired && p.control().commits.committed_end.load(std::memory_order_acquire) ==
                                                p.control().claims.reserved_end.load(std::memory_order_acquire)) {
      return;
    }
    // Nobody produces now: a scene that does not clear up is no scene of ours.
    unclear = result == RepairResult::look_again ? unclear + 1 : 0;
    if (result == RepairResult::corrupt || unclear > kUnclearMax) refuse_control(p, "claims");
    if (result != RepairResult::repaired) {
      // The owners are dead: this is another repairer at work, or one that is paused.
      if (deadline.passed()) {
        throw Error(Code::busy, "the claims that dead producers left in " + p.paths().ring + " can't be settled: " +
                                    (result == RepairResult::busy
                                         ? "another process holds " + p.paths().repair_lock()
                                         : "the owner of one still holds its lock in " + p.paths().slots_lock()));
      }
      pause_about(100'000);
    }
  }
}

}  // namespace

void settle(Partition& p) {
  if (!watermarks_sane(p)) refuse_control(p, "watermarks");
  // relaxed: the exclusive mode lock orders it after the last writer's store.
  switch (p.control().notices.mode.load(std::memory_order_relaxed)) {
    case ProducerMode::none:
      if (p.control().commits.committed_end.load(std::memory_order_acquire) !=
          p.control().claims.reserved_end.load(std::memory_order_acquire)) {
        refuse_control(p, "claims of no producer");
      }
      return;
    case ProducerMode::exclusive: return settle_exclusive(p);
    case ProducerMode::shared: return settle_shared(p);
  }
  refuse_control(p, "a producer mode");
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
