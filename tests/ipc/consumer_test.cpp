// What a user of poll() is promised: handlers, gaps of several partitions, waiting, cursors, types.
#include "spillway/ipc/consumer.h"

#include <atomic>
#include <thread>

#include "support/catch.h"
#include "support/ring_fixture.h"

namespace {

using namespace spillway_test::ring;
using namespace std::chrono_literals;

struct Two {
  RingPlace a, b;
  std::shared_ptr<Partition> pa = a.attach(), pb = b.attach();
  ExclusiveProducer producer_a{pa, {}}, producer_b{pb, {}};
  Consumer consumer(const ConsumerOptions& options = {}, std::unique_ptr<CursorStore> cursor = nullptr) {
    std::vector<PartitionReader> readers;
    readers.emplace_back(0, ReaderSource{pa, nullptr}, nullptr, ReadUpTo::committed);
    readers.emplace_back(1, ReaderSource{pb, nullptr}, nullptr, ReadUpTo::committed);
    for (PartitionReader& r : readers) r.start_latest();
    return Consumer(std::move(readers), std::move(cursor), options);
  }
};

TEST_CASE("a poll reads every partition, and no partition starves another") {
  Two two;
  Consumer consumer = two.consumer({.records_max = 10});
  for (int i = 0; i < 40; ++i) {
    REQUIRE(two.producer_a.append("a"));
    REQUIRE(two.producer_b.append("b"));
  }
  std::string order;
  PollResult result;
  for (int i = 0; i < 8; ++i) {
    result = consumer.poll([&](const Record& r) { order += r.text(); });
    CHECK(result.records == 10);
    CHECK(result.state == PollState::live);
  }
  CHECK(std::count(order.begin(), order.end(), 'a') == 40);
  CHECK(order.find('b') < 20);
  result = consumer.poll([](const Record&) {});
  CHECK(result.records == 0);
  CHECK(result.state == PollState::idle);
}

TEST_CASE("in place nothing is copied, and a record says when a producer has passed over it") {
  RingPlace place({.ring_bytes = 64 * kKiB});
  const auto p = place.attach();
  ExclusiveProducer producer(p, {});
  PartitionReader reader = live_reader(p);
  reader.start_latest();
  Consumer consumer = one_consumer(std::move(reader));
  REQUIRE(producer.append(bytes_of("first"), RecordOptions::keyed("key")));
  REQUIRE(producer.append("second"));
  const std::byte* const ring = p->at(0);
  std::string got;
  PollResult result = consumer.poll_in_place([&](const InPlaceRecord& r) {
    CHECK(r.payload().data() > ring);
    CHECK(r.payload().data() < ring + p->capacity());
    got += std::string(r.key_text()) + ":" + std::string(r.text()) + " ";
    CHECK(r.still_valid());
  });
  CHECK(got == "key:first :second ");
  CHECK(result.records == 2);
  CHECK(result.state == PollState::live);
  CHECK(consumer.poll_in_place([](const Record&) {}).state == PollState::idle);  // who does not ask need not name it

  const std::string text(1000, 'x');
  REQUIRE(producer.append("passed over"));
  bool before = false, after = true;
  result = consumer.poll_in_place(
      [&](const InPlaceRecord& r) {
        before = r.still_valid();
        for (std::uint64_t i = 0; i < 2 * p->capacity() / text.size(); ++i) REQUIRE(producer.append(text));
        after = r.still_valid();
        return Flow::stop;
      },
      [](const Gap&) {});
  CHECK(before);
  CHECK_FALSE(after);
  CHECK(result.records == 1);
  Offset gap_end = 0;
  const Offset wanted = consumer.offset(0);
  consumer.poll_in_place([](const InPlaceRecord&) {},
                         [&](const Gap& gap) {
                           CHECK(gap.from == wanted);
                           gap_end = gap.to;
                         });
  CHECK(gap_end > wanted);
  REQUIRE(producer.append("behind"));
  got.clear();
  consumer.poll_in_place(1s, [&](const InPlaceRecord& r) { got = r.text(); });
  CHECK(got == "behind");
}

TEST_CASE("a handler may stop, and one that throws has not consumed its record") {
  RingPlace place;
  const auto p = place.attach();
  ExclusiveProducer producer(p, {});
  PartitionReader reader = live_reader(p);
  reader.start_latest();
  Consumer consumer = one_consumer(std::move(reader));
  for (const char* text : {"1", "2", "3"}) REQUIRE(producer.append(text));
  CHECK_THROWS_AS(consumer.poll([](const Record& r) {
    if (r.text() == "2") throw std::runtime_error("no");
  }),
                  std::runtime_error);
  std::string got;
  PollResult result = consumer.poll([&](const Record& r) {
    got += r.text();
    return Flow::stop;
  });
  CHECK(result.state == PollState::stopped);
  CHECK(result.records == 1);
  consumer.poll([&](const Record& r) { got += r.text(); });
  CHECK(got == "23");
}

TEST_CASE("without a gap handler a gap ends the poll once, and the next poll goes on behind it") {
  RingPlace place;
  const auto p = place.attach();
  ExclusiveProducer producer(p, {});
  PartitionReader reader = live_reader(p);
  reader.start_latest();
  Consumer consumer = one_consumer(std::move(reader));
  for (int i = 0; i < 300; ++i) REQUIRE(producer.append(std::string(500, 'x')));
  const PollResult result = consumer.poll([](const Record&) { FAIL("nothing is left"); });
  CHECK(result.state == PollState::gap);
  CHECK(result.gap.from == 0);
  CHECK(result.gap.to == producer.offset());
  CHECK(result.gap.cause == GapCause::overwritten);
  CHECK(consumer.offset(0) == 0);  // an ack now would not pass it
  REQUIRE(producer.append("on"));
  CHECK(consumer.poll([](const Record& r) { CHECK(r.text() == "on"); }).records == 1);
}

// Found by reading: the flag "told" was the consumer's, so that one partition's gap was passed for another's, silently.
TEST_CASE("two partitions with gaps at once are both told, once each, whatever the order of polls") {
  Two two;
  for (int i = 0; i < 300; ++i) {
    REQUIRE(two.producer_a.append(std::string(500, 'x')));
    REQUIRE(two.producer_b.append(std::string(500, 'x')));
  }
  Consumer consumer = two.consumer();
  REQUIRE(consumer.seek(0, 0));
  REQUIRE(consumer.seek(1, 0));
  std::vector<std::uint32_t> told;
  std::size_t records = 0;
  for (int i = 0; i < 10; ++i) {
    const PollResult result = consumer.poll([&](const Record&) {});
    if (result.state == PollState::gap) told.push_back(result.gap.partition);
    records += result.records;
  }
  std::sort(told.begin(), told.end());
  CHECK(told == std::vector<std::uint32_t>{0, 1});
  CHECK(records > 100);
}

TEST_CASE("a seek after a gap was told does not pass the next one silently") {
  RingPlace place;
  const auto p = place.attach();
  ExclusiveProducer producer(p, {});
  PartitionReader reader = live_reader(p);
  reader.start_latest();
  Consumer consumer = one_consumer(std::move(reader));
  for (int i = 0; i < 300; ++i) REQUIRE(producer.append(std::string(500, 'x')));
  REQUIRE(consumer.poll([](const Record&) {}).state == PollState::gap);
  REQUIRE(consumer.seek(0, 16));
  const PollResult again = consumer.poll([](const Record&) {});
  CHECK(again.state == PollState::gap);
  CHECK(again.gap.from == 16);
}

TEST_CASE("a gap handler is told and the poll goes on, it may stop it, and if it throws the gap stays") {
  RingPlace place;
  const auto p = place.attach();
  ExclusiveProducer producer(p, {});
  PartitionReader reader = live_reader(p);
  reader.start_latest();
  Consumer consumer = one_consumer(std::move(reader));
  const auto lap = [&] {
    for (int i = 0; i < 300; ++i) REQUIRE(producer.append(std::string(500, 'x')));
  };
  const auto ignore = [](const Record&) {};
  lap();
  CHECK_THROWS(consumer.poll(ignore, [](const Gap&) { throw std::runtime_error("no"); }));
  int gaps = 0;
  CHECK(consumer.poll(ignore, [&](const Gap&) { ++gaps; }).state == PollState::idle);
  CHECK(gaps == 1);
  lap();
  CHECK(consumer.poll(ignore, [&](const Gap&) { return Flow::stop; }).state == PollState::stopped);
  CHECK(consumer.poll(ignore, [&](const Gap&) { ++gaps; }).state == PollState::idle);
  CHECK(gaps == 1);
}

struct MemoryCursor final : CursorStore {
  std::vector<Offset>* stored;
  explicit MemoryCursor(std::vector<Offset>* where) : stored(where) {}
  std::optional<Offset> offset(std::uint32_t partition) const noexcept override { return (*stored)[partition]; }
  int commit(std::span<const Offset> offsets) noexcept override {
    stored->assign(offsets.begin(), offsets.end());
    return 0;
  }
};

TEST_CASE("an ack stores what was delivered, and not past a gap that only ended a poll") {
  Two two;
  std::vector<Offset> stored(2);
  Consumer consumer = two.consumer({}, std::make_unique<MemoryCursor>(&stored));
  REQUIRE(two.producer_a.append("a"));
  const Appended second = two.producer_a.append("b");
  REQUIRE(consumer.poll([](const Record& r) { return r.text() == "a" ? Flow::stop : Flow::go_on; }).records == 1);
  CHECK(consumer.ack() == 0);
  CHECK(stored == std::vector<Offset>{second.position.offset, 0});
  for (int i = 0; i < 300; ++i) REQUIRE(two.producer_a.append(std::string(500, 'x')));
  while (consumer.poll([](const Record&) {}).state != PollState::gap) {
  }
  CHECK(consumer.ack() == 0);
  CHECK(stored[0] == second.position.offset);
  consumer.poll([](const Record&) {});
  CHECK(consumer.ack() == 0);
  CHECK(stored[0] > second.position.offset);
  RingPlace place;
  CHECK(one_consumer(live_reader(place.attach())).ack() == EINVAL);
}

TEST_CASE("an ack with a gap next that begins anywhere stores an offset that can be opened again") {
  Two two;
  std::vector<Offset> stored(2);
  Consumer consumer = two.consumer({}, std::make_unique<MemoryCursor>(&stored));
  for (int i = 0; i < 300; ++i) REQUIRE(two.producer_a.append(std::string(500, 'x')));
  REQUIRE(consumer.seek(0, 1237));
  REQUIRE(consumer.offset(0) == 1237);
  CHECK(consumer.ack() == 0);
  CHECK(stored[0] == 1232);
}

TEST_CASE("every way of waiting ends with the record, or with the time", "[threads]") {
  for (const Wait wait : {Wait::spin, Wait::yield, Wait::back_off, Wait::block}) {
    INFO(static_cast<int>(wait));
    RingPlace place;
    const auto p = place.attach();
    PartitionReader reader = live_reader(p);
    reader.start_latest();
    Consumer consumer = one_consumer(std::move(reader), {.wait = wait});
    const std::uint64_t start = monotonic_ns();
    CHECK(consumer.poll(2ms, [](const Record&) {}).state == PollState::idle);
    CHECK(monotonic_ns() - start >= 2'000'000);
    std::atomic<bool> go{false};
    std::thread sender([&] {
      ExclusiveProducer producer(p, {});
      while (!go.load()) std::this_thread::yield();
      for (int i = 0; i < 3; ++i) static_cast<void>(producer.append(std::to_string(i)));
    });
    go.store(true);
    std::size_t got = 0;
    while (got < 3) {
      const PollResult result = consumer.poll(20s, [&](const Record& r) { CHECK(r.text() == std::to_string(got++)); });
      REQUIRE(result.records > 0);
    }
    sender.join();
    consumer.wait(1ms);
    CHECK_FALSE(consumer.ready());
  }
}

TEST_CASE("a replaying consumer is ready, so that waiting for it does not sleep over what the disk has") {
  RingPlace place({.ephemeral = false});
  const auto p = place.attach();
  const auto disk = std::make_shared<HandDisk>(0);
  ExclusiveProducer producer(p, {});
  for (int i = 0; i < 400; ++i) {
    REQUIRE(producer.append(std::string(500, 'x')));
    disk->persist(*p);
  }
  PartitionReader reader(0, {p, std::make_unique<HandHistory>(disk)}, nullptr, ReadUpTo::committed);
  reader.start_at_boundary(0);
  REQUIRE(reader.replaying());
  Consumer consumer = one_consumer(std::move(reader), {.records_max = 10});
  std::size_t got = 0;
  while (got < 400) {
    const std::uint64_t start = monotonic_ns();
    consumer.wait(1h);
    REQUIRE(monotonic_ns() - start < 60'000'000'000U);
    got += consumer.poll([](const Record&) {}).records;
  }
  CHECK(got == 400);
}

TEST_CASE("at the end of a log without a ring a poll with a time-out waits, instead of making its caller spin") {
  const auto disk = std::make_shared<HandDisk>(0);
  auto history = std::make_unique<HandHistory>(disk, [](Offset) {
    HistoryRead r;
    r.status = HistoryStatus::end;
    return r;
  });
  Consumer consumer = one_consumer(PartitionReader(0, {nullptr, std::move(history)}, nullptr, ReadUpTo::committed));
  CHECK(consumer.poll([](const Record&) {}).state == PollState::end);
  const std::uint64_t start = monotonic_ns();
  CHECK(consumer.poll(5ms, [](const Record&) {}).state == PollState::end);
  CHECK(monotonic_ns() - start >= 5'000'000);
}

TEST_CASE("a poll that waits in vain says when a dead producer's claim is why") {
  RingPlace place;
  const auto p = place.attach();
  SharedProducer alive(p, {});
  const pid_t pid = in_child([&] {
    SharedProducer producer(place.attach(), {});
    const auto claim = producer.claim(10);
    die_now();
    return claim ? 0 : 1;
  });
  REQUIRE(result_of(pid) == 1000 + SIGKILL);
  PartitionReader reader = live_reader(p);
  reader.start_latest();
  Consumer consumer = one_consumer(std::move(reader));
  REQUIRE(alive.append("behind it"));
  CHECK(consumer.poll(1ms, [](const Record&) {}).state == PollState::held_by_dead);
  {
    SharedProducer attaches(p, {});  // not alone, so there is nothing to settle; but it closes what the dead one left
  }
  CHECK(consumer.poll([](const Record& r) { CHECK(r.text() == "behind it"); }).records == 1);
}

struct Quote {
  double bid, ask;
};

TEST_CASE("typed handlers get values, a record of another size ends the poll") {
  RingPlace place;
  const auto p = place.attach();
  ExclusiveProducer producer(p, {});
  PartitionReader reader = live_reader(p);
  reader.start_latest();
  TypedConsumer<Quote> consumer(one_consumer(std::move(reader)));
  const Quote sent{1.5, 2.5};
  REQUIRE(producer.append(std::as_bytes(std::span(&sent, 1))));
  REQUIRE(producer.append("short"));
  REQUIRE(producer.append(std::as_bytes(std::span(&sent, 1))));
  int got = 0;
  const auto handler = [&](const Quote& q, const RecordInfo& info) {
    CHECK(q.bid == 1.5);
    CHECK(q.ask == 2.5);
    CHECK(info.partition == 0);
    ++got;
  };
  const PollResult result = consumer.poll(handler);
  CHECK(result.state == PollState::corrupt);
  CHECK(result.records == 1);
  consumer.poll([&](const Quote&) {
    ++got;
    return Flow::stop;
  });
  CHECK(got == 2);
}

}  // namespace
