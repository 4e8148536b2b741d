// Topics that come and go under processes that use them: deleted half-way, made anew, made in two kinds at once.
#include "spillway/persist/topic_files.h"

#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <random>
#include <thread>

#include "spillway/core/clock.h"
#include "spillway/core/error.h"
#include "spillway/persist/clean.h"
#include "spillway/persist/domain_state.h"
#include "spillway/persist/segment_file.h"
#include "spillway/persist/topic_stat.h"
#include "spillway/persist/topic_state.h"
#include "spillway/spillway.h"
#include "support/catch.h"
#include "support/place.h"

using namespace spillway;
using namespace spillway::test;
using namespace std::chrono_literals;

namespace {

TopicOptions small(bool ephemeral = false) {
  TopicOptions options;
  options.ring = 64 * kKiB;
  options.ephemeral = ephemeral;
  if (!ephemeral) options.segment = 64 * kKiB;
  return options;
}

template <class Work>
Code code_of(Work&& work) {
  try {
    work();
  } catch (const Error& e) {
    INFO(e.what());
    return e.code();
  }
  FAIL("nothing was thrown");
  return Code::io;
}

}  // namespace

TEST_CASE("a handle of a topic that was deleted and made anew is refused, and does not spoil the new one",
          "[threads]") {
  const bool ephemeral = GENERATE(false, true);
  const Place place;
  const Topic old = place.domain(StandBy::never).open_or_create("t", small(ephemeral));
  const Domain other = place.domain(StandBy::never);
  other.remove("t");
  CHECK(code_of([&] { static_cast<void>(old.exclusive_producer()); }) != Code::corrupt);
  const Topic anew = other.open_or_create("t", small(ephemeral));
  CHECK(code_of([&] { static_cast<void>(old.exclusive_producer()); }) == Code::gone);
  CHECK(code_of([&] { static_cast<void>(old.consumer()); }) == Code::gone);
  {
    ExclusiveProducer producer = anew.exclusive_producer();
    REQUIRE(producer.append("new"));
    // With the new ring there, too.
    CHECK(code_of([&] { static_cast<void>(old.shared_producer()); }) == Code::gone);
  }
  Consumer consumer = anew.consumer({.from = From::earliest});
  CHECK(consumer.poll([](const Record& r) { CHECK(r.text() == "new"); }).records == 1);
}

TEST_CASE("a reader of an ephemeral topic that another process makes anew reads on in it", "[threads]") {
  const Place place;
  Topic topic = place.domain().open_or_create("t", small(true));
  {
    ExclusiveProducer producer = topic.exclusive_producer();
    REQUIRE(producer.append("old"));
  }
  Consumer consumer = place.domain().open("t").consumer({.from = From::earliest});
  REQUIRE(consumer.poll([](const Record&) {}).records == 1);
  place.lose_rings();
  consumer.readers()[0].ring()->look_whether_gone();
  Topic anew = place.domain().open_or_create("t", small(true));
  REQUIRE(anew.config().id != topic.config().id);
  ExclusiveProducer producer = anew.exclusive_producer();
  REQUIRE(producer.append("new"));
  std::string got;
  for (const Deadline deadline = Deadline::after_ns(20'000'000'000U); got.empty() && !deadline.passed();) {
    consumer.poll(10ms, [&](const Record& r) { got = r.text(); }, [](const Gap&) {});
  }
  CHECK(got == "new");
}

TEST_CASE("a reader that waits for a ring does not recover the log while there is none") {
  const Place place;
  const Topic topic = place.domain(StandBy::never).open_or_create("t", small());
  const FindSource find = topic.state().finder(0);
  const ReaderSource none = find();
  CHECK(none.ring == nullptr);
  CHECK(none.history == nullptr);
  ExclusiveProducer producer = topic.exclusive_producer();
  const ReaderSource found = find();
  CHECK(found.ring != nullptr);
  CHECK(found.history != nullptr);
}

TEST_CASE("a topic that is closed while this process still reads it can be written by others", "[threads]") {
  const bool ephemeral = GENERATE(false, true);
  const Place place;
  Topic topic = place.domain().open_or_create("t", small(ephemeral));
  {
    ExclusiveProducer producer = topic.exclusive_producer();
    REQUIRE(producer.append("one"));
  }
  Consumer consumer = topic.consumer({.from = From::earliest});
  REQUIRE(topic.close(60s) == Durable::yes);
  CHECK_FALSE(LockProbe(topic.state().paths(0).writers_lock()).held(0));
  const Topic other = place.domain().open("t");
  ExclusiveProducer producer = other.exclusive_producer();
  CHECK(producer.append("two"));
  std::size_t got = 0;
  while (got < 2 && consumer.poll(10s, [&](const Record&) { ++got; }).records > 0) {
  }
  CHECK(got == 2);
}

TEST_CASE(
    "a deletion that is killed at any instant leaves a name that can be used, and nothing that clean can't remove") {
  const bool ephemeral = GENERATE(false, true);
  const Place place;
  std::mt19937 random(7);
  for (int round = 0; round < 60; ++round) {
    {
      Topic topic = place.domain(StandBy::never).open_or_create("t", small(ephemeral));
      REQUIRE(topic.exclusive_producer().append("x"));
    }
    const Signal ready;
    const int child = in_child([&] {
      ready.raise();
      place.domain(StandBy::never).remove("t");
      return 0;
    });
    ready.await();
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 1500));  // sleep-ok: the instant
    kill_and_wait(child);
    INFO("round " << round);
    {
      Topic topic = place.domain(StandBy::never).open_or_create("t", small(ephemeral));
      REQUIRE(topic.exclusive_producer().append("y"));
      REQUIRE(place.domain().topics() == std::vector<std::string>{"t"});
    }
    place.domain(StandBy::never).remove("t");  // else its ring is full after a number of kills that came too early
  }
  const Domain domain = place.domain();
  for (const CleanItem& item : plan_clean(domain).items) CHECK_FALSE(apply_clean(domain, item, 10s));
  for (const std::string& home : {place.data(), place.shm()}) {
    CHECK(std::filesystem::directory_iterator(home) == std::filesystem::directory_iterator());
  }
}

TEST_CASE("one name that is created as ephemeral and as persistent at once never becomes both", "[threads]") {
  const Place place;
  const Directories where{place.data(), place.shm()};
  for (int round = 0; round < 20; ++round) {
    const std::string name = "t" + std::to_string(round);
    const auto create = [&](bool ephemeral) {
      try {
        static_cast<void>(create_topic(where, name, small(ephemeral)));
      } catch (const Error& e) {
        if (e.code() != Code::conflict && e.code() != Code::not_found) throw;
      }
    };
    std::thread one([&] { create(false); });
    create(true);
    one.join();
    const bool both = std::filesystem::exists(place.data() + "/" + name + "/topic.json") &&
                      std::filesystem::exists(place.shm() + "/" + name + "/topic.json");
    CHECK_FALSE(both);
  }
}

namespace {

// A topic of two partitions with some records in each, nobody attached, and no topic.json any more. Returns its id.
std::uint64_t lose_config(const Place& place, const std::string& name = "t") {
  const Domain domain = place.domain();
  TopicOptions options = small();
  options.partitions = 2;
  Topic topic = domain.open_or_create(name, options);
  for (std::uint32_t p = 0; p < 2; ++p) {
    ExclusiveProducer producer = topic.exclusive_producer({.partition = p});
    for (int i = 0; i < 2000; ++i) REQUIRE(producer.append("record " + std::to_string(i) + std::string(100, 'x')));
  }
  REQUIRE(topic.close(60s) == Durable::yes);
  REQUIRE(std::filesystem::remove(place.data() + "/" + name + "/topic.json"));
  return topic.config().id;
}

}  // namespace

TEST_CASE("a topic that lost its topic.json and is created again can read its log") {
  for (const bool rings_lost : {false, true}) {
    for (const bool named : {false, true}) {  // the settings, or only the topic
      INFO("rings lost " << rings_lost << ", settings named " << named);
      const Place place;
      const std::uint64_t id = lose_config(place);
      if (rings_lost) place.lose_rings();
      TopicOptions options = named ? small() : TopicOptions{};
      if (named) options.partitions = 2;
      const Topic topic = place.domain().open_or_create("t", options);
      CHECK(topic.config().id == id);
      CHECK(topic.config().partitions == 2);
      CHECK(topic.config().ring_bytes == 64 * kKiB);
      CHECK(topic.config().segment_bytes == 64 * kKiB);
      Consumer consumer = topic.consumer({.from = From::earliest});
      std::size_t records = 0;
      for (PollResult got = consumer.poll([](const Record&) {}); got.records > 0;) {
        records += got.records;
        got = consumer.poll([](const Record&) {});
        CHECK(got.state != PollState::gap);
      }
      CHECK(records == 4000);
      SharedProducer producer = topic.shared_producer();
      CHECK(producer.append("on"));
    }
  }
}

TEST_CASE("a log that lost its topic.json refuses other settings than its own, with both sides") {
  const Place place;
  lose_config(place);
  const auto refused = [&](const char* has, const char* asked, auto&& change) {
    TopicOptions options;
    change(options);
    try {
      place.domain().open_or_create("t", options);
      FAIL("it was created with " << asked);
    } catch (const Error& e) {
      const std::string sentence = e.what();
      INFO(sentence);
      CHECK(e.code() == Code::conflict);
      CHECK(sentence.find(has) != std::string::npos);
      CHECK(sentence.find(asked) != std::string::npos);
      CHECK(sentence.find(place.data() + "/t/0/") != std::string::npos);
    }
    CHECK_FALSE(std::filesystem::exists(place.data() + "/t/topic.json"));
  };
  refused("ring 64KiB", "128KiB", [](auto& o) { o.ring = 128 * kKiB; });
  refused("segment 64KiB", "256KiB", [](auto& o) { o.segment = 256 * kKiB; });
  refused("partitions 2", "1", [](auto& o) { o.partitions = 1; });
  refused("ephemeral off", "on", [](auto& o) { o.ephemeral = true; });
}

TEST_CASE("files of two topics in the place of one that lost its topic.json are both named") {
  const Place place;
  lose_config(place, "t");
  lose_config(place, "u");
  std::filesystem::remove_all(place.data() + "/t/1");
  std::filesystem::rename(place.data() + "/u/1", place.data() + "/t/1");
  try {
    place.domain().open_or_create("t");
    FAIL("it was created");
  } catch (const Error& e) {
    const std::string sentence = e.what();
    INFO(sentence);
    CHECK(e.code() == Code::conflict);
    CHECK(sentence.find(place.data() + "/t/0/") != std::string::npos);
    CHECK(sentence.find(place.data() + "/t/1/") != std::string::npos);
  }
  // And one that is not in its own partition's place.
  std::filesystem::rename(place.data() + "/t/1", place.data() + "/t/5");
  CHECK(code_of([&] { place.domain().open_or_create("t"); }) == Code::conflict);
}

TEST_CASE("what is damaged does not keep a topic that lost its topic.json from being created again") {
  const Place place;
  const std::uint64_t id = lose_config(place);
  const std::string first = place.data() + "/t/0/" + segment_name(0);
  REQUIRE(std::filesystem::exists(first));
  std::filesystem::resize_file(first, 100);
  std::filesystem::resize_file(place.data() + "/t/1/horizon", 100);
  CHECK(place.domain().open_or_create("t").config().id == id);
}

TEST_CASE("a partition whose directory is missing or empty is no empty log") {
  for (const bool empty : {false, true}) {
    const Place place;
    const Domain domain = place.domain();
    const Topic topic = domain.open_or_create("t", small());
    std::filesystem::remove_all(place.data() + "/t/0");
    if (empty) std::filesystem::create_directory(place.data() + "/t/0");
    CHECK(code_of([&] { topic.consumer({.from = From::earliest}); }) == Code::corrupt);
    CHECK(code_of([&] { topic.shared_producer(); }) == Code::corrupt);
    CHECK(code_of([&] { PartitionObserver(domain.state().directories(), topic.config(), 0).look(); }) == Code::corrupt);
    CHECK(std::filesystem::exists(place.data() + "/t/0") == empty);
  }
}
