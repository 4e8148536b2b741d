// The system through its public API: from a producer through the ring to live consumers and to disk, and back to slow ones.
#include "spillway/persist/topic.h"

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <optional>
#include <random>
#include <set>
#include <thread>

#include "spillway/core/file_lock.h"
#include "spillway/persist/topic_state.h"
#include "spillway/spillway.h"
#include "support/catch.h"
#include "support/place.h"

using namespace spillway;
using namespace spillway::test;
using namespace std::chrono_literals;

namespace {

constexpr auto kLong = 60s;  // a bound for what must happen, not a measure of speed

TopicOptions small() { return {.ring = 64 * kKiB, .segment = 256 * kKiB}; }

std::string text_of(std::uint64_t number, std::size_t bytes = 100) {
  std::string text = std::to_string(number) + ":";
  std::mt19937_64 random(number);
  while (text.size() < bytes) text += static_cast<char>('a' + random() % 26);
  return text;
}

// Reads from where the consumer stands until `count` records came or nothing comes any more; checks numbers from `first`.
std::uint64_t read_numbered(Consumer& consumer, std::uint64_t first, std::uint64_t count,
                            std::vector<Gap>* gaps = nullptr) {
  std::uint64_t next = first;
  const Deadline deadline = Deadline::after_ns(60'000'000'000U);
  while (next < first + count && !deadline.passed()) {
    const PollResult result = consumer.poll(
        10ms,
        [&](const Record& record) {
          REQUIRE(record.text() == text_of(next, record.payload().size()));
          ++next;
        },
        [&](const Gap& gap) {
          if (gaps != nullptr) gaps->push_back(gap);
          CHECK(gaps != nullptr);
        });
    REQUIRE(result.state != PollState::corrupt);
    REQUIRE(result.state != PollState::failed);
    if (result.state == PollState::end) break;
  }
  return next - first;
}

Offset append_numbered(auto& producer, std::uint64_t first, std::uint64_t count) {
  Offset end = 0;
  for (std::uint64_t i = first; i < first + count; ++i) {
    const Appended appended = producer.append(text_of(i));
    REQUIRE(appended.status == AppendStatus::ok);
    end = appended.end;
  }
  return end;
}

}  // namespace

TEST_CASE("records reach a live consumer and the disk", "[threads]") {
  const Place place;
  Domain domain = place.domain();
  Topic topic = domain.open_or_create("orders", small());
  SharedProducer producer = topic.shared_producer();
  Consumer consumer = topic.consumer({.from = From::earliest});
  const Offset end = append_numbered(producer, 0, 100);
  CHECK(read_numbered(consumer, 0, 100) == 100);
  CHECK(topic.wait_durable(0, end, kLong) == Durable::yes);
}

TEST_CASE("a consumer that is many laps behind replays from disk and goes live without a seam", "[threads]") {
  const Place place;
  Domain domain = place.domain();
  Topic topic = domain.open_or_create("stream", small());
  ExclusiveProducer producer = topic.exclusive_producer();
  Consumer slow = topic.consumer({.from = From::latest});
  constexpr std::uint64_t kRecords = 20'000;  // 2.3 MB through a ring of 64 KiB
  append_numbered(producer, 0, kRecords);
  CHECK(read_numbered(slow, 0, kRecords) == kRecords);
  append_numbered(producer, kRecords, 100);
  CHECK(read_numbered(slow, kRecords, 100) == 100);
  CHECK_FALSE(slow.readers()[0].replaying());
}

TEST_CASE("everybody dies and the ring is still there: nothing committed is lost") {
  const Place place;
  const Signal committed;
  const int pid = in_child([&] {
    Topic topic = place.domain().open_or_create("orders", small());
    SharedProducer producer = topic.shared_producer();
    for (std::uint64_t i = 0; i < 300; ++i) {
      if (!producer.append(text_of(i))) return 1;
    }
    committed.raise();
    ::pause();
    return 0;
  });
  committed.await();
  CHECK(kill_and_wait(pid) == 1000 + SIGKILL);

  Topic topic = place.domain().open("orders");
  SharedProducer producer = topic.shared_producer();
  Consumer consumer = topic.consumer({.from = From::earliest});
  append_numbered(producer, 300, 100);
  CHECK(read_numbered(consumer, 0, 400) == 400);
}

TEST_CASE("a shared producer is killed with a claim open: on an ephemeral topic the next living writer closes it") {
  const Place place;
  const Signal claimed;
  const int pid = in_child([&] {
    Topic topic = place.domain().open_or_create("ticks", {.ring = 64 * kKiB, .ephemeral = true});
    SharedProducer producer = topic.shared_producer();
    const auto claim = producer.claim(100);
    claimed.raise();
    ::pause();
    return claim ? 0 : 1;
  });
  claimed.await();
  Topic topic = place.domain().open("ticks");
  SharedProducer producer = topic.shared_producer();
  Consumer consumer = topic.consumer({.from = From::earliest});
  REQUIRE(producer.append("behind it"));
  CHECK(consumer.poll(1ms, [](const Record&) {}).records == 0);
  CHECK(kill_and_wait(pid) == 1000 + SIGKILL);
  // Nobody appends or attaches any more.
  CHECK(consumer.poll(20s, [](const Record& r) { CHECK(r.text() == "behind it"); }).records == 1);
}

TEST_CASE(
    "the host dies: what was durable is there, the rest is a gap, and offsets go on past all that were handed out") {
  const Place place;
  Offset end = 0, handed_out = 0;
  for (std::uint64_t boot = 0; boot < 3; ++boot) {
    const Signal done;
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const int pid = in_child([&] {
      Topic topic = place.domain().open_or_create("orders", small());
      SharedProducer producer = topic.shared_producer();
      Offset durable = 0, last = 0, first = UINT64_MAX;
      for (std::uint64_t i = 0; i < 50; ++i) {
        const Appended a = producer.append(text_of(boot * 50 + i));
        if (!a) return 1;
        first = std::min(first, a.position.offset);
        durable = a.end;
      }
      if (topic.wait_durable(0, durable, kLong) != Durable::yes) return 2;
      for (std::uint64_t i = 0; i < 20; ++i) last = producer.append(text_of(999'000 + i)).end;
      const Offset told[] = {first, durable, last};
      if (::write(ends[1], told, sizeof told) != sizeof told) return 3;
      done.raise();
      ::pause();
      return 0;
    });
    done.await();
    Offset told[3];
    REQUIRE(::read(ends[0], told, sizeof told) == sizeof told);
    CHECK(kill_and_wait(pid) == 1000 + SIGKILL);
    CHECK(told[0] >= handed_out);
    end = told[1];
    handed_out = told[2];
    place.lose_rings();
    ::close(ends[0]);
    ::close(ends[1]);

    // A reader alone creates nothing, and sees at least what was durable.
    Topic topic = place.domain().open("orders");
    Consumer reader = topic.consumer({.from = From::earliest});
    std::uint64_t durable_records = 0, last_offset = 0;
    for (;;) {
      const PollResult result = reader.poll(
          [&](const Record& r) {
            if (r.text().substr(0, 3) != "999") REQUIRE(r.text() == text_of(durable_records++));
            last_offset = r.offset();
          },
          [&](const Gap& gap) { CHECK(gap.cause == GapCause::crash); });
      REQUIRE(result.state != PollState::failed);
      if (result.state == PollState::end) break;
    }
    CHECK(durable_records == (boot + 1) * 50);
    CHECK(last_offset < handed_out);
    CHECK(end <= handed_out);
  }
}

TEST_CASE("a clean stop leaves no gap, even when the rings are lost afterwards") {
  const Place place;
  for (std::uint64_t round = 0; round < 3; ++round) {
    Topic topic = place.domain().open_or_create("orders", small());
    {
      SharedProducer producer = topic.shared_producer();
      append_numbered(producer, round * 1000, 1000);
    }
    REQUIRE(topic.close(kLong) == Durable::yes);
    if (round > 0) place.lose_rings();
  }
  Consumer consumer = place.domain().open("orders").consumer({.from = From::earliest});
  CHECK(read_numbered(consumer, 0, 3000) == 3000);
}

TEST_CASE("a ring deleted under a living process: another one is refused, with the reason") {
  const Place place;
  Topic topic = place.domain().open_or_create("orders", small());
  SharedProducer producer = topic.shared_producer();
  append_numbered(producer, 0, 10);
  place.lose_rings();
  Domain other = place.domain();
  try {
    static_cast<void>(other.open("orders").shared_producer());
    FAIL("a second ring was made");
  } catch (const Error& e) {
    CHECK(e.code() == Code::ring_elsewhere);
  }
  append_numbered(producer, 10, 10);  // who has the ring goes on
}

TEST_CASE("cursors go on where they were acked, in another process too") {
  const Place place;
  Topic topic = place.domain().open_or_create("orders", {.partitions = 2, .ring = 64 * kKiB, .segment = 256 * kKiB});
  Producer producer = topic.producer();
  for (std::uint64_t i = 0; i < 200; ++i) REQUIRE(producer.append(text_of(i)));
  std::multiset<std::string> seen;
  for (int part = 0; part < 4; ++part) {
    const int pid = in_child([&] {
      Consumer consumer = place.domain().open("orders").consumer({.cursor = "archiver", .records_max = 50});
      std::size_t count = 0;
      while (count < 50) count += consumer.poll(1s, [](const Record&) {}).records;
      if (count != 50) return 1;
      return consumer.ack() == 0 ? 0 : 2;
    });
    CHECK(result_of(pid) == 0);
  }
  Consumer consumer = topic.consumer({.cursor = "archiver"});
  CHECK(consumer.poll([](const Record&) {}).records == 0);
  // One owner at a time.
  CHECK_THROWS_AS(topic.consumer({.cursor = "archiver"}), Error);
}

TEST_CASE("a cursor beyond all that was ever appended is refused, not passed over in silence", "[threads]") {
  const Place place;
  const std::string cursors = place.data() + "/orders/cursors";
  const auto publish = [&](std::uint64_t first, std::uint64_t count) {
    Topic topic = place.domain().open_or_create("orders", small());
    {
      ExclusiveProducer producer = topic.exclusive_producer();
      append_numbered(producer, first, count);
    }
    REQUIRE(topic.close(kLong) == Durable::yes);
  };
  publish(0, 50);
  std::filesystem::copy(place.data() + "/orders/0", place.data() + "/copy", std::filesystem::copy_options::recursive);
  publish(50, 4000);  // further than where a ring made after the first half begins
  {
    Consumer consumer = place.domain().open("orders").consumer({.cursor = "archiver"});
    CHECK(read_numbered(consumer, 0, 4050) == 4050);
    REQUIRE(consumer.ack() == 0);
  }
  // The log is put back to its first half, the cursor is not.
  place.lose_rings();
  std::filesystem::remove_all(place.data() + "/orders/0");
  std::filesystem::rename(place.data() + "/copy", place.data() + "/orders/0");
  bool ring = GENERATE(false, true);
  CAPTURE(ring);
  std::optional<Domain> domain;
  std::optional<Topic> topic;
  if (ring) {
    domain.emplace(place.domain());
    topic.emplace(domain->open("orders"));
    topic->exclusive_producer();
  }
  const Topic reading = place.domain().open("orders");
  try {
    reading.consumer({.cursor = "archiver"});
    FAIL("not refused");
  } catch (const Error& e) {
    CHECK(e.code() == Code::conflict);
    CHECK(std::string(e.what()).find(cursors) != std::string::npos);
  }
  std::filesystem::remove(cursors + "/archiver");
  Consumer consumer = reading.consumer({.cursor = "archiver"});
  CHECK(read_numbered(consumer, 0, 50) == 50);
}

TEST_CASE("reading up to durable delivers nothing that is not synced", "[threads]") {
  const Place place;
  TopicOptions options = small();
  options.sync_interval_ms = 3'600'000;  // on demand only
  Topic topic = place.domain().open_or_create("orders", options);
  SharedProducer producer = topic.shared_producer();
  Consumer careful = topic.consumer({.from = From::earliest, .read_up_to = ReadUpTo::durable});
  const Offset end = append_numbered(producer, 0, 10);
  CHECK(careful.poll([](const Record&) {}).records == 0);
  REQUIRE(topic.wait_durable(0, end, kLong) == Durable::yes);
  CHECK(read_numbered(careful, 0, 10) == 10);
}

TEST_CASE("typed topics refuse another type, both sides named") {
  struct Quote {
    double bid, ask;
  };
  struct Trade {
    double price;
  };
  const Place place;
  Domain domain = place.domain();
  auto quotes = domain.open_or_create<Quote>("quotes", {.ephemeral = true, .schema = "quote.v1"});
  auto producer = quotes.exclusive_producer();
  auto consumer = quotes.consumer({.from = From::earliest});
  if (auto claim = producer.claim()) {
    claim->bid = 1.5;
    claim->ask = 2.5;
    CHECK(claim.commit());
  }
  double bid = 0;
  CHECK(consumer.poll([&](const Quote& q, const RecordInfo&) { bid = q.bid; }).records == 1);
  CHECK(bid == 1.5);
  CHECK_THROWS_WITH(domain.open<Trade>("quotes"), Catch::Contains("16 bytes") && Catch::Contains("8 bytes"));
  CHECK_THROWS_WITH(domain.open<Quote>("quotes", "quote.v2"),
                    Catch::Contains("quote.v1") && Catch::Contains("quote.v2"));
}

TEST_CASE("starting at an offset, inside a record and outside the log") {
  const Place place;
  Topic topic = place.domain().open_or_create("orders", small());
  ExclusiveProducer producer = topic.exclusive_producer();
  std::vector<Offset> offsets;
  for (std::uint64_t i = 0; i < 5000; ++i) offsets.push_back(producer.append(text_of(i)).position.offset);
  for (const std::size_t i :
       {std::size_t{0}, std::size_t{1}, std::size_t{1234}, std::size_t{4900}, std::size_t{4999}}) {
    Consumer at = topic.consumer({.from = From::offset, .offset = offsets[i]});
    CHECK(read_numbered(at, i, 1) >= 1);
    if (i + 1 == offsets.size()) continue;
    Consumer inside = topic.consumer({.from = From::offset, .offset = offsets[i] + 1});
    CHECK(read_numbered(inside, i + 1, 1) >= 1);
  }
  CHECK_THROWS_AS(topic.consumer({.from = From::offset, .offset = offsets.back() + (1U << 20)}), Error);
}

TEST_CASE("retention: the oldest segments go, and a reader that wanted them gets an exact gap", "[threads]") {
  const Place place;
  TopicOptions options = small();
  options.retain = 512 * kKiB;
  Topic topic = place.domain().open_or_create("orders", options);
  ExclusiveProducer producer = topic.exclusive_producer();
  Consumer reader = topic.consumer({.from = From::earliest, .records_max = 10});
  std::vector<Offset> offsets;
  for (std::uint64_t i = 0; i < 10; ++i) offsets.push_back(producer.append(text_of(i)).position.offset);
  CHECK(read_numbered(reader, 0, 5) >= 5);
  const std::uint64_t next = reader.offset(0) / offsets[1];
  for (std::uint64_t i = 10; i < 20'000; ++i) offsets.push_back(producer.append(text_of(i)).position.offset);
  const Offset wanted = reader.offset(0);
  std::vector<Gap> gaps;
  std::uint64_t first = 0, last = 0, count = 0;
  while (count == 0 || last + 1 < offsets.size()) {
    reader.poll(
        100ms,
        [&](const Record& r) {
          const auto number = static_cast<std::uint64_t>(std::lower_bound(offsets.begin(), offsets.end(), r.offset()) -
                                                         offsets.begin());
          REQUIRE(r.text() == text_of(number));
          if (count == 0) first = number;
          if (count > 0) REQUIRE(number == last + 1);
          last = number;
          ++count;
        },
        [&](const Gap& g) { gaps.push_back(g); });
  }
  REQUIRE(gaps.size() == 1);
  CHECK(gaps[0].cause == GapCause::expired);
  CHECK(gaps[0].from == wanted);
  CHECK(gaps[0].to <= offsets[first]);
  CHECK(first > next);
}

TEST_CASE("on-full overwrite: producers never wait for the disk, and the lost range is an exact gap", "[threads]") {
  const Place place;
  TopicOptions options = small();
  options.on_full = OnFull::overwrite;
  Topic topic = place.domain(StandBy::never).open_or_create("ticks", options);
  {
    // No persister: the horizon can't move past its first step of a gibibyte, and the producer is told so.
    ExclusiveProducer producer = topic.exclusive_producer({.deadline_ns = 50'000'000});
    const std::string large(15'000, 'x');
    Appended appended;
    for (int i = 0; i < 80'000 && appended; ++i) appended = producer.append(large);
    CHECK(appended.status == AppendStatus::no_horizon);
    CHECK(appended.blocked == Blocked::no_persister);
  }
  Topic with = place.domain().open("ticks");
  ExclusiveProducer producer = with.exclusive_producer();
  CHECK_THROWS_AS(with.shared_producer(), Error);
  std::set<Offset> produced;
  for (std::uint64_t i = 0; i < 50'000; ++i) {
    const Appended a = producer.append(text_of(i));
    REQUIRE(a.status == AppendStatus::ok);
    produced.insert(a.position.offset);
  }
  Consumer reader = with.consumer({.from = From::earliest});
  std::size_t delivered = 0;
  Offset last = 0;
  std::vector<Gap> gaps;
  const Deadline deadline = Deadline::after_ns(60'000'000'000U);
  while (last != *produced.rbegin() && !deadline.passed()) {
    reader.poll(
        10ms,
        [&](const Record& r) {
          if (produced.count(r.offset()) != 0) ++delivered;
          last = r.offset();
        },
        [&](const Gap& g) { gaps.push_back(g); });
  }
  std::size_t lost = 0;
  for (const Gap& g : gaps) {
    CHECK(g.cause == GapCause::overwritten);
    lost += static_cast<std::size_t>(std::distance(produced.lower_bound(g.from), produced.lower_bound(g.to)));
  }
  CHECK(delivered + lost == produced.size());
}

TEST_CASE("a gating consumer that comes before the ring holds producers up from the first record on") {
  const Place place;
  const Domain domain = place.domain();
  const Topic topic = domain.open_or_create("t", {.ring = 64 * kKiB, .ephemeral = true});
  Consumer gate = topic.consumer({.gating = true});
  ExclusiveProducer producer = topic.exclusive_producer({.partition = 0, .deadline_ns = 0});
  Appended last;
  std::uint64_t count = 0;
  while (count < 10'000 && (last = producer.append(text_of(count)))) ++count;
  CHECK(last.status == AppendStatus::full);
  CHECK(last.blocked == Blocked::gated);
  CHECK(read_numbered(gate, 0, count) == count);  // and nothing of it is a gap
  CHECK(producer.append(text_of(count)));
}

TEST_CASE("a consumer that can't gate is refused instead of reading without a gate") {
  const Place place;
  const Domain domain = place.domain();
  const Topic topic = domain.open_or_create("t", {.ring = 64 * kKiB, .ephemeral = true});
  std::vector<FileLock> all;
  for (std::size_t i = 0; i < kConsumerSlots; ++i) {
    all.push_back(FileLock::try_lock(topic.state().paths(0).consumers_lock(), LockMode::exclusive, i));
  }
  CHECK_NOTHROW(topic.consumer());
  try {
    topic.consumer({.gating = true});
    FAIL("it reads without a gate");
  } catch (const Error& e) {
    INFO(e.what());
    CHECK(e.code() == Code::no_slot);
  }
}

TEST_CASE("reading up to durable is refused where nothing syncs, instead of waiting for ever") {
  const Place place;
  const Domain domain = place.domain();
  const auto refused = [](const Topic& topic) {
    try {
      topic.consumer({.read_up_to = ReadUpTo::durable});
    } catch (const Error& e) {
      INFO(e.what());
      CHECK(e.code() == Code::invalid_argument);
      return true;
    }
    return false;
  };
  TopicOptions unsynced = small();
  unsynced.sync = SyncPolicy::none;
  CHECK(refused(domain.open_or_create("unsynced", unsynced)));
  CHECK(refused(domain.open_or_create("in-memory", {.ring = 64 * kKiB, .ephemeral = true})));
  CHECK_FALSE(refused(domain.open_or_create("synced", small())));
}
