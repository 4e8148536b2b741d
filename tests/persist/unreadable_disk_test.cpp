// Goal: a sector that can't be read costs what lies in it and nothing else, is told as that and not as damage, and is asked for
// again; and where it hides whether a log goes on, nothing behind it is given up.
// Method: pread() of this program fails for a part of one file. A LogBuilder makes the log and is the model.
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "spillway/core/error.h"
#include "spillway/persist/recovery.h"
#include "spillway/persist/segment_history.h"
#include "spillway/persist/verify.h"
#include "support/catch.h"
#include "support/log_builder.h"

using namespace spillway;
using namespace spillway_test;

namespace {

// A part of a file that can't be read: so many times, or until it is mended.
struct BadPart {
  ino_t inode = 0;
  std::uint64_t from = 0;
  std::uint64_t to = 0;
  int times = 0;
};
BadPart bad;

bool fails(int fd, std::size_t bytes, off_t position) {
  if (bad.times == 0) return false;
  struct stat status = {};
  const auto at = static_cast<std::uint64_t>(position);
  if (::fstat(fd, &status) != 0 || status.st_ino != bad.inode || at >= bad.to || at + bytes <= bad.from) return false;
  if (bad.times > 0) --bad.times;
  return true;
}

void spoil(const std::string& path, std::uint64_t from, std::uint64_t to, int times = -1) {
  struct stat status = {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  bad = {status.st_ino, from, to, times};
}
void mend() { bad = {}; }

constexpr std::uint64_t kRing = kMiB;
constexpr std::uint64_t kSegment = 8 * kMiB;  // of two blocks of index

// Unclean, in one segment and a half; all of it is on disk, and the first MiB is known to be synced.
struct Scene {
  Scene() {
    ::setenv("SPILLWAY_IO", "pwrite", 1);  // io_uring reads without this program
    log.fill_to(kMiB, 900);
    log.synced_to(log.end());
    log.fill_to(12 * kMiB, 900);
    log.flush();
    log.write_horizon(kGiB);
    sound = expected_records(log, 0, log.end());
  }
  ~Scene() {
    mend();
    ::unsetenv("SPILLWAY_IO");
  }
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;
  std::unique_ptr<SegmentHistory> history() const {
    return std::make_unique<SegmentHistory>(directory.path(), log.config(), 0, nullptr, FileIo::buffered,
                                            IoKind::pwrite);
  }
  VerifyResult verify() const { return verify_partition(directory.path(), log.config(), 0, nullptr); }

  TempDirectory directory;
  LogBuilder log{directory.path(), test_config(kRing, kSegment)};
  std::vector<Event> sound;
};

// What is read of [0, end), going on behind what fails; the ranges that did.
std::vector<Event> read_on(SegmentHistory& history, Offset end, std::vector<Offset>& failed) {
  std::vector<Event> events;
  for (Offset at = 0; at < end;) {
    const Drained part = drain(history, at);
    events.insert(events.end(), part.events.begin(), part.events.end());
    if (part.last.status != HistoryStatus::failed) break;
    CHECK(part.last.error == EIO);
    failed.push_back(range_begin_of(part.last.begin));
    at = history.boundary_after(range_begin_of(part.last.begin) + kRangeBytes);
  }
  return events;
}

}  // namespace

extern "C" ssize_t pread(int fd, void* to, std::size_t bytes, off_t position) {
  if (fails(fd, bytes, position)) {
    errno = EIO;
    return -1;
  }
  return ::syscall(SYS_pread64, fd, to, bytes, position);
}

TEST_CASE("unreadable disk: a bad sector costs its range and no others, and only while it is bad") {
  const Scene scene;
  const auto history = scene.history();
  const Offset range = 5 * kRangeBytes;
  spoil(scene.log.path_of(0), scene.log.file_pos(range) + 8192, scene.log.file_pos(range) + 8704);
  std::vector<Offset> failed;
  const std::vector<Event> events = read_on(*history, scene.log.end(), failed);
  REQUIRE(failed.size() == 1);
  CHECK(failed.front() >= range - kRangeBytes);  // the record before may reach into it
  CHECK(failed.front() <= range);
  CHECK(std::none_of(events.begin(), events.end(), [](const Event& e) { return e.what == Event::What::gap; }));
  const auto missing = scene.sound.size() - events.size();
  CHECK(missing > 0);
  CHECK(missing <= kRangeBytes / 900 + 2);
  const VerifyResult r = scene.verify();
  REQUIRE(r.damage.size() == 1);
  CHECK(r.damage.front().what.find("can't be read") != std::string::npos);
  CHECK(r.damage.front().to - r.damage.front().from <= kRangeBytes + 2048);
  mend();
  CHECK(drain(*history, 0).events == scene.sound);
}

TEST_CASE("unreadable disk: an index that could not be read is asked for again, and no damage") {
  const Scene scene;
  const auto block = GENERATE(std::uint64_t{0}, std::uint64_t{1});
  const auto times = GENERATE(1, 2, -1);
  const auto history = scene.history();
  const std::uint64_t at = index_block_pos(kSegment, block, 0);
  spoil(scene.log.path_of(0), at, at + 512, times);
  std::vector<Offset> failed;
  const std::vector<Event> events = read_on(*history, scene.log.end(), failed);
  CHECK(std::none_of(events.begin(), events.end(), [](const Event& e) { return e.what == Event::What::gap; }));
  CHECK(failed.size() <= 1);
  if (times < 0) {  // of 12 MiB all but what that block tells of is read
    CHECK(failed.size() == 1);
    CHECK(events.size() >= scene.sound.size() / 2);
  }
  mend();
  CHECK(drain(*history, 0).events == scene.sound);
}

TEST_CASE(
    "unreadable disk: where it hides whether the log goes on no ring is made, and what is behind is there once it is "
    "read") {
  const Scene scene;
  const LogIdentity& log = scene.log.log();
  const std::string last = scene.log.path_of(kSegment);
  const std::uint64_t header = 0, index = index_block_pos(kSegment, 0, 0), bytes = scene.log.file_pos(9 * kMiB);
  const auto at = GENERATE_COPY(header, index, bytes);
  spoil(last, at, at + 512);
  const RecoveredLog found = recover(scene.directory.path(), log, FileIo::buffered);
  CHECK(found.error == EIO);
  try {
    check_sealable(scene.directory.path(), found);
    FAIL("the log would be cut");
  } catch (const Error& error) {
    INFO(error.what());
    CHECK(error.code() == Code::io);
  }
  CHECK_FALSE(scene.verify().sound());
  const auto history = scene.history();
  CHECK(drain(*history, 0).last.status == HistoryStatus::failed);
  mend();
  const RecoveredLog again = recover(scene.directory.path(), log, FileIo::buffered);
  CHECK(again.error == 0);
  CHECK(again.end == scene.log.end());
  CHECK_NOTHROW(check_sealable(scene.directory.path(), again));
}

TEST_CASE(
    "unreadable disk: a segment past the horizon of which nothing can be read is not taken for empty, and stays") {
  Scene scene;
  scene.log.write_horizon(kSegment);  // an older one: restored without the segments
  const std::uint64_t index = index_block_pos(kSegment, 0, 0);
  spoil(scene.log.path_of(kSegment), index, index + 512);
  const RecoveredLog found = recover(scene.directory.path(), scene.log.log(), FileIo::buffered);
  CHECK(found.error == EIO);
  CHECK_THROWS_AS(check_sealable(scene.directory.path(), found), Error);
}

TEST_CASE("unreadable disk: a read that fails once at recovery changes nothing") {
  const Scene scene;
  const std::uint64_t bytes = scene.log.file_pos(9 * kMiB);
  spoil(scene.log.path_of(kSegment), bytes, bytes + 512, 2);  // the chunk, and the range alone
  const RecoveredLog found = recover(scene.directory.path(), scene.log.log(), FileIo::buffered);
  CHECK(found.error == 0);
  CHECK(found.end == scene.log.end());
}
