#include "input.h"

#include <poll.h>

#include <cerrno>
#include <cstring>

#include "spillway/core/error.h"
#include "stop_signal.h"

namespace spillway::command {

Input::Input(int fd, std::size_t buffer_bytes) : fd_(fd), buffer_(buffer_bytes) {}

// What is pending is moved to the front; if it fills more than half of the buffer then, that doubles.
void Input::make_room() {
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (end_ > buffer_.size() / 2) buffer_.resize(buffer_.size() * 2);
}

Input::Got Input::read_more(int timeout_ms, int also_watch) {
  make_room();
  for (;;) {
    if (stop_requested()) return Got::stopped;
    struct pollfd watched[3] = {{fd_, POLLIN, 0}, {stop_descriptor(), POLLIN, 0}, {also_watch, 0, 0}};
    const int ready = ::poll(watched, 3, timeout_ms);
    if (ready < 0 && errno != EINTR) throw system_error(errno, "can't wait for standard input");
    if (ready < 0 || watched[1].revents != 0) continue;
    if (watched[0].revents == 0) return Got::nothing;
    const ssize_t got = ::read(fd_, buffer_.data() + end_, buffer_.size() - end_);
    if (got > 0) {
      end_ += static_cast<std::size_t>(got);
      return Got::data;
    }
    if (got == 0) return Got::end;
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return Got::nothing;
    if (errno == EISDIR) {
      throw Error(Code::invalid_argument, "standard input is a directory; give it a file or a pipe", EISDIR);
    }
    throw system_error(errno, "can't read standard input");
  }
}

}  // namespace spillway::command
