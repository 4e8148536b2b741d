#include "spillway/core/file_lock.h"

#include <fcntl.h>

#include <cerrno>

#include "spillway/core/error.h"

namespace spillway {
namespace {

struct flock one_byte(LockMode mode, std::uint64_t byte) noexcept {
  struct flock lock = {};
  lock.l_type = mode == LockMode::exclusive ? F_WRLCK : F_RDLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(byte);
  lock.l_len = 1;
  return lock;
}

}  // namespace

FileDescriptor open_lock_file(const std::string& path, int flags) {
  FileDescriptor fd = try_open_file(path, flags);
  if (fd) return fd;
  const int error = errno;
  if (error != ENOENT) throw system_error(error, "can't open the lock file " + path);
  throw Error(Code::not_found,
              "the lock file " + path +
                  " is missing, so nobody can tell who lives; stop everything that uses it, then "
                  "make it again, empty and with the mode of those beside it",
              error);
}

bool FileLock::try_lock_description(int fd, LockMode lock_mode, std::uint64_t byte) noexcept {
  struct flock lock = one_byte(lock_mode, byte);
  int rc;
  do rc = ::fcntl(fd, F_OFD_SETLK, &lock);
  while (rc != 0 && errno == EINTR);
  return rc == 0;
}

FileLock FileLock::try_lock(const std::string& path, LockMode lock_mode, std::uint64_t byte) {
  FileLock result;
  result.fd_ = open_lock_file(path, O_RDWR);
  result.byte_ = byte;
  if (!try_lock_description(result.fd_.get(), lock_mode, byte)) {
    const int error = errno;
    result.fd_.reset();
    if (error != EAGAIN && error != EACCES) throw system_error(error, "can't lock " + path);
  }
  return result;
}

bool FileLock::try_convert(LockMode lock_mode) noexcept {
  return fd_ && try_lock_description(fd_.get(), lock_mode, byte_);
}

LockProbe::LockProbe(const std::string& path) : fd_(open_lock_file(path, O_RDONLY)) {}

bool LockProbe::held(std::uint64_t byte, LockMode wanted) const noexcept {
  struct flock lock = one_byte(wanted, byte);
  int rc;
  do rc = ::fcntl(fd_.get(), F_OFD_GETLK, &lock);
  while (rc != 0 && errno == EINTR);
  return rc != 0 || lock.l_type != F_UNLCK;
}

}  // namespace spillway
