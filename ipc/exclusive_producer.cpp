// ORDER.
//   R1 commit         -> W1, A1   meta, key and payload are written before the record shows
//   R2 committed_end  -> W3       everything before it is committed
//   R3 reserved_end, then a release fence, then bytes  -> W2, A2: who copied a byte of this lap and then, behind an
//                     acquire fence, loads reserved_end, finds it past that byte
//   S1, S2, S3        <- space.cpp: the bytes of the previous lap may be overwritten
#include "spillway/ipc/exclusive_producer.h"

#include <algorithm>
#include <utility>

#include "spillway/core/error.h"
#include "spillway/ipc/ring_walk.h"

namespace spillway {
namespace {

std::uint64_t chunk_max(std::uint64_t capacity) noexcept {
  return std::clamp<std::uint64_t>(capacity / 64, kBlock, 64 * kKiB);
}

}  // namespace

ExclusiveClaim& ExclusiveClaim::operator=(ExclusiveClaim&& other) noexcept {
  if (this != &other) {
    abort();
    writer_ = std::exchange(other.writer_, nullptr);
    plan_ = other.plan_;
    payload_ = other.payload_;
    appended_ = other.appended_;
  }
  return *this;
}

Appended ExclusiveClaim::commit() noexcept {
  ExclusiveWriter* writer = std::exchange(writer_, nullptr);
  if (writer == nullptr) return {AppendStatus::closed, Blocked::none, {}, 0};
  appended_ = writer->commit_claim(plan_, true);
  return appended_;
}

void ExclusiveClaim::abort() noexcept {
  if (ExclusiveWriter* writer = std::exchange(writer_, nullptr)) writer->commit_claim(plan_, false);
}

ExclusiveWriter::ExclusiveWriter(std::shared_ptr<Partition> partition, const ProducerOptions& options)
    : chunk_bytes_(kBlock),
      deadline_ns_(options.deadline_ns),
      session_(std::move(partition), ProducerMode::exclusive),
      space_(session_.partition_pointer()),
      waker_(session_.partition(), session_.fence_per_commit()) {
  const Partition& p = session_.partition();
  records_ = p.records();
  mask_ = p.mask();
  mix_ = p.mix();
  number_ = p.number();
  claim_max_ = p.claim_bytes_max();
  // relaxed: the session has settled the partition; nobody else stores it while we hold the mode lock.
  offset_ = p.control().claims.reserved_end.load(std::memory_order_relaxed);
  chunk_end_ = offset_;
}

ExclusiveWriter::~ExclusiveWriter() { close(); }

void ExclusiveWriter::forked_in_child() noexcept {
  forked_ = true;
  chunk_end_ = offset_;
}

void ExclusiveWriter::close() noexcept {
  if (closed_ || forked_) return;
  closed_ = true;
  if (chunk_end_ > offset_) pad_to(chunk_end_);
  session_.partition().control().commits.committed_end.store(offset_, std::memory_order_release);  // R2
  waker_.notify();
  chunk_end_ = offset_;
  session_.give_up();
}

void ExclusiveWriter::pad_to(Offset end) noexcept {
  auto& header = *reinterpret_cast<RecordHeader*>(records_ + (offset_ & mask_));
  write_padding(header, end - offset_, mix_.word(offset_));  // R1
  offset_ = end;
}

void ExclusiveWriter::reserve_to(Offset end) noexcept {
  Control& control = session_.partition().control();
  control.commits.committed_end.store(offset_, std::memory_order_release);  // R2
  // Chunks are smaller than a sixteenth, or one claim: so each sixteenth that has a boundary gets its first one told.
  const std::uint64_t sixteenth = offset_ / ((mask_ + 1) / kBoundaries);
  if (sixteenth != noted_sixteenth_) {
    noted_sixteenth_ = sixteenth;
    // release: pairs with the acquire in ring_walk.cpp.
    control.boundaries[sixteenth % kBoundaries].store(offset_, std::memory_order_release);
  }
  control.claims.reserved_end.store(end, std::memory_order_relaxed);  // R3
  std::atomic_thread_fence(std::memory_order_release);                // R3: before any byte behind it
  chunk_end_ = end;
}

ExclusiveWriter::Room ExclusiveWriter::reserve(Offset wanted) noexcept {
  Partition& p = session_.partition();
  const TopicConfig& config = p.config();
  Deadline deadline = Deadline::never();
  for (unsigned round = 0;; ++round) {
    if (forked_) return {AppendStatus::forked, Blocked::none};
    if (p.gone()) return {AppendStatus::gone, Blocked::none};
    const Offset limit = space_.limit();
    if (wanted <= limit) {
      const Offset lap_end = (offset_ & ~mask_) + mask_ + 1;
      chunk_bytes_ = std::min(chunk_bytes_ * 2, chunk_max(mask_ + 1));
      reserve_to(std::min({std::max(wanted, offset_ + chunk_bytes_), limit, lap_end}));
      space_.mention(chunk_end_);
      if (!forked_) return {};
      chunk_end_ = offset_;  // a child of a fork in the middle of this: the chunk is the parent's
      continue;
    }
    if (round == 0) {
      // At a full ring everything committed is told, so that it can be written and given back.
      p.control().commits.committed_end.store(offset_, std::memory_order_release);  // R2
      if (config.on_full == OnFull::drop_new) {
        want_persister(p);
        p.control().notices.dropped.fetch_add(1, std::memory_order_relaxed);  // relaxed: a count
        return {AppendStatus::dropped, space_.cause(wanted)};
      }
      deadline = deadline_ns_ == UINT64_MAX ? Deadline::never() : Deadline::after_ns(deadline_ns_);
      session_.slot().blocked.fetch_add(1, std::memory_order_relaxed);  // relaxed: a count
    } else if (deadline.passed()) {
      return {config.on_full == OnFull::overwrite ? AppendStatus::no_horizon : AppendStatus::full,
              space_.cause(wanted)};
    }
    space_.wait(wanted, deadline, round);
  }
}

ExclusiveWriter::Room ExclusiveWriter::make_room(std::uint64_t bytes) noexcept {
  if (closed_) return {AppendStatus::closed, Blocked::none};
  if (forked_) return {AppendStatus::forked, Blocked::none};
  if (offset_ + bytes > kOffsetEnd) return {AppendStatus::too_large, Blocked::none};
  const Offset lap_end = (offset_ & ~mask_) + mask_ + 1;
  if (offset_ + bytes > lap_end) {
    // A padding of its own up to the ring's end; then the record begins the next lap.
    if (lap_end > chunk_end_) {
      const Room room = reserve(lap_end);
      if (room.status != AppendStatus::ok) return room;
    }
    pad_to(lap_end);
    chunk_end_ = offset_;
  }
  if (offset_ + bytes > chunk_end_) return reserve(offset_ + bytes);
  return {};
}

Appended ExclusiveWriter::append_slow(std::span<const std::byte> payload, const RecordOptions& options) noexcept {
  const RecordPlan plan = RecordPlan::of(payload.size(), options);
  if (plan.bytes == 0 || plan.bytes > claim_max_) return {AppendStatus::too_large, Blocked::none, {}, 0};
  const Room room = make_room(plan.bytes);
  if (room.status != AppendStatus::ok) return {room.status, room.blocked, {}, 0};
  std::byte* record = records_ + (offset_ & mask_);
  copy_to_ring(payload_of(record, plan), payload.data(), payload.size());
  write_extras(record, plan, options);
  return commit_claim(plan, true);
}

Appended ExclusiveWriter::commit_claim(const RecordPlan& plan, bool keep) noexcept {
  if (forked_) return {AppendStatus::forked, Blocked::none, {}, 0};
  if (closed_) return {AppendStatus::closed, Blocked::none, {}, 0};  // closing has padded the claim over
  auto& header = *reinterpret_cast<RecordHeader*>(records_ + (offset_ & mask_));
  const Offset begin = offset_;
  if (keep) {
    store_meta(header, plan.meta);
    store_commit(header, mix_.word(begin));  // R1
    offset_ = begin + plan.bytes;
  } else {
    pad_to(begin + plan.bytes);
  }
  waker_.notify();
  return {AppendStatus::ok, Blocked::none, {number_, begin}, offset_};
}

ExclusiveClaim ExclusiveWriter::claim(std::size_t payload_bytes, const RecordOptions& options) noexcept {
  ExclusiveClaim claim;
  claim.plan_ = RecordPlan::of(payload_bytes, options);
  if (claim.plan_.bytes == 0 || claim.plan_.bytes > claim_max_) {
    claim.appended_.status = AppendStatus::too_large;
    return claim;
  }
  const Room room = make_room(claim.plan_.bytes);
  claim.appended_.status = room.status;
  claim.appended_.blocked = room.blocked;
  if (room.status != AppendStatus::ok) return claim;
  std::byte* record = records_ + (offset_ & mask_);
  write_extras(record, claim.plan_, options);
  claim.payload_ = {payload_of(record, claim.plan_), payload_bytes};
  claim.writer_ = this;
  return claim;
}

Appended ExclusiveWriter::append_batch(std::span<const RecordInput> records) noexcept {
  if (records.empty()) return {AppendStatus::ok, Blocked::none, {number_, offset_}, offset_};
  std::uint64_t total = 0;
  for (const RecordInput& input : records) {
    const RecordPlan plan = RecordPlan::of(input.payload.size(), input.options);
    total += plan.bytes;
    if (plan.bytes == 0 || total > claim_max_) return {AppendStatus::too_large, Blocked::none, {}, 0};
  }
  const Room room = make_room(total);
  if (room.status != AppendStatus::ok) return {room.status, room.blocked, {}, 0};
  const Offset begin = offset_;
  write_batch(records_ + (begin & mask_), begin, mix_, records);  // R1
  offset_ = begin + total;
  waker_.notify();
  return {AppendStatus::ok, Blocked::none, {number_, begin}, offset_};
}

}  // namespace spillway
