// The I/O queue, by io_uring and by pwrite: whole transfers or errors, whoever submits, and memory that stays until the
// kernel is done with it.
#include "spillway/persist/io_queue.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <thread>

#include "spillway/core/bytes.h"
#include "spillway/core/descriptor.h"
#include "spillway/core/mapping.h"
#include "spillway/persist/io_buffers.h"
#include "support/catch.h"
#include "support/log_builder.h"

using namespace spillway;

namespace {

constexpr std::size_t kDepth = 8;

struct Scene {
  explicit Scene(IoKind wanted) : queue(make_io_queue(wanted, kDepth)), memory(Mapping::anonymous(64 * kBlock)) {
    file = open_file(directory.path() + "/file", O_RDWR | O_CREAT, 0600);
    allocate_file(file.get(), 64 * kBlock, "file");
  }
  ~Scene() { REQUIRE(queue->wait_all(Deadline::after_ns(60'000'000'000U))); }

  std::byte* block(std::size_t i) { return memory.data() + i * kBlock; }
  std::map<std::uint64_t, int> all() {
    std::map<std::uint64_t, int> done;
    while (queue->in_flight() > 0) {
      queue->poll(1, Deadline::after_ns(60'000'000'000U), [&](const IoQueue::Completion& c) { done[c.tag] = c.error; });
    }
    return done;
  }

  spillway_test::TempDirectory directory;
  std::unique_ptr<IoQueue> queue;
  Mapping memory;
  FileDescriptor file;
};

IoPath path_of(IoKind kind) { return kind == IoKind::uring ? IoPath::uring : IoPath::pwrite; }

}  // namespace

TEST_CASE("what is written through a queue is read back through it, by both paths") {
  const IoKind kind = GENERATE(IoKind::uring, IoKind::pwrite);
  const bool registered = GENERATE(false, true);
  Scene s(kind);
  if (s.queue->path() != path_of(kind)) SPILLWAY_SKIP("io_uring is refused here");
  if (registered && !s.queue->register_buffer(s.memory.data(), s.memory.bytes())) {
    if (kind == IoKind::uring) SPILLWAY_SKIP("buffers can't be registered here");
  }
  for (std::size_t i = 0; i < kDepth; ++i) {
    std::memset(s.block(i), static_cast<int>('a' + i), kBlock);
    REQUIRE(s.queue->submit_write(s.file.get(), s.block(i), kBlock, (kDepth - i) * kBlock, 100 + i));
  }
  CHECK_FALSE(s.queue->submit_sync(s.file.get(), 1));  // full
  CHECK(s.queue->in_flight() == kDepth);
  const auto written = s.all();
  REQUIRE(written.size() == kDepth);
  for (const auto& [tag, error] : written) CHECK(error == 0);
  REQUIRE(s.queue->submit_sync(s.file.get(), 7));
  CHECK(s.all() == std::map<std::uint64_t, int>{{7, 0}});
  REQUIRE(s.queue->submit_read(s.file.get(), s.block(20), kDepth * kBlock, kBlock, 8));
  CHECK(s.all() == std::map<std::uint64_t, int>{{8, 0}});
  for (std::size_t i = 0; i < kDepth; ++i) {
    CHECK(s.block(20 + i)[17] == static_cast<std::byte>('a' + kDepth - 1 - i));
  }
  s.queue->unregister_buffer(s.memory.data());
}

TEST_CASE("a read that meets the end of the file is an error, a poll with nothing under way returns at once") {
  const IoKind kind = GENERATE(IoKind::uring, IoKind::pwrite);
  Scene s(kind);
  CHECK(s.queue->poll(1, Deadline::never(), [](const IoQueue::Completion&) {}) == 0);
  REQUIRE(s.queue->submit_read(s.file.get(), s.block(0), 2 * kBlock, 63 * kBlock, 3));
  CHECK(s.all() == std::map<std::uint64_t, int>{{3, EIO}});
  REQUIRE(s.queue->submit_write(-1, s.block(0), kBlock, 0, 4));
  CHECK(s.all() == std::map<std::uint64_t, int>{{4, EBADF}});
}

TEST_CASE("a transfer that is cut short goes on where it stopped", "[threads]") {
  // A pipe takes and gives what fits: here a page or so at a time, as a disk may.
  const IoKind kind = GENERATE(IoKind::uring);
  Scene s(kind);
  if (s.queue->path() != path_of(kind)) SPILLWAY_SKIP("io_uring is refused here");
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  constexpr std::size_t kBytes = 48 * kBlock;
  ::fcntl(ends[1], F_SETPIPE_SZ, 4096);
  for (std::size_t i = 0; i < kBytes; ++i) s.memory.data()[i] = static_cast<std::byte>(i / 4096);
  std::size_t got = 0;
  bool same = true;
  std::thread reader([&] {
    std::vector<std::byte> bytes(4096);
    while (got < kBytes) {
      const ssize_t n = ::read(ends[0], bytes.data(), bytes.size());
      if (n <= 0) break;
      for (ssize_t i = 0; i < n; ++i) {
        same = same &&
               bytes[static_cast<std::size_t>(i)] == static_cast<std::byte>((got + static_cast<std::size_t>(i)) / 4096);
      }
      got += static_cast<std::size_t>(n);
    }
  });
  // Position 0 of a pipe is ignored by the kernel for writes at "no position"; a positioned write is refused.
  REQUIRE(s.queue->submit_write(ends[1], s.memory.data(), kBytes, UINT64_MAX, 5));
  const auto done = s.all();
  ::close(ends[1]);
  reader.join();
  ::close(ends[0]);
  if (done.at(5) == ESPIPE) SPILLWAY_SKIP("this kernel refuses positioned writes to a pipe");
  CHECK(done.at(5) == 0);
  CHECK(got == kBytes);
  CHECK(same);
}

TEST_CASE("one thread submits and ends, another polls", "[threads]") {
  const IoKind kind = GENERATE(IoKind::uring, IoKind::pwrite);
  Scene s(kind);
  std::thread submitter([&] {
    for (std::size_t i = 0; i + 1 < kDepth; ++i) {
      s.queue->submit_write(s.file.get(), s.block(i), kBlock, i * kBlock, i);
    }
    s.queue->submit_sync(s.file.get(), kDepth);  // carried out by a kernel thread of the submitter's: may be cancelled
  });
  submitter.join();
  const auto done = s.all();
  CHECK(done.size() == kDepth);
  for (const auto& [tag, error] : done) CHECK(error == 0);
}

TEST_CASE("the environment selects the path, a caller's wish is stronger") {
  ::setenv("SPILLWAY_IO", "pwrite", 1);
  CHECK(make_io_queue(IoKind::automatic, 4)->path() == IoPath::pwrite);
  const IoPath wished = make_io_queue(IoKind::uring, 4)->path();
  ::setenv("SPILLWAY_IO", "uring", 1);
  CHECK(make_io_queue(IoKind::pwrite, 4)->path() == IoPath::pwrite);
  CHECK(make_io_queue(IoKind::automatic, 4)->path() == wished);
  ::unsetenv("SPILLWAY_IO");
}

TEST_CASE("in a forked child a queue does nothing") {
  const IoKind kind = GENERATE(IoKind::uring, IoKind::pwrite);
  Scene s(kind);
  REQUIRE(s.queue->submit_sync(s.file.get(), 1));
  const pid_t pid = ::fork();
  if (pid == 0) {
    const bool refused = !s.queue->submit_sync(s.file.get(), 1);
    IoQueue::Completion completion{};
    // Who waits until nothing is under way would wait for ever for the parent's.
    const bool nothing = s.queue->in_flight() == 0 && !s.queue->poll_one(Deadline::now(), completion);
    s.queue.reset();
    ::_exit(refused && nothing ? 0 : 1);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
  REQUIRE(s.queue->submit_sync(s.file.get(), 2));  // and the parent's goes on
  CHECK(s.all() == std::map<std::uint64_t, int>{{1, 0}, {2, 0}});
}

TEST_CASE("the pool gives out what it has, takes it back, and shrinks") {
  const auto queue = make_io_queue(IoKind::automatic, kDepth);
  IoBuffers buffers(*queue);
  std::vector<std::byte*> taken;
  while (std::byte* const memory = buffers.take_large()) taken.push_back(memory);
  CHECK(taken.size() == IoBuffers::kLargeMax);
  for (std::byte* const memory : taken) {
    CHECK(reinterpret_cast<std::uintptr_t>(memory) % kBlock == 0);
    memory[IoBuffers::kLargeBytes - 1] = std::byte{1};
  }
  buffers.give_back_large(taken[3]);
  CHECK(buffers.take_large() == taken[3]);
  for (std::byte* const memory : taken) buffers.give_back_large(memory);
  buffers.keep(2);
  CHECK(buffers.large_count() == 2);
  std::byte* const block = buffers.take_block();
  REQUIRE(block != nullptr);
  CHECK(reinterpret_cast<std::uintptr_t>(block) % kBlock == 0);
  buffers.give_back_block(block);
}
