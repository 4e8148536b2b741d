// Waiting for the disk.
//
// ORDER.
//   V1 written_end, durable_end <- S3, S4 (partition_persister.cpp); then notices and losses are looked at: a gap's
//      notice stands before any watermark passes its beginning (N1 in ring_intake.cpp)
//   V2 sync_wanted -> the holder's look(): what was committed before is then found by its walk
//   Waiting itself is the drawing "Progress" (space.h).
#include <algorithm>

#include "spillway/core/error.h"
#include "spillway/ipc/ring_walk.h"
#include "spillway/ipc/space.h"
#include "spillway/persist/persister_impl.h"
#include "spillway/persist/segment_history.h"

namespace spillway {
namespace {

constexpr std::uint64_t kDriveNs = 4'000'000;  // how long a waiter works itself before it leaves it to the thread
constexpr std::uint64_t kLookNs = 10'000'000;  // how long a waiter sleeps at a time

enum class Answer : std::uint8_t { no, yes, lost };

// Gaps that control has forgotten, and what was lost with an earlier ring, are in the segments. `no`: they can't be read now.
Answer recorded(const Partition& partition, Offset end) noexcept try {
  const std::shared_ptr<const Partition> borrowed(std::shared_ptr<const Partition>(), &partition);
  SegmentHistory history(partition.paths().data, partition.config(), partition.number(), borrowed);
  // Before the first segment there is no boundary: what lies there is a gap as a whole.
  const Offset inside = align_down(end - 1, kRecordAlign);
  for (Offset at = std::min(history.boundary_before(inside), inside); at < end;) {
    const HistoryRead read = history.read(at);
    if ((read.status != HistoryStatus::data && read.status != HistoryStatus::gap) || read.end <= at) return Answer::no;
    if (read.status == HistoryStatus::gap && read.end >= end) {
      // Padding, or what was written and is gone since.
      const bool had = read.cause == GapCause::none || read.cause == GapCause::expired;
      return had ? Answer::yes : Answer::lost;
    }
    at = read.end;
  }
  return Answer::yes;
} catch (...) {
  return Answer::no;
}

// What became of the record that ends at `end`, which a watermark has passed.
Answer settled(const Partition& partition, Offset end) noexcept {
  if (end == 0) return Answer::yes;
  if (end <= partition.begin()) return recorded(partition, end);  // of an earlier ring
  if (partition.config().on_full != OnFull::overwrite) return Answer::yes;
  const Control& control = partition.control();
  Offset oldest = UINT64_MAX;
  for (const GapNotice& notice : control.gaps) {
    // acquire: `to` before `from` (N1): of a notice that is being replaced the old one, an empty one, or the new one.
    const Offset to = notice.to.load(std::memory_order_acquire);
    const Offset from = notice.from.load(std::memory_order_acquire);
    if (from < end && end <= to) return Answer::lost;
    if (from < to) oldest = std::min(oldest, from);
  }
  // acquire, after the notices: who has missed one because it was being replaced finds that all of them are in use.
  const std::uint64_t count = control.persister.gap_count.load(std::memory_order_acquire);
  return count >= kGapNotices && end <= oldest ? recorded(partition, end) : Answer::yes;
}

bool in_failed_sync(const Control& control, Offset end) noexcept {
  const std::uint64_t count = control.persister.lost_count.load(std::memory_order_acquire);  // S6
  for (std::size_t i = 0; i < std::min<std::uint64_t>(count, kLostRanges); ++i) {
    // relaxed, acquire: `from` stands when the count shows the range; `to` may grow.
    if (control.lost[i].from.load(std::memory_order_relaxed) >= end) return false;
    if (end <= control.lost[i].to.load(std::memory_order_acquire)) return true;
  }
  return false;
}

Answer look(const Partition& partition, Offset end, bool durable) noexcept {
  const PersisterArea& area = partition.control().persister;
  const Offset reached = (durable ? area.durable_end : area.written_end).load(std::memory_order_acquire);  // V1
  if (durable && in_failed_sync(partition.control(), end)) return Answer::lost;
  if (reached < end) return Answer::no;
  return settled(partition, end);
}

}  // namespace

std::string_view name_of(Durable value) noexcept {
  switch (value) {
    case Durable::yes: return "yes";
    case Durable::timed_out: return "timed_out";
    case Durable::lost: return "lost";
    case Durable::refused: return "refused";
    case Durable::forked: return "forked";
  }
  return "unknown";
}

Blocked persister_blocked(const Partition& partition) noexcept {
  const Control& control = partition.control();
  try {
    if (!LockProbe(partition.paths().role_lock()).held(0)) return Blocked::no_persister;
  } catch (const Error&) {
    return Blocked::disk_behind;
  }
  // relaxed throughout: a report.
  const Blocked trouble = trouble_of(control.persister.state.load(std::memory_order_relaxed),
                                     control.persister.error.load(std::memory_order_relaxed));
  if (trouble != Blocked::none) return trouble;
  const Offset committed = control.commits.committed_end.load(std::memory_order_relaxed);
  const bool shared = control.notices.mode.load(std::memory_order_relaxed) == ProducerMode::shared;
  const bool held = shared && control.persister.written_end.load(std::memory_order_relaxed) >= committed &&
                    control.claims.reserved_end.load(std::memory_order_relaxed) > committed;
  return held ? Blocked::held_by_live : Blocked::disk_behind;
}

bool Persister::Impl::drive(Partition& partition, Offset end, Level level, Deadline deadline) noexcept {
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return false;
  Entry* const entry = find(partition);
  const std::uint64_t start_ns = monotonic_ns();
  if (entry == nullptr || !entry->stand_by || !entry->persister->take_role(start_ns)) return false;
  PartitionPersister& persister = *entry->persister;
  if (level == Level::durable)
    persister.ask_sync();
  else
    persister.ask_write();
  const Deadline until = Deadline::after_ns(std::min(deadline.left_ns(), kDriveNs));
  const bool durable = level == Level::durable;
  Answer answer = Answer::no;
  do {
    persister.step(monotonic_ns());
    answer = look(partition, end, durable);
    if (answer != Answer::no || (persister.under_way() == 0 && !persister.busy())) break;
    poll(persister.busy() ? 0 : 1, until);
  } while (!until.passed());
  // What is left is the thread's.
  if (queue_->in_flight() > 0 || !persister.idle()) doorbell_->ring();
  lock.unlock();
  deliver();
  return answer != Answer::no;
}

Durable Persister::wait(Partition& partition, Offset end, Level level, Deadline deadline) noexcept {
  if (mark_.forked()) return Durable::forked;
  if (partition.config().ephemeral) return Durable::refused;
  const bool durable = level == Level::durable;
  PersisterArea& area = partition.control().persister;
  for (;;) {
    switch (look(partition, end, durable)) {
      case Answer::yes: return Durable::yes;
      case Answer::lost: return Durable::lost;
      case Answer::no: break;
    }
    if (deadline.passed()) return Durable::timed_out;
    if (impl_->drive(partition, end, level, deadline)) continue;
    if (durable) area.sync_wanted.fetch_add(1, std::memory_order_release);  // V2
    want_persister(partition);
    wait_progress(partition, std::min(deadline.left_ns(), kLookNs),
                  [&] { return look(partition, end, durable) != Answer::no; });
  }
}

Durable Persister::wait_written(Partition& partition, Offset end, Deadline deadline) noexcept {
  return wait(partition, end, Level::written, deadline);
}

Durable Persister::wait_durable(Partition& partition, Offset end, Deadline deadline) noexcept {
  return wait(partition, end, Level::durable, deadline);
}

Durable Persister::drain(Partition& partition, Deadline deadline) noexcept {
  if (mark_.forked()) return Durable::forked;
  const Offset end = find_committed_end(partition).end;
  const Durable result = wait(partition, end, Level::durable, deadline);
  // A gap that the last record lies in has been recorded by then; a failed sync is another matter.
  const bool gap = result == Durable::lost && !in_failed_sync(partition.control(), end);
  return gap ? Durable::yes : result;
}

Durable Persister::stop_cleanly(const std::shared_ptr<Partition>& partition, Deadline deadline) noexcept {
  const Durable drained = drain(*partition, deadline);
  if (drained != Durable::yes) return drained;
  {
    Impl::Locked lock(*impl_);
    Impl::Entry* const entry = impl_->find(*partition);
    if (entry == nullptr) return Durable::yes;
    entry->persister->release();
    entry->stand_by = false;
  }
  impl_->doorbell_->ring();
  for (;;) {
    {
      Impl::Locked lock(*impl_);
      Impl::Entry* const entry = impl_->find(*partition);
      if (entry == nullptr) return Durable::yes;
      impl_->poll(0, Deadline::now());
      entry->persister->step(monotonic_ns());
      if (!entry->persister->holds_role()) break;
      if (deadline.passed()) {
        entry->stand_by = true;
        return Durable::timed_out;
      }
      impl_->poll(1, Deadline::after_ns(std::min<std::uint64_t>(deadline.left_ns(), 1'000'000)));
    }
  }
  remove(partition);
  impl_->deliver();
  return Durable::yes;
}

}  // namespace spillway
