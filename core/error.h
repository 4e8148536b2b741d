// What setting up throws, and the assert that stays on in release.
//
// Two lanes (see CONTRIBUTING.md): opening, creating, configuring and recovering throw `Error`; the running
// path returns a small status enum and never throws. Bytes from another process or the disk are never asserted
// on: a bad one becomes `Code::corrupt`.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace spillway {

enum class Code {
  invalid_argument,  // the caller asked for something that can't be: the message says what is possible
  not_found,         // no such topic, partition or cursor
  conflict,          // exists with other settings, type or schema: both sides are named
  busy,              // another live process holds what was asked for: it is named where it can be
  no_slot,           // every slot of the kind is taken by a live owner
  no_space,          // /dev/shm or the disk is full
  no_permission,     // the operating system refused
  io,                // a system call failed for another reason; see errno_value()
  corrupt,           // magic, checksum or a bound does not hold
  unsupported,       // another layout or version, or a kernel that lacks what is needed
  ring_elsewhere,    // live processes use this data directory with another ring
  ring_stale,        // the ring is older than what the data directory says: see `spillway clean`
  gone,              // the files were deleted under us
  forked,            // the handle belongs to the parent of a fork
};

std::string_view name_of(Code code) noexcept;

class Error : public std::runtime_error {
 public:
  // `sentence` names the thing, the cause and the cure. `errno_value` is 0 where no system call failed.
  Error(Code code, std::string sentence, int errno_value = 0);

  Code code() const noexcept { return code_; }
  int errno_value() const noexcept { return errno_; }

 private:
  Code code_;
  int errno_;
};

// Makes an Error from a failed system call: picks the code from errno (ENOSPC, EACCES, ENOENT ...), and appends
// what errno means and, where one is known, the cure.
Error system_error(int errno_value, const std::string& what_failed);

namespace detail {
[[noreturn]] void assert_failed(const char* expression, const char* file, int line) noexcept;
}  // namespace detail

// Our own bugs stop the process, in release too: going on would write into a log that others rely on.
#define SPILLWAY_ASSERT(expression)                   \
  (__builtin_expect(static_cast<bool>(expression), 1) \
       ? static_cast<void>(0)                         \
       : ::spillway::detail::assert_failed(#expression, __FILE__, __LINE__))

}  // namespace spillway
