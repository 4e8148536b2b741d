// What happens to our handles in the child of a fork.
//
// The child gets neither mappings (MADV_DONTFORK) nor descriptors: a lock that lived on in a child would make a dead
// parent look alive. An atfork handler closes every descriptor, puts private zero pages where mappings were (a stray
// access reads zeros instead of faulting) and steps `fork_generation`, by which every handle knows that it is the
// parent's: it answers `forked` and touches nothing.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace spillway {

namespace detail {
// Written only by the child handler, when the child has a single thread.
inline std::atomic<std::uint32_t> fork_generation_value{0};
}  // namespace detail

// relaxed: within one process it never changes; a child is born with the new value.
inline std::uint32_t fork_generation() noexcept {
  return detail::fork_generation_value.load(std::memory_order_relaxed);
}

// Remembers the generation it was made in.
class ForkMark {
 public:
  ForkMark() noexcept : generation_(fork_generation()) {}
  bool forked() const noexcept { return generation_ != fork_generation(); }

 private:
  std::uint32_t generation_;
};

// A handle whose fast path looks at its own fields only, and so must be told. Thread-safe.
class ForkListener {
 public:
  ForkListener();
  virtual ~ForkListener();
  ForkListener(const ForkListener&) = delete;
  ForkListener& operator=(const ForkListener&) = delete;
  // Called in the child, which has one thread: touch own fields only, no locks, no allocation. Not pure, because another
  // thread may fork while this one is between the base's constructor and the derived one's.
  virtual void forked_in_child() noexcept {}

 private:
  ForkListener* next_ = nullptr;
  ForkListener* previous_ = nullptr;
  friend struct ForkRegistry;
};

// The registry's other entries; used by FileDescriptor, Mapping and the io_uring queue only. Opening and closing keep forks out: a child born
// between open() and the entry, or between its removal and close(), would keep the descriptor, and with it a lock.
int fork_registry_open(const char* path, int flags, mode_t mode);  // -1: errno says why
void fork_registry_add_descriptor(int fd);
void fork_registry_close(int fd) noexcept;
void fork_registry_remove_descriptor(int fd) noexcept;  // for one that a library closes
void fork_registry_add_mapping(void* address, std::size_t bytes);
void fork_registry_remove_mapping(void* address) noexcept;

}  // namespace spillway
