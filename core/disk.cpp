#include "spillway/core/disk.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace spillway::disk {
namespace {

std::atomic<Watch*> watching{nullptr};

// Makes the call unless the watch forbids it. `call(step)` returns -1 and sets errno when it fails.
template <typename Made>
auto watched(Where where, Step step, Made&& call) noexcept -> decltype(call(step)) {
  points::at(where);
  // relaxed: who sets it starts what is watched afterwards.
  Watch* const watch = watching.load(std::memory_order_relaxed);
  if (watch == nullptr) return call(step);
  const int refused = watch->before(step);
  if (refused != 0) {
    watch->after(step, refused);
    errno = refused;
    return -1;
  }
  const auto result = call(step);
  const int error = errno;
  if (step.call == Call::open) step.fd = static_cast<int>(result);
  if (step.call == Call::write && result >= 0) step.bytes = static_cast<std::size_t>(result);
  watch->after(step, result < 0 ? error : 0);
  errno = error;
  return result;
}

Step on_path(Call call, const char* path, const char* to = nullptr) noexcept {
  Step step;
  step.call = call;
  step.path = path;
  step.to = to;
  return step;
}

Step on_file(Call call, int fd) noexcept {
  Step step;
  step.call = call;
  step.fd = fd;
  return step;
}

}  // namespace

void watch(Watch* watch) noexcept { watching.store(watch, std::memory_order_relaxed); }

int open(const char* path, int flags, mode_t mode, Where where) noexcept {
  if ((flags & O_ACCMODE) == O_RDONLY && (flags & O_CREAT) == 0) return ::open(path, flags, mode);
  Step step = on_path(Call::open, path);
  step.flags = flags;
  return watched(where, step, [&](const Step&) { return ::open(path, flags, mode); });
}

ssize_t write(int fd, const void* from, std::size_t bytes, std::uint64_t position, Where where) noexcept {
  Step step = on_file(Call::write, fd);
  step.from = from;
  step.bytes = bytes;
  step.position = position;
  return watched(where, step, [&](const Step& s) { return ::pwrite(fd, from, s.bytes, static_cast<off_t>(position)); });
}

int sync(int fd, Where where) noexcept {
  return watched(where, on_file(Call::sync, fd), [&](const Step&) { return ::fsync(fd); });
}

int sync_data(int fd, Where where) noexcept {
  Step step = on_file(Call::sync, fd);
  step.data_only = true;
  return watched(where, step, [&](const Step&) { return ::fdatasync(fd); });
}

int rename(const char* from, const char* to, Where where) noexcept {
  return watched(where, on_path(Call::rename, from, to), [&](const Step&) { return ::rename(from, to); });
}

int rename_new(const char* from, const char* to, Where where) noexcept {
  return watched(where, on_path(Call::rename, from, to),
                 [&](const Step&) { return ::renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE); });
}

int link(const char* from, const char* to, Where where) noexcept {
  return watched(where, on_path(Call::link, from, to), [&](const Step&) { return ::link(from, to); });
}

int unlink(const char* path, Where where) noexcept {
  return watched(where, on_path(Call::unlink, path), [&](const Step&) { return ::unlink(path); });
}

int make_directory(const char* path, mode_t mode, Where where) noexcept {
  return watched(where, on_path(Call::make_directory, path), [&](const Step&) { return ::mkdir(path, mode); });
}

int remove_directory(const char* path, Where where) noexcept {
  return watched(where, on_path(Call::remove_directory, path), [&](const Step&) { return ::rmdir(path); });
}

int allocate(int fd, std::size_t bytes, Where where) noexcept {
  Step step = on_file(Call::allocate, fd);
  step.bytes = bytes;
  const int rc = watched(where, step, [&](const Step&) {
    errno = ::posix_fallocate(fd, 0, static_cast<off_t>(bytes));
    return errno == 0 ? 0 : -1;
  });
  return rc == 0 ? 0 : errno;
}

}  // namespace spillway::disk
