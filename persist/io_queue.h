// Asynchronous reads, writes and syncs of files: by io_uring, or by pwrite where io_uring is refused.
//
// An operation is whole or failed: short transfers are continued inside, and what the kernel gave up for reasons of
// its own (EINTR, EAGAIN, ECANCELED because the submitting thread ended) is submitted again. Operations complete in
// any order: who needs one after another waits for the first.
//
// The memory an operation names belongs to it until its completion was reported by poll(). A queue that is destroyed
// does not wait for the disk: the owner of the memory first calls wait_all(), or leaks the memory (Mapping::leak). It
// never reuses it: what is in flight may still be carried out, seconds later.
//
// Thread safety: one thread at a time, but any (its owner guards it with a mutex). In a forked child every call does
// nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "spillway/core/clock.h"
#include "spillway/ipc/control_layout.h"

namespace spillway {

class IoQueue {
 public:
  // What one operation came to: `error` is 0, or an errno; a read that meets the file's end early is EIO.
  struct Completion {
    std::uint64_t tag;
    int error;
  };

  virtual ~IoQueue() = default;
  IoQueue(const IoQueue&) = delete;
  IoQueue& operator=(const IoQueue&) = delete;

  // Each starts an operation; false: `depth()` are in flight already (poll first). `fd` stays open until the
  // completion was reported. With a descriptor opened O_DIRECT memory, `bytes` and `file_pos` are multiples of
  // kBlock. `tag` comes back.
  virtual bool submit_write(int fd, const std::byte* from, std::size_t bytes, std::uint64_t file_pos,
                            std::uint64_t tag) noexcept = 0;
  virtual bool submit_read(int fd, std::byte* to, std::size_t bytes, std::uint64_t file_pos,
                           std::uint64_t tag) noexcept = 0;
  // fdatasync: covers every write to the file whose completion was reported before this call, and no other.
  virtual bool submit_sync(int fd, std::uint64_t tag) noexcept = 0;

  // Reports what has completed: handler(Completion). Waits until at least `min_completions` were reported, nothing is
  // in flight any more, or the deadline passed. Returns how many were reported. The handler may submit, not poll.
  template <typename Handler>
  std::size_t poll(std::size_t min_completions, Deadline deadline, Handler&& handler) {
    std::size_t reported = 0;
    Completion completion{};
    while (next(reported < min_completions ? deadline : Deadline::now(), completion)) {
      ++reported;
      handler(completion);
    }
    return reported;
  }
  // The same for a single one; false: none by the deadline.
  bool poll_one(Deadline deadline, Completion& completion) noexcept { return next(deadline, completion); }
  // Waits until nothing is in flight and forgets what it came to; false when the deadline passed first.
  bool wait_all(Deadline deadline) noexcept {
    poll(SIZE_MAX, deadline, [](const Completion&) {});
    return in_flight() == 0;
  }

  // Pins memory for the life of the queue, which spares the kernel doing it for every operation inside it. False where
  // it is not possible (memlock, pwrite, an old kernel): plain operations are used, nothing else changes.
  virtual bool register_buffer(std::byte* memory, std::size_t bytes) noexcept = 0;
  // To be called before registered memory is unmapped, with nothing in flight in it.
  virtual void unregister_buffer(std::byte* memory) noexcept = 0;

  virtual std::size_t in_flight() const noexcept = 0;  // submitted and not yet reported
  virtual std::size_t depth() const noexcept = 0;      // the largest in_flight()
  virtual IoPath path() const noexcept = 0;

 protected:
  IoQueue() = default;
  // One completion; false: none by the deadline (at once if nothing is in flight).
  virtual bool next(Deadline deadline, Completion& completion) noexcept = 0;
};

enum class IoKind { automatic, uring, pwrite };

inline constexpr std::size_t kRegisteredBuffersMax = 64;

// `automatic` and `uring` fall back to pwrite when the kernel refuses io_uring (default container profiles,
// kernel.io_uring_disabled, little memlock): path() says which it is. The environment variable SPILLWAY_IO=uring|pwrite
// overrides `automatic`. Throws std::bad_alloc only.
std::unique_ptr<IoQueue> make_io_queue(IoKind kind, std::size_t depth);

// The two, for make_io_queue and its tests. Empty: refused, errno says why.
std::unique_ptr<IoQueue> make_uring_queue(std::size_t depth);
std::unique_ptr<IoQueue> make_pwrite_queue(std::size_t depth);

}  // namespace spillway
