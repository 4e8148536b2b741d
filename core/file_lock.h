// Kernel-held locks by which a process proves that it lives.
//
// These are open-file-description locks (fcntl F_OFD_SETLK) on one byte of a lock file. The kernel releases one
// when the last descriptor of its description is closed, so by death at the latest; pids and time-outs prove
// nothing. Each lock opens the file anew: asked through the owner's own description the kernel answers "free".
//
// Thread safety: like FileDescriptor.
#pragma once

#include <cstdint>
#include <string>

#include "spillway/core/descriptor.h"

namespace spillway {

enum class LockMode { shared, exclusive };

// Made with what it guards, once, and never unlinked, so that all lock the same inode: one that is missing is an Error
// (not_found) with the cure, and is not made here, beside the one that the living may still hold.
FileDescriptor open_lock_file(const std::string& path, int flags);

class FileLock {
 public:
  FileLock() noexcept = default;

  // Opens `path` and tries to lock one byte. Empty lock: somebody else holds it. Throws Error as open_lock_file() does.
  static FileLock try_lock(const std::string& path, LockMode lock_mode, std::uint64_t byte = 0);
  // The same on a description that is already open; the lock lives as long as that description.
  static bool try_lock_description(int fd, LockMode lock_mode, std::uint64_t byte = 0) noexcept;

  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }
  // Turns the lock into the other form; false when others stand in the way (the old form is then kept).
  bool try_convert(LockMode lock_mode) noexcept;
  void unlock() noexcept { fd_.reset(); }
  int descriptor() const noexcept { return fd_.get(); }

 private:
  FileDescriptor fd_;
  std::uint64_t byte_ = 0;
};

// Asks through a description of its own that holds no lock on the file.
class LockProbe {
 public:
  LockProbe() noexcept = default;
  // Throws Error when the file can't be opened (an observer without rights, for one).
  explicit LockProbe(const std::string& path);
  // True when somebody holds the byte in a form that excludes `wanted`. On a failing system call: true (nobody is
  // ever taken for dead because a question could not be asked).
  bool held(std::uint64_t byte, LockMode wanted = LockMode::exclusive) const noexcept;
  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }

 private:
  FileDescriptor fd_;
};

}  // namespace spillway
