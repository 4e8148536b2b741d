// ORDER.
//   C1 reserved_end (CAS, acquire-release)  -> P1   the note is stored before the claim shows; then a release fence (as R3)
//                                                   before the claim's first byte
//   C2 committed_end  <- R8                         a claim within committed_end + capacity laps nobody's open claim
//   R4 commit         -> W1, A1, P3                 meta, key and payload are written before the record shows
//   R5 note           -> P2                         every store to a note is a release: what went before is seen with it
#include "spillway/ipc/shared_producer.h"

#include <algorithm>
#include <utility>

#include "spillway/core/error.h"
#include "spillway/ipc/repair.h"

namespace spillway {

SharedClaim& SharedClaim::operator=(SharedClaim&& other) noexcept {
  if (this != &other) {
    abort();
    producer_ = std::exchange(other.producer_, nullptr);
    plan_ = other.plan_;
    payload_ = other.payload_;
    appended_ = other.appended_;
  }
  return *this;
}

Appended SharedClaim::commit() noexcept {
  SharedProducer* producer = std::exchange(producer_, nullptr);
  if (producer != nullptr && producer->mark_.forked()) return {AppendStatus::forked, Blocked::none, {}, 0};
  // Closed with the claim open: its note was left to whoever repairs, and so is its room.
  if (producer == nullptr || !producer->session_) return {AppendStatus::closed, Blocked::none, {}, 0};
  const Offset begin = appended_.position.offset;
  auto& header = *producer->partition_->header_at(begin);
  store_meta(header, plan_.meta);
  store_commit(header, producer->partition_->mix().word(begin));  // R4
  return producer->finish(begin, plan_.bytes);
}

void SharedClaim::abort() noexcept {
  SharedProducer* producer = std::exchange(producer_, nullptr);
  if (producer == nullptr || producer->mark_.forked() || !producer->session_) return;
  const Offset begin = appended_.position.offset;
  write_padding(*producer->partition_->header_at(begin), plan_.bytes, producer->partition_->mix().word(begin));  // R4
  producer->finish(begin, plan_.bytes);
}

SharedProducer::SharedProducer(std::shared_ptr<Partition> partition, const ProducerOptions& options)
    : partition_(std::move(partition)), deadline_ns_(options.deadline_ns) {
  if (partition_->config().on_full == OnFull::overwrite) {
    throw Error(Code::invalid_argument, "topic " + partition_->config().name +
                                            " overwrites when full, which only an exclusive producer may; open one");
  }
  session_ = std::make_unique<ProducerSession>(partition_, ProducerMode::shared);
  space_ = std::make_unique<Space>(partition_);
  waker_ = std::make_unique<Waker>(*partition_, session_->fence_per_commit());
  slot_ = &session_->slot();
}

void SharedProducer::close() noexcept {
  if (!session_) return;
  if (!mark_.forked()) advance_committed(*partition_);
  slot_ = nullptr;
  session_.reset();
}

// The note goes first; a lost CAS clears it.
bool SharedProducer::try_claim(Offset begin, Offset end) noexcept {
  slot_->end.store(end, std::memory_order_release);                                                               // R5
  slot_->start_state.store(begin | static_cast<std::uint64_t>(NoteState::tentative), std::memory_order_release);  // R5
  Offset expected = begin;
  if (!partition_->control().claims.reserved_end.compare_exchange_strong(expected, end, std::memory_order_acq_rel,
                                                                         std::memory_order_relaxed)) {  // C1
    slot_->start_state.store(0, std::memory_order_release);                                             // R5
    return false;
  }
  slot_->start_state.store(begin | static_cast<std::uint64_t>(NoteState::confirmed), std::memory_order_release);  // R5
  std::atomic_thread_fence(std::memory_order_release);  // C1: reserved_end and the note before the first byte
  return true;
}

Appended SharedProducer::admit(Offset end, unsigned& round, Deadline& deadline) noexcept {
  if (end <= limit_) return {};
  Partition& p = *partition_;
  if (p.gone()) return {AppendStatus::gone, Blocked::none, {}, 0};
  // Two bounds: what the policy allows, and one lap past what is committed, so that an unsettled claim is never lapped.
  Offset committed = p.control().commits.committed_end.load(std::memory_order_acquire);  // C2
  const Offset space = space_->limit();
  if (end > committed + p.capacity()) committed = advance_committed(p);
  limit_ = std::min(space, committed + p.capacity());
  // Asked again after as much as an exclusive producer's chunk: gates come and go, and so does the ring.
  limit_ = std::min(limit_, end + std::max<std::uint64_t>(p.capacity() / 64, kBlock));
  if (end <= limit_) {
    space_->mention(end);
    return {};
  }
  const OnFull on_full = p.config().on_full;
  const bool lap = space >= end;  // held up by a claim, not by the disk
  if (p.config().ephemeral && lap) {
    // Nobody else repairs an ephemeral topic.
    if (repair_claim_at_committed_end(p) == RepairResult::corrupt) return {AppendStatus::corrupt, Blocked::none, {}, 0};
  }
  const auto why = [&] { return lap && p.config().ephemeral ? Blocked::held_by_live : space_->cause(end); };
  if (round == 0) {
    deadline = deadline_ns_ == UINT64_MAX ? Deadline::never() : Deadline::after_ns(deadline_ns_);
    slot_->blocked.fetch_add(1, std::memory_order_relaxed);  // relaxed: a count
  }
  if (on_full == OnFull::drop_new && !(lap && round < 16)) {
    want_persister(p);
    p.control().notices.dropped.fetch_add(1, std::memory_order_relaxed);  // relaxed: a count
    return {AppendStatus::dropped, why(), {}, 0};
  }
  if (deadline.passed()) return {AppendStatus::full, why(), {}, 0};
  space_->wait(end, deadline, round);
  ++round;
  return {AppendStatus::full, Blocked::none, {}, 0};  // round > 0: look again
}

Appended SharedProducer::take(std::uint64_t bytes, Offset& offset) noexcept {
  if (!session_) return {AppendStatus::closed, Blocked::none, {}, 0};
  if (mark_.forked()) return {AppendStatus::forked, Blocked::none, {}, 0};
  Partition& p = *partition_;
  Deadline deadline = Deadline::never();
  unsigned round = 0;
  for (;;) {
    // relaxed: the CAS checks it.
    const Offset begin = p.control().claims.reserved_end.load(std::memory_order_relaxed);
    if (begin > kOffsetEnd - bytes || (begin & (kRecordAlign - 1)) != 0) {
      return {AppendStatus::corrupt, Blocked::none, {}, 0};
    }
    const Offset lap_end = (begin & ~p.mask()) + p.capacity();
    const bool pad = begin + bytes > lap_end;  // then first a claim of its own up to the ring's end
    const Offset end = pad ? lap_end : begin + bytes;
    const unsigned round_before = round;
    const Appended admitted = admit(end, round, deadline);
    if (!admitted) {
      if (round == round_before) return admitted;
      continue;
    }
    if (!try_claim(begin, end)) continue;
    if (pad) {
      write_padding(*p.header_at(begin), end - begin, p.mix().word(begin));  // R4
      finish(begin, end - begin);
      continue;
    }
    offset = begin;
    return {};
  }
}

// After the commit: clears the note, and looks after what everybody needs.
Appended SharedProducer::finish(Offset begin, std::uint64_t bytes) noexcept {
  slot_->start_state.store(0, std::memory_order_release);  // R5
  Partition& p = *partition_;
  const Offset end = begin + bytes;
  const std::uint64_t sixteenth = p.capacity() / kBoundaries;
  if (begin / sixteenth != end / sixteenth) [[unlikely]] {
    // release: pairs with the acquire in ring_walk.cpp. Nobody else's claim enters this sixteenth, and nobody can be a lap
    // ahead: the claim was open until just now, or, if it is repaired or lapped since, the entry is out of the window.
    p.control().boundaries[(end / sixteenth) % kBoundaries].store(end, std::memory_order_release);
    const Offset committed = advance_committed(p);
    // A claim that is open for a sixteenth of the ring may be a dead one's, which nobody else closes on an ephemeral topic.
    if (p.config().ephemeral && committed + sixteenth <= begin) repair_all(p);
  }
  waker_->notify();
  return {AppendStatus::ok, Blocked::none, {p.number(), begin}, end};
}

Appended SharedProducer::append(std::span<const std::byte> payload, const RecordOptions& options) noexcept {
  const RecordPlan plan = RecordPlan::of(payload.size(), options);
  if (plan.bytes == 0 || plan.bytes > partition_->claim_bytes_max()) {
    return {AppendStatus::too_large, Blocked::none, {}, 0};
  }
  Offset offset = 0;
  if (const Appended taken = take(plan.bytes, offset); !taken) return taken;
  std::byte* record = record_at(offset);
  copy_to_ring(payload_of(record, plan), payload.data(), payload.size());
  write_extras(record, plan, options);
  auto& header = *reinterpret_cast<RecordHeader*>(record);
  store_meta(header, plan.meta);
  store_commit(header, partition_->mix().word(offset));  // R4
  return finish(offset, plan.bytes);
}

Appended SharedProducer::append_batch(std::span<const RecordInput> records) noexcept {
  if (records.empty()) return {AppendStatus::ok, Blocked::none, {partition_->number(), 0}, 0};
  std::uint64_t total = 0;
  for (const RecordInput& input : records) {
    const RecordPlan plan = RecordPlan::of(input.payload.size(), input.options);
    total += plan.bytes;
    if (plan.bytes == 0 || total > partition_->claim_bytes_max()) {
      return {AppendStatus::too_large, Blocked::none, {}, 0};
    }
  }
  Offset offset = 0;
  if (const Appended taken = take(total, offset); !taken) return taken;
  write_batch(record_at(offset), offset, partition_->mix(), records);  // R4
  return finish(offset, total);
}

SharedClaim SharedProducer::claim(std::size_t payload_bytes, const RecordOptions& options) noexcept {
  SharedClaim claim;
  claim.plan_ = RecordPlan::of(payload_bytes, options);
  if (claim.plan_.bytes == 0 || claim.plan_.bytes > partition_->claim_bytes_max()) {
    claim.appended_.status = AppendStatus::too_large;
    return claim;
  }
  Offset offset = 0;
  claim.appended_ = take(claim.plan_.bytes, offset);
  if (!claim.appended_) return claim;
  std::byte* record = record_at(offset);
  write_extras(record, claim.plan_, options);
  claim.payload_ = {payload_of(record, claim.plan_), payload_bytes};
  claim.appended_.position = {partition_->number(), offset};
  claim.producer_ = this;
  return claim;
}

}  // namespace spillway
