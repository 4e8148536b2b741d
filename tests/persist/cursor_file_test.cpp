// Goal: a cursor never goes backward, survives any torn write, and has one owner, who is named to the second.
#include "spillway/persist/cursor_file.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <thread>

#include "spillway/core/checksum.h"
#include "spillway/core/error.h"
#include "support/catch.h"
#include "support/log_builder.h"

using namespace spillway;
using namespace spillway_test;

namespace {

constexpr std::uint64_t kTopic = 5;

struct Scene {
  TempDirectory directory;
  std::string cursors = directory.path() + "/cursors";
  std::unique_ptr<CursorFile> open(const std::string& name = "archiver", std::uint32_t partitions = 3) const {
    return CursorFile::open(cursors, name, partitions, kTopic, Sharing::owner);
  }
  CursorState peek(const std::string& name = "archiver", std::uint32_t partitions = 3) const {
    return CursorFile::peek(cursors, name, partitions, kTopic);
  }
};

template <class F>
Code code_of(F&& f, const std::string& names) {
  try {
    f();
  } catch (const Error& error) {
    INFO(error.what());
    CHECK(std::string(error.what()).find(names) != std::string::npos);
    return error.code();
  }
  FAIL("accepted");
  return Code::io;
}

using Offsets = std::vector<Offset>;

Offsets stored(const Scene& scene, std::uint32_t partitions = 3) {
  Offsets offsets;
  for (const auto& offset : scene.peek("archiver", partitions).offsets)
    offsets.push_back(offset.value_or(kNoCursorOffset));
  return offsets;
}

}  // namespace

TEST_CASE("cursor: a new one has got nowhere, and what it commits is there for the next owner") {
  Scene scene;
  CHECK(CursorFile::list(scene.cursors).empty());
  {
    const auto cursor = scene.open();
    CHECK_FALSE(cursor->offset(0));
    CHECK_FALSE(cursor->offset(2));
    CHECK_FALSE(cursor->offset(3));
    CHECK(cursor->commit(Offsets{16, kNoCursorOffset, 0}) == 0);
    CHECK(cursor->offset(0) == Offset{16});
    CHECK_FALSE(cursor->offset(1));
    CHECK(cursor->offset(2) == Offset{0});
    CHECK(cursor->commit(Offsets{16}) == EINVAL);
  }
  const auto cursor = scene.open();
  CHECK(cursor->offset(0) == Offset{16});
  CHECK_FALSE(cursor->offset(1));
  CHECK(cursor->offset(2) == Offset{0});
  CHECK(std::filesystem::file_size(cursor->path()) == kCursorFileBytes);
  CHECK(CursorFile::list(scene.cursors) == std::vector<std::string>{"archiver"});
}

TEST_CASE("cursor: never backward, partition by partition, whoever asks") {
  Scene scene;
  auto cursor = scene.open();
  REQUIRE(cursor->commit(Offsets{160, 320, 480}) == 0);
  REQUIRE(cursor->commit(Offsets{16, 640, kNoCursorOffset}) == 0);
  CHECK(stored(scene) == Offsets{160, 640, 480});
  cursor.reset();
  cursor = scene.open();
  REQUIRE(cursor->commit(Offsets{0, 0, 0}) == 0);
  CHECK(stored(scene) == Offsets{160, 640, 480});
}

TEST_CASE("cursor: as many partitions as a topic can have") {
  Scene scene;
  Offsets offsets(kPartitionsMax);
  for (std::size_t i = 0; i < offsets.size(); ++i) offsets[i] = 16 * i;
  {
    const auto cursor = scene.open("archiver", kPartitionsMax);
    REQUIRE(cursor->commit(offsets) == 0);
    offsets[1023] += 16;
    REQUIRE(cursor->commit(offsets) == 0);
  }
  CHECK(stored(scene, kPartitionsMax) == offsets);
  CHECK(scene.open("archiver", kPartitionsMax)->offset(1023) == 16 * 1023 + 16);
}

TEST_CASE("cursor: however a write is torn, the one before it or it counts") {
  // Method: the file before and after a commit; in between every prefix, in steps, of what it wrote.
  Scene scene;
  auto cursor = scene.open();
  Offset at = 0;
  const auto step = [&] { return Offsets{at += 16, at + 1600, at + 16000}; };
  for (int i = 0; i < 3; ++i) REQUIRE(cursor->commit(step()) == 0);
  for (int i = 0; i < 4; ++i) {
    const Offsets before = stored(scene);
    const std::string path = cursor->path();
    copy_file(path, path + ".before");
    const Offsets wanted = step();
    REQUIRE(cursor->commit(wanted) == 0);
    copy_file(path, path + ".after");
    const auto newest = static_cast<std::uint64_t>(i % 2 == 0 ? 12288 : 0);
    for (std::size_t torn = 0; torn <= 80; torn += 3) {
      copy_file(path + ".before", path);
      std::vector<std::byte> bytes(torn);
      const FileDescriptor from = open_file(path + ".after", O_RDONLY);
      const FileDescriptor to = open_file(path, O_WRONLY);
      for (const std::uint64_t slot : {newest, 12288 - newest}) {
        REQUIRE(read_at(from.get(), bytes.data(), torn, slot) == 0);
        REQUIRE(write_at(to.get(), bytes.data(), torn, slot) == 0);
      }
      const Offsets found = stored(scene);
      REQUIRE((found == before || found == wanted));
      REQUIRE((torn > 40 || found == before));  // the checksum is not whole yet
      REQUIRE((torn < 72 || found == wanted));
    }
    copy_file(path + ".after", path);
    std::filesystem::remove(path + ".before");
    std::filesystem::remove(path + ".after");
  }
}

TEST_CASE("cursor: a second owner is refused and the first one named") {
  Scene scene;
  auto cursor = scene.open();
  CHECK(code_of([&] { scene.open(); }, "process " + std::to_string(::getpid())) == Code::busy);
  const CursorState state = scene.peek();
  CHECK(state.owned);
  CHECK(state.owner_pid == static_cast<std::uint64_t>(::getpid()));
  CHECK(state.owner_since_ns > 0);
  CHECK(code_of([&] { CursorFile::remove(scene.cursors, "archiver"); }, "archiver") == Code::busy);
  CHECK_NOTHROW(scene.open("another"));
  cursor.reset();
  CHECK_FALSE(scene.peek().owned);
  CHECK(scene.peek().owner_pid == 0);
  CHECK_NOTHROW(scene.open());
}

TEST_CASE("cursor: an owner that is killed loses it at once, and what it committed stays") {
  Scene scene;
  int pipe_ends[2];
  REQUIRE(::pipe(pipe_ends) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const auto cursor = scene.open();
    const char ok = cursor->commit(Offsets{32, 48, 64}) == 0 ? 'y' : 'n';
    static_cast<void>(!::write(pipe_ends[1], &ok, 1));
    ::pause();
    ::_exit(0);
  }
  char ok = 0;
  REQUIRE(::read(pipe_ends[0], &ok, 1) == 1);
  REQUIRE(ok == 'y');
  CHECK(code_of([&] { scene.open(); }, std::to_string(child)) == Code::busy);
  ::kill(child, SIGKILL);
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  CHECK(scene.open()->offset(2) == Offset{64});
  ::close(pipe_ends[0]);
  ::close(pipe_ends[1]);
}

TEST_CASE("cursor: the child of a fork neither owns nor writes it") {
  Scene scene;
  const auto cursor = scene.open();
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) ::_exit(cursor->commit(Offsets{16, 16, 16}) == EBADF ? 0 : 1);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(scene.peek().owned);
  CHECK(cursor->commit(Offsets{16, 16, 16}) == 0);
}

TEST_CASE("cursor: many who create it at once: one gets it", "[threads]") {
  Scene scene;
  for (int round = 0; round < 20; ++round) {
    std::filesystem::remove_all(scene.cursors);
    std::atomic<int> owners{0}, busy{0}, go{0};
    std::vector<std::unique_ptr<CursorFile>> cursors(4);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < cursors.size(); ++i) {
      threads.emplace_back([&, i] {
        go.fetch_add(1);
        while (go.load() < 4) std::this_thread::yield();
        try {
          cursors[i] = scene.open();
          owners.fetch_add(1);
        } catch (const Error& error) {
          if (error.code() == Code::busy) busy.fetch_add(1);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    REQUIRE(owners == 1);
    REQUIRE(busy == 3);
    REQUIRE(CursorFile::list(scene.cursors).size() == 1);
    REQUIRE(list_directory(scene.cursors).size() == 1);
  }
}

TEST_CASE("cursor: what can't be right is refused by name") {
  Scene scene;
  scene.open()->commit(Offsets{16, 32, 48});
  const std::string path = scene.cursors + "/archiver";
  const auto refused = [&] {
    const Code peeked = code_of([&] { scene.peek(); }, path);
    CHECK(code_of([&] { scene.open(); }, path) == peeked);
    return peeked;
  };
  SECTION("empty") {
    truncate_to(path, 0);
    CHECK(refused() == Code::corrupt);
  }
  SECTION("zeros") {
    zero_fill(path, 0, kCursorFileBytes);
    CHECK(refused() == Code::corrupt);
  }
  SECTION("random") {
    randomize(path, kCursorFileBytes, 4);
    CHECK(refused() == Code::corrupt);
  }
  SECTION("huge and random") {
    randomize(path, kCursorFileBytes, 4);
    truncate_to(path, std::uint64_t{1} << 40);
    CHECK(refused() == Code::corrupt);
  }
  SECTION("another topic's") {
    CHECK(code_of([&] { CursorFile::peek(scene.cursors, "archiver", 3, 6); }, path) == Code::conflict);
  }
  SECTION("for other partitions") {
    CHECK(code_of([&] { scene.peek("archiver", 4); }, path) == Code::conflict);
  }
  SECTION("an offset that can't be") {
    std::vector<std::byte> bytes(kBlock);
    CursorSlot slot{kCursorMagic, kCursorVersion, 3, kTopic, 99, 1, 0};
    const std::uint64_t offsets[3] = {16, 17, 32};
    std::memcpy(bytes.data(), &slot, sizeof slot);
    std::memcpy(bytes.data() + sizeof slot, offsets, sizeof offsets);
    slot.checksum = xxh3(std::span(bytes).first(sizeof slot + sizeof offsets));
    std::memcpy(bytes.data(), &slot, sizeof slot);
    const FileDescriptor fd = open_file(path, O_WRONLY);
    REQUIRE(write_at(fd.get(), bytes.data(), bytes.size(), 0) == 0);
    CHECK(refused() == Code::corrupt);
  }
  SECTION("a directory") {
    std::filesystem::remove(path);
    std::filesystem::create_directory(path);
    CHECK_THROWS_AS(scene.open(), Error);
    CHECK_THROWS_AS(scene.peek(), Error);
  }
}

TEST_CASE("cursor: names follow the rules for topics") {
  Scene scene;
  for (const char* name : {"", ".", "..", ".hidden", "a/b", "a b", "\n"}) {
    INFO(name);
    CHECK(code_of([&] { scene.open(name); }, "") == Code::invalid_argument);
  }
  CHECK(code_of([&] { scene.open(std::string(201, 'x')); }, "") == Code::invalid_argument);
  CHECK_NOTHROW(scene.open(std::string(200, 'x')));
  CHECK(code_of([&] { scene.peek("nobody"); }, "nobody") == Code::not_found);
  CHECK(code_of([&] { CursorFile::remove(scene.cursors, "nobody"); }, "nobody") == Code::not_found);
  scene.open("b");
  scene.open("a");
  CHECK(CursorFile::list(scene.cursors) == std::vector<std::string>{"a", "b", std::string(200, 'x')});
  CursorFile::remove(scene.cursors, "a");
  CHECK(CursorFile::list(scene.cursors).size() == 2);
}

TEST_CASE("cursor: what the slowest of all still needs of a partition") {
  Scene scene;
  const auto smallest = [&](std::uint32_t partition) {
    return CursorFile::smallest(scene.cursors, 3, kTopic, partition);
  };
  CHECK(smallest(0) == 0);  // a topic has the directory from the beginning: it was moved away
  std::filesystem::create_directories(scene.cursors);
  CHECK(smallest(0) == kOffsetEnd);  // nobody has a cursor
  const auto fast = scene.open("fast");
  CHECK(smallest(0) == kOffsetEnd);  // nor begun
  REQUIRE(fast->commit(Offsets{640, kNoCursorOffset, 320}) == 0);
  const auto slow = scene.open("slow");
  REQUIRE(slow->commit(Offsets{160, kNoCursorOffset, 480}) == 0);
  CHECK(smallest(0) == 160);
  CHECK(smallest(1) == kOffsetEnd);
  CHECK(smallest(2) == 320);
  REQUIRE(slow->commit(Offsets{800, 0, kNoCursorOffset}) == 0);
  CHECK(smallest(0) == 640);
  CHECK(smallest(1) == 0);
}

TEST_CASE("cursor: one of which it is not known what it needs, needs everything") {
  Scene scene;
  REQUIRE(scene.open("whole")->commit(Offsets{640, 640, 640}) == 0);
  const auto smallest = [&] { return CursorFile::smallest(scene.cursors, 3, kTopic, 0); };
  REQUIRE(smallest() == 640);
  const std::string other = scene.cursors + "/other";
  const auto holds_all = [&] {
    const Offset got = smallest();
    std::filesystem::remove(other);
    CHECK(smallest() == 640);
    return got == 0;
  };
  static_cast<void>(open_file(other, O_WRONLY | O_CREAT));  // empty
  CHECK(holds_all());
  std::filesystem::create_directory(other);
  CHECK(holds_all());
  std::filesystem::create_symlink("whole", other);
  CHECK(holds_all());
  static_cast<void>(CursorFile::open(scene.cursors, "other", 3, kTopic + 1, Sharing::owner));  // another topic's
  CHECK(holds_all());
}
