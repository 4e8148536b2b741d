// ORDER.
//   Q1 request -> the holder's asked_for(): the asker's slot is locked before its number shows
#include "spillway/persist/role.h"

#include <fcntl.h>
#include <unistd.h>

#include "spillway/core/clock.h"
#include "spillway/core/error.h"
#include "spillway/ipc/repair.h"
#include "spillway/ipc/space.h"

namespace spillway {
namespace {

// How long a free role is left to the daemon that asked for it: it may be paused, and producers would wait for it.
constexpr std::uint64_t kAsideNs = 1'000'000'000;

}  // namespace

Role::Role(std::shared_ptr<Partition> partition, bool daemon)
    : partition_(std::move(partition)), daemon_(daemon), slots_(partition_->paths().slots_lock()) {
  file_ = open_lock_file(partition_->paths().role_lock(), O_RDWR);
}

bool Role::try_take(std::uint64_t now_ns) noexcept {
  if (held_) return true;
  if (!daemon_ && asked_for()) {
    if (aside_until_ns_ == 0) aside_until_ns_ = now_ns + kAsideNs;
    if (now_ns < aside_until_ns_) return false;
  } else {
    aside_until_ns_ = 0;
  }
  if (!file_) file_ = try_open_file(partition_->paths().role_lock(), O_RDWR);
  if (!file_ || !FileLock::try_lock_description(file_.get(), LockMode::exclusive)) return false;
  held_ = true;
  withdraw();
  return true;
}

void Role::release() noexcept {
  held_ = false;
  file_.reset();  // the lock goes with its description
}

bool Role::asked_for() const noexcept {
  // acquire: Q1.
  const std::uint32_t request = partition_->control().persister.request.load(std::memory_order_acquire);
  return request != 0 && request != request_ && request <= kProducerSlots && slots_.held(request - 1);
}

void Role::ask() noexcept try {
  if (held_ || !daemon_ || asked_for()) return;
  auto& word = partition_->control().persister.request;
  if (!slot_) {
    for (std::uint32_t i = 0; i < kProducerSlots && !slot_; ++i) {
      FileLock lock = FileLock::try_lock(partition_->paths().slots_lock(), LockMode::exclusive, i);
      if (!lock || !note_settled(*partition_, i)) continue;
      slot_ = std::move(lock);
      request_ = i + 1;
      ProducerSlot& slot = partition_->control().slots[i];
      // release: P2, like every store to a note. A dead owner's would count as that of a live one from here on.
      slot.start_state.store(0, std::memory_order_release);
      // relaxed throughout: for display.
      slot.pid.store(static_cast<std::uint32_t>(::getpid()), std::memory_order_relaxed);
      slot.mode.store(ProducerMode::none, std::memory_order_relaxed);
      slot.since_ns.store(wall_ns(), std::memory_order_relaxed);
    }
  }
  if (!slot_ || word.load(std::memory_order_relaxed) == request_) return;  // relaxed: our own, or stored again below
  word.store(request_, std::memory_order_release);                         // Q1
  want_persister(*partition_);
} catch (const Error&) {
  // Out of descriptors, say: asked again later.
}

void Role::withdraw() noexcept {
  if (request_ == 0) return;
  std::uint32_t ours = request_;
  // relaxed: a request that is taken back promises nothing.
  partition_->control().persister.request.compare_exchange_strong(ours, 0, std::memory_order_relaxed);
  partition_->control().slots[request_ - 1].pid.store(0, std::memory_order_relaxed);
  slot_.unlock();
  request_ = 0;
}

}  // namespace spillway
