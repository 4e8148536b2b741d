// A fork under a Domain: the child is told, destroys what it inherited without waiting for threads it does not have, and may
// open everything anew.
#include <unistd.h>

#include <optional>

#include "spillway/core/error.h"
#include "spillway/persist/topic_state.h"
#include "spillway/spillway.h"
#include "support/catch.h"
#include "support/place.h"

using namespace spillway;
using namespace spillway::test;
using namespace std::chrono_literals;

namespace {

template <class Work>
bool refused(Work&& work) {
  try {
    work();
  } catch (const Error& e) {
    return e.code() == Code::forked;
  }
  return false;
}

struct Everything {
  explicit Everything(const Place& place, bool ephemeral)
      : domain(place.options()),
        topic(domain->open_or_create("t", {.ring = 64 * kKiB, .ephemeral = ephemeral})),
        producer(topic->shared_producer()),
        consumer(topic->consumer({.from = From::earliest})) {
    set->add(*consumer);
  }
  void destroy() {
    set.reset();
    consumer.reset();
    producer.reset();
    topic.reset();
    domain.reset();
  }

  std::optional<Domain> domain;
  std::optional<Topic> topic;
  std::optional<SharedProducer> producer;
  std::optional<Consumer> consumer;
  std::optional<WaitSet> set{std::in_place};
};

}  // namespace

TEST_CASE("a child's domain and topics answer forked, and what it appends through them is not lost with ok") {
  const Place place;
  Everything parent(place, GENERATE(false, true));
  REQUIRE(parent.producer->append("parent"));
  const int child = in_child([&] {
    ::alarm(60);
    const Domain& domain = *parent.domain;
    Topic& topic = *parent.topic;
    if (!refused([&] { static_cast<void>(domain.open("t")); })) return 1;
    if (!refused([&] { static_cast<void>(domain.open_or_create("u", {})); })) return 2;
    if (!refused([&] { domain.remove("t"); })) return 3;
    if (!refused([&] { static_cast<void>(topic.shared_producer()); })) return 4;
    if (!refused([&] { static_cast<void>(topic.exclusive_producer()); })) return 5;
    if (!refused([&] { static_cast<void>(topic.consumer()); })) return 6;
    Producer late = topic.producer();
    if (!refused([&] { static_cast<void>(late.append("child")); })) return 7;
    if (topic.wait_durable(0, 1, 1s) != Durable::forked) return 8;
    if (topic.wait_durable_latest(1s) != Durable::forked) return 9;
    if (topic.close(1s) != Durable::forked) return 10;
    if (topic.state().writing_if_open(0) || topic.blocked(0) != Blocked::none) return 11;
    // Open anew, as any process may.
    SharedProducer own = place.domain().open("t").shared_producer();
    return own.append("child") ? 0 : 12;
  });
  CHECK(result_of(child) == 0);
  REQUIRE(parent.producer->append("parent"));
  std::vector<std::string> got;
  while (got.size() < 3) {
    if (parent.consumer->poll(10s, [&](const Record& r) { got.emplace_back(r.text()); }).records == 0) break;
  }
  CHECK(got == std::vector<std::string>{"parent", "child", "parent"});
  CHECK_FALSE(place.domain().topics().empty());
}

TEST_CASE("a child that destroys what it inherited does not hang") {
  const Place place;
  Everything parent(place, true);
  std::optional<AsyncProducer> async;
  Topic other = parent.domain->open_or_create("other", {.ring = 64 * kKiB, .ephemeral = true});
  async.emplace(other);
  REQUIRE(async->append("x") == AppendStatus::ok);
  REQUIRE(async->flush(60s));  // its thread goes to sleep, as the domain's does
  const int child = in_child([&] {
    ::alarm(20);
    async.reset();
    other = Topic(nullptr);
    parent.destroy();
    return 0;
  });
  CHECK(result_of(child) == 0);
  CHECK(parent.producer->append("parent goes on"));
}
