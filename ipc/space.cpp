// ORDER.
//   S1 reclaimable_end  <- the persister's release store: the segment holds what lies before, so it may be overwritten
//   S2 horizon          <- the persister's release store: the promise is on disk
//   S3 gate             <- the consumer's release store: it has read what lies before
#include "spillway/ipc/space.h"

#include <algorithm>
#include <cerrno>

namespace spillway {
namespace {

bool has_gates(const TopicConfig& c) noexcept { return c.ephemeral && c.on_full == OnFull::block; }

}  // namespace

Space::Space(std::shared_ptr<Partition> partition) : partition_(std::move(partition)) {
  if (has_gates(partition_->config())) consumers_ = LockProbe(partition_->paths().consumers_lock());
  role_ = LockProbe(partition_->paths().role_lock());
  slots_ = LockProbe(partition_->paths().slots_lock());
}

Offset Space::limit() noexcept {
  const TopicConfig& config = partition_->config();
  const PersisterArea& area = partition_->control().persister;
  if (config.ephemeral) return has_gates(config) ? gates_limit() : kOffsetEnd;
  Offset limit = std::min(area.horizon.load(std::memory_order_acquire), kOffsetEnd);  // S2
  if (config.on_full != OnFull::overwrite) {
    limit = std::min(limit, area.reclaimable_end.load(std::memory_order_acquire) + partition_->capacity());  // S1
  }
  return align_down(limit, kRecordAlign);
}

Offset Space::gates_limit() noexcept {
  Consumers& consumers = partition_->consumers();
  const std::size_t used =
      std::min<std::size_t>(consumers.announcement.gate_slots.load(std::memory_order_acquire), kConsumerSlots);
  const Offset reserved =
      partition_->control().claims.reserved_end.load(std::memory_order_relaxed);  // any past value does
  Offset limit = kOffsetEnd;
  for (std::size_t i = 0; i < used; ++i) {
    const Offset gate = consumers.slots[i].gate.load(std::memory_order_acquire);  // S3
    if (gate >= kOffsetEnd) continue;                                             // kNoGate, or a lie
    // Clamped to the ring: a gate that was passed already can't be honoured any more.
    const Offset allowed =
        std::max(gate, reserved - std::min(reserved, partition_->capacity())) + partition_->capacity();
    if (allowed >= limit) continue;
    // Asked of the kernel only when this gate would hold us soon: the owner may be dead.
    if (allowed < reserved + partition_->claim_bytes_max() && !consumers_.held(i)) continue;
    limit = allowed;
  }
  return align_down(limit, kRecordAlign);  // a gate off the grid would put every later claim off it
}

bool tells_damage(int error) noexcept {
  return error == EBADMSG || error == ELOOP || error == EISDIR || error == ENXIO || error == ENOTDIR || error == ENOENT;
}

Blocked trouble_of(PersisterState state, int error) noexcept {
  if (state == PersisterState::no_space) return Blocked::no_space;
  if (state != PersisterState::io_error) return Blocked::none;
  return tells_damage(error) ? Blocked::damaged : Blocked::io_error;
}

Blocked Space::cause(Offset wanted) noexcept {
  const TopicConfig& config = partition_->config();
  const Control& control = partition_->control();
  if (config.ephemeral) return wanted > limit() ? Blocked::gated : Blocked::held_by_live;
  // relaxed throughout: a report.
  const PersisterState state = control.persister.state.load(std::memory_order_relaxed);
  if (!role_.held(0)) return Blocked::no_persister;
  const Blocked trouble = trouble_of(state, control.persister.error.load(std::memory_order_relaxed));
  if (trouble != Blocked::none) return trouble;
  if (wanted > control.persister.horizon.load(std::memory_order_relaxed)) return Blocked::no_horizon;
  // Everything committed is reclaimed, and still there is no room: a claim in the middle is not committed.
  const Offset committed = control.commits.committed_end.load(std::memory_order_relaxed);
  if (control.notices.mode.load(std::memory_order_relaxed) == ProducerMode::shared &&
      control.persister.written_end.load(std::memory_order_relaxed) >= committed &&
      control.claims.reserved_end.load(std::memory_order_relaxed) > committed) {
    for (std::size_t i = 0; i < kProducerSlots; ++i) {
      const std::uint64_t note = control.slots[i].start_state.load(std::memory_order_acquire);
      if (note != 0 && (note & ~kNoteStateMask) == committed && !slots_.held(i)) return Blocked::held_by_dead;
    }
    return Blocked::held_by_live;
  }
  return Blocked::disk_behind;
}

void Space::wait(Offset wanted, Deadline deadline, unsigned round) noexcept {
  if (round < 16) return pause_about(500);
  if (!partition_->config().ephemeral) want_persister(*partition_);
  const auto& committed_end = partition_->control().commits.committed_end;
  const std::uint64_t ns = std::min<std::uint64_t>(deadline.left_ns(), round < 64 ? 1'000'000 : 5'000'000);
  // The second bound is the shared mode's own; an exclusive producer always is within it.
  wait_progress(*partition_, ns, [&] {
    return limit() >= wanted && committed_end.load(std::memory_order_acquire) + partition_->capacity() >= wanted;  // C2
  });
}

void Space::mention(Offset reserved_end) noexcept {
  if (partition_->config().ephemeral || reserved_end - mentioned_ < partition_->capacity() / 4) return;
  mentioned_ = reserved_end;
  // relaxed: a hint; the persister looks by itself now and then.
  const Offset written = partition_->control().persister.written_end.load(std::memory_order_relaxed);
  if (reserved_end - std::min(written, reserved_end) < partition_->capacity() / 4) return;
  want_persister(*partition_);
}

void want_persister(Partition& partition) noexcept {
  auto& wake = partition.control().persister.wake;
  // release: pairs with the persister's acquire; it then sees the claims and requests stored before.
  wake.fetch_add(1, std::memory_order_release);
  futex_wake_all(wake);
  if (const auto listener = partition.space_listener()) listener->space_wanted();
}

void tell_progress(Partition& partition) noexcept {
  PersisterArea& area = partition.control().persister;
  std::atomic_thread_fence(std::memory_order_seq_cst);  // the drawing "Progress": our watermark before our look
  if (area.waiters.load(std::memory_order_relaxed) == 0) return;
  area.waiters.store(0, std::memory_order_relaxed);
  area.progress.fetch_add(1, std::memory_order_release);
  futex_wake_all(area.progress);
}

}  // namespace spillway
