// What a consumer's mapping allows, and what a producer with write access can do to who reads beside it.
#include <sys/stat.h>

#include <csignal>
#include <random>

#include "support/catch.h"
#include "support/ring_fixture.h"

namespace {

using namespace spillway_test::ring;

enum class File { ring, control, consumers };

// In a child, through a mapping of its own: 0, or 1000 + the signal it died of.
int result_of_store(const RingPlace& place, File file, Access access) {
  return result_of(in_child([&] {
    ::signal(SIGSEGV, SIG_DFL);  // a sanitizer's would report it and exit
    if (::geteuid() == 0 && ::setuid(65534) != 0) return 77;
    const auto p = place.attach(access);
    switch (file) {
      case File::ring: *const_cast<volatile std::byte*>(p->records()) = std::byte{1}; break;
      case File::control: p->control().notices.dropped.store(1); break;
      case File::consumers: p->consumers().announcement.asleep.store(1); break;
    }
    return 0;
  }));
}

// Root could open what the modes forbid, so all of it is done by somebody else.
void let_in(const RingPlace& place, mode_t ring, mode_t control, mode_t consumers) {
  for (const std::string& path : {place.directory(), place.directory() + "/shm", parent_of(place.paths().ring)}) {
    REQUIRE(::chmod(path.c_str(), 0755) == 0);
  }
  REQUIRE(::chmod(place.paths().ring.c_str(), ring) == 0);
  REQUIRE(::chmod(place.paths().control.c_str(), control) == 0);
  REQUIRE(::chmod(place.paths().consumers.c_str(), consumers) == 0);
}

TEST_CASE("a store through a consumer's mapping of ring or control is a fault, and an observer's through any") {
  constexpr int kFault = 1000 + SIGSEGV;
  struct Row {
    const char* who;
    mode_t consumers_mode;
    Access access;
    int ring, control, consumers;
  };
  const Row rows[] = {
      {"a writer", 0666, Access::read_write, 0, 0, 0},  // the scene: stores arrive where they are allowed
      {"a consumer", 0666, Access::read_only, kFault, kFault, 0},
      {"an observer", 0444, Access::read_only, kFault, kFault, kFault},
  };
  for (const Row& row : rows) {
    INFO(row.who);
    RingPlace place;
    let_in(place, 0666, 0666, row.consumers_mode);  // the files would allow more than is mapped
    CHECK(result_of_store(place, File::ring, row.access) == row.ring);
    CHECK(result_of_store(place, File::control, row.access) == row.control);
    CHECK(result_of_store(place, File::consumers, row.access) == row.consumers);
  }
}

// A record's place in the lap that is told to be in the ring.
Offset some_place(std::mt19937_64& random) { return (kRing / 2 + random() % kRing) & ~Offset{15}; }

// What can't be believed is looked at in a copy: however it changes between two looks, what is delivered lies within the reader's
// own memory (the sanitizers watch every byte), is no larger than a claim, and the reader neither crashes nor hangs.
// Method: another process rewrites headers, commit words, lengths and watermarks as fast as it can while readers read.
TEST_CASE("records that a hostile producer rewrites while they are read stay within the reader's memory") {
  const unsigned seed = std::random_device{}();
  INFO("seed " << seed);
  RingPlace place;
  const Baton going;
  const pid_t hostile = in_child([&] {
    const auto p = place.attach();
    std::mt19937_64 random(seed);
    going.pass();
    for (;;) {
      const Offset at = some_place(random);
      const RecordMeta meta = {static_cast<std::uint32_t>(random() % 4 == 0 ? random() : random() % 400),
                               static_cast<std::uint16_t>(random() % 3 == 0 ? random() : random() % 20),
                               random() % 8 == 0 ? RecordKind::padding : RecordKind::data,
                               static_cast<std::uint8_t>(random() % 16)};
      store_commit(*p->header_at(at), p->mix().word(at));
      store_meta(*p->header_at(at), meta);
      if (random() % 64 == 0) {
        p->control().claims.reserved_end.store(random() % 8 == 0 ? random() : kRing * 3 / 2);
        p->control().commits.committed_end.store(random() % 8 == 0 ? random() : kRing);
      }
      if (random() % 1024 == 0) *reinterpret_cast<std::uint64_t*>(p->at(at)) = random();
    }
    return 0;
  });
  going.await();
  const auto p = place.attach(Access::read_only);
  std::mt19937_64 random(seed + 1);
  std::uint64_t delivered = 0, sum = 0;
  bool too_large = false;
  for (int round = 0; round < 3'000'000 && delivered < 300'000; ++round) {
    PartitionReader reader = live_reader(p);
    reader.start_at_boundary(some_place(random));
    for (int i = 0; i < 5; ++i) {
      std::size_t count = 0;
      static_cast<void>(reader.read(
          [&](const Record& r) {
            ++delivered;
            too_large = too_large || r.payload().size() + r.key().size() > p->claim_bytes_max();
            for (const std::byte b : r.payload()) sum += static_cast<std::uint64_t>(b);
            for (const std::byte b : r.key()) sum += static_cast<std::uint64_t>(b);
            return Flow::go_on;
          },
          20, count));
      reader.skip_gap();
    }
  }
  ::kill(hostile, SIGKILL);
  CHECK(result_of(hostile) == 1000 + SIGKILL);
  INFO("sum " << sum);
  CHECK_FALSE(too_large);
  CHECK(delivered > 10'000);  // the scene: enough of it looked like records
}

}  // namespace
