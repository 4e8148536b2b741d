// Standard input, read as it comes: whatever is there is handed on before more is waited for.
//
// Thread safety: one thread.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <string_view>
#include <vector>

namespace spillway::command {

class Input {
 public:
  enum class Got {
    data,     // pending() has grown
    nothing,  // not within the time
    end,      // there will be no more
    stopped,  // SIGINT or SIGTERM asked to stop reading
  };

  explicit Input(int fd = STDIN_FILENO, std::size_t buffer_bytes = 256 * 1024);

  // Reads once, what is there or comes within `timeout_ms` (-1: for ever). `also_watch`: another descriptor whose other
  // end going away ends the wait early, with `nothing`. Throws Error when standard input can't be read.
  Got read_more(int timeout_ms, int also_watch = -1);

  // What was read and not consumed; valid until the next read_more().
  std::string_view pending() const noexcept { return {buffer_.data() + begin_, end_ - begin_}; }
  void consume(std::size_t bytes) noexcept { begin_ += bytes; }

 private:
  void make_room();

  int fd_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace spillway::command
