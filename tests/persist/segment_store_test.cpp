// Goal: the row of segments loses its oldest, and only those, and the steady state allocates nothing.
#include "spillway/persist/segment_store.h"

#include <fcntl.h>

#include <filesystem>
#include <vector>

#include "spillway/core/bytes.h"
#include "spillway/core/error.h"
#include "support/catch.h"
#include "support/log_builder.h"

using namespace spillway;
using namespace spillway_test;

namespace {

constexpr std::uint64_t kS = 128 * kKiB;

struct Scene {
  TempDirectory directory;
  SegmentStore store{directory.path(), LogIdentity::of(test_config(64 * kKiB, kS), 0), Sharing::owner,
                     FileIo::buffered};
  SegmentFile make(Offset base) { return store.make_segment({base, base, GapCause::none, 1}); }
  std::string path(Offset base) const { return directory.path() + "/" + segment_name(base); }
  void touch(const std::string& name) const {
    static_cast<void>(open_file(directory.path() + "/" + name, O_WRONLY | O_CREAT));
  }
  std::size_t files() const { return list_directory(directory.path()).size(); }
};

using Bases = std::vector<Offset>;

HorizonSlot horizon(Offset previous_end, Offset begin) {
  HorizonSlot slot{};
  slot.previous_end = previous_end;
  slot.begin = begin;
  return slot;
}

}  // namespace

TEST_CASE("store: retention takes the oldest, never the newest, and nothing past keep_from") {
  struct Row {
    const char* name;
    Bases bases;
    std::uint64_t retain;
    Offset keep_from;
    std::uint64_t coming;
    Bases going;
  };
  constexpr Offset kFar = Offset{1} << 50;
  // clang-format off
  const std::vector<Row> rows = {
      {"no limit",                       {0, kS, 2 * kS, 3 * kS},          0,          kFar,       1, {}},
      {"no segments",                    {},                               2 * kS,     kFar,       1, {}},
      {"fits",                           {0, kS},                          2 * kS,     kFar,       0, {}},
      {"one too many",                   {0, kS, 2 * kS},                  2 * kS,     kFar,       0, {0}},
      {"room for the next",              {0, kS},                          2 * kS,     kFar,       1, {0}},
      {"a part of a segment is no room", {0, kS, 2 * kS},                  3 * kS - 1, kFar,       0, {0}},
      {"many",                           {0, kS, 2 * kS, 3 * kS, 4 * kS},  2 * kS,     kFar,       0, {0, kS, 2 * kS}},
      {"a row with holes",               {0, 5 * kS, 9 * kS},              2 * kS,     kFar,       0, {0}},
      {"never the newest",               {7 * kS},                         kS,         kFar,       5, {}},
      {"not what is not safe yet",       {0, kS, 2 * kS, 3 * kS},          2 * kS,     2 * kS - 1, 0, {0}},
      {"nothing is safe yet",            {0, kS, 2 * kS, 3 * kS},          2 * kS,     kS - 1,     0, {}},
      {"safe to the last byte",          {0, kS, 2 * kS, 3 * kS},          2 * kS,     2 * kS,     0, {0, kS}}};
  // clang-format on
  for (const Row& row : rows) {
    INFO(row.name);
    CHECK(plan_retention({row.bases, kS, row.retain, row.keep_from, row.coming}) == row.going);
  }
}

TEST_CASE("store: what an earlier recovery sealed away is dead") {
  const Bases all = {0, kS, 2 * kS, 3 * kS, 8 * kS, 9 * kS};
  struct Row {
    Offset previous_end, begin;
    Bases dead;
  };
  const std::vector<Row> rows = {
      {0, 0, {}},           {kS + 16, 8 * kS, {2 * kS, 3 * kS}},  {2 * kS, 8 * kS, {2 * kS, 3 * kS}},
      {4 * kS, 8 * kS, {}}, {0, 8 * kS, {0, kS, 2 * kS, 3 * kS}}, {9 * kS + 16, 20 * kS, {}}};
  for (const Row& row : rows) {
    INFO(row.previous_end << " to " << row.begin);
    CHECK(dead_segments(all, horizon(row.previous_end, row.begin), kS) == row.dead);
    CHECK(live_segments(all, horizon(row.previous_end, row.begin), kS).size() == all.size() - row.dead.size());
  }
  CHECK(dead_segments(all, std::nullopt, kS).empty());
  CHECK(live_segments(all, std::nullopt, kS) == all);
}

TEST_CASE("store: a listing is sorted and ignores what is no segment") {
  Scene scene;
  CHECK(scene.store.list().empty());
  for (const Offset base : {3 * kS, Offset{0}, (Offset{1} << 32), kS}) static_cast<void>(scene.make(base));
  for (const char* name : {"horizon", "spare-9", "making-7", "00000000000000000100.log", "x.log", "lock"})
    scene.touch(name);
  CHECK(scene.store.list() == Bases{0, kS, 3 * kS, Offset{1} << 32});
  CHECK(list_segments(scene.directory.path() + "/nowhere", kS).empty());
}

TEST_CASE("store: expired segments become spares, at most two, and are used again") {
  Scene scene;
  for (Offset i = 0; i < 6; ++i) static_cast<void>(scene.make(i * kS));
  scene.store.expire(Bases{0, kS, 2 * kS, 3 * kS});
  CHECK(scene.store.list() == Bases{4 * kS, 5 * kS});
  CHECK(scene.store.spares().size() == kSparesMax);
  CHECK(scene.files() == 4);
  // The steady state: one goes, one comes, and the directory holds the same files for ever.
  for (Offset i = 6; i < 30; ++i) {
    const SegmentFile file = scene.make(i * kS);
    CHECK(scene.store.spares().size() == 1);
    scene.store.expire(Bases{scene.store.list().front()});
    CHECK(scene.files() == 4);
    CHECK(scene.store.list() == Bases{(i - 1) * kS, i * kS});
  }
}

TEST_CASE(
    "store: one that is gone already does not keep the others from expiring, and spares never exceed what is told") {
  Scene scene;
  for (Offset i = 0; i < 5; ++i) static_cast<void>(scene.make(i * kS));
  remove_file(scene.path(0));
  scene.store.expire(Bases{0, kS, 2 * kS});
  CHECK(scene.store.list() == Bases{3 * kS, 4 * kS});
  scene.store.expire({}, 1);
  CHECK(scene.store.spares().size() == 1);
  scene.store.expire(Bases{3 * kS}, 0);
  CHECK(scene.store.list() == Bases{4 * kS});
  CHECK(scene.store.spares().empty());
}

TEST_CASE("store: a spare is made ahead of need, once") {
  Scene scene;
  scene.store.prepare_spare();
  scene.store.prepare_spare();
  REQUIRE(scene.store.spares().size() == 1);
  CHECK(std::filesystem::file_size(scene.directory.path() + "/" + scene.store.spares()[0]) == segment_file_bytes(kS));
  const SegmentFile file = scene.make(0);
  CHECK(scene.store.spares().empty());
  CHECK(scene.store.list() == Bases{0});
}

TEST_CASE("store: a spare with somebody's I/O under way is left alone") {
  Scene scene;
  {
    const SegmentFile file = scene.make(0);
  }
  SegmentFile user =
      SegmentFile::open(scene.directory.path(), scene.store.log(), 0, Access::read_write, FileIo::buffered);
  REQUIRE(user.try_lock());
  CHECK_FALSE(scene.store.adopt(0));
  CHECK(scene.store.busy_segment(0) == Offset{0});
  CHECK_FALSE(scene.store.busy_segment(kS));
  scene.store.expire(Bases{0});
  const SegmentFile fresh = scene.make(kS);  // not out of the spare
  CHECK(scene.store.spares().size() == 1);
  user.close();
  const SegmentFile second = scene.make(2 * kS);
  CHECK(scene.store.spares().empty());
}

TEST_CASE("store: adopting and asking who is busy") {
  Scene scene;
  CHECK_THROWS_AS(scene.store.adopt(0), Error);
  {
    const SegmentFile file = scene.make(0);
    CHECK_FALSE(scene.store.adopt(0));
  }
  {
    const auto adopted = scene.store.adopt(0);
    REQUIRE(adopted);
    CHECK(scene.store.busy_segment(0) == Offset{0});
  }
  CHECK_FALSE(scene.store.busy_segment(0));
  CHECK(scene.store.adopt(0));  // asking left no lock behind
}

TEST_CASE("store: leftovers of the dead go, segments and good spares stay") {
  Scene scene;
  static_cast<void>(scene.make(0));
  static_cast<void>(scene.make(kS));
  scene.store.prepare_spare();
  for (const char* name : {"making-00000000000000131072", "making-1", "spare-bad", "horizon"}) scene.touch(name);
  scene.store.remove_leftovers();
  CHECK(scene.store.list() == Bases{0, kS});
  CHECK(scene.store.spares().size() == 1);
  CHECK(scene.files() == 4);
  scene.store.remove(Bases{0, kS});
  CHECK(scene.store.list().empty());
  CHECK(scene.store.spares().size() == 1);
}
