// The system calls that change files and directories, all through one place, so that a test can watch them, make them
// fail, or kill the process between two of them. What goes through an IoQueue is not among them: tests put another queue
// in its place. Unwatched, each is the call of its name and one relaxed load.
//
// Thread safety: any thread.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "spillway/core/points.h"

namespace spillway::disk {

using points::Where;

enum class Call : std::uint8_t {
  open,  // for writing, or to make a file
  write,
  sync,  // of a file or a directory
  allocate,
  rename,
  link,
  unlink,
  make_directory,
  remove_directory,
};

// One call. Paths are valid during the callback only.
struct Step {
  Call call = Call::open;
  int fd = -1;                 // write, sync, allocate; after(): also of open
  const char* path = nullptr;  // of those that take a path
  const char* to = nullptr;    // rename, link
  const void* from = nullptr;  // write
  std::size_t bytes = 0;       // write, allocate
  std::uint64_t position = 0;  // write
  int flags = 0;               // open
  bool data_only = false;      // sync: fdatasync
};

class Watch {
 public:
  virtual ~Watch() = default;
  // 0: the call is made. An errno: it fails with that instead, and nothing is done. A write's `bytes` may be made
  // smaller: so many are written, and the result is short.
  virtual int before(Step& step) noexcept = 0;
  virtual void after(const Step& step, int error) noexcept = 0;
};

// For tests: from now on, until another one or nullptr takes its place. It outlives the calls that other threads are in.
void watch(Watch* watch) noexcept;

// As the system calls: 0 (a descriptor, a count), or -1 and errno. Not retried on EINTR.
int open(const char* path, int flags, mode_t mode, Where where = Where::current()) noexcept;
ssize_t write(int fd, const void* from, std::size_t bytes, std::uint64_t position,
              Where where = Where::current()) noexcept;  // pwrite
int sync(int fd, Where where = Where::current()) noexcept;
int sync_data(int fd, Where where = Where::current()) noexcept;
int rename(const char* from, const char* to, Where where = Where::current()) noexcept;
int rename_new(const char* from, const char* to, Where where = Where::current()) noexcept;  // with RENAME_NOREPLACE
int link(const char* from, const char* to, Where where = Where::current()) noexcept;
int unlink(const char* path, Where where = Where::current()) noexcept;
int make_directory(const char* path, mode_t mode, Where where = Where::current()) noexcept;
int remove_directory(const char* path, Where where = Where::current()) noexcept;
int allocate(int fd, std::size_t bytes,
             Where where = Where::current()) noexcept;  // posix_fallocate from 0; returns 0 or the error number itself

}  // namespace spillway::disk
