// Goal: with the ring gone the log ends at the last claim that is whole on disk, never before what was synced; and a
// seal makes that the end for ever, however often the host dies on the way.
#include "spillway/persist/recovery.h"

#include <fcntl.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <random>

#include "spillway/core/error.h"
#include "spillway/persist/segment_history.h"
#include "spillway/persist/segment_store.h"
#include "support/catch.h"
#include "support/log_builder.h"

using namespace spillway;
using namespace spillway_test;

namespace {

constexpr std::uint64_t kRing = 256 * kKiB;
constexpr std::uint64_t kSegment = 512 * kKiB;
constexpr std::uint64_t kStep = 4 * kSegment;

RecoveredLog recover_log(const LogBuilder& log) { return recover(log.directory(), log.log()); }

// What whoever makes the next ring does; `whole`: it lives long enough to remove what is dead now.
RecoveredLog seal(const LogBuilder& log, bool whole) {
  SegmentStore store(log.directory(), log.log(), Sharing::owner, FileIo::buffered);
  const RecoveredLog recovered = recover_log(log);
  check_sealable(log.directory(), recovered);
  REQUIRE(sync_recovered(log.directory(), log.log(), recovered) == 0);
  store.remove(recovered.dead);
  HorizonFile file = HorizonFile::open(horizon_path(log.directory()), log.log().topic_id, 0, Sharing::owner);
  REQUIRE(file.write(seal_fields(recovered, kSegment, 99, kStep)) == 0);
  if (whole) store.remove(dead_segments(store.list(), file.read(), kSegment));
  return recovered;
}

Offset last_whole_claim(const LogBuilder& log, Offset limit) {
  Offset end = log.begin();
  for (const auto& record : log.records()) {
    if (record.begins_claim && record.offset <= limit) end = record.offset;
  }
  return end;
}

}  // namespace

TEST_CASE("recovery: nothing on disk is an empty log that was never used") {
  const TempDirectory directory;
  const RecoveredLog r = recover(directory.path(), LogIdentity::of(test_config(kRing, kSegment), 0));
  CHECK(r.begin == 0);
  CHECK(r.end == 0);
  CHECK(r.horizon == 0);
  CHECK(r.cause == GapCause::none);
  CHECK_FALSE(r.slot);
  CHECK(r.damage.empty());
  CHECK(std::filesystem::is_empty(directory.path()));
}

TEST_CASE("recovery: a torn end is cut at the last whole claim") {
  struct Row {
    const char* name;
    Offset durable;  // as entries say it
    Offset torn_at;  // the byte that never reached the disk; 0: all did
    bool in_index;   // it is the range's entry instead
  };
  // clang-format off
  const Row row = GENERATE(
      Row{"all there",                        0,                     0,                              false},
      Row{"all there, some synced",           kRangeBytes + 128,     0,                              false},
      Row{"torn in the first range",          0,                     100,                            false},
      Row{"torn in the third range",          0,                     2 * kRangeBytes + 5000,         false},
      Row{"torn in the next segment",         kRangeBytes,           kSegment + 10,                  false},
      Row{"torn at a segment's end",          kRangeBytes,           kSegment - 1,                   false},
      Row{"torn in the last range",           kSegment,              2 * kSegment + kRangeBytes + 9, false},
      Row{"an entry torn",                    kRangeBytes,           kSegment + 2 * kRangeBytes,     true},
      Row{"the first entry torn",             0,                     1,                              true});
  // clang-format on
  INFO(row.name);
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, kSegment));
  log.fill_to(2 * kSegment + kRangeBytes);
  log.append_batch(std::vector<std::string>(20, std::string(500, 'x')));
  const Offset claims_end = log.end();
  log.append_torn("the producer died here");
  log.synced_to(log.boundary_from(row.durable));
  if (row.durable == 0) log.synced_to(0);
  log.flush();
  log.write_horizon(16 * kSegment);
  if (row.torn_at != 0) {
    const Offset range = range_begin_of(row.torn_at);
    const Offset base = align_down(range, kSegment);
    flip_bit(log.path_of(range), row.in_index ? index_block_pos(kSegment, 0, 0) + (range - base) / kRangeBytes * 64 + 20
                                              : log.file_pos(row.torn_at));
  }
  const RecoveredLog r = recover_log(log);
  // A claim that reaches into the torn range is not whole.
  const Offset wanted = row.torn_at == 0 ? claims_end : last_whole_claim(log, range_begin_of(row.torn_at));
  CHECK(r.end == wanted);
  CHECK(r.synced_end == log.boundary_from(row.durable));
  CHECK(r.end >= r.synced_end);
  CHECK(r.horizon == 16 * kSegment);
  CHECK(r.cause == GapCause::crash);
  CHECK_FALSE(r.clean);
  CHECK(r.damage.empty());
}

TEST_CASE("recovery: what was synced is never cut, only damaged") {
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, kSegment));
  log.fill_to(2 * kSegment + 3 * kRangeBytes);
  const Offset durable = log.boundary_from(2 * kSegment + kRangeBytes);
  log.synced_to(durable);
  log.flush();
  log.write_horizon(16 * kSegment);
  SECTION("damage in an older segment") { flip_bit(log.path_of(0), log.file_pos(70000)); }
  SECTION("damage right before the durable end") {
    flip_bit(log.path_of(durable), log.file_pos(durable - 100));
    CHECK(recover_log(log).damage.size() == 1);
  }
  SECTION("an older segment is missing") { std::filesystem::remove(log.path_of(kSegment)); }
  CHECK(recover_log(log).end == log.end());
  CHECK(recover_log(log).synced_end == durable);
}

TEST_CASE("recovery: the newest segment is missing, though an older entry says it was synced") {
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, kSegment));
  log.fill_to(2 * kSegment + kRangeBytes);
  log.synced_to(log.end());
  log.flush();
  log.write_horizon(16 * kSegment);
  std::filesystem::remove(log.path_of(2 * kSegment));
  const RecoveredLog r = recover_log(log);
  CHECK(r.end == 2 * kSegment + kRangeBytes);
  SegmentHistory history(log.directory(), log.config(), 0, nullptr);
  const Drained drained = drain(history, 2 * kSegment);
  REQUIRE(drained.events.size() == 1);
  CHECK(drained.events[0] == Event{Event::What::gap, 2 * kSegment, r.end, "", GapCause::damaged});
}

TEST_CASE("recovery: the newer home of an entry may be torn or ahead of its data") {
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, kSegment));
  log.fill_to(kRangeBytes + 4096);
  const Offset first = log.end();
  log.flush(0);
  log.fill_to(kRangeBytes + 8192);
  log.flush(1);
  log.write_horizon(16 * kSegment);
  CHECK(recover_log(log).end == log.end());
  flip_bit(log.path_of(0), log.file_pos(log.end() - 5));  // the bytes never came, their entry did
  CHECK(recover_log(log).end == first);
}

TEST_CASE("recovery: several small segments without any entry behind the last synced one") {
  const TempDirectory directory;
  const TopicConfig config = test_config(64 * kKiB, 64 * kKiB);
  LogBuilder log(directory.path(), config);
  log.fill_to(10 * 64 * kKiB);
  log.synced_to(3 * 64 * kKiB);
  log.flush();
  log.write_horizon(kGiB);
  for (Offset base = 6 * 64 * kKiB; base < log.end(); base += 64 * kKiB) {
    zero_fill(log.path_of(base), index_block_pos(64 * kKiB, 0, 0), kBlock);
  }
  CHECK(recover(directory.path(), log.log()).end == 6 * 64 * kKiB);
}

TEST_CASE("recovery: gap records are walked over, with and without files") {
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, kSegment, OnFull::overwrite));
  log.fill_to(8192);
  log.gap_to(3 * kSegment + kRangeBytes + 160);
  log.append("after the gap");
  log.fill_to(4 * kSegment + 320);
  log.flush();
  log.write_horizon(16 * kSegment);
  REQUIRE_FALSE(std::filesystem::exists(log.path_of(kSegment)));
  CHECK(recover_log(log).end == log.end());
}

TEST_CASE("recovery: a clean stop ends exactly at the horizon") {
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, kSegment));
  log.fill_to(kSegment + 4096);
  log.flush();
  log.write_horizon(log.end(), true);
  const RecoveredLog r = recover_log(log);
  CHECK(r.clean);
  CHECK(r.end == log.end());
  CHECK(r.synced_end == log.end());
  CHECK(r.cause == GapCause::none);
  CHECK(seal_fields(r, kSegment, 5, kStep).begin == 2 * kSegment);
}

TEST_CASE("recovery: a ring of which nothing reached the disk leaves the end where it was") {
  const bool stopped_cleanly = GENERATE(true, false);
  const bool has_empty_segment = GENERATE(true, false);
  const GapCause before = GENERATE(GapCause::none, GapCause::crash);
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, kSegment));
  log.fill_to(kSegment + 4096);
  const Offset end = log.end();
  log.flush();
  log.next_ring(end, 4 * kSegment, before);
  log.write_horizon(stopped_cleanly ? 4 * kSegment : 8 * kSegment, stopped_cleanly);
  if (has_empty_segment) {
    static_cast<void>(SegmentFile::create(directory.path(), log.log(), {4 * kSegment, end, before, 7}, Sharing::owner,
                                          FileIo::buffered));
  }
  const RecoveredLog r = recover_log(log);
  CHECK(r.end == end);
  // What was committed in memory is lost with it; only a clean stop says that there was nothing.
  CHECK(r.cause == (stopped_cleanly ? before : GapCause::crash));
  const HorizonFields fields = seal_fields(r, kSegment, 5, kStep);
  CHECK(fields.previous_end == end);
  CHECK(fields.begin == (stopped_cleanly ? 4 : 8) * kSegment);
}

TEST_CASE("recovery: a damaged horizon is an error, a missing one is not, and its loss is told") {
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, kSegment));
  log.fill_to(kSegment);
  log.flush();
  CHECK_FALSE(recover_log(log).slot);
  CHECK(recover_log(log).end == kSegment);
  CHECK(recover_log(log).cause == GapCause::crash);
  CHECK_THROWS_AS(check_sealable(directory.path(), recover_log(log)), Error);
  log.write_horizon(kGiB);
  zero_fill(horizon_path(directory.path()), 0, 8192);
  CHECK_THROWS_AS(recover_log(log), Error);
  CHECK(recover_by(std::nullopt, directory.path(), log.log()).end == kSegment);
}

TEST_CASE("recovery: a horizon older than its segments is refused, an empty segment past it is not") {
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, kSegment));
  log.fill_to(kSegment + 4096);
  log.flush();
  const bool clean = GENERATE(true, false);
  log.write_horizon(log.end(), clean);
  static_cast<void>(SegmentFile::create(directory.path(), log.log(), {2 * kSegment, 2 * kSegment, GapCause::none, 7},
                                        Sharing::owner, FileIo::buffered));
  CHECK(recover_log(log).end == log.end());
  CHECK(recover_log(log).dead == std::vector<Offset>{2 * kSegment});
  log.write_horizon(kSegment, clean);
  CHECK_THROWS_AS(recover_log(log), Error);
}

// Method: random logs are torn at a random place and recovered, sealed and written on, several times over. Offsets
// must never repeat, every sealed end must stay what it was, and a reader must get all of it with exact gaps.
TEST_CASE("recovery: several power losses in a row") {
  const std::uint64_t seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  std::mt19937_64 random(seed);
  for (int round = 0; round < 6; ++round) {
    const TempDirectory directory;
    LogBuilder log(directory.path(), test_config(kRing, kSegment));
    std::vector<Event> wanted;
    Offset ring_begin = 0;
    Offset handed_out = 0;
    log.write_horizon(kStep);
    for (int loss = 0; loss < 4; ++loss) {
      log.fill_to(ring_begin + random() % 3 * kSegment + random() % kSegment / 16 * 16, 200 + random() % 1000);
      const bool anything = log.end() > ring_begin;
      log.synced_to(0);
      log.flush(static_cast<unsigned>(random() % 2));
      const Offset written = log.end();
      handed_out = std::max(handed_out, written);
      if (anything && random() % 2 == 0) {
        const Offset torn = ring_begin + random() % (written - ring_begin);
        flip_bit(log.path_of(torn), log.file_pos(torn));
      }
      const RecoveredLog first = recover_log(log);
      for (int crash_while_sealing = 0; crash_while_sealing < static_cast<int>(random() % 3); ++crash_while_sealing) {
        const RecoveredLog again = seal(log, false);
        REQUIRE(again.end == first.end);
        REQUIRE(again.cause == GapCause::crash);
      }
      const RecoveredLog sealed = seal(log, random() % 2 == 0);
      REQUIRE(sealed.end == first.end);
      REQUIRE(sealed.end <= written);
      const HorizonFields fields =
          HorizonFields::of(*HorizonFile::peek(horizon_path(directory.path()), log.log().topic_id, 0));
      REQUIRE(fields.begin >= handed_out);
      const auto survived = expected_records(log, ring_begin, sealed.end);
      if (sealed.end > ring_begin) wanted.insert(wanted.end(), survived.begin(), survived.end());
      const Offset from = sealed.end;
      if (!wanted.empty() && wanted.back().what == Event::What::gap && wanted.back().from == from) wanted.pop_back();
      wanted.push_back({Event::What::gap, from, fields.begin, "", GapCause::crash});
      log.next_ring(sealed.end, fields.begin, GapCause::crash);
      ring_begin = fields.begin;
    }
    log.fill_to(ring_begin + 4096);
    log.synced_to(log.end());
    log.flush();
    const auto last = expected_records(log, ring_begin, log.end());
    wanted.insert(wanted.end(), last.begin(), last.end());
    SegmentHistory history(directory.path(), log.config(), 0, nullptr);
    const Drained drained = drain(history, 0);
    INFO("round " << round);
    if (drained.events != wanted) {
      INFO("got " << drained.events.size() << " wanted " << wanted.size());
      std::size_t i = 0;
      while (i < drained.events.size() && i < wanted.size() && drained.events[i] == wanted[i]) ++i;
      const auto tail = [&](const std::vector<Event>& e) {
        return to_string({e.begin() + static_cast<std::ptrdiff_t>(std::min(i, e.size())),
                          e.begin() + static_cast<std::ptrdiff_t>(std::min(i + 3, e.size()))});
      };
      FAIL("at " << i << "\ngot\n" << tail(drained.events) << "wanted\n" << tail(wanted));
    }
  }
}
