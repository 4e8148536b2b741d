// Goal: only what is surely too old goes, the oldest first, and a damaged index keeps nothing for ever.
#include "spillway/persist/segment_age.h"

#include <fcntl.h>

#include <filesystem>
#include <vector>

#include "spillway/core/descriptor.h"
#include "spillway/persist/segment_index.h"
#include "support/persister_rig.h"

using namespace spillway;
using namespace spillway::test;

namespace {

constexpr std::uint64_t kS = 128 * kKiB;
constexpr Offset kFar = Offset{1} << 50;

using Bases = std::vector<Offset>;
using Times = std::vector<std::optional<std::uint64_t>>;

// A segment whose last index entries lie in its second block: 8 MiB.
TopicOptions two_blocks() { return {.ring = kMiB, .segment = 8 * kMiB}; }

LogIdentity log_of(const Rig& rig) { return LogIdentity::of(rig.place.config(), 0); }
std::string directory_of(const Rig& rig) { return rig.place.paths().data; }

std::optional<std::uint64_t> newest_in(const Rig& rig, Offset base) {
  return newest_commit_ns(directory_of(rig), log_of(rig), base, base + log_of(rig).segment_bytes);
}

void spoil_block(const Rig& rig, Offset base, std::uint64_t block) {
  const std::vector<std::byte> zeros(kBlock);
  const FileDescriptor fd = open_file(directory_of(rig) + "/" + segment_name(base), O_RDWR);
  for (unsigned home = 0; home < 2; ++home) {
    REQUIRE(write_at(fd.get(), zeros.data(), kBlock, index_block_pos(log_of(rig).segment_bytes, block, home)) == 0);
  }
}

}  // namespace

TEST_CASE("age: which segments go, and when the next one is due") {
  constexpr std::nullopt_t kUnknown = std::nullopt;
  struct Row {
    const char* name;
    Bases bases;
    Times newest;
    std::uint64_t now;
    Offset keep_from;
    std::size_t going;
    std::optional<std::uint64_t> due;
  };
  // Kept for 100.
  // clang-format off
  const std::vector<Row> rows = {
      {"no segments",                       {},                {},                   500, kFar,       0, kUnknown},
      {"young",                             {0, kS},           {450, 460},           500, kFar,       0, 50},
      {"one is too old",                    {0, kS},           {390, 460},           500, kFar,       1, 60},
      {"old to the instant",                {0, kS},           {400, 401},           500, kFar,       1, 1},
      {"all are too old",                   {0, kS, 2 * kS},   {1, 2, 3},            500, kFar,       3, kUnknown},
      {"a row with holes",                  {0, 5 * kS},       {1, 2},               500, kFar,       2, kUnknown},
      {"of a time to come",                 {0, kS},           {900, 901},           500, kFar,       0, 100},
      {"of the end of time",                {0},               {UINT64_MAX},         500, kFar,       0, 100},
      {"not past what is held",             {0, kS, 2 * kS},   {1, 2, 3},            500, 2 * kS - 1, 1, kUnknown},
      {"held to the last byte",             {0, kS, 2 * kS},   {1, 2, 3},            500, 2 * kS,     2, kUnknown},
      {"all is held",                       {0, kS},           {1, 2},               500, 0,          0, kUnknown},
      {"one behind a young one stays",      {0, kS},           {450, 1},             500, kFar,       0, 50},
      {"unknown goes with the one behind",  {0, kS, 2 * kS},   {kUnknown, 1, 450},   500, kFar,       2, 50},
      {"unknown stays with the one behind", {0, kS, 2 * kS},   {1, kUnknown, 450},   500, kFar,       1, 50},
      {"unknown at the end stays",          {0, kS, 2 * kS},   {1, 2, kUnknown},     500, kFar,       2, kUnknown},
      {"unknown, and the one behind held",  {0, kS},           {kUnknown, 1},        500, kS,         0, kUnknown}};
  // clang-format on
  for (const Row& row : rows) {
    INFO(row.name);
    const AgePlan plan = plan_age({row.bases, row.newest, kS, 100, row.now, row.keep_from});
    CHECK(plan.going == row.going);
    CHECK(plan.due_in_ns == row.due);
  }
}

TEST_CASE("age: a segment is of the time when its last bytes were taken, and so is a log") {
  Rig rig(two_blocks());
  CHECK(time_of_log(directory_of(rig), log_of(rig), kFar).newest_ns == 0);
  const std::uint64_t begun = rig.ring->clock().now_ns();
  rig.append_many(100, 1000);
  REQUIRE(rig.sync_all());
  rig.pass(3'600'000'000'000);
  const std::uint64_t later = rig.ring->clock().now_ns();
  while (rig.end < 9 * kMiB) rig.append(100'000);
  REQUIRE(rig.sync_all());
  const auto first = newest_in(rig, 0);
  const auto second = newest_in(rig, 8 * kMiB);
  REQUIRE(first);
  REQUIRE(second);
  CHECK(later > begun + 3'600'000'000'000 - 1);
  CHECK(*first >= later);
  CHECK(*second >= *first);
  CHECK(time_of_log(directory_of(rig), log_of(rig), rig.end).newest_ns == *second);
  CHECK(time_of_log(directory_of(rig), log_of(rig), rig.end).wall_ahead_ns == 0);  // it is an hour behind by now

  // What is left of a damaged index is not believed beyond what it says.
  spoil_block(rig, 0, 1);
  const auto rest = newest_in(rig, 0);
  REQUIRE(rest);
  CHECK(*rest <= *first);
  spoil_block(rig, 0, 0);
  CHECK_FALSE(newest_in(rig, 0));
  CHECK_FALSE(newest_in(rig, 16 * kMiB));  // no such file
}
