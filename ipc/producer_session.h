// What it takes to be a producer of a partition: the mode lock, the last generation's affairs settled, a slot.
//
// Thread safety: made and destroyed by one thread.
#pragma once

#include <memory>

#include "spillway/core/file_lock.h"
#include "spillway/ipc/partition.h"

namespace spillway {

// A locked slot of control. Its note is settled (and cleared) when it is taken.
class OwnedSlot {
 public:
  OwnedSlot() noexcept = default;
  // Throws Error: no_slot when all kProducerSlots are taken by live owners or hold unsettled notes of dead ones.
  static OwnedSlot acquire(Partition& partition, ProducerMode mode);
  ~OwnedSlot() { release(); }
  OwnedSlot(OwnedSlot&& other) noexcept { *this = std::move(other); }
  OwnedSlot& operator=(OwnedSlot&& other) noexcept;

  void release() noexcept;
  std::size_t index() const noexcept { return index_; }
  ProducerSlot& slot() const noexcept { return *slot_; }
  explicit operator bool() const noexcept { return slot_ != nullptr; }

 private:
  FileLock lock_;
  ProducerSlot* slot_ = nullptr;
  std::size_t index_ = 0;
};

class ProducerSession {
 public:
  // Throws Error: busy when the partition has a live exclusive producer, or (mode exclusive) live shared ones; corrupt;
  // no_slot. The partition must be open for writing.
  ProducerSession(std::shared_ptr<Partition> partition, ProducerMode mode);

  Partition& partition() const noexcept { return *partition_; }
  const std::shared_ptr<Partition>& partition_pointer() const noexcept { return partition_; }
  ProducerSlot& slot() const noexcept { return slot_.slot(); }
  std::size_t slot_index() const noexcept { return slot_.index(); }
  // Commits must be followed by a fence before sleepers are looked for: this process could not register.
  bool fence_per_commit() const noexcept { return fence_; }
  // Lets go of slot and mode locks, as the destructor does: others may take the partition from here on.
  void give_up() noexcept;

 private:
  void become_exclusive();
  void become_shared();
  void store_mode(ProducerMode mode);

  std::shared_ptr<Partition> partition_;
  FileLock alone_;  // byte 1 of the mode lock; exclusive producers only
  FileLock mode_;   // byte 0
  OwnedSlot slot_;
  bool fence_;
};

}  // namespace spillway
