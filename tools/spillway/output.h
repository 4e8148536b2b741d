// Standard output, written in large pieces: what is appended goes out when the buffer is full or flush() is called.
//
// A reader that closed its end, or takes nothing any more once we are to stop, is success (`closed`), any other error a
// failure; after either nothing more is written.
// Thread safety: one thread.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "spillway/core/descriptor.h"

namespace spillway::command {

class Output {
 public:
  enum class State { open, closed, failed };

  explicit Output(int fd = STDOUT_FILENO, std::size_t buffer_bytes = 256 * 1024);

  // Both return false once nothing can be written any more.
  bool append(std::string_view bytes);
  bool flush();

  State state() const noexcept { return state_; }
  bool usable() const noexcept { return state_ == State::open; }
  int error() const noexcept { return error_; }                               // errno of a failure
  bool all_written() const noexcept { return complete_ && buffer_.empty(); }  // everything appended so far
  // Closed, because its reader was there and took nothing any more after the request to stop: what was appended is not all out.
  bool gave_up() const noexcept { return gave_up_; }
  // Asks, without writing, whether the reader has gone.
  bool look_whether_closed() noexcept;
  // Throws Failure (environment) in state failed.
  void check() const;

 private:
  bool write_all(std::string_view bytes);
  bool wait_writable() noexcept;
  void fail(int error) noexcept;

  int fd_;
  bool may_block_;
  FileDescriptor own_;  // a pipe once more, not blocking for us alone; empty where that can't be had
  std::size_t buffer_max_;
  std::string buffer_;
  State state_ = State::open;
  bool complete_ = true;  // no write has failed
  bool gave_up_ = false;
  int error_ = 0;
};

}  // namespace spillway::command
