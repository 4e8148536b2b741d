#include "spillway/core/descriptor.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "spillway/core/disk.h"
#include "spillway/core/error.h"

namespace spillway {

FileDescriptor::FileDescriptor(int fd) : fd_(fd) {
  SPILLWAY_ASSERT(fd >= 0);
  fork_registry_add_descriptor(fd);
}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = other.fd_;
    mark_ = other.mark_;
    other.fd_ = -1;
  }
  return *this;
}

void FileDescriptor::reset() noexcept {
  if (fd_ >= 0 && !mark_.forked()) {
    fork_registry_close(fd_);
  }
  fd_ = -1;
}

FileDescriptor try_open_file(const std::string& path, int flags, mode_t mode) {
  // O_NONBLOCK: should a pipe stand there, opening it must not wait for its other end.
  const int number = fork_registry_open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, mode);
  if (number < 0) return {};
  FileDescriptor fd(number);
  struct stat s = {};
  const int error = ::fstat(number, &s) != 0 ? errno : S_ISREG(s.st_mode) || S_ISDIR(s.st_mode) ? 0 : ENXIO;
  if (error != 0) {
    fd.reset();
    errno = error;
    return fd;
  }
  // Taken back, because io_uring would answer EAGAIN where it otherwise waits. What F_SETFL can't change it ignores.
  if ((flags & O_NONBLOCK) == 0) ::fcntl(number, F_SETFL, flags);
  return fd;
}

FileDescriptor open_file(const std::string& path, int flags, mode_t mode) {
  FileDescriptor fd = try_open_file(path, flags, mode);
  if (!fd) throw system_error(errno, "can't open " + path);
  return fd;
}

int read_at(int fd, void* to, std::size_t bytes, std::uint64_t position) noexcept {
  auto* out = static_cast<char*>(to);
  while (bytes > 0) {
    const ssize_t n = ::pread(fd, out, bytes, static_cast<off_t>(position));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) return EIO;
    out += n;
    bytes -= static_cast<std::size_t>(n);
    position += static_cast<std::uint64_t>(n);
  }
  return 0;
}

int write_at(int fd, const void* from, std::size_t bytes, std::uint64_t position) noexcept {
  const auto* in = static_cast<const char*>(from);
  while (bytes > 0) {
    const ssize_t n = disk::write(fd, in, bytes, position);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) return EIO;
    in += n;
    bytes -= static_cast<std::size_t>(n);
    position += static_cast<std::uint64_t>(n);
  }
  return 0;
}

std::uint64_t file_bytes(int fd, const std::string& path) {
  struct stat s;
  if (::fstat(fd, &s) != 0) throw system_error(errno, "can't examine " + path);
  return static_cast<std::uint64_t>(s.st_size);
}

bool is_unlinked(int fd) noexcept {
  struct stat s;
  return ::fstat(fd, &s) == 0 && s.st_nlink == 0;
}

}  // namespace spillway
