// Consumers behind one descriptor: every record wakes the event loop, none is missed, and the loop is left alone between.
#include "spillway/persist/wait_set.h"

#include <poll.h>
#include <atomic>

#include <thread>

#include "spillway/core/clock.h"
#include "spillway/spillway.h"
#include "support/catch.h"
#include "support/place.h"

using namespace spillway;
using namespace spillway::test;
using namespace std::chrono_literals;

namespace {

constexpr int kLongMs = 60'000;  // a bound for what must happen, not a measure of speed

bool readable(const WaitSet& set, int timeout_ms) {
  struct pollfd fd = {set.descriptor(), POLLIN, 0};
  return ::poll(&fd, 1, timeout_ms) == 1;
}

std::size_t read_all(Consumer& consumer) {
  std::size_t all = 0;
  for (std::size_t n = 1; n > 0; all += n) n = consumer.poll([](const Record&) {}).records;
  return all;
}

}  // namespace

TEST_CASE("a wait set's descriptor wakes an event loop, whether it clears before or behind its polls", "[threads]") {
  const bool clears_first = GENERATE(false, true);
  const Place place;
  Topic topic = place.domain().open_or_create("ticks", {.ephemeral = true});
  Topic durable = place.domain().open_or_create("orders", {.ring = 64 * kKiB, .segment = 256 * kKiB});
  ExclusiveProducer ticks = topic.exclusive_producer();
  SharedProducer orders = durable.shared_producer();
  Consumer a = topic.consumer({.from = From::earliest});
  Consumer b = durable.consumer({.from = From::earliest});
  WaitSet set;
  set.add(a);
  set.add(b);
  std::atomic<int> refused = 0;  // not looked at in this thread: the test framework knows one only
  std::thread producer([&] {
    for (std::uint64_t i = 0; i < 1000; ++i) {
      refused += !ticks.append("tick") + !orders.append("order");
      if (i % 100 == 0) std::this_thread::sleep_for(1ms);  // sleep-ok: lets the loop fall asleep now and then
    }
  });
  std::size_t got_a = 0, got_b = 0;
  while (got_a < 1000 || got_b < 1000) {
    REQUIRE(readable(set, kLongMs));
    if (clears_first) set.clear();
    got_a += read_all(a);
    got_b += read_all(b);
    if (!clears_first) set.clear();
  }
  producer.join();
  CHECK(refused == 0);
  CHECK(got_a == 1000);
  CHECK(got_b == 1000);
}

TEST_CASE("one record is one wake-up, and what was not read when the set is cleared is told at once", "[threads]") {
  const Place place;
  Topic topic = place.domain().open_or_create("ticks", {.ephemeral = true});
  ExclusiveProducer producer = topic.exclusive_producer();
  Consumer consumer = topic.consumer({.from = From::earliest});
  WaitSet set;
  set.add(consumer);
  for (int i = 0; i < 20; ++i) {
    REQUIRE_FALSE(readable(set, 0));
    REQUIRE(producer.append("one"));
    REQUIRE(readable(set, kLongMs));
    set.clear();
    CHECK(readable(set, 0));
    CHECK(read_all(consumer) == 1);
    set.clear();
  }
}

TEST_CASE("a ring that is deleted and made anew wakes the loop, which reads on in it", "[threads]") {
  const Place place;
  Topic topic = place.domain().open_or_create("ticks", {.ephemeral = true});
  REQUIRE(topic.exclusive_producer().append("old"));
  Consumer consumer = place.domain().open("ticks").consumer({.from = From::earliest});
  WaitSet set;
  set.add(consumer);
  REQUIRE(readable(set, kLongMs));
  REQUIRE(read_all(consumer) == 1);
  set.clear();
  REQUIRE_FALSE(readable(set, 0));
  place.lose_rings();
  ExclusiveProducer producer = place.domain().open_or_create("ticks", {.ephemeral = true}).exclusive_producer();
  REQUIRE(producer.append("new"));
  // Only now does the watch see it, or has just seen it.
  consumer.readers()[0].ring()->look_whether_gone();
  std::string got;
  while (got.empty()) {
    REQUIRE(readable(set, kLongMs));
    consumer.poll([&](const Record& r) { got = r.text(); },
                  [](const Gap& gap) { CHECK(gap.cause == GapCause::crash); });
    set.clear();
  }
  CHECK(got == "new");
}

TEST_CASE("a consumer without a ring is asked now and then, not all the time", "[threads]") {
  const Place place;
  Topic topic = place.domain().open_or_create("ticks", {.ephemeral = true});
  Consumer consumer = topic.consumer();
  WaitSet set;
  set.add(consumer);
  std::size_t wakeups = 0;
  for (const Deadline deadline = Deadline::after_ns(300'000'000); !deadline.passed(); ++wakeups) {
    REQUIRE(readable(set, kLongMs));
    read_all(consumer);
    set.clear();
  }
  CHECK(wakeups >= 2);
  CHECK(wakeups < 100);
  ExclusiveProducer producer = topic.exclusive_producer();
  REQUIRE(producer.append("x"));
  std::size_t got = 0;
  while (got == 0) {
    REQUIRE(readable(set, kLongMs));
    consumer.poll([&](const Record&) { ++got; }, [](const Gap&) {});
    set.clear();
  }
}
