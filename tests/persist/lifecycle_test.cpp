// Opening partitions: rings that are there, gone, elsewhere or stale; processes that race, and processes that died.
#include "spillway/persist/lifecycle.h"

#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "spillway/core/error.h"
#include "spillway/persist/clean_stop.h"
#include "spillway/persist/horizon_file.h"
#include "spillway/persist/persister.h"
#include "support/catch.h"
#include "support/open_partition.h"

using namespace spillway;
using namespace spillway::test;

namespace {

Deadline patience() { return Deadline::after_ns(60'000'000'000); }

template <class Work>
Code code_of(Work&& work) {
  try {
    work();
  } catch (const Error& e) {
    INFO(e.what());
    CHECK(std::string(e.what()).size() > 40);  // names the thing, the cause and the cure
    return e.code();
  }
  FAIL("nothing was thrown");
  return Code::io;
}

// Appends `count` records from number `first` on and makes them durable.
Offset write_some(const std::shared_ptr<Partition>& ring, std::uint64_t first, std::uint64_t count) {
  Persister persister;
  persister.add(ring, {});
  Offset end = 0;
  {
    ExclusiveProducer producer(ring, {});
    for (std::uint64_t i = first; i < first + count; ++i) {
      const Appended appended = producer.append(numbered(i));
      REQUIRE(appended);
      end = appended.end;
    }
  }
  REQUIRE(persister.wait_durable(*ring, end, patience()) == Durable::yes);
  return end;
}

}  // namespace

TEST_CASE("a first open makes the ring at offset 0 and records it before anything can be claimed", "[threads]") {
  OpenPlace place(tiny_topic());
  CHECK(open_for_reading(place.paths(), place.config(), 0) == nullptr);
  const auto ring = place.open();
  CHECK(ring->begin() == 0);
  const auto slot = HorizonFile::peek(place.paths().data + "/horizon", place.config().id, 0);
  REQUIRE(slot);
  CHECK(slot->incarnation == ring->incarnation());
  CHECK(slot->horizon == ring->control().persister.horizon.load());
  CHECK(slot->horizon > 0);
  CHECK(slot->clean == 0);
  const auto reader = open_for_reading(place.paths(), place.config(), 0);
  REQUIRE(reader);
  CHECK(reader->access() == Access::read_only);
}

TEST_CASE("all writers die, the ring is still there: the next one attaches, and nothing is missing", "[threads]") {
  OpenPlace place(tiny_topic());
  Offset end = 0;
  std::uint64_t incarnation = 0;
  {
    const auto ring = place.open();
    incarnation = ring->incarnation();
    end = write_some(ring, 0, 100);
  }
  const auto ring = place.open();
  CHECK(ring->incarnation() == incarnation);
  CHECK(write_some(ring, 100, 100) > end);
  const OnDisk disk = read_disk(place, ring);
  CHECK(disk.payloads.size() == 200);
  CHECK(disk.gaps.empty());
}

TEST_CASE("the ring is lost with the host: offsets go on beyond every one handed out, across a gap named crash",
          "[threads]") {
  OpenPlace place(tiny_topic());
  Offset horizon = 0;
  std::uint64_t next = 0;
  std::vector<OnDisk::Gap> expected;
  for (int power_loss = 0; power_loss < 3; ++power_loss) {
    {
      const auto ring = place.open();
      CHECK(ring->begin() >= horizon);
      CHECK(ring->begin() % place.config().segment_bytes == 0);
      if (power_loss > 0) expected.push_back({0, ring->begin(), GapCause::crash});
      write_some(ring, next, 50);
      next += 50;
      horizon = ring->control().persister.horizon.load();
    }
    place.lose_ring();
  }
  // Twice in a row, with nothing in between.
  {
    const auto ring = place.open();
    CHECK(ring->begin() >= horizon);
    horizon = ring->control().persister.horizon.load();
  }
  place.lose_ring();
  const auto ring = place.open();
  CHECK(ring->begin() >= horizon);
  write_some(ring, next, 10);
  expected.push_back({0, ring->begin(), GapCause::crash});
  const OnDisk disk = read_disk(place, ring);
  CHECK(disk.payloads.size() == next + 10);
  for (std::uint64_t i = 0; i < next + 10; ++i) CHECK(disk.payloads[i] == numbered(i));
  REQUIRE(disk.gaps.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(disk.gaps[i].to == expected[i].to);
    CHECK(disk.gaps[i].cause == expected[i].cause);
  }
}

TEST_CASE("after a clean stop the next ring goes on without a gap", "[threads]") {
  OpenPlace place(tiny_topic());
  {
    const auto ring = place.open();
    Persister persister;
    persister.add(ring, {});
    ExclusiveProducer producer(ring, {});
    for (std::uint64_t i = 0; i < 30; ++i) REQUIRE(producer.append(numbered(i)));
    producer.close();
    REQUIRE(persister.stop_cleanly(ring, patience()) == Durable::yes);
    REQUIRE(seal_if_last(*ring));
  }
  place.lose_ring();
  const auto ring = place.open();
  CHECK(ring->begin() == place.config().segment_bytes);
  write_some(ring, 30, 5);
  const OnDisk disk = read_disk(place, ring);
  CHECK(disk.payloads.size() == 35);
  CHECK(disk.gaps.empty());
}

TEST_CASE("a ring that was deleted under a living process is refused by name", "[threads]") {
  OpenPlace place(tiny_topic());
  const auto ring = place.open();
  place.lose_ring();
  CHECK(code_of([&] { place.open(); }) == Code::ring_elsewhere);
  CHECK(open_for_reading(place.paths(), place.config(), 0) == nullptr);
}

TEST_CASE("another ring directory beside living processes is refused, beside none it is a new ring", "[threads]") {
  OpenPlace place(tiny_topic());
  const Place elsewhere;
  const PartitionPaths paths = PartitionPaths::of(elsewhere.shm(), place.place().data(), place.config(), 0);
  {
    const auto ring = place.open();
    write_some(ring, 0, 10);
    CHECK(code_of([&] { open_for_writing(paths, place.config(), 0); }) == Code::ring_elsewhere);
  }
  const auto moved = open_for_writing(paths, place.config(), 0);
  CHECK(moved->begin() > 0);
  // The old one is stale now: others live in the new one ...
  CHECK(code_of([&] { place.open(); }) == Code::ring_elsewhere);
  CHECK(open_for_reading(place.paths(), place.config(), 0) == nullptr);
}

TEST_CASE("a ring that the log has gone on without is refused as stale once nobody lives", "[threads]") {
  OpenPlace place(tiny_topic());
  const Place elsewhere;
  const PartitionPaths paths = PartitionPaths::of(elsewhere.shm(), place.place().data(), place.config(), 0);
  {
    place.open();
  }
  {
    open_for_writing(paths, place.config(), 0);
  }
  CHECK(code_of([&] { place.open(); }) == Code::ring_stale);
}

TEST_CASE("a data directory that was put back to an earlier day makes the ring stale", "[threads]") {
  OpenPlace place(tiny_topic());
  const std::string horizon = place.paths().data + "/horizon";
  Offset reserved = 0;
  {
    const auto ring = place.open();
    write_some(ring, 0, 10);
    reserved = ring->control().claims.reserved_end.load();
  }
  HorizonFile file = HorizonFile::open(horizon, place.config().id, 0, Sharing::owner);
  HorizonFields fields = HorizonFields::of(*file.read());
  fields.horizon = reserved - 16;
  REQUIRE(file.write(fields) == 0);
  CHECK(code_of([&] { place.open(); }) == Code::ring_stale);
  CHECK(open_for_reading(place.paths(), place.config(), 0) == nullptr);
}

TEST_CASE("processes that race to open a new partition get one ring", "[threads]") {
  OpenPlace place(tiny_topic());
  std::vector<int> children;
  for (int i = 0; i < 6; ++i) {
    children.push_back(in_child([&] {
      const auto ring = place.open();
      SharedProducer producer(ring, {});
      return producer.append(bytes_of("here")) ? 0 : 1;
    }));
  }
  for (const int child : children) CHECK(result_of(child) == 0);
  const auto ring = place.open();
  Persister persister;
  persister.add(ring, {});
  REQUIRE(persister.drain(*ring, patience()) == Durable::yes);
  CHECK(read_disk(place, ring).payloads.size() == 6);
}

TEST_CASE("a process that dies while it makes the ring leaves nothing in the way", "[threads]") {
  // Which of the three files was there when it died.
  const int files = GENERATE(range(0, 3));
  OpenPlace place(tiny_topic());
  {
    write_some(place.open(), 0, 10);
  }
  std::filesystem::remove(place.paths().ring);
  if (files < 2) std::filesystem::remove(place.paths().consumers);
  if (files < 1) std::filesystem::remove(place.paths().control);
  const auto ring = place.open();
  CHECK(ring->begin() > 0);
  write_some(ring, 10, 1);
  CHECK(read_disk(place, ring).payloads.size() == 11);
}

TEST_CASE("recovery waits for the I/O of the dead", "[threads]") {
  OpenPlace place(tiny_topic());
  {
    write_some(place.open(), 0, 10);
  }
  place.lose_ring();
  SegmentFile held =
      SegmentFile::open(place.paths().data, LogIdentity::of(place.config(), 0), 0, Access::read_write, FileIo::direct);
  REQUIRE(held.try_lock());
  std::atomic<bool> opened{false};
  std::thread opener([&] {
    place.open();
    opened = true;
  });
  for (int i = 0; i < 50; ++i) pause_about(1'000'000);
  CHECK_FALSE(opened);
  held.close();
  opener.join();
  CHECK(opened);
}

TEST_CASE("an ephemeral ring is made by whoever opens it, and is gone with its file", "[threads]") {
  TopicOptions options;
  options.ring = 64 * kKiB;
  options.ephemeral = true;
  OpenPlace place(options);
  std::uint64_t incarnation = 0;
  {
    const auto ring = place.open();
    incarnation = ring->incarnation();
    CHECK(ring->control().persister.horizon.load() == UINT64_MAX);
    CHECK(place.open()->incarnation() == incarnation);
    std::filesystem::remove(place.paths().ring);
    CHECK(code_of([&] { place.open(); }) == Code::ring_elsewhere);
  }
  CHECK(place.open()->incarnation() != incarnation);
}
