// Four gibibytes through a ring, for real: nothing that counts bytes is 32 bits wide.
#include <cstring>

#include "support/catch.h"
#include "support/ring_fixture.h"

namespace {

using namespace spillway_test::ring;

// Method: records as large as they may be, numbered at their first and last byte, so that only the reader's copy takes time.
TEST_CASE("an ephemeral log goes past four gibibytes, and its reader gets every record once and in order") {
  RingPlace place({.ring_bytes = 16 * kMiB});
  const auto p = place.attach();
  ExclusiveProducer producer(p, {});
  PartitionReader reader = live_reader(place.attach(Access::read_only));
  reader.start_earliest();
  const std::size_t bytes = p->claim_bytes_max() - kRecordHeaderBytes;
  std::uint64_t sent = 0, received = 0;
  Offset end = 0;
  while (end <= kFourGiB + 2 * p->capacity()) {
    auto claim = producer.claim(bytes);
    REQUIRE(claim);
    std::memcpy(claim.payload().data(), &sent, sizeof sent);
    std::memcpy(claim.payload().data() + bytes - sizeof sent, &sent, sizeof sent);
    const Appended appended = claim.commit();
    REQUIRE(appended);
    REQUIRE(appended.end > end);
    end = appended.end;
    ++sent;
    std::size_t count = 0;
    bool right = true;
    REQUIRE(reader.read(
                [&](const Record& r) {
                  std::uint64_t first = 0, last = 0;
                  right = right && r.payload().size() == bytes && r.offset() < end;
                  std::memcpy(&first, r.payload().data(), sizeof first);
                  std::memcpy(&last, r.payload().data() + r.payload().size() - sizeof last, sizeof last);
                  right = right && first == received && last == received;
                  ++received;
                  return Flow::go_on;
                },
                SIZE_MAX, count) == ReadStop::caught_up);
    REQUIRE(right);
    REQUIRE(count == 1);
  }
  CHECK(received == sent);
  CHECK(reader.offset() == end);
}

}  // namespace
