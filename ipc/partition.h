// One partition as this process has it open: its mapped files, its locks, and what was checked of them.
//
// Every producer, consumer and persister of a process shares one Partition per partition (and so one mapping).
// Thread safety: thread-safe after construction; what it points to is shared memory with the rules of its layout.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "spillway/core/file_lock.h"
#include "spillway/core/fork.h"
#include "spillway/core/mapping.h"
#include "spillway/ipc/consumers_layout.h"
#include "spillway/ipc/control_layout.h"
#include "spillway/ipc/log_clock.h"
#include "spillway/ipc/ring_layout.h"
#include "spillway/ipc/topic_config.h"

namespace spillway {

// Where the files of one partition are.
struct PartitionPaths {
  std::string ring, control, consumers;  // in <shm>/<topic>
  std::string data;                      // <data>/<topic>/<partition>; an ephemeral topic: <shm>/<topic>/<partition>
  std::string locks;                     // `data`/lock

  static PartitionPaths of(const std::string& shm_directory, const std::string& data_directory,
                           const TopicConfig& config, std::uint32_t partition);
  // Byte 0, shared: an attached writer; exclusive: who creates the ring, recovers the log or ends it cleanly.
  std::string writers_lock() const { return locks + "/writers"; }
  // Byte 0, shared: shared producers; exclusive: the exclusive one, or who settles. Byte 1: an exclusive producer lives.
  std::string mode_lock() const { return locks + "/mode"; }
  // Byte i: producer slot i.
  std::string slots_lock() const { return locks + "/slots"; }
  // Byte 0: the persister.
  std::string role_lock() const { return locks + "/role"; }
  // Byte 0: a repairer.
  std::string repair_lock() const { return locks + "/repair"; }
  // Byte i: consumer slot i.
  std::string consumers_lock() const { return locks + "/consumers"; }
  std::vector<std::string> all_locks() const;
};

// What a Partition needs from the layer above: told when a producer is stuck, from the producer's own thread.
class SpaceListener {
 public:
  virtual ~SpaceListener() = default;
  // A producer of this process waits for space, repair or the horizon, or somebody here waits for the disk. Must not
  // block for long; called at most every millisecond or so per waiter.
  virtual void space_wanted() noexcept = 0;
};

class Partition {
 public:
  // Makes the partition's data directory and its lock files, where they are missing. Whoever creates the topic calls it
  // before the topic gets its configuration; lock files are never unlinked while the topic exists.
  static void create_locks(const PartitionPaths& paths, Sharing sharing);

  // Creates ring, control and consumers files of a new incarnation, each under a temporary name and then renamed, the
  // ring last. The caller holds the writers' lock in its exclusive form. Throws Error (no_space, no_permission ...).
  struct Birth {
    std::uint64_t incarnation;
    Offset begin;                     // a multiple of the segment (persistent) or ring size
    Offset retained_begin;            // of the log on disk; begin where there is none
    Offset horizon;                   // UINT64_MAX on an ephemeral topic
    std::uint64_t newest_ns = 0;      // of the log on disk: its newest record's commit time
    std::uint64_t wall_ahead_ns = 0;  // by so much its clock was behind the wall clock, as far as is known
  };
  static void create_files(const PartitionPaths& paths, const TopicConfig& config, std::uint32_t partition,
                           const Birth& birth);

  // Maps what exists and checks it. `read_write` for writers; `read_only` maps ring and control read-only, and the
  // consumers file read-write if allowed, else read-only (then the process is an observer: can_announce() is false).
  // Throws Error: not_found when there is no ring; corrupt, unsupported, no_permission.
  static std::shared_ptr<Partition> attach(const PartitionPaths& paths, const TopicConfig& config,
                                           std::uint32_t partition, Access access);
  ~Partition();

  const TopicConfig& config() const noexcept { return config_; }
  const PartitionPaths& paths() const noexcept { return paths_; }
  std::uint32_t number() const noexcept { return number_; }
  Access access() const noexcept { return access_; }
  std::uint64_t incarnation() const noexcept { return incarnation_; }
  Offset begin() const noexcept { return begin_; }  // of this ring
  std::uint64_t capacity() const noexcept { return capacity_; }
  const CommitMix& mix() const noexcept { return mix_; }
  const LogClock& clock() const noexcept { return clock_; }
  // The largest claim: a quarter of the ring, and never more than a gibibyte.
  std::uint64_t claim_bytes_max() const noexcept { return capacity_ / 4 < kGiB ? capacity_ / 4 : kGiB; }

  // Shared memory. Only with read_write access may anything but the consumers file be stored to.
  std::byte* at(Offset offset) const noexcept { return records_ + (offset & mask_); }
  RecordHeader* header_at(Offset offset) const noexcept { return reinterpret_cast<RecordHeader*>(at(offset)); }
  std::byte* records() const noexcept { return records_; }
  std::uint64_t mask() const noexcept { return mask_; }
  Control& control() const noexcept { return *control_; }
  Consumers& consumers() const noexcept { return *consumers_; }
  bool can_announce() const noexcept { return can_announce_; }

  // True once the library's watch saw that the ring's files were unlinked. Read per chunk.
  bool gone() const noexcept { return gone_.load(std::memory_order_relaxed); }  // relaxed: a hint that only turns true
  void look_whether_gone() noexcept;

  // The attached writer's shared lock (or, while creating or stopping cleanly, its exclusive form), kept as long as the
  // partition is. Set once, before the partition is handed to other threads.
  void keep_writers_lock(FileLock lock) noexcept { writers_lock_ = std::move(lock); }
  FileLock& writers_lock() noexcept { return writers_lock_; }

  void set_space_listener(std::shared_ptr<SpaceListener> listener) noexcept;
  std::shared_ptr<SpaceListener> space_listener() const noexcept;

 private:
  explicit Partition(const LogClock& clock) noexcept : clock_(clock) {}

  TopicConfig config_;
  PartitionPaths paths_;
  std::uint32_t number_ = 0;
  Access access_ = Access::read_only;
  std::uint64_t incarnation_ = 0;
  Offset begin_ = 0;
  std::uint64_t capacity_ = 0;
  std::uint64_t mask_ = 0;
  CommitMix mix_;
  LogClock clock_;
  std::byte* records_ = nullptr;
  Control* control_ = nullptr;
  Consumers* consumers_ = nullptr;
  bool can_announce_ = false;
  std::atomic<bool> gone_{false};
  FileDescriptor ring_file_, control_file_, consumers_file_;
  Mapping ring_mapping_, control_mapping_, consumers_mapping_;
  FileLock writers_lock_;
  mutable std::mutex listener_mutex_;
  std::shared_ptr<SpaceListener> listener_;
};

}  // namespace spillway
