// Sleeping and waking: nobody sleeps over a commit, nobody pays while nobody sleeps.
#include "spillway/ipc/sleeper.h"

#include <atomic>
#include <thread>

#include "spillway/ipc/waker.h"
#include "support/catch.h"
#include "support/ring_fixture.h"

namespace {

using namespace spillway_test::ring;
using namespace std::chrono_literals;

constexpr std::uint64_t kMinuteNs = 60'000'000'000U;

void doze(Sleeper& sleeper, std::span<PartitionReader> readers, Deadline deadline) {
  sleeper.sleep(readers, deadline);  // sleep-ok: this is what is tested
}

TEST_CASE("nothing is stepped and no clock is read while nobody sleeps") {
  RingPlace place;
  const auto p = place.attach();
  ExclusiveProducer producer(p, {});
  for (int i = 0; i < 1000; ++i) REQUIRE(producer.append("x"));
  CHECK(p->consumers().wake.sequence.load() == 0);
  CHECK(p->control().notices.last_wake_ns.load() == 0);
}

TEST_CASE("a commit clears the announcement first, then steps the word, the announcement of the dead costs one call") {
  for (const bool shared : {false, true}) {
    RingPlace place;
    const auto p = place.attach();
    p->consumers().announcement.asleep.store(1);
    if (shared) {
      SharedProducer producer(p, {});
      for (int i = 0; i < 100; ++i) REQUIRE(producer.append("x"));
    } else {
      ExclusiveProducer producer(p, {});
      for (int i = 0; i < 100; ++i) REQUIRE(producer.append("x"));
    }
    CHECK(p->consumers().wake.sequence.load() == 1);
    CHECK(p->consumers().announcement.asleep.load() == 0);
  }
}

TEST_CASE("with wake-ups off the announcement is not even looked at") {
  RingPlace place({.wakeups = false});
  const auto p = place.attach();
  p->consumers().announcement.asleep.store(1);
  ExclusiveProducer producer(p, {});
  REQUIRE(producer.append("x"));
  CHECK(p->consumers().wake.sequence.load() == 0);
  CHECK(p->consumers().announcement.asleep.load() == 1);
}

TEST_CASE("one who announces itself without end costs at most one wake-up a millisecond") {
  RingPlace place;
  const auto p = place.attach();
  ExclusiveProducer producer(p, {});
  const std::uint64_t start = monotonic_ns();
  std::uint64_t records = 0;
  do {
    p->consumers().announcement.asleep.store(1);  // the hostile consumer, at its fastest
    REQUIRE(producer.append("x"));
    ++records;
  } while (monotonic_ns() - start < 10'000'000);
  const std::uint64_t ms = (monotonic_ns() - start) / 1'000'000 + 2;
  CHECK(p->consumers().wake.sequence.load() <= ms);
  CHECK(records > 100);
}

// The rate limit may only skip who is in a short sleep: a long one begins only when no word was stepped for a whole short one,
// and then the last wake-up is more than a millisecond ago.
TEST_CASE("a sleep right after a wake-up is a short one, though nothing steps the word any more") {
  RingPlace place;
  const auto p = place.attach();
  PartitionReader reader = live_reader(p);
  reader.start_latest();
  Sleeper sleeper;
  std::uint64_t shortest = UINT64_MAX;
  for (int i = 0; i < 20; ++i) {
    p->consumers().wake.sequence.fetch_add(1);  // somebody was woken just now
    const std::uint64_t start = monotonic_ns();
    doze(sleeper, {&reader, 1}, Deadline::after_ns(kMinuteNs));
    shortest = std::min(shortest, monotonic_ns() - start);
    CHECK(p->consumers().announcement.asleep.load() == 1);
  }
  CHECK(shortest < 50'000'000);  // a long one is 100 ms, whatever the machine does
}

TEST_CASE("a sleep ends at once when there is something already, a gap to tell included") {
  RingPlace place;
  const auto p = place.attach();
  PartitionReader reader = live_reader(p);
  reader.start_latest();
  ExclusiveProducer producer(p, {});
  Sleeper sleeper;
  REQUIRE(producer.append("there"));
  doze(sleeper, {&reader, 1}, Deadline::never());
  for (int i = 0; i < 300; ++i) REQUIRE(producer.append(std::string(500, 'x')));
  doze(sleeper, {&reader, 1}, Deadline::never());
  REQUIRE(reader.start_at(0));
  REQUIRE(reader.gap_pending());
  doze(sleeper, {&reader, 1}, Deadline::never());
  SUCCEED("came back three times");
}

TEST_CASE("one who reads up to durable sleeps short while something is committed and not durable") {
  RingPlace place({.ephemeral = false});
  const auto p = place.attach();
  PartitionReader reader(0, {p, nullptr}, nullptr, ReadUpTo::durable);
  reader.start_latest();
  ExclusiveProducer producer(p, {});
  REQUIRE(producer.append("not durable yet"));
  Sleeper sleeper;
  std::uint64_t shortest = UINT64_MAX;
  for (int i = 0; i < 10; ++i) {
    const std::uint64_t start = monotonic_ns();
    doze(sleeper, {&reader, 1}, Deadline::after_ns(kMinuteNs));
    if (i >= 2) shortest = std::min(shortest, monotonic_ns() - start);  // by then it would sleep long
  }
  CHECK(shortest < 50'000'000);
  p->control().persister.durable_end.store(find_committed_end(*p).end);
  doze(sleeper, {&reader, 1}, Deadline::never());
  CHECK(drain(reader).records.size() == 1);
}

// Method: the consumer answers each record; the producer sends the next one when it has the answer, after a while that takes the
// consumer through short and into long sleeps. A lost wake-up shows as a poll that ran its full minute.
TEST_CASE("ping-pong with a blocking consumer loses no wake-up, whatever sleep it is in", "[threads]") {
  RingPlace there, back;
  const auto pt = there.attach(), pb = back.attach();
  constexpr int kRounds = 40;
  std::thread echo([&] {
    PartitionReader reader = live_reader(pt);
    reader.start_at_boundary(0);
    Consumer consumer = one_consumer(std::move(reader), {.wait = Wait::block});
    SharedProducer producer(pb, {});
    // Records are counted, not polls: the next ping may come while the poll that answered this one still reads.
    for (std::size_t answered = 0; answered < kRounds;) {
      answered += consumer.poll(60s, [&](const Record&) { static_cast<void>(producer.append("pong")); }).records;
    }
  });
  {
    PartitionReader reader = live_reader(pb);
    reader.start_at_boundary(0);
    Consumer consumer = one_consumer(std::move(reader), {.wait = Wait::block});
    ExclusiveProducer producer(pt, {});
    const std::uint64_t start = monotonic_ns();
    for (int i = 0; i < kRounds; ++i) {
      const std::uint64_t pause_until = monotonic_ns() + static_cast<std::uint64_t>(i % 8) * 700'000;
      while (monotonic_ns() < pause_until) std::this_thread::yield();
      REQUIRE(producer.append("ping"));
      std::size_t got = 0;
      while (got == 0) got = consumer.poll(60s, [](const Record&) {}).records;
    }
    CHECK(monotonic_ns() - start < kMinuteNs);
  }
  echo.join();
}

TEST_CASE("a sleeper in another process is woken by either kind of producer") {
  for (const bool shared : {false, true}) {
    RingPlace place;
    const auto p = place.attach();
    const Baton announced;
    const pid_t pid = in_child([&] {
      PartitionReader reader = live_reader(place.attach(Access::read_only));
      reader.start_at_boundary(0);
      Sleeper sleeper;
      // Into a long sleep: two short ones in vain come first.
      for (int i = 0; i < 2; ++i) doze(sleeper, {&reader, 1}, Deadline::after_ns(kMinuteNs));
      announced.pass();
      const Deadline deadline = Deadline::after_ns(kMinuteNs);
      while (!reader.ready() && !deadline.passed()) doze(sleeper, {&reader, 1}, deadline);
      return drain(reader).records.size() == 1 ? 0 : 1;
    });
    announced.await();
    if (shared) {
      SharedProducer producer(p, {});
      REQUIRE(producer.append("wake up"));
    } else {
      ExclusiveProducer producer(p, {});
      REQUIRE(producer.append("wake up"));
    }
    CHECK(result_of(pid) == 0);
  }
}

TEST_CASE("one sleeper waits for several partitions, some of which it can't announce itself to", "[threads]") {
  RingPlace a, b, off({.wakeups = false});
  const auto pa = a.attach(), pb = b.attach(), po = off.attach();
  const std::vector<std::shared_ptr<Partition>> rings = {pa, pb, po};
  for (const auto& target : rings) {
    std::vector<PartitionReader> readers;
    for (const auto& ring : rings) {
      readers.push_back(live_reader(ring));
      readers.back().start_latest();
    }
    std::atomic<bool> go{false};
    std::thread sender([&] {
      ExclusiveProducer producer(target, {});
      while (!go.load()) std::this_thread::yield();
      static_cast<void>(producer.append("x"));
    });
    Sleeper sleeper;
    go.store(true);
    const Deadline deadline = Deadline::after_ns(kMinuteNs);
    const auto any = [&] {
      return std::any_of(readers.begin(), readers.end(), [](PartitionReader& r) { return r.ready(); });
    };
    while (!any() && !deadline.passed()) doze(sleeper, readers, deadline);
    CHECK(any());
    sender.join();
  }
}

TEST_CASE("progress: who waits for a watermark is told, and telling nobody costs nothing", "[threads]") {
  RingPlace place({.ephemeral = false});
  const auto p = place.attach();
  auto& area = p->control().persister;
  tell_progress(*p);
  CHECK(area.progress.load() == 0);
  std::thread waiter([&] {
    const Deadline deadline = Deadline::after_ns(kMinuteNs);
    const auto ready = [&] { return area.written_end.load(std::memory_order_acquire) >= 64; };
    while (!ready() && !deadline.passed()) wait_progress(*p, kMinuteNs, ready);
  });
  while (area.waiters.load() == 0) std::this_thread::yield();
  area.written_end.store(64, std::memory_order_release);
  tell_progress(*p);
  waiter.join();
  CHECK(area.progress.load() == 1);
  CHECK(area.waiters.load() == 0);
}

}  // namespace
