// ORDER.
//   S1 reclaimable_end -> Space::limit(): the segment holds (and, where the topic syncs, the disk has) what lies before
//   S3 written_end     -> waiters, history readers: bytes and index entries were written before it moved
//   S4 durable_end     -> waiters, consumers that read up to durable: a sync covered everything before
//   S6 lost_count      -> waiters: a lost range stands when the count shows it, and before durable_end passes it
//   C  committed_end, shared mode: CAS over what was walked (W1 in ring_walk.cpp) -> W3
#include "spillway/persist/partition_persister.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "spillway/core/error.h"
#include "spillway/ipc/repair.h"
#include "spillway/ipc/space.h"

namespace spillway {
namespace {

constexpr std::uint64_t kMillisecond = 1'000'000;
constexpr std::uint64_t kLazyNs = 3 * kMillisecond;        // how long bytes that nobody asks for may wait to be taken
constexpr std::uint64_t kStreamPauseNs = 100'000;          // how soon it is looked for more of a stream, at first
constexpr std::uint64_t kStreamOverNs = 5 * kMillisecond;  // ... and when no more
constexpr std::uint64_t kStuckNs = kMillisecond;           // ... a claim uncommitted before its owner is looked at
constexpr std::uint64_t kRepairAgainNs = 2 * kMillisecond;
constexpr std::uint64_t kLiveOwnerNs = 4 * kMillisecond;  // until it is looked again whether a live owner has died
constexpr std::uint64_t kDrowsyBatchNs = 20 * kMillisecond;
constexpr std::uint64_t kDrowsyMaxNs = 100 * kMillisecond;
constexpr int kLooksMax = 64;

}  // namespace

void PartitionPersister::step(std::uint64_t now_ns) noexcept {
  if (stage_ == Stage::none) return;
  if (stage_ != Stage::releasing && !role_.daemon() && role_.asked_for()) {
    handing_over_ = true;
    release();
  }
  if (stage_ == Stage::releasing) {
    if (under_way_ == 0) finish_release();
    return;
  }
  move_horizon(now_ns);
  if (stage_ == Stage::broken) {
    if (under_way_ > 0 || now_ns < retry_ns_) return;
    stage_ = Stage::settling;
  }
  if (stage_ == Stage::settling && (now_ns < retry_ns_ || !settle(now_ns))) return;
  look(now_ns);
  tend_shared(now_ns);
  advance();  // what has completed makes room, and decides what is urgent
  take(now_ns);
  submit();
  start_sync(now_ns);
  tend_segments(now_ns);
}

// What is committed, and what somebody wants of it.
void PartitionPersister::look(std::uint64_t now_ns) noexcept {
  const PersisterArea& area = partition_->control().persister;
  // acquire: pair with the releases of who asks: what was committed before is found by the walk that follows.
  const std::uint32_t wake = area.wake.load(std::memory_order_acquire);
  const std::uint32_t sync_wanted = area.sync_wanted.load(std::memory_order_acquire);
  // relaxed: a waiter's store that is missed now is seen within its bounded sleep.
  if (wake != std::exchange(wake_seen_, wake) || area.waiters.load(std::memory_order_relaxed) != 0)
    write_wished_ = true;
  if (sync_wanted != std::exchange(sync_wanted_seen_, sync_wanted)) sync_wished_ = true;
  reserved_end_ = partition_->control().claims.reserved_end.load(std::memory_order_acquire);
  last_look_ = RingIntake::Look::found;
  for (int i = 0; i < kLooksMax && last_look_ == RingIntake::Look::found; ++i) last_look_ = intake_.look();
  if (last_look_ == RingIntake::Look::corrupt) {
    // What lies before it goes to disk first; what was wished for behind it can't be had.
    const bool syncs = topic_syncs() || want_durable_ > durable_end_;
    if (intake_.ring_broken() || intake_.known_end() <= (syncs ? durable_end_ : written_end_)) {
      trouble(Trouble::ring, EBADMSG, now_ns);
    } else {
      write_wished_ = true;
      sync_wished_ = sync_wished_ || syncs;
      first_wanted_ = std::min(first_wanted_, intake_.known_end());
    }
  }
  note_wishes(now_ns);
  looked_ns_ = now_ns;
}

void PartitionPersister::note_wishes(std::uint64_t now_ns) noexcept {
  const Offset known = intake_.known_end();
  if (write_wished_ || sync_wished_) want_written(known);
  write_wished_ = false;
  if (sync_wished_) {
    // All that is committed now, also beyond what was walked so far: one sync for all who wait.
    const Walk walk = walk_committed(*partition_, known, kOffsetEnd);
    want_durable(walk.status == WalkStatus::lapped ? known : walk.end);
    sync_wished_ = false;
  }
  if (known > intake_.indexed_end()) {
    if (backlog_since_ns_ == 0) backlog_since_ns_ = looked_ns_ != 0 ? looked_ns_ : now_ns;
    if (now_ns - backlog_since_ns_ >= kLazyNs) {
      want_written(known);
      backlog_since_ns_ = now_ns;
    }
  } else {
    backlog_since_ns_ = 0;
  }
  if (pressed()) {
    want_written(known);
    if (topic_syncs()) want_durable(written_end_);
  }
  if (!topic_syncs() || known <= durable_end_) {
    unsynced_since_ns_ = 0;
    return;
  }
  if (partition_->config().sync == SyncPolicy::every_batch) {
    want_written(known);
    want_durable(written_end_);
  }
  if (unsynced_since_ns_ == 0) unsynced_since_ns_ = looked_ns_ != 0 ? looked_ns_ : now_ns;
  if (now_ns - unsynced_since_ns_ >= partition_->config().sync_interval_ms * kMillisecond) {
    want_durable(known);
    unsynced_since_ns_ = now_ns;
  }
}

bool PartitionPersister::pressed() const noexcept {
  return partition_->config().on_full != OnFull::overwrite &&
         reserved_end_ - std::min(reserved_end_, reclaimable_end_) > partition_->capacity() / 3;
}

// Shared mode: committed_end is moved for the producers, and a dead one's claim is closed.
void PartitionPersister::tend_shared(std::uint64_t now_ns) noexcept {
  Control& control = partition_->control();
  // relaxed: whoever changes the mode holds the mode lock with nobody producing; a stale value delays a step.
  if (control.notices.mode.load(std::memory_order_relaxed) != ProducerMode::shared) {
    stuck_since_ns_ = 0;
    return;
  }
  const Offset known = intake_.known_end();
  Offset floor = control.commits.committed_end.load(std::memory_order_acquire);
  bool moved = false;
  while (floor < known && !moved) {
    moved = control.commits.committed_end.compare_exchange_weak(floor, known, std::memory_order_acq_rel,
                                                                std::memory_order_acquire);  // C
  }
  if (moved) tell_progress(*partition_);
  if (last_look_ != RingIntake::Look::nothing_new || reserved_end_ <= known) {
    stuck_since_ns_ = 0;
    return;
  }
  if (stuck_since_ns_ == 0 || stuck_at_ != known) {
    stuck_since_ns_ = now_ns;
    stuck_at_ = known;
    repair_again_ns_ = now_ns + kStuckNs;
    return;
  }
  if (now_ns < repair_again_ns_) return;
  const RepairResult result = repair_claim_at_committed_end(*partition_);
  repair_again_ns_ = now_ns + (result == RepairResult::repaired           ? 0
                               : result == RepairResult::waiting_for_live ? kLiveOwnerNs
                                                                          : kRepairAgainNs);
}

void PartitionPersister::take(std::uint64_t now_ns) noexcept {
  if (stage_ != Stage::working || now_ns < retry_ns_) return;
  const Offset before = intake_.taken_end();
  const int error = intake_.take(want_written_);
  if (error == EBADMSG && intake_.ring_broken()) {
    trouble(Trouble::ring, error, now_ns);
  } else if (error == ENOMEM) {
    trouble(Trouble::settle, error, now_ns);
  } else if (error != 0) {
    trouble(Trouble::segment, error, now_ns);
  } else if (intake_.taken_end() > before || intake_.known_end() <= before) {
    if (intake_.taken_end() - before >= IoBuffers::kLargeBytes) streamed_ns_ = now_ns;
    well(Trouble::segment);
  }
}

void PartitionPersister::submit() noexcept {
  if (stage_ != Stage::working) return;
  for (Piece& piece : intake_.pieces()) {
    if (piece.done || piece.operation.under_way || !intake_.may_submit(piece)) continue;
    const Offset base = piece.writer->base();
    if (!shared_.queue.submit_write(piece.writer->file().descriptor(), piece.buffer, piece.padded_end - piece.begin,
                                    log_pos(base, piece.begin), piece.operation.tag())) {
      return;
    }
    piece.operation.under_way = true;
    ++under_way_;
  }
  if (sync_waiting_) return;
  const bool urgent = want_written_ > written_end_;
  // With little under way bytes and index go out together, which saves who waits a round trip to the disk. Not where a
  // successor goes on from written_end: of a range's entries the home that is not synced has the only one that proves what
  // lies before, and must not be replaced by one whose bytes are not there yet.
  intake_.hand_on(urgent && intake_.quiet() && ring_keeps_unsynced(), durable_end_);
  const SegmentWriter::IndexPolicy policy{urgent || pressed(), intake_.data_end()};
  for (const auto& writer : row_.writers()) under_way_ += writer->submit_index(policy, shared_.queue, shared_.buffers);
}

// What the sync covers is settled here: everything that completed before, which is everything before written_end_.
void PartitionPersister::start_sync(std::uint64_t now_ns) noexcept {
  if (stage_ != Stage::working || syncs_under_way_ > 0 || now_ns < sync_again_ns_) return;
  if (row_.crowded()) want_durable(written_end_);
  // Not only when all that is wanted by now is written: beside a busy producer that may be never.
  const bool stuck = pressed() || row_.crowded() || trouble_ == Trouble::segment;
  const bool asked = want_durable_ > durable_end_ && (written_end_ >= first_wanted_ || stuck);
  const bool again = trouble_ == Trouble::sync;  // to see whether the disk has recovered
  sync_waiting_ = (asked && written_end_ > durable_end_) || again;
  if (!sync_waiting_ || row_.index_under_way() || intake_.ahead()) return;
  const auto& writers = row_.writers();
  const auto touched = static_cast<std::size_t>(
      std::count_if(writers.begin(), writers.end(), [&](const auto& w) { return w->touched() || again; }));
  if (shared_.queue.depth() - shared_.queue.in_flight() < touched) return;
  sync_waiting_ = false;
  sync_end_ = written_end_;
  sync_error_ = 0;
  for (const auto& writer : writers) {
    if (!writer->touched() && !again) continue;
    SPILLWAY_ASSERT(writer->submit_sync(shared_.queue));
    ++syncs_under_way_;
    ++under_way_;
  }
  if (syncs_under_way_ == 0) sync_over();
}

void PartitionPersister::sync_over() noexcept {
  if (sync_error_ == 0) {
    durable_end_ = std::max(durable_end_, sync_end_);
    first_wanted_ = want_durable_;
    ++syncs_;
    if (trouble_ == Trouble::sync) well(Trouble::sync);
  } else {
    // Also what was written, or is on its way, since the sync was submitted, and of a claim that was taken in part all.
    const bool whole = intake_.taken_end() == intake_.boundary();
    if (!ring_keeps_unsynced()) lose_unsynced(std::max(sync_end_, whole ? intake_.taken_end() : intake_.known_end()));
    trouble(Trouble::sync, sync_error_, monotonic_ns());
  }
  publish();
}

// Of [durable_end_, end) the ring may not have all any more, and nobody knows whether the disk does.
void PartitionPersister::lose_unsynced(Offset end) noexcept {
  if (end <= durable_end_) return;
  Control& control = partition_->control();
  // relaxed: only the holder of the role writes them.
  const std::uint64_t count =
      std::min<std::uint64_t>(control.persister.lost_count.load(std::memory_order_relaxed), kLostRanges);
  const Offset before = count > 0 ? control.lost[count - 1].to.load(std::memory_order_relaxed) : 0;
  const bool grows = count == kLostRanges || (count > 0 && before >= durable_end_);
  LostRange& lost = control.lost[grows ? count - 1 : count];
  if (!grows) lost.from.store(durable_end_, std::memory_order_relaxed);
  lost.to.store(std::max(before, end), std::memory_order_release);
  if (!grows) control.persister.lost_count.store(count + 1, std::memory_order_release);  // S6
  want_durable_ = first_wanted_ = durable_end_;
}

void PartitionPersister::io_completed(IoOperation& operation, int error) noexcept {
  SPILLWAY_ASSERT(under_way_ > 0);
  --under_way_;
  operation.under_way = false;
  if (operation.purpose == IoPurpose::log_bytes) {
    Piece& piece = reinterpret_cast<Piece&>(operation);  // its first member
    if (error == EINVAL && piece.writer->file().direct()) row_.go_buffered();
    if (error == 0) {
      piece.done = true;
      piece.writer->touch();
      shared_.buffers.give_back_large(std::exchange(piece.buffer, nullptr));
    }
  } else {
    for (const auto& writer : row_.writers()) {
      if (!writer->owns(operation)) continue;
      if (operation.purpose == IoPurpose::index)
        writer->index_completed(operation, error, shared_.buffers);
      else
        writer->sync_completed(error);
      break;
    }
  }
  if (operation.purpose == IoPurpose::sync) {
    if (error != 0) sync_error_ = error;
    if (--syncs_under_way_ == 0) sync_over();
  } else if (error != 0) {
    trouble(Trouble::write, error, monotonic_ns());
  }
}

void PartitionPersister::advance() noexcept {
  intake_.retire();
  Mark mark;
  if (!intake_.pop_mark(std::min(intake_.data_end(), row_.index_end()), mark)) return;
  if (mark.entry.bytes != 0) records_ = mark.entry.records;
  if (mark.boundary <= written_end_) return;
  written_end_ = mark.boundary;
  well(Trouble::write);
  well(Trouble::ring);
  publish();
}

// Larger ones first, so that who loads the smaller one first finds them in order. An earlier holder may have got
// further than we have again.
void PartitionPersister::publish() noexcept {
  PersisterArea& area = partition_->control().persister;
  bool moved = false;
  const auto raise = [&](auto& watermark, Offset value) {
    // relaxed: only the holder of the role writes it.
    if (watermark.load(std::memory_order_relaxed) >= value) return;
    watermark.store(value, std::memory_order_release);  // S3, S4, S1
    moved = true;
  };
  raise(area.written_end, written_end_);
  raise(area.durable_end, durable_end_);
  const Offset safe = topic_syncs() ? durable_end_ : written_end_;
  row_.note_safe(safe);
  reclaimable_end_ = std::max(reclaimable_end_, align_down(safe, kBlock));
  raise(area.reclaimable_end, reclaimable_end_);
  // relaxed: for display.
  area.records_written.store(records_, std::memory_order_relaxed);
  area.syncs.store(syncs_, std::memory_order_relaxed);
  if (moved) tell_progress(*partition_);
}

void PartitionPersister::tend_segments(std::uint64_t now_ns) noexcept {
  if (stage_ != Stage::working) return;
  row_.close_finished();
  expire_aged(now_ns);
  row_.prepare(written_end_, now_ns);  // a disk that is full for a spare is trouble only when the segment is needed
  if (!row_.writers().empty() && row_.writers().back()->base() > newest_base_) {
    newest_base_ = row_.writers().back()->base();
    // So that recovery reads no more than the newest segments, whatever the policy.
    if (!topic_syncs()) want_durable(newest_base_);
  }
  if (!row_.surplus() || now_ns < retain_again_ns_) return;
  retain_again_ns_ = now_ns + kMillisecond;
  try {
    row_.expire();
  } catch (const std::exception&) {
    retain_again_ns_ = now_ns + 1000 * kMillisecond;  // until then its files stay
  }
}

void PartitionPersister::expire_aged(std::uint64_t now_ns) noexcept {
  if (partition_->config().retain_age_s == 0 || now_ns < age_again_ns_) return;
  age_again_ns_ = now_ns + 1000 * kMillisecond;  // should it fail
  try {
    age_again_ns_ = now_ns + row_.expire_aged(durable_end_);
  } catch (const std::exception&) {
    // What is too old stays a second longer.
  }
}

std::uint64_t PartitionPersister::next_step_ns(std::uint64_t now_ns) const noexcept {
  switch (stage_) {
    case Stage::none: return UINT64_MAX;
    case Stage::releasing: return under_way_ > 0 ? UINT64_MAX : now_ns;
    case Stage::broken: return under_way_ > 0 ? UINT64_MAX : retry_ns_;
    case Stage::settling: return retry_ns_;
    case Stage::working: break;
  }
  std::uint64_t next = UINT64_MAX;
  const auto at = [&](std::uint64_t ns) { next = std::min(next, std::max(ns, now_ns)); };
  if (busy()) return now_ns;
  // Of a stream more comes soon, and nobody rings until the ring is full: by then the disk has been idle for long.
  const std::uint64_t pause_ns = std::max(now_ns - std::min(now_ns, streamed_ns_), kStreamPauseNs);
  if (pause_ns < kStreamOverNs) at(now_ns + pause_ns);
  if (retry_ns_ > now_ns) at(retry_ns_);
  if (horizon_again_ns_ > now_ns) at(horizon_again_ns_);
  if (partition_->config().retain_age_s != 0) at(age_again_ns_);
  if (backlog_since_ns_ != 0) at(backlog_since_ns_ + kLazyNs);
  if (unsynced_since_ns_ != 0) at(unsynced_since_ns_ + partition_->config().sync_interval_ms * kMillisecond);
  if (stuck_since_ns_ != 0) at(repair_again_ns_);
  if (trouble_ == Trouble::sync && under_way_ == 0) at(sync_again_ns_);
  // Wanted, nothing under way: buffers or segments were not to be had.
  if (under_way_ == 0 && want_written_ > written_end_ && intake_.known_end() > written_end_) at(now_ns + kMillisecond);
  return next;
}

std::uint64_t PartitionPersister::drowsy_ns() const noexcept {
  const std::uint64_t interval_ns = partition_->config().sync_interval_ms * kMillisecond;
  switch (partition_->config().sync) {
    case SyncPolicy::every_batch: return kDrowsyBatchNs;
    case SyncPolicy::interval: return std::min(interval_ns, kDrowsyMaxNs);
    case SyncPolicy::none: break;
  }
  return kDrowsyMaxNs;
}

bool PartitionPersister::idle() const noexcept {
  return stage_ == Stage::none || (stage_ == Stage::working && under_way_ == 0 && backlog_since_ns_ == 0 &&
                                   unsynced_since_ns_ == 0 && trouble_ == Trouble::none);
}

}  // namespace spillway
