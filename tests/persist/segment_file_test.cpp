// Goal: a segment has its name only once it is whole, its lock lives as long as its description, and what is in a
// file that should be a segment is checked before it is used.
#include "spillway/persist/segment_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include "spillway/core/bytes.h"
#include "spillway/core/checksum.h"
#include "spillway/core/error.h"
#include "spillway/core/file_lock.h"
#include "spillway/persist/segment_index.h"
#include "support/catch.h"
#include "support/log_builder.h"

using namespace spillway;
using namespace spillway_test;

namespace {

constexpr std::uint64_t kRing = 64 * kKiB;
constexpr std::uint64_t kSegment = 128 * kKiB;

struct Scene {
  TempDirectory directory;
  LogIdentity log = LogIdentity::of(test_config(kRing, kSegment), 0);
  SegmentFile create(Offset base, FileIo io = FileIo::buffered) const {
    return SegmentFile::create(directory.path(), log, {base, base, GapCause::none, 5}, Sharing::owner, io);
  }
  SegmentFile open(Offset base, Access access = Access::read_only, FileIo io = FileIo::buffered) const {
    return SegmentFile::open(directory.path(), log, base, access, io);
  }
  std::string path(Offset base) const { return directory.path() + "/" + segment_name(base); }
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

}  // namespace

TEST_CASE("segment name: twenty digits, there and back") {
  struct Row {
    const char* name;
    std::optional<Offset> base;
  };
  // clang-format off
  const std::vector<Row> rows = {
      {"00000000000000000000.log",  0},
      {"00000000000004294967296.log", std::nullopt},
      {"00000000004294967296.log",  Offset{1} << 32},
      {"04611686018427387903.log",  kOffsetEnd - 1},
      {"04611686018427387904.log",  std::nullopt},  // a log has ended there
      {"18446744073709551616.log",  std::nullopt},  // 2^64
      {"99999999999999999999.log",  std::nullopt},
      {"0000000000000000000.log",   std::nullopt},
      {"0000000000000000000x.log",  std::nullopt},
      {"00000000000000000000.tmp",  std::nullopt},
      {"00000000000000000000.logs", std::nullopt},
      {"making-00000000000000000000", std::nullopt},
      {"spare-1",                   std::nullopt},
      {"",                          std::nullopt}};
  // clang-format on
  for (const Row& row : rows) {
    INFO(row.name);
    CHECK(parse_segment_name(row.name) == row.base);
    if (row.base) CHECK(segment_name(*row.base) == row.name);
  }
}

TEST_CASE("segment file: created whole, allocated and alone") {
  const auto io = GENERATE(FileIo::direct, FileIo::buffered);
  Scene scene;
  const SegmentFile file =
      SegmentFile::create(scene.directory.path(), scene.log, {4 * kSegment, 3 * kSegment + 160, GapCause::crash, 9},
                          Sharing::group_read, io);
  struct stat s;
  REQUIRE(::stat(scene.path(4 * kSegment).c_str(), &s) == 0);
  CHECK(static_cast<std::uint64_t>(s.st_size) == segment_file_bytes(kSegment));
  CHECK(static_cast<std::uint64_t>(s.st_blocks) * 512 >= segment_file_bytes(kSegment));  // not sparse
  CHECK((s.st_mode & 0777) == 0640);
  CHECK(std::distance(std::filesystem::directory_iterator(scene.directory.path()), {}) == 1);
  const SegmentFile again = scene.open(4 * kSegment);
  CHECK(again.header().previous_end == 3 * kSegment + 160);
  CHECK(again.header().gap_cause == static_cast<std::uint64_t>(GapCause::crash));
  CHECK(again.header().incarnation == 9);
  CHECK(again.header().salt == scene.log.salt);
  CHECK(again.still_named());
}

TEST_CASE("segment file: O_DIRECT where there is such a thing, buffered elsewhere, the same bytes") {
  Scene scene;
  SegmentFile file = scene.create(0, FileIo::direct);
  if (!file.direct()) SPILLWAY_SKIP("this file system has no O_DIRECT");
  const Mapping memory = Mapping::anonymous(kBlock);
  std::memset(memory.data(), 0x77, kBlock);
  REQUIRE(write_at(file.descriptor(), memory.data(), kBlock, kSegmentHeaderBytes) == 0);
  CHECK(write_at(file.descriptor(), memory.data() + 16, 16, kSegmentHeaderBytes) == EINVAL);
  CHECK(file.give_up_direct());
  CHECK_FALSE(file.direct());
  REQUIRE(write_at(file.descriptor(), memory.data() + 16, 16, kSegmentHeaderBytes) == 0);
  const SegmentFile reader = scene.open(0, Access::read_only, FileIo::direct);
  const Mapping back = Mapping::anonymous(kBlock);
  REQUIRE(read_at(reader.descriptor(), back.data(), kBlock, kSegmentHeaderBytes) == 0);
  CHECK(std::memcmp(back.data(), memory.data(), kBlock) == 0);
}

TEST_CASE("segment file: never made over another, and what was begun is removed") {
  Scene scene;
  {
    const SegmentFile file = scene.create(0);
  }
  CHECK(code_of([&] { scene.create(0); }, scene.path(0)) == Code::conflict);
  CHECK(std::distance(std::filesystem::directory_iterator(scene.directory.path()), {}) == 1);
  // A maker that died left this behind.
  randomize(scene.directory.path() + "/making-" + segment_name(kSegment).substr(0, 20), 100, 1);
  const SegmentFile second = scene.create(kSegment);
  CHECK(std::distance(std::filesystem::directory_iterator(scene.directory.path()), {}) == 2);
}

TEST_CASE("segment file: too large for the disk is an error that says so") {
  Scene scene;
  scene.log.segment_bytes = std::uint64_t{1} << 44;  // not that anybody could configure it
  CHECK(code_of([&] { scene.create(0); }, "making-") != Code::corrupt);
  CHECK(std::filesystem::is_empty(scene.directory.path()));
}

TEST_CASE("segment file: the lock lives as long as the description that writes") {
  Scene scene;
  std::optional<SegmentFile> writer = scene.create(0);
  SegmentFile other = scene.open(0, Access::read_write);
  CHECK_FALSE(other.try_lock());
  const int duplicate = ::dup(writer->descriptor());  // as an I/O under way holds the description
  writer.reset();
  CHECK_FALSE(other.try_lock());
  ::close(duplicate);
  CHECK(other.try_lock());
}

TEST_CASE("segment file: a writer that is killed gives its lock up") {
  Scene scene;
  {
    const SegmentFile file = scene.create(0);
  }
  int pipe_ends[2];
  REQUIRE(::pipe(pipe_ends) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    SegmentFile file = scene.open(0, Access::read_write);
    const char ok = file.try_lock() ? 'y' : 'n';
    static_cast<void>(!::write(pipe_ends[1], &ok, 1));
    ::pause();
    ::_exit(0);
  }
  char ok = 0;
  REQUIRE(::read(pipe_ends[0], &ok, 1) == 1);
  REQUIRE(ok == 'y');
  SegmentFile file = scene.open(0, Access::read_write);
  CHECK_FALSE(file.try_lock());
  ::kill(child, SIGKILL);
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  CHECK(file.try_lock());
  ::close(pipe_ends[0]);
  ::close(pipe_ends[1]);
}

TEST_CASE("segment file: recycling gives a new segment in old blocks") {
  Scene scene;
  LogBuilder log(scene.directory.path(), test_config(kRing, kSegment));
  log.fill_to(kSegment);
  log.flush(0);
  log.flush(1);
  const std::string spare = scene.directory.path() + "/spare-3";
  std::filesystem::rename(scene.path(0), spare);
  struct stat before;
  REQUIRE(::stat(spare.c_str(), &before) == 0);
  const SegmentBirth birth{5 * kSegment, 5 * kSegment, GapCause::none, 5};
  SECTION("that nobody uses") {
    const auto file = SegmentFile::recycle(scene.directory.path(), "spare-3", scene.log, birth, FileIo::direct);
    REQUIRE(file);
    struct stat after;
    REQUIRE(::stat(scene.path(5 * kSegment).c_str(), &after) == 0);
    CHECK(before.st_ino == after.st_ino);
    CHECK(before.st_blocks == after.st_blocks);
    CHECK(scene.open(5 * kSegment).header().base == 5 * kSegment);
    SegmentFile second = scene.open(5 * kSegment, Access::read_write);
    CHECK_FALSE(second.try_lock());
    // No old entry is valid in the new place.
    std::vector<std::byte> homes(2 * kBlock);
    REQUIRE(read_at(second.descriptor(), homes.data(), homes.size(), index_block_pos(kSegment, 0, 0)) == 0);
    for (Offset range = 5 * kSegment; range < 6 * kSegment; range += kRangeBytes) {
      CHECK(candidates(IndexHome(homes.data(), kBlock), IndexHome(homes.data() + kBlock, kBlock), scene.log.salt,
                       5 * kSegment, range)
                .count == 0);
    }
  }
  SECTION("not one in which a dead process' I/O is under way") {
    const FileDescriptor user = open_file(spare, O_RDWR);
    REQUIRE(FileLock::try_lock_description(user.get(), LockMode::exclusive));
    CHECK_FALSE(SegmentFile::recycle(scene.directory.path(), "spare-3", scene.log, birth, FileIo::direct));
    CHECK(std::filesystem::exists(spare));
  }
  SECTION("not one of another size") {
    truncate_to(spare, 100000);
    CHECK_FALSE(SegmentFile::recycle(scene.directory.path(), "spare-3", scene.log, birth, FileIo::direct));
  }
  SECTION("not one that is gone") {
    CHECK_FALSE(SegmentFile::recycle(scene.directory.path(), "spare-4", scene.log, birth, FileIo::direct));
  }
}

TEST_CASE("segment file: a reader notices that the name means another file now") {
  Scene scene;
  {
    const SegmentFile file = scene.create(0);
  }
  const SegmentFile reader = scene.open(0);
  CHECK(reader.still_named());
  std::filesystem::rename(scene.path(0), scene.directory.path() + "/spare-1");
  CHECK_FALSE(reader.still_named());
  {
    const SegmentFile file = scene.create(0);
  }
  CHECK_FALSE(reader.still_named());
}

TEST_CASE("segment file: a header that can't be right is refused by name") {
  struct Row {
    const char* name;
    void (*change)(SegmentHeader&);
    HeaderStatus status;
    bool seal;
  };
  // clang-format off
  const Row row = GENERATE(
      Row{"magic",          [](SegmentHeader& h) { h.magic ^= 1; },          HeaderStatus::not_a_segment, true},
      Row{"a flipped bit",  [](SegmentHeader& h) { h.previous_end ^= 64; },  HeaderStatus::checksum,      false},
      Row{"version",        [](SegmentHeader& h) { h.version = 2; },         HeaderStatus::unsupported,   true},
      Row{"topic",          [](SegmentHeader& h) { h.topic_id ^= 1; },       HeaderStatus::foreign,       true},
      Row{"partition",      [](SegmentHeader& h) { h.partition = 1; },       HeaderStatus::foreign,       true},
      Row{"salt",           [](SegmentHeader& h) { h.salt ^= 1; },           HeaderStatus::foreign,       true},
      Row{"segment size",   [](SegmentHeader& h) { h.segment_bytes *= 2; },  HeaderStatus::geometry,      true},
      Row{"ring size",      [](SegmentHeader& h) { h.ring_bytes *= 2; },     HeaderStatus::geometry,      true},
      Row{"base",           [](SegmentHeader& h) { h.base += kSegment; },    HeaderStatus::base,          true},
      Row{"previous end",   [](SegmentHeader& h) { h.previous_end = h.base + 16; }, HeaderStatus::base,   true},
      Row{"cause",          [](SegmentHeader& h) { h.gap_cause = 77; },      HeaderStatus::base,          true});
  // clang-format on
  INFO(row.name);
  Scene scene;
  {
    const SegmentFile file = scene.create(kSegment);
  }
  const FileDescriptor fd = open_file(scene.path(kSegment), O_RDWR);
  SegmentHeader header;
  REQUIRE(read_at(fd.get(), &header, sizeof header, 0) == 0);
  REQUIRE(check_header(header, scene.log, kSegment) == HeaderStatus::ok);
  row.change(header);
  if (row.seal) header.checksum = xxh3(std::as_bytes(std::span(&header, 1)).first(offsetof(SegmentHeader, checksum)));
  REQUIRE(write_at(fd.get(), &header, sizeof header, 0) == 0);
  CHECK(check_header(header, scene.log, kSegment) == row.status);
  CHECK(code_of([&] { scene.open(kSegment); }, scene.path(kSegment)) ==
        (row.status == HeaderStatus::unsupported ? Code::unsupported : Code::corrupt));
  CHECK(SegmentFile::try_open(scene.directory.path(), scene.log, kSegment, FileIo::direct).header_status() ==
        row.status);
  CHECK(read_segment_header(scene.directory.path(), scene.log, kSegment)->status == row.status);
}

TEST_CASE("segment file: what is no segment is told apart") {
  Scene scene;
  CHECK(code_of([&] { scene.open(0); }, scene.path(0)) == Code::not_found);
  CHECK_FALSE(SegmentFile::try_open(scene.directory.path(), scene.log, 0, FileIo::direct));
  CHECK(errno == ENOENT);
  {
    const SegmentFile file = scene.create(0);
  }
  SECTION("cut off") {
    truncate_to(scene.path(0), segment_file_bytes(kSegment) - 1);
    CHECK(code_of([&] { scene.open(0); }, scene.path(0)) == Code::corrupt);
  }
  SECTION("empty") {
    truncate_to(scene.path(0), 0);
    CHECK(code_of([&] { scene.open(0); }, scene.path(0)) == Code::corrupt);
  }
  SECTION("a directory") {
    std::filesystem::remove(scene.path(0));
    std::filesystem::create_directory(scene.path(0));
    CHECK(code_of([&] { scene.open(0); }, scene.path(0)) == Code::corrupt);
    CHECK_FALSE(SegmentFile::try_open(scene.directory.path(), scene.log, 0, FileIo::direct));
  }
  SECTION("a link") {
    std::filesystem::rename(scene.path(0), scene.directory.path() + "/x");
    std::filesystem::create_symlink("x", scene.path(0));
    CHECK(code_of([&] { scene.open(0); }, scene.path(0)) == Code::no_permission);
    CHECK_FALSE(SegmentFile::try_open(scene.directory.path(), scene.log, 0, FileIo::direct));
  }
}

TEST_CASE("read_some: the file's end is no error") {
  Scene scene;
  {
    const SegmentFile file = scene.create(0);
  }
  const SegmentFile file = scene.open(0, Access::read_only, FileIo::direct);
  const Mapping memory = Mapping::anonymous(2 * kBlock);
  const std::uint64_t bytes = segment_file_bytes(kSegment);
  CHECK(read_some(file.descriptor(), memory.data(), 2 * kBlock, bytes - 2 * kBlock).bytes == 2 * kBlock);
  CHECK(read_some(file.descriptor(), memory.data(), 2 * kBlock, bytes - kBlock).bytes == kBlock);
  CHECK(read_some(file.descriptor(), memory.data(), 2 * kBlock, bytes).bytes == 0);
  truncate_to(scene.path(0), kBlock + 1000);
  const FileRead odd = read_some(file.descriptor(), memory.data(), 2 * kBlock, 0);
  CHECK(odd.bytes == kBlock + 1000);
  CHECK(odd.error == 0);
  CHECK(read_some(-1, memory.data(), 16, 0).error == EBADF);
}
