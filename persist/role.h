// The persister role of one partition: a file lock, and how a daemon asks for it.
//
// A daemon locks a producer slot, stores its number in control.persister.request and waits; the request counts as
// long as that lock is held. A holder that is no daemon lets go; nobody but the asker takes the role then, for a
// while. Thread safety: one thread at a time (the persister's mutex).
#pragma once

#include <memory>

#include "spillway/core/file_lock.h"
#include "spillway/ipc/partition.h"

namespace spillway {

class Role {
 public:
  // Throws Error when the lock files can't be opened.
  Role(std::shared_ptr<Partition> partition, bool daemon);
  ~Role() { withdraw(); }

  bool daemon() const noexcept { return daemon_; }
  bool held() const noexcept { return held_; }
  // False: somebody else has it, or it is left to a daemon that asks for it.
  bool try_take(std::uint64_t now_ns) noexcept;
  void release() noexcept;

  // A live daemon asks for the role. Costs a system call only while there is a request.
  bool asked_for() const noexcept;
  // A daemon's own request: stored unless another's stands, and taken back. ask() does nothing while the role is held.
  void ask() noexcept;
  void withdraw() noexcept;

 private:
  std::shared_ptr<Partition> partition_;
  bool daemon_;
  bool held_ = false;
  FileDescriptor file_;  // the description that is locked, opened ahead so that trying is one system call
  LockProbe slots_;
  FileLock slot_;                     // of our request
  std::uint32_t request_ = 0;         // as stored; 0: none
  std::uint64_t aside_until_ns_ = 0;  // not 0: stands aside for a daemon
};

}  // namespace spillway
