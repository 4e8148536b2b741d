// What a child of fork finds of its parent's handles: nothing that could keep a dead parent looking alive, and nothing
// that it could write into.
#include "spillway/core/fork.h"

#include <fcntl.h>

#include <atomic>
#include <thread>

#include "spillway/core/mapping.h"
#include "support/catch.h"
#include "support/ring_fixture.h"

namespace {

using namespace spillway_test::ring;

TEST_CASE("a child has none of our descriptors") {
  RingPlace place;
  const FileDescriptor fd = open_file(place.paths().control, O_RDONLY);
  const int number = fd.get();
  REQUIRE(number >= 0);
  CHECK(result_of(in_child([&] {
          if (fd.get() != -1 || fd) return 1;
          return ::fcntl(number, F_GETFD) == -1 && errno == EBADF ? 0 : 2;
        })) == 0);
  CHECK(fd.get() == number);
}

TEST_CASE("a child that goes on does not close what it opened itself under a parent's number") {
  RingPlace place;
  auto fd = std::make_unique<FileDescriptor>(open_file(place.paths().control, O_RDONLY));
  CHECK(result_of(in_child([&] {
          const int mine = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
          fd.reset();  // the handle of the parent, whose number is likely ours now
          return ::fcntl(mine, F_GETFD) >= 0 ? 0 : 1;
        })) == 0);
}

TEST_CASE("where a mapping was a child finds private zeros, and the parent's bytes stay as they are") {
  RingPlace place;
  const FileDescriptor fd = open_file(place.directory() + "/file", O_RDWR | O_CREAT);
  allocate_file(fd.get(), 8192, "file");
  const Mapping mapping = Mapping::of_file(fd.get(), 8192, Access::read_write, "file");
  mapping.data()[5000] = std::byte{7};
  CHECK(result_of(in_child([&] {
          if (mapping.data()[5000] != std::byte{0}) return 1;
          mapping.data()[5000] = std::byte{9};
          return 0;
        })) == 0);
  CHECK(mapping.data()[5000] == std::byte{7});
}

struct Counting : ForkListener {
  int forks = 0;
  void forked_in_child() noexcept override { ++forks; }
};

TEST_CASE("listeners are told in the child only, each once, and not after they are gone") {
  Counting first;
  auto gone = std::make_unique<Counting>();
  Counting last;
  gone.reset();
  const ForkMark before;
  CHECK(result_of(in_child([&] {
          if (!before.forked() || ForkMark().forked()) return 1;
          return first.forks == 1 && last.forks == 1 ? 0 : 2;
        })) == 0);
  CHECK(first.forks == 0);
  CHECK_FALSE(before.forked());
}

// Method: threads open, lock and close descriptors without end while the main thread forks. A child that was born between
// open() and the registry's entry, or between the removal of the entry and close(), would still have one of them.
TEST_CASE("no instant at which another thread forks leaves the child a descriptor of ours") {
  RingPlace place;
  const std::string path = place.paths().slots_lock();
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < 2; ++i) {
    threads.emplace_back([&, i] {
      while (!stop.load(std::memory_order_relaxed)) {
        FileLock lock = FileLock::try_lock(path, LockMode::exclusive, i);
        lock.unlock();
      }
    });
  }
  int leaks = 0;
  for (int round = 0; round < 60; ++round) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      int found = 0;
      for (int fd = 3; fd < 256; ++fd) {
        std::array<char, 256> target{};
        char link[32];
        std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        const ssize_t n = ::readlink(link, target.data(), target.size() - 1);
        if (n > 0 && path == target.data()) ++found;
      }
      ::_exit(found);
    }
    leaks += result_of(pid);
  }
  stop.store(true, std::memory_order_relaxed);
  for (std::thread& t : threads) t.join();
  CHECK(leaks == 0);
}

}  // namespace
