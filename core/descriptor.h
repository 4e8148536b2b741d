// A file descriptor that is ours: close-on-exec, never followed through a symbolic link, closed in a forked child.
//
// Thread safety: a FileDescriptor belongs to one thread at a time; the descriptor's number may be used by several.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "spillway/core/fork.h"

namespace spillway {

class FileDescriptor {
 public:
  FileDescriptor() noexcept = default;
  explicit FileDescriptor(int fd);  // takes ownership; fd >= 0
  ~FileDescriptor() { reset(); }
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.fd_), mark_(other.mark_) { other.fd_ = -1; }
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;

  // -1 when empty, and in a forked child, where the number may mean something else by now.
  int get() const noexcept { return mark_.forked() ? -1 : fd_; }
  explicit operator bool() const noexcept { return get() >= 0; }
  void reset() noexcept;

 private:
  int fd_ = -1;
  ForkMark mark_;
};

// open(2) with O_CLOEXEC | O_NOFOLLOW added, retried on EINTR. Opens files and directories and nothing else: a pipe is not
// waited for, a socket or device not used (ENXIO). Throws Error naming the path.
FileDescriptor open_file(const std::string& path, int flags, mode_t mode = 0600);
// The same, but a failure gives an empty descriptor and errno.
FileDescriptor try_open_file(const std::string& path, int flags, mode_t mode = 0600);

// Whole transfers: retried on EINTR and short counts. Return 0, or an errno; a read that meets the end early is EIO.
int read_at(int fd, void* to, std::size_t bytes, std::uint64_t position) noexcept;
int write_at(int fd, const void* from, std::size_t bytes, std::uint64_t position) noexcept;

std::uint64_t file_bytes(int fd, const std::string& path);  // st_size; throws Error
bool is_unlinked(int fd) noexcept;                          // st_nlink == 0

}  // namespace spillway
