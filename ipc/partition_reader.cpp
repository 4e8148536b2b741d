// ORDER.
//   A1 commit        <- R1, R4, R7  meta, key and payload are there when the word is
//   A2 reserved_end  <- R3, C1      the copy is good: no byte of it was claimed for a newer lap before it was copied
//   A3 durable_end   <- the persister's release store (read_up_to = durable)
//   G1 gate -> S3: the consumer has read what lies before
#include "spillway/ipc/partition_reader.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "spillway/core/clock.h"
#include "spillway/core/error.h"

namespace spillway {
namespace {

constexpr std::uint64_t kLookAgainNs = 10'000'000;
constexpr std::uint64_t kAskHistoryAgainNs = 1'000'000;
constexpr std::uint32_t kDamageLooks = 16;  // so seldom that who waits for a producer does not take its line away

}  // namespace

struct PartitionReader::Slot {
  std::shared_ptr<Partition> partition;
  FileLock lock;
  ConsumerSlot* slot = nullptr;
  bool gating = false;

  ~Slot() {
    if (!lock || slot == nullptr) return;                               // a forked child: the slot is the parent's
    slot->gate.store(kNoGate, std::memory_order_release);               // G1
    slot->state.store(ConsumerState::none, std::memory_order_relaxed);  // relaxed: for display
  }
};

PartitionReader::PartitionReader(std::uint32_t number, ReaderSource source, FindSource find, ReadUpTo read_up_to)
    : number_(number), read_up_to_(read_up_to), find_(std::move(find)) {
  bind(std::move(source));
}
PartitionReader::~PartitionReader() = default;
PartitionReader::PartitionReader(PartitionReader&&) noexcept = default;

void PartitionReader::bind(ReaderSource source) {
  std::unique_ptr<std::byte[]> scratch;
  // The largest record; pages are touched only as records need them. First, as it may throw: nothing has changed then.
  const auto scratch_bytes = source.ring ? static_cast<std::size_t>(source.ring->claim_bytes_max()) : 0;
  if (source.ring) scratch = std::make_unique_for_overwrite<std::byte[]>(scratch_bytes + kCacheLine);
  slot_.reset();
  ring_ = std::move(source.ring);
  history_ = std::move(source.history);
  consumers_lock_ = std::move(source.consumers_lock);
  span_ = {};
  distrusted_end_ = 0;
  limit_ = read_up_to_ == ReadUpTo::committed ? UINT64_MAX : 0;
  if (!ring_) {
    replaying_ = true;
    return;
  }
  records_ = ring_->records();
  reserved_end_ = &ring_->control().claims.reserved_end;
  mask_ = ring_->mask();
  mix_ = ring_->mix();
  scratch_bytes_ = scratch_bytes;
  scratch_memory_ = std::move(scratch);
  scratch_ = scratch_memory_.get();
  scratch_ +=
      align_up(reinterpret_cast<std::uintptr_t>(scratch_), kCacheLine) - reinterpret_cast<std::uintptr_t>(scratch_);
  replaying_ = false;
}

// Goes to a boundary: live when the ring has it or there is nothing else, else replaying. What is off the records' grid (a
// damaged watermark or cursor) is no boundary, and would lead out of the ring: it is rounded up.
void PartitionReader::enter(Offset offset) noexcept {
  offset_ = align_up(std::min(offset, kOffsetEnd), kRecordAlign);
  gap_pending_ = gap_told_ = false;
  span_ = {};
  nothing_ns_ = 0;
  distrusted_end_ = 0;
  replaying_ = !ring_ || (history_ && (offset_ < ring_->begin() || !still_in_ring(*ring_, offset_)));
}

// A gap stands next, from offset_ on.
void PartitionReader::set_gap(Offset to, Offset resume, GapCause cause) noexcept {
  gap_ = {number_, offset_, to, cause};
  resume_ = resume;
  gap_pending_ = true;
  gap_told_ = false;
}

Offset PartitionReader::begin_now() {
  if (history_) return history_->begin();
  return ring_ ? oldest_boundary(*ring_, 0) : 0;
}

Offset PartitionReader::end_now() {
  if (read_up_to_ == ReadUpTo::durable) {
    if (ring_) return ring_->control().persister.durable_end.load(std::memory_order_acquire);  // A3
    return history_ ? history_->durable_end() : 0;
  }
  if (ring_) return find_committed_end(*ring_).end;
  return history_ ? history_->end() : 0;
}

void PartitionReader::start_earliest() { enter(begin_now()); }
void PartitionReader::start_latest() { enter(end_now()); }
void PartitionReader::start_at_boundary(Offset offset) noexcept { enter(offset); }

bool PartitionReader::start_at(Offset offset) {
  const Offset end = ring_ ? find_committed_end(*ring_).end : end_now();
  if (offset > end) return false;
  const Offset begin = begin_now();
  if (offset <= begin) {
    enter(offset);
    offset_ = offset;  // the gap's bounds are exact; nothing is read before it is over
    if (offset < begin) set_gap(begin, begin, history_ ? GapCause::expired : GapCause::overwritten);
    return true;
  }
  if (offset == end) {
    enter(end);
    return true;
  }
  // From the nearest boundary before it, record by record. Delivering nothing moves offset_ only.
  const bool in_ring = ring_ && offset >= ring_->begin();
  Offset boundary = in_ring ? boundary_before(*ring_, offset) : begin;
  if (history_ && (!in_ring || boundary > offset)) boundary = history_->boundary_before(offset);
  if (boundary > offset) {
    // The ring has moved on while we looked: what was wanted is gone, and the next boundary is known.
    enter(boundary);
    offset_ = offset;
    set_gap(boundary, boundary, history_ ? GapCause::expired : GapCause::overwritten);
    return true;
  }
  enter(boundary);
  walk_to_record(offset);
  return true;
}

// Steps over records until offset_ >= wanted, without delivering any.
void PartitionReader::walk_to_record(Offset wanted) noexcept {
  const Offset limit = std::exchange(limit_, UINT64_MAX);
  while (offset_ < wanted) {
    looks_ = kDamageLooks - 1;  // the first one that finds nothing asks why: who seeks does not come again
    std::size_t count = 0;
    bool passed = false;
    Offset before = offset_;
    const auto look = [&](const Record& record) {
      passed = record.offset() >= wanted;
      before = record.offset();
      return Flow::stop;
    };
    const ReadStop stop = read(look, 1, count);
    if (passed) {
      enter(before);
      break;
    }
    if (stop == ReadStop::gap) {
      if (gap_.to > wanted) {
        offset_ = gap_.from = std::max(gap_.from, wanted);
        break;
      }
      skip_gap();
      continue;
    }
    if (stop != ReadStop::stopped && stop != ReadStop::full) break;
  }
  limit_ = limit;
}

bool PartitionReader::raise_limit() noexcept {
  if (read_up_to_ == ReadUpTo::committed) return true;
  limit_ = ring_ ? ring_->control().persister.durable_end.load(std::memory_order_acquire)  // A3
                 : history_->durable_end();
  return offset_ < limit_;
}

// Live, and no commit word at offset_ or not durable yet: not yet, or lapped, or the files are gone.
ReadStop PartitionReader::nothing_there() noexcept {
  // A small record often lies on two lines. With the second one on its way while the first is waited for, both come at the
  // price of one: a third off a round trip's cost above the bare exchange of lines.
  prefetch(records_ + ((offset_ + kCacheLine - 1) & mask_));
  if (offset_ < ring_->begin() || !still_in_ring(*ring_, offset_)) return ReadStop::lapped;  // A2
  if (ring_->gone() && look_for_source()) return ReadStop::lapped;
  if (++looks_ % kDamageLooks == 0 && committed_word_missing(*ring_, offset_)) return ring_damaged();
  return ring_->gone() ? ReadStop::gone : ReadStop::caught_up;
}

// What the ring should have at offset_ is not there, or can't be right. What is on disk of it is read from there.
ReadStop PartitionReader::ring_damaged() noexcept {
  const Offset on_disk = history_ ? history_->end() : 0;
  if (offset_ >= on_disk) return ReadStop::corrupt;
  distrusted_end_ = on_disk;
  return ReadStop::lapped;
}

// Replaying, and what comes next is not durable: not yet, or the ring that would tell is gone.
ReadStop PartitionReader::not_durable() noexcept {
  const bool ring_lives = ring_ && !ring_->gone();
  if (!ring_lives && look_for_source()) return ReadStop::lapped;
  nothing_ns_ = monotonic_ns();
  return ring_lives ? ReadStop::caught_up : ring_ || topic_gone_ ? ReadStop::gone : ReadStop::end;
}

// Lapped or done replaying: picks the state that fits offset_. False: a gap is pending.
bool PartitionReader::change_state() noexcept {
  if (gap_pending_) return false;  // the ring that follows began behind a gap
  if (replaying_) {
    replaying_ = false;
    span_ = {};
    return true;
  }
  if (ring_may_have()) return true;
  if (history_) {
    replaying_ = true;
    span_ = {};
    nothing_ns_ = 0;
    return true;
  }
  // Nothing but the ring, and it has moved on: rejoin at its end.
  const Offset end = find_committed_end(*ring_).end;
  set_gap(std::max(offset_, end), end, GapCause::overwritten);
  return false;
}

bool PartitionReader::ring_may_have() const noexcept {
  return ring_ && offset_ >= ring_->begin() && offset_ >= distrusted_end_ && still_in_ring(*ring_, offset_);
}

void PartitionReader::skip_gap() noexcept {
  if (!gap_pending_) return;
  enter(resume_);
}

// ReadStop::full: span_ has records. lapped: go live.
ReadStop PartitionReader::next_span() noexcept {
  for (;;) {
    if (ring_ && offset_ >= ring_->begin() && offset_ >= distrusted_end_) {
      // Back to the ring once there is some margin, so that a fast producer does not throw us out again at once.
      std::atomic_thread_fence(std::memory_order_acquire);
      // relaxed: only a choice of where to read; what is read there is checked.
      const Offset reserved = ring_->control().claims.reserved_end.load(std::memory_order_relaxed);
      if (reserved - offset_ <= ring_->capacity() - ring_->capacity() / 4) return ReadStop::lapped;
    }
    if (!history_) {
      nothing_ns_ = monotonic_ns();
      return look_for_source() ? ReadStop::lapped : topic_gone_ ? ReadStop::gone : ReadStop::end;
    }
    const HistoryRead got = history_->read(offset_);
    nothing_ns_ = got.status == HistoryStatus::data || got.status == HistoryStatus::gap ? 0 : monotonic_ns();
    switch (got.status) {
      case HistoryStatus::data:
        if (got.bytes.empty()) return ReadStop::waiting;
        offset_ = got.begin;
        span_ = got.bytes;
        return ReadStop::full;
      case HistoryStatus::gap:
        if (got.end <= offset_) return ReadStop::corrupt;
        if (got.cause == GapCause::none) {
          offset_ = got.end;
          continue;
        }
        if (got.cause == GapCause::damaged && ring_may_have()) return ReadStop::lapped;
        set_gap(got.end, got.end, got.cause);
        return ReadStop::gap;
      case HistoryStatus::nothing:
        if (ring_may_have()) return ReadStop::lapped;
        if (offset_ < distrusted_end_) return ReadStop::corrupt;  // neither has it now
        if (ring_ && ring_->gone() && look_for_source()) return ReadStop::lapped;
        return ReadStop::waiting;
      case HistoryStatus::end:
        return look_for_source() ? ReadStop::lapped : topic_gone_ ? ReadStop::gone : ReadStop::end;
      case HistoryStatus::failed:
        if (!ring_ && look_for_source()) return ReadStop::lapped;  // who made one could read what we could not
        error_ = got.error;
        return ReadStop::failed;
    }
  }
}

// No ring, or one that was deleted: somebody may have made another. At most every ten milliseconds.
bool PartitionReader::look_for_source() noexcept {
  const std::uint64_t now = monotonic_ns();
  if (!find_ || now - looked_ns_ < kLookAgainNs) return false;
  looked_ns_ = now;
  try {
    ReaderSource source = find_();
    topic_gone_ = false;
    if (!source.ring || (ring_ && source.ring->incarnation() == ring_->incarnation())) return false;
    const bool ephemeral = source.ring->config().ephemeral;
    const Offset begin = source.ring->begin();
    bind(std::move(source));
    replaying_ = false;
    // A new incarnation of an ephemeral log: what came between is lost with the old ring. Its offsets may begin anew.
    if (ephemeral && offset_ != begin) set_gap(std::max(offset_, begin), begin, GapCause::crash);
    if (wants_slot_) register_slot(slot_name_, gating_);
    return true;
  } catch (const Error& e) {
    topic_gone_ = e.code() == Code::gone;
  } catch (const std::exception&) {
  }
  return false;  // gone for good; or being made right now, or not ours to open: asked again
}

bool PartitionReader::ready() noexcept {
  if (gap_pending_) return true;
  if (replaying_) return nothing_ns_ == 0 || monotonic_ns() - nothing_ns_ >= kAskHistoryAgainNs;
  if (!still_in_ring(*ring_, offset_)) return true;
  if (ring_->gone() && monotonic_ns() - looked_ns_ >= kLookAgainNs) return true;
  if (read_up_to_ == ReadUpTo::durable) {
    return ring_->control().persister.durable_end.load(std::memory_order_acquire) > offset_;  // A3
  }
  return committed_here() || (++looks_ % kDamageLooks == 0 && committed_word_missing(*ring_, offset_));
}

bool PartitionReader::committed_here() const noexcept {
  return !replaying_ && !gap_pending_ &&
         ring_->header_at(offset_)->commit.load(std::memory_order_acquire) == mix_.word(offset_);  // A1
}

bool PartitionReader::held_by_dead() const noexcept {
  if (!ring_ || replaying_ || committed_here()) return false;
  const Control& control = ring_->control();
  // relaxed: a report.
  if (control.notices.mode.load(std::memory_order_relaxed) != ProducerMode::shared) return false;
  if (control.claims.reserved_end.load(std::memory_order_acquire) <= offset_) return false;
  try {
    const LockProbe locks(ring_->paths().slots_lock());
    bool dead = false;
    for (std::size_t i = 0; i < kProducerSlots; ++i) {
      const std::uint64_t note = control.slots[i].start_state.load(std::memory_order_acquire);
      if ((note & kNoteStateMask) == 0 || (note & ~kNoteStateMask) != offset_) continue;
      if (locks.held(i)) return false;  // of several that tried to claim it, a live one may have won
      dead = true;
    }
    return dead;
  } catch (const Error&) {
    // An observer can't ask.
  }
  return false;
}

bool PartitionReader::register_slot(std::string_view name, bool gating) {
  wants_slot_ = true;
  gating_ = gating;
  if (name.data() != slot_name_.data()) slot_name_ = name;
  if (ring_ ? !ring_->can_announce() : consumers_lock_.empty()) return false;
  auto made = std::make_unique<Slot>();
  made->partition = ring_;
  try {
    const std::string path = ring_ ? ring_->paths().consumers_lock() : consumers_lock_;
    for (std::size_t i = 0; i < kConsumerSlots && !made->lock; ++i) {
      made->lock = FileLock::try_lock(path, LockMode::exclusive, i);
      if (!made->lock || !ring_) continue;
      made->slot = &ring_->consumers().slots[i];
      if (gating) {
        auto& used = ring_->consumers().announcement.gate_slots;
        std::uint32_t before = used.load(std::memory_order_relaxed);
        // release: a producer that sees the count sees the slot's gate, which is still kNoGate.
        while (before < i + 1 && !used.compare_exchange_weak(before, static_cast<std::uint32_t>(i + 1),
                                                             std::memory_order_release, std::memory_order_relaxed)) {
        }
      }
    }
  } catch (const Error& e) {
    const bool best_effort = !gating && (e.code() == Code::no_permission || e.code() == Code::not_found);
    if (ring_ && !best_effort) throw;
    return false;
  }
  if (!made->lock) return false;
  if (!ring_) {
    slot_ = std::move(made);
    return true;
  }
  ConsumerSlot& slot = *made->slot;
  slot.gate.store(kNoGate, std::memory_order_release);  // G1: what a dead owner left
  // relaxed: for display.
  for (std::size_t i = 0; i < kConsumerNameBytes; ++i) {
    slot.name[i].store(i < name.size() ? name[i] : '\0', std::memory_order_relaxed);
  }
  slot.pid.store(static_cast<std::uint32_t>(::getpid()), std::memory_order_relaxed);
  slot.since_ns.store(wall_ns(), std::memory_order_relaxed);
  made->gating = gating;
  slot_ = std::move(made);
  publish();
  if (gating) {
    // Published first, then checked: a producer that missed the gate may have lapped us, which the next read reports.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!gap_pending_ && !replaying_ && !still_in_ring(*ring_, offset_)) change_state();
  }
  return true;
}

void PartitionReader::publish() noexcept {
  if (!slot_ || !slot_->lock || slot_->slot == nullptr) return;
  // relaxed: for display.
  slot_->slot->offset.store(offset_, std::memory_order_relaxed);
  slot_->slot->state.store(replaying_ ? ConsumerState::replay : ConsumerState::live, std::memory_order_relaxed);
  if (slot_->gating) slot_->slot->gate.store(offset_, std::memory_order_release);  // G1
}

}  // namespace spillway
