#include "output.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "command.h"
#include "spillway/core/clock.h"
#include "stop_signal.h"

namespace spillway::command {
namespace {

// After a request to stop, a reader that takes nothing for so long counts as gone.
constexpr std::uint64_t kStopPatienceNs = 5'000'000'000;

mode_t kind_of(int fd) noexcept {
  struct stat s;
  return ::fstat(fd, &s) == 0 ? s.st_mode & S_IFMT : 0;
}

}  // namespace

Output::Output(int fd, std::size_t buffer_bytes)
    : fd_(fd), may_block_(kind_of(fd) != S_IFREG), buffer_max_(buffer_bytes) {
  buffer_.reserve(buffer_bytes);
  if (kind_of(fd) != S_IFIFO) return;
  const int own = ::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  if (own >= 0) own_ = FileDescriptor(own);
}

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
    // A write that blocks just after a signal would not be interrupted by it. So none may: without a description of our own
    // only as much is written as what is ready takes at once.
    if (may_block_ && !wait_writable()) return false;
    const bool whole = own_ || !may_block_;
    const std::size_t most = whole ? bytes.size() : std::min<std::size_t>(bytes.size(), PIPE_BUF);
    const ssize_t written = ::write(own_ ? own_.get() : fd_, bytes.data(), most);
    if (written >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(written));
      continue;
    }
    if (errno == EINTR || errno == EAGAIN) continue;
    fail(errno);
    return false;
  }
  return true;
}

bool Output::wait_writable() noexcept {
  std::optional<Deadline> deadline;  // from the signal on
  for (;;) {
    if (stop_requested() && !deadline) deadline = Deadline::after_ns(kStopPatienceNs);
    struct pollfd watched[2] = {{fd_, POLLOUT, 0}, {deadline ? -1 : stop_descriptor(), POLLIN, 0}};
    const int ready = ::poll(watched, 2, deadline ? static_cast<int>(deadline->left_ns() / 1'000'000) : -1);
    if (ready > 0 && watched[0].revents != 0) return true;
    if (deadline && deadline->passed()) {
      gave_up_ = true;
      fail(EPIPE);
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
  throw Failure(exit_code::kEnvironment, std::string("can't write to standard output: ") + std::strerror(error_) +
                                             "; see where it leads, then run the command again");
}

}  // namespace spillway::command
