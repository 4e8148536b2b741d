// Many threads in front of one exclusive producer: order, flushing, and an end that does not wait for ever.
#include "spillway/persist/async_producer.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

#include "spillway/spillway.h"
#include "support/catch.h"
#include "support/place.h"

using namespace spillway;
using namespace spillway::test;
using namespace std::chrono_literals;

namespace {

constexpr auto kLong = 60s;  // a bound for what must happen, not a measure of speed

TopicOptions small() { return {.ring = 64 * kKiB, .segment = 256 * kKiB}; }

}  // namespace

TEST_CASE("many threads in front of one exclusive producer keep each thread's order", "[threads]") {
  const Place place;
  Topic topic = place.domain().open_or_create("orders", small());
  {
    AsyncProducer async(topic);
    std::vector<std::thread> threads;
    std::atomic<int> flushed = 0;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 2000; ++i) {
          const std::string text =
              std::to_string(t) + ":" + std::to_string(i) + std::string(static_cast<std::size_t>(i % 300), '.');
          while (async.append(text) != AppendStatus::ok) std::this_thread::yield();
        }
        flushed += async.flush(kLong);
      });
    }
    for (auto& thread : threads) thread.join();
    CHECK(flushed == 3);
    CHECK(async.counts().appended == 6000);
  }
  Consumer consumer = topic.consumer({.from = From::earliest});
  int next[3] = {};
  for (std::size_t count = 0; count < 6000;) {
    count += consumer
                 .poll(1s,
                       [&](const Record& r) {
                         const auto t = static_cast<std::size_t>(r.text()[0] - '0');
                         REQUIRE(std::stoi(std::string(r.text().substr(2))) == next[t]++);
                       })
                 .records;
  }
}

TEST_CASE("a flush waits for its caller's records, whatever other threads queue meanwhile", "[threads]") {
  const Place place;
  Topic topic = place.domain().open_or_create("ticks", {.ring = 4 * kMiB, .ephemeral = true});
  AsyncProducer async(topic, {.queued_bytes_max = 64 * kKiB});
  // The queue asks those that came last first, if it is asked without a token.
  REQUIRE(async.append("first") == AppendStatus::ok);
  Consumer consumer = topic.consumer({.from = From::earliest});
  std::atomic<bool> done{false};
  std::vector<std::thread> others;
  for (int t = 0; t < 2; ++t) {
    others.emplace_back([&] {
      while (!done) {
        if (async.append("somebody else's") != AppendStatus::ok) std::this_thread::yield();
      }
    });
  }
  bool missing = false;
  for (int i = 0; i < 2000 && !missing; ++i) {
    const std::string mine = "mine " + std::to_string(i);
    while (async.append(mine) != AppendStatus::ok) std::this_thread::yield();
    const bool flushed = async.flush(kLong);
    CHECK(flushed);
    missing = true;
    std::size_t count = 1;
    while (count > 0) {
      count = consumer
                  .poll([&](const Record& r) { missing = missing && r.text() != mine; },
                        [&](const Gap&) { missing = false; })
                  .records;
    }
  }
  done = true;
  for (auto& thread : others) thread.join();
  CHECK_FALSE(missing);
}

TEST_CASE("an async producer in front of a full ring ends after one record's patience, and counts the rest",
          "[threads]") {
  const Place place;
  const int child = in_child([&] {
    ::alarm(30);
    // No persister: nothing is ever given back.
    Topic topic = place.domain(StandBy::never).open_or_create("orders", small());
    {
      AsyncProducer async(topic, {.deadline_ns = 200'000'000});
      for (int i = 0; i < 2000; ++i) {
        if (async.append(std::string(200, 'x')) != AppendStatus::ok) return 1;
      }
    }
    Consumer consumer = topic.consumer({.from = From::earliest});
    std::size_t found = 0;
    for (std::size_t n = 1; n > 0; found += n) n = consumer.poll([](const Record&) {}).records;
    return found > 100 && found < 400 ? 0 : 2;
  });
  CHECK(result_of(child) == 0);
}
