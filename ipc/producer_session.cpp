#include "spillway/ipc/producer_session.h"

#include <unistd.h>

#include <utility>

#include "spillway/core/clock.h"
#include "spillway/core/error.h"
#include "spillway/core/futex.h"
#include "spillway/ipc/repair.h"

namespace spillway {
namespace {

constexpr std::uint64_t kModeByte = 0;
constexpr std::uint64_t kAloneByte = 1;
constexpr std::uint64_t kSettleDeadlineNs = 10'000'000'000U;

// "pid 123, pid 456" of the producers whose slots are locked, for messages.
std::string name_producers(const Partition& p) {
  std::string names;
  try {
    const LockProbe locks(p.paths().slots_lock());
    for (std::size_t i = 0; i < kProducerSlots; ++i) {
      const ProducerSlot& slot = p.control().slots[i];
      // relaxed: for a message only.
      if (slot.mode.load(std::memory_order_relaxed) == ProducerMode::none || !locks.held(i)) continue;
      if (!names.empty()) names += ", ";
      names += "pid " + std::to_string(slot.pid.load(std::memory_order_relaxed));
    }
  } catch (const Error&) {
  }
  return names.empty() ? "a process that is just attaching" : names;
}

std::string where(const Partition& p) {
  return "partition " + std::to_string(p.number()) + " of topic " + p.config().name;
}

}  // namespace

OwnedSlot OwnedSlot::acquire(Partition& partition, ProducerMode mode) {
  for (std::size_t i = 0; i < kProducerSlots; ++i) {
    FileLock lock = FileLock::try_lock(partition.paths().slots_lock(), LockMode::exclusive, i);
    if (!lock) continue;
    // Of a daemon that was killed while it asked for the role: with its slot's lock held again it would count for ever.
    std::uint32_t stale = static_cast<std::uint32_t>(i + 1);
    // relaxed: a request that is taken back promises nothing.
    partition.control().persister.request.compare_exchange_strong(stale, 0, std::memory_order_relaxed);
    if (!note_settled(partition, i)) continue;
    OwnedSlot owned;
    owned.lock_ = std::move(lock);
    owned.index_ = i;
    owned.slot_ = &partition.control().slots[i];
    // release: P2, like every store to a note.
    owned.slot_->start_state.store(0, std::memory_order_release);
    // relaxed: for display.
    owned.slot_->pid.store(static_cast<std::uint32_t>(::getpid()), std::memory_order_relaxed);
    owned.slot_->mode.store(mode, std::memory_order_relaxed);
    owned.slot_->since_ns.store(wall_ns(), std::memory_order_relaxed);
    owned.slot_->blocked.store(0, std::memory_order_relaxed);
    return owned;
  }
  throw Error(Code::no_slot, "all " + std::to_string(kProducerSlots) + " producer slots of " + where(partition) +
                                 " are taken; stop a producer or add a partition");
}

OwnedSlot& OwnedSlot::operator=(OwnedSlot&& other) noexcept {
  if (this != &other) {
    release();
    lock_ = std::move(other.lock_);
    slot_ = std::exchange(other.slot_, nullptr);
    index_ = other.index_;
  }
  return *this;
}

void OwnedSlot::release() noexcept {
  if (slot_ != nullptr && lock_) {  // in a forked child the lock is gone and the slot the parent's
    slot_->mode.store(ProducerMode::none, std::memory_order_relaxed);
    slot_->pid.store(0, std::memory_order_relaxed);
  }
  slot_ = nullptr;
  lock_.unlock();
}

ProducerSession::ProducerSession(std::shared_ptr<Partition> partition, ProducerMode mode)
    : partition_(std::move(partition)), fence_(!membarrier_register()) {
  SPILLWAY_ASSERT(partition_->access() == Access::read_write && mode != ProducerMode::none);
  if (mode == ProducerMode::exclusive) {
    become_exclusive();
  } else {
    become_shared();
  }
  slot_ = OwnedSlot::acquire(*partition_, mode);
}

void ProducerSession::become_exclusive() {
  const std::string path = partition_->paths().mode_lock();
  alone_ = FileLock::try_lock(path, LockMode::exclusive, kAloneByte);
  if (!alone_) {
    throw Error(Code::busy, where(*partition_) + " has an exclusive producer already (" + name_producers(*partition_) +
                                "); stop it, or use another partition");
  }
  mode_ = FileLock::try_lock(path, LockMode::exclusive, kModeByte);
  if (!mode_) {
    throw Error(Code::busy, where(*partition_) + " has shared producers (" + name_producers(*partition_) +
                                "), beside which there can be no exclusive one; stop them, or use another partition");
  }
  settle(*partition_);
  store_mode(ProducerMode::exclusive);
}

// Under the repair lock: a repairer (the persister) that looked at the mode before, and at the notes of the last
// generation, must be done before an exclusive producer's chunk can be taken for a dead one's claim.
void ProducerSession::store_mode(ProducerMode mode) {
  const std::string path = partition_->paths().repair_lock();
  for (const Deadline deadline = Deadline::after_ns(kSettleDeadlineNs);;) {
    const FileLock lock = FileLock::try_lock(path, LockMode::exclusive);
    if (lock) {
      // relaxed: ordered by the mode lock, for whoever settles after us, and by the repair lock, for repairers.
      partition_->control().notices.mode.store(mode, std::memory_order_relaxed);
      return;
    }
    if (deadline.passed()) {
      throw Error(Code::busy, "another process holds " + path + " and does not go on; continue or stop it");
    }
    pause_about(100'000);
  }
}

void ProducerSession::give_up() noexcept {
  slot_.release();
  mode_.unlock();
  alone_.unlock();
}

void ProducerSession::become_shared() {
  const std::string path = partition_->paths().mode_lock();
  const auto& mode_word = partition_->control().notices.mode;
  const LockProbe probe(path);
  for (const Deadline deadline = Deadline::after_ns(kSettleDeadlineNs);;) {
    // Alone: whatever the last generation left is ours to settle.
    mode_ = FileLock::try_lock(path, LockMode::exclusive, kModeByte);
    if (mode_) {
      settle(*partition_);
      store_mode(ProducerMode::shared);
      if (mode_.try_convert(LockMode::shared)) return;
      throw Error(Code::io, "can't turn the lock " + path + " into a shared one");
    }
    // Not alone: with others in shared mode there is nothing to settle, dead claims are repaired as they are met; on an
    // ephemeral topic here, too, as there is no persister. The mode is looked at under the lock: who held it when we tried
    // may have been another kind, and be gone.
    mode_ = FileLock::try_lock(path, LockMode::shared, kModeByte);
    if (mode_ && mode_word.load(std::memory_order_relaxed) == ProducerMode::shared) {
      if (partition_->config().ephemeral) repair_all(*partition_);
      return;
    }
    mode_.unlock();
    // Looked at last: one who only tried to become the exclusive producer holds it for a moment, beside shared ones.
    if (probe.held(kAloneByte) && probe.held(kModeByte, LockMode::shared)) {
      throw Error(Code::busy, where(*partition_) + " has an exclusive producer (" + name_producers(*partition_) +
                                  "), beside which there can be no shared one; stop it, or use another partition");
    }
    if (deadline.passed()) {
      throw Error(Code::busy, where(*partition_) + " is being taken over by another process (" +
                                  name_producers(*partition_) + ") that does not go on; continue or stop it");
    }
    pause_about(200'000);
  }
}

}  // namespace spillway
