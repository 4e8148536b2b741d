#include "output.h"

#include <limits.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "command.h"
#include "spillway/core/clock.h"
#include "stop_signal.h"

namespace spillway::command {
namespace {

// After a request to stop, a reader that takes nothing for so long is not waited for any longer.
constexpr int kStopPatienceMs = 5'000;

}  // namespace

Output::Output(int fd, std::size_t buffer_bytes) : fd_(fd), buffer_max_(buffer_bytes) { buffer_.reserve(buffer_bytes); }

bool Output::append(std::string_view bytes) {
  if (!usable()) return false;
  if (buffer_.size() + bytes.size() <= buffer_max_) {
    buffer_.append(bytes);
    return true;
  }
  if (!flush()) return false;
  if (bytes.size() >= buffer_max_) return write_all(bytes);
  buffer_.append(bytes);
  return true;
}

bool Output::flush() {
  if (!usable()) return false;
  if (buffer_.empty()) return true;
  if (!write_all(buffer_)) return false;
  buffer_.clear();
  return true;
}

bool Output::write_all(std::string_view bytes) {
  while (!bytes.empty()) {
    // A blocked write that began after the signal would not be interrupted by it: from then on only as much is written as
    // a pipe that is ready takes at once.
    const bool stopping = stop_requested();
    if (stopping && !wait_writable()) return false;
    const std::size_t most = stopping ? std::min<std::size_t>(bytes.size(), PIPE_BUF) : bytes.size();
    const ssize_t written = ::write(fd_, bytes.data(), most);
    if (written >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(written));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno == EAGAIN) {
      struct pollfd wait = {fd_, POLLOUT, 0};
      ::poll(&wait, 1, 100);
      continue;
    }
    fail(errno);
    return false;
  }
  return true;
}

bool Output::wait_writable() noexcept {
  const Deadline deadline = Deadline::after_ns(std::uint64_t{kStopPatienceMs} * 1'000'000);
  for (;;) {
    struct pollfd wait = {fd_, POLLOUT, 0};
    const int ready = ::poll(&wait, 1, static_cast<int>(deadline.left_ns() / 1'000'000));
    if (ready > 0) return true;
    if (ready < 0 && errno == EINTR) continue;
    if (deadline.passed()) {
      fail(ETIMEDOUT);
      return false;
    }
  }
}

void Output::fail(int error) noexcept {
  state_ = error == EPIPE ? State::closed : State::failed;
  error_ = error;
  complete_ = false;
}

bool Output::look_whether_closed() noexcept {
  if (!usable()) return state_ == State::closed;
  struct pollfd look = {fd_, 0, 0};
  if (::poll(&look, 1, 0) > 0 && (look.revents & (POLLERR | POLLHUP)) != 0) state_ = State::closed;
  return state_ == State::closed;
}

void Output::check() const {
  if (state_ != State::failed) return;
  const std::string cause = error_ == ETIMEDOUT ? "whoever reads it takes nothing" : std::strerror(error_);
  throw Failure(exit_code::kEnvironment,
                "can't write to standard output: " + cause + "; see where it leads, then run the command again");
}

}  // namespace spillway::command
