// Goal: verify finds whatever is damaged, names where, and calls nothing damaged that is not; and it leaves no trace.
#include "spillway/persist/verify.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "spillway/core/error.h"
#include "spillway/persist/cursor_file.h"
#include "support/catch.h"
#include "support/log_builder.h"

using namespace spillway;
using namespace spillway_test;

namespace {

constexpr std::uint64_t kRing = 256 * kKiB;
constexpr std::uint64_t kSegment = 512 * kKiB;
constexpr std::uint64_t kFile = segment_file_bytes(kSegment);
constexpr std::uint64_t kHomeA = index_block_pos(kSegment, 0, 0);
constexpr std::uint64_t kHomeB = index_block_pos(kSegment, 0, 1);

struct Scene {
  TempDirectory directory;
  LogBuilder log{directory.path(), test_config(kRing, kSegment)};
  std::string horizon = horizon_path(directory.path());

  std::string last_path() const { return log.path_of(log.end()); }
  Scene() {
    log.fill_to(2 * kSegment + kRangeBytes + 4096);
    log.synced_to(log.end());
    log.flush();
    log.write_horizon(kGiB);
  }
  VerifyResult verify() const { return verify_partition(directory.path(), log.config(), 0, nullptr); }
};

std::map<std::string, std::filesystem::file_time_type> state_of(const std::string& directory) {
  std::map<std::string, std::filesystem::file_time_type> state;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    state[entry.path().filename()] = entry.last_write_time();
  }
  return state;
}

}  // namespace

TEST_CASE("verify: a sound log is counted and nothing is touched") {
  Scene scene;
  const auto before = state_of(scene.directory.path());
  const VerifyResult r = scene.verify();
  CHECK(r.sound());
  CHECK(r.segments == 3);
  CHECK(r.records == expected_records(scene.log, 0, scene.log.end()).size());
  CHECK(r.bytes == scene.log.end());
  CHECK(r.ranges >= 18);
  CHECK(r.gaps == 0);
  CHECK(r.begin == 0);
  CHECK(r.end == scene.log.end());
  CHECK(state_of(scene.directory.path()) == before);
}

TEST_CASE("verify: every flipped bit of what was written is found, in its range") {
  Scene scene;
  std::uint64_t at = 0;
  for (Offset offset = 0; offset < scene.log.end(); offset += 9973) {
    INFO("offset " << offset);
    flip_bit(scene.log.path_of(offset), scene.log.file_pos(offset), static_cast<unsigned>(at++ % 8));
    const VerifyResult r = scene.verify();
    REQUIRE(r.damage.size() == 1);
    CHECK(r.damage[0].segment == align_down(offset, kSegment));
    CHECK(r.damage[0].from <= offset);
    CHECK(r.damage[0].to > offset);
    CHECK(r.damage[0].from + 200 > range_begin_of(offset));
    CHECK(r.damage[0].to <= range_begin_of(offset) + kRangeBytes + 200);
    flip_bit(scene.log.path_of(offset), scene.log.file_pos(offset), static_cast<unsigned>((at - 1) % 8));
  }
  CHECK(scene.verify().sound());
}

TEST_CASE("verify: bits flipped inside long padding are found too") {
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(4 * kMiB, 4 * kMiB));
  log.append("before");
  log.pad_to(3 * kMiB + 160);
  log.append("after");
  log.synced_to(log.end());
  log.flush();
  log.write_horizon(kGiB);
  CHECK(verify_partition(directory.path(), log.config(), 0, nullptr).sound());
  flip_bit(log.path_of(0), log.file_pos(2 * kMiB + 5));
  const VerifyResult r = verify_partition(directory.path(), log.config(), 0, nullptr);
  REQUIRE(r.damage.size() == 1);
  CHECK(r.damage[0].from == 2 * kMiB);
  CHECK(r.damage[0].to == 2 * kMiB + kRangeBytes);
  CHECK(r.records == 2);
}

TEST_CASE("verify: what else can be wrong with files") {
  struct Row {
    const char* name;
    void (*harm)(Scene&);
    std::size_t damage, problems;
  };
  // clang-format off
  const Row row = GENERATE(
      Row{"a missing middle segment", [](Scene& s) { std::filesystem::remove(s.log.path_of(kSegment)); },      1, 0},
      Row{"a header",                 [](Scene& s) { flip_bit(s.log.path_of(kSegment), 30); },                 1, 0},
      Row{"zeros for a segment",      [](Scene& s) { zero_fill(s.log.path_of(0), 0, kFile); },                 2, 0},
      Row{"random for a segment",     [](Scene& s) { randomize(s.log.path_of(0), kFile, 1); },                 2, 0},
      Row{"a truncated segment",      [](Scene& s) { truncate_to(s.log.path_of(kSegment), 50000); },           2, 0},
      Row{"an empty segment",         [](Scene& s) { truncate_to(s.log.path_of(kSegment), 0); },               2, 0},
      Row{"the horizon",              [](Scene& s) { zero_fill(s.horizon, 0, 8192); },                         0, 1},
      Row{"no horizon",               [](Scene& s) { std::filesystem::remove(s.horizon); },                    0, 1},
      Row{"an index block",           [](Scene& s) { zero_fill(s.log.path_of(0), kHomeA, kBlock); },           1, 0},
      Row{"the other home of it",     [](Scene& s) { zero_fill(s.log.path_of(0), kHomeB, kBlock); },           0, 0},
      Row{"what is behind the end",   [](Scene& s) { flip_bit(s.last_path(), s.log.file_pos(s.log.end())); },  0, 0},
      Row{"an expired beginning",     [](Scene& s) { std::filesystem::remove(s.log.path_of(0)); },             0, 0});
  // clang-format on
  INFO(row.name);
  Scene scene;
  row.harm(scene);
  const VerifyResult r = scene.verify();
  for (const LogDamage& d : r.damage) INFO(d.from << " " << d.to << " " << d.what);
  CHECK(r.damage.size() == row.damage);
  CHECK(r.problems.size() == row.problems);
  CHECK(r.sound() == (row.damage + row.problems == 0));
  CHECK(r.end == scene.log.end());
}

TEST_CASE("verify: a torn end beyond what was synced is no damage, before it it is") {
  for (const bool synced : {false, true}) {
    const TempDirectory directory;
    LogBuilder log(directory.path(), test_config(kRing, kSegment));
    log.fill_to(kSegment);
    log.synced_to(synced ? kSegment : 2 * kRangeBytes);
    log.flush();
    log.write_horizon(kGiB);
    flip_bit(log.path_of(0), log.file_pos(4 * kRangeBytes + 500));
    const VerifyResult r = verify_partition(directory.path(), log.config(), 0, nullptr);
    CHECK(r.sound() == !synced);
    CHECK((r.end == kSegment) == synced);
  }
}

TEST_CASE("verify: gaps that are told are no damage") {
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, kSegment, OnFull::overwrite));
  log.fill_to(8192);
  log.gap_to(3 * kSegment + 160);
  log.fill_to(3 * kSegment + kRing);
  const Offset end = log.end();
  log.flush();
  log.next_ring(end, 8 * kSegment, GapCause::crash);
  log.fill_to(8 * kSegment + 1024);
  log.synced_to(log.end());
  log.flush();
  log.write_horizon(kGiB);
  const VerifyResult r = verify_partition(directory.path(), log.config(), 0, nullptr);
  CHECK(r.sound());
  CHECK(r.gaps == 2);
  CHECK(r.segments == 3);
}

TEST_CASE("verify: an empty partition, and cursors") {
  const TempDirectory directory;
  const TopicConfig config = test_config(kRing, kSegment);
  CHECK(verify_partition(directory.path() + "/0", config, 0, nullptr).sound());
  CHECK(verify_partition(directory.path() + "/0", config, 0, nullptr).segments == 0);
  const std::string cursors = directory.path() + "/cursors";
  CHECK(verify_cursors(cursors, config).empty());
  CursorFile::open(cursors, "good", config.partitions, config.id, Sharing::owner);
  CursorFile::open(cursors, "bad", config.partitions, config.id, Sharing::owner);
  CHECK(verify_cursors(cursors, config).empty());
  zero_fill(cursors + "/bad", 0, 100);
  const auto problems = verify_cursors(cursors, config);
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].find("/bad") != std::string::npos);
}
