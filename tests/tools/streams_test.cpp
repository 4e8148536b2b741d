// Standard input and output of the command: pieces as they come, closed pipes, errors.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <thread>

#include "support/catch.h"
#include "tools/spillway/command.h"
#include "tools/spillway/input.h"
#include "tools/spillway/output.h"
#include "tools/spillway/stop_signal.h"

using namespace spillway::command;

namespace {

struct Pipe {
  std::array<int, 2> fd{};
  Pipe() {
    REQUIRE(::pipe2(fd.data(), O_CLOEXEC) == 0);
    ignore_closed_pipes();
  }
  ~Pipe() {
    close_reader();
    close_writer();
  }
  void close_reader() { close(fd[0]); }
  void close_writer() { close(fd[1]); }
  static void close(int& end) {
    if (end >= 0) ::close(end);
    end = -1;
  }
  void put(const std::string& text) const {
    REQUIRE(::write(fd[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }
  std::string get(std::size_t bytes) const {
    std::string text(bytes, '\0');
    const ssize_t got = ::read(fd[0], text.data(), text.size());
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
  }
};

}  // namespace

TEST_CASE("input hands on what is there before it waits for more") {
  const Pipe pipe;
  Input input(pipe.fd[0], 16);
  CHECK(input.read_more(0) == Input::Got::nothing);
  pipe.put("abc");
  CHECK(input.read_more(-1) == Input::Got::data);
  CHECK(input.pending() == "abc");
  CHECK(input.read_more(0) == Input::Got::nothing);
  CHECK(input.pending() == "abc");
}

TEST_CASE("input grows until a record fits, and forgets what was consumed") {
  Pipe pipe;
  Input input(pipe.fd[0], 16);
  std::string expected;
  for (int i = 0; i < 1000; ++i) {
    const std::string piece = "piece " + std::to_string(i) + ",";
    pipe.put(piece);
    expected += piece;
    while (input.pending().size() < expected.size()) REQUIRE(input.read_more(-1) == Input::Got::data);
    REQUIRE(input.pending() == expected);
    if (i % 100 == 99) {
      input.consume(expected.size() - 3);
      expected.erase(0, expected.size() - 3);
    }
  }
  pipe.close_writer();
  CHECK(input.read_more(-1) == Input::Got::end);
  CHECK(input.pending() == expected);
}

TEST_CASE("input that can't be read is an error") {
  const int directory = ::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  REQUIRE(directory >= 0);
  Input input(directory, 16);
  CHECK_THROWS_AS(input.read_more(-1), spillway::Error);
  ::close(directory);
}

TEST_CASE("output goes out when flushed, when its buffer is full, or at once when larger") {
  const Pipe pipe;
  Output output(pipe.fd[1], 8);
  output.append("1234");
  output.append("5678");
  CHECK_FALSE(output.all_written());
  output.append("9");
  CHECK(pipe.get(100) == "12345678");
  CHECK(output.flush());
  CHECK(pipe.get(100) == "9");
  CHECK(output.append("larger than the buffer"));
  CHECK(output.all_written());
  CHECK(pipe.get(100) == "larger than the buffer");
}

TEST_CASE("a reader that goes away is noticed by writing and by looking, and is no failure") {
  SECTION("by writing") {
    Pipe pipe;
    Output output(pipe.fd[1], 8);
    pipe.close_reader();
    output.append("x");
    CHECK_FALSE(output.flush());
    CHECK_FALSE(output.all_written());
    CHECK(output.state() == Output::State::closed);
    CHECK_NOTHROW(output.check());
    CHECK_FALSE(output.append("y"));
  }
  SECTION("by looking") {
    Pipe pipe;
    Output output(pipe.fd[1], 8);
    CHECK_FALSE(output.look_whether_closed());
    pipe.close_reader();
    CHECK(output.look_whether_closed());
    CHECK(output.all_written());
  }
}

TEST_CASE("output that can't be written is a failure of the environment") {
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  if (full < 0) SPILLWAY_SKIP("there is no /dev/full");
  Output output(full, 8);
  output.append("x");
  CHECK_FALSE(output.flush());
  CHECK(output.state() == Output::State::failed);
  CHECK(output.error() == ENOSPC);
  CHECK_THROWS_AS(output.check(), Failure);
  ::close(full);
}

// Stands alone, as the next.
TEST_CASE("after a stop signal a reader that takes nothing counts as gone, and what it missed is known") {
  const Pipe pipe;
  catch_stop_signals();
  ::raise(SIGTERM);
  Output output(pipe.fd[1], 8);
  while (output.append("more than the buffer has room for")) {
  }
  CHECK(output.state() == Output::State::closed);
  CHECK_FALSE(output.all_written());
  CHECK_NOTHROW(output.check());
}

TEST_CASE("a stop signal ends a write that a reader holds up") {
  const Pipe pipe;
  catch_stop_signals();
  std::thread stopper([] { ::raise(SIGTERM); });  // on that thread: no write of ours is interrupted
  Output output(pipe.fd[1], 8);
  while (output.append(std::string(1 << 20, 'x'))) {
  }
  stopper.join();
  CHECK(output.state() == Output::State::closed);
}

// Ends the process' input for good, so it stands alone: ctest runs each case in a process of its own.
TEST_CASE("a stop signal ends the input while it is waited for") {
  const Pipe pipe;
  catch_stop_signals();
  Input input(pipe.fd[0], 16);
  pipe.put("read before");
  CHECK(input.read_more(-1) == Input::Got::data);
  ::raise(SIGTERM);
  CHECK(stop_requested());
  pipe.put("never read");
  CHECK(input.read_more(-1) == Input::Got::stopped);
  CHECK(input.pending() == "read before");
}
