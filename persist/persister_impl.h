// The inside of Persister, shared by its thread (persister.cpp) and those who wait (persister_wait.cpp).
#pragma once

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "spillway/core/futex.h"
#include "spillway/persist/persister.h"

namespace spillway {

// What rouses the persister's thread from within the process. Partitions keep it, so it holds nothing of the persister.
class Doorbell final : public SpaceListener {
 public:
  void space_wanted() noexcept override { ring(); }
  void ring() noexcept {
    // release: pairs with the thread's acquire: it then sees what was asked for.
    rings_.fetch_add(1, std::memory_order_release);
    futex_wake_all(rings_);
  }
  std::uint32_t rings() const noexcept { return rings_.load(std::memory_order_acquire); }
  FutexWatch watch(std::uint32_t seen) const noexcept { return {&rings_, seen}; }

 private:
  std::atomic<std::uint32_t> rings_{0};
};

struct Persister::Impl {
  explicit Impl(PersisterOptions options) : options_(std::move(options)) {}
  ~Impl();

  struct Entry {
    std::shared_ptr<Partition> partition;
    std::unique_ptr<PartitionPersister> persister;
    bool stand_by = true;
    bool leaving = false;  // removed: goes as soon as nothing is under way
  };

  // All with mutex_ held.
  Entry* find(const Partition& partition) noexcept;
  void make_io();
  void start_thread();
  std::size_t poll(std::size_t min_completions, Deadline deadline) noexcept;
  void elect(std::uint64_t now_ns) noexcept;
  void drop_gone() noexcept;

  // Without it.
  void run() noexcept;
  bool round(std::unique_lock<std::mutex>& lock) noexcept;  // false: stop
  void sleep(std::unique_lock<std::mutex>& lock, std::uint32_t rings_seen, std::uint64_t next_ns) noexcept;
  void deliver() noexcept;
  // Does a waiter's work on its own thread: false when somebody else is at it or the role is elsewhere.
  bool drive(Partition& partition, Offset end, Level level, Deadline deadline) noexcept;

  PersisterOptions options_;
  std::shared_ptr<Doorbell> doorbell_ = std::make_shared<Doorbell>();
  std::atomic<std::uint32_t> lockers_{0};  // who wants mutex_ from a thread that holds it most of the time
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;  // guards what follows, but for doorbell_
  std::unique_ptr<IoQueue> queue_;
  std::unique_ptr<IoBuffers> buffers_;
  std::vector<PersisterEvent> events_;
  std::vector<Entry> entries_;
  std::unique_ptr<std::thread> thread_;
  std::uint64_t elected_ns_ = 0;
  std::uint32_t elected_rings_ = 0;
  std::uint64_t busy_ns_ = 0;  // when something was last to be done

  // Takes mutex_ although the thread hardly lets go of it.
  class Locked {
   public:
    explicit Locked(Impl& impl) : impl_(impl) {
      impl_.lockers_.fetch_add(1, std::memory_order_relaxed);  // relaxed: a plea, ordered by the mutex
      impl_.mutex_.lock();
      impl_.lockers_.fetch_sub(1, std::memory_order_relaxed);
    }
    ~Locked() { impl_.mutex_.unlock(); }
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;

   private:
    Impl& impl_;
  };
};

}  // namespace spillway
