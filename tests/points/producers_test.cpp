// Goal: a producer that is killed, stopped or forked at any store leaves the log whole, and others go on.
// Method: run.h.
#include <signal.h>
#include <unistd.h>

#include "points/scenarios.h"
#include "spillway/ipc/consumers_layout.h"
#include "support/catch.h"
#include "support/place.h"

namespace spillway::test {
namespace {

using namespace std::chrono_literals;

RecordOptions everything() {
  RecordOptions options = RecordOptions::keyed("a key of more than thirty-two bytes, so that it is copied");
  options.event_time_ns = 1;
  options.sequence = 7;
  options.tag = 9;
  options.commit_time = true;
  return options;
}

TopicOptions with(OnFull on_full) {
  TopicOptions options = tiny();
  options.on_full = on_full;
  return options;
}

// Up to a little before the ring's end.
template <class Producer>
void nearly_fill(Scene& scene, Producer& producer) {
  for (Offset end = 0; end < 57'000;) {
    const Appended appended = scene.append(producer, kVictim, 3000);
    if (!appended) fail("the ring is full too early");
    end = appended.end;
  }
}
template <class Producer>
void fill(Scene& scene, Producer& producer) {
  while (scene.append(producer, kVictim, 3000)) {
  }
}

template <class Open>
auto act(Open open, std::function<void(Scene&, decltype(open(std::declval<Topic&>()))&)> then) {
  return [open, then](Scene& scene) {
    const Domain domain = scene.domain(StandBy::never);
    Topic topic = scene.topic(domain);
    auto producer = open(topic);
    then(scene, producer);
  };
}
constexpr std::uint64_t kMillisecond = 1'000'000;
const auto exclusive = [](Topic& topic) { return topic.exclusive_producer(kPatient); };
const auto shared = [](Topic& topic) { return topic.shared_producer(kPatient); };
const auto exclusive_hasty = [](Topic& topic) {
  return topic.exclusive_producer({.partition = 0, .deadline_ns = kMillisecond});
};
const auto shared_hasty = [](Topic& topic) {
  return topic.shared_producer({.partition = 0, .deadline_ns = kMillisecond});
};

template <class Producer>
void append_all_kinds(Scene& scene, Producer& producer) {
  nearly_fill(scene, producer);
  scene.arm();
  scene.append(producer, kVictim, 20);
  scene.append(producer, kVictim, 3000, everything());
  scene.append(producer, kVictim, 8000);  // does not fit before the ring's end
}
template <class Producer>
void append_batches(Scene& scene, Producer& producer) {
  scene.arm();
  scene.append_batch(producer, kVictim, {50, 700, 3000});
  scene.append_batch(producer, kVictim, {20});
}
template <class Producer>
void write_in_place(Scene& scene, Producer& producer) {
  scene.arm();
  scene.claim(producer, kVictim, 300, true);
  scene.claim(producer, kVictim, 300, false);
  scene.claim(producer, kVictim, 20, true);
}
template <class Producer>
void append_to_full(Scene& scene, Producer& producer) {
  fill(scene, producer);
  scene.arm();
  scene.append(producer, kVictim, 3000);
}
template <class Producer>
void close_it(Scene& scene, Producer& producer) {
  scene.append(producer, kVictim, 300);
  scene.arm();
  producer.close();
}

void overwrite(Scene& scene, ExclusiveProducer& producer) {
  for (int i = 0; i < 60; ++i) scene.append(producer, kVictim, 3000);
  scene.arm();
  for (int i = 0; i < 24; ++i) scene.append(producer, kVictim, 3000);
}

// Another producer gets in between the look at reserved_end and the claim: between the note's two stores and the CAS.
void lose_race(Scene& scene) {
  static Scene* here = nullptr;
  static SharedProducer* other = nullptr;
  const Domain domain = scene.domain(StandBy::never);
  const Topic topic = scene.topic(domain);
  auto producer = topic.shared_producer();
  auto faster = topic.shared_producer();
  here = &scene;
  other = &faster;
  points::interposed = [] { here->append(*other, kOther, 40); };
  points::interpose_at = 3;
  scene.arm();
  scene.append(producer, kVictim, 100);
}

// Sleeps, and wakes for each record, until the end.
void sleeper_beside(Scene& scene) {
  const Domain domain = scene.domain();
  Consumer consumer = scene.topic(domain).consumer({.partition = 0, .wait = Wait::block});
  scene.ready();
  while (!scene.ended()) static_cast<void>(consumer.poll(50ms, [](const Record&) {}));
}
void wake(Scene& scene) {
  const Domain domain = scene.domain(StandBy::never);
  auto producer = scene.topic(domain).shared_producer();
  if (!eventually([&] { return scene.word("consumers", offsetof(Consumers, announcement)) != 0; })) fail("no sleeper");
  scene.arm();
  scene.append(producer, kVictim, 100);
}

void attach(Scene& scene) {
  scene.arm();
  const Domain domain = scene.domain(StandBy::never);
  auto producer = scene.topic(domain).shared_producer();
  scene.append(producer, kVictim, 100);
}
void attach_exclusive(Scene& scene) {
  scene.arm();
  const Domain domain = scene.domain(StandBy::never);
  auto producer = scene.topic(domain).exclusive_producer();
  scene.append(producer, kVictim, 100);
}
void dead_exclusive(Scene& scene) {
  result_of(in_child([&] {
    const Domain domain = scene.domain(StandBy::never);
    auto producer = scene.topic(domain).exclusive_producer();
    scene.append(producer, kHelper, 60);
    ::kill(::getpid(), SIGKILL);
    return 0;
  }));
}
// Long after the dead one's claim: whoever appends on an ephemeral topic repairs.
void append_far(Scene& scene, SharedProducer& producer) {
  scene.append(producer, kVictim, 3500);
  scene.arm();
  for (int i = 0; i < 3; ++i) scene.append(producer, kVictim, 3500);
}

}  // namespace

std::vector<Scenario> producer_scenarios() {
  return {
      {.name = "exclusive producer, appending",
       .options = tiny(),
       .act = act(exclusive, append_all_kinds<ExclusiveProducer>),
       .beside = persister_beside,
       .others = Others::read},
      {.name = "exclusive producer, batches",
       .options = tiny(),
       .act = act(exclusive, append_batches<ExclusiveProducer>),
       .others = Others::read},
      {.name = "exclusive producer, in place",
       .options = tiny(),
       .act = act(exclusive, write_in_place<ExclusiveProducer>),
       .others = Others::read,
       .exclusive_end = true},
      {.name = "exclusive producer, closing",
       .options = tiny(),
       .act = act(exclusive, close_it<ExclusiveProducer>),
       .others = Others::read,
       .exclusive_end = true},
      {.name = "exclusive producer, full ring, block",
       .options = tiny(),
       .act = act(exclusive_hasty, append_to_full<ExclusiveProducer>),
       .others = Others::read},
      {.name = "exclusive producer, full ring, drop_new",
       .options = with(OnFull::drop_new),
       .act = act(exclusive_hasty, append_to_full<ExclusiveProducer>),
       .others = Others::read},
      {.name = "exclusive producer, full ring, overwrite",
       .options = with(OnFull::overwrite),
       .act = act(exclusive, overwrite),
       .before = [](Scene&) {},
       .beside = persister_beside,
       .others = Others::read,
       .gaps = {GapCause::overwritten},
       .exclusive_end = true},
      {.name = "shared producer, appending",
       .options = tiny(),
       .act = act(shared, append_all_kinds<SharedProducer>),
       .beside = shared_beside},
      {.name = "shared producer, batches",
       .options = tiny(),
       .act = act(shared, append_batches<SharedProducer>),
       .beside = shared_beside},
      {.name = "shared producer, in place",
       .options = tiny(),
       .act = act(shared, write_in_place<SharedProducer>),
       .beside = shared_beside},
      {.name = "shared producer, losing a race", .options = tiny(), .act = lose_race, .beside = shared_beside},
      {.name = "shared producer, closing",
       .options = tiny(),
       .act = act(shared, close_it<SharedProducer>),
       .beside = shared_beside},
      {.name = "shared producer, full ring, block",
       .options = tiny(),
       .act = act(shared_hasty, append_to_full<SharedProducer>)},
      {.name = "shared producer, full ring, drop_new",
       .options = with(OnFull::drop_new),
       .act = act(shared_hasty, append_to_full<SharedProducer>)},
      {.name = "shared producer, ephemeral topic",
       .options = ephemeral(),
       .act = act(shared, append_batches<SharedProducer>),
       .beside = shared_beside},
      {.name = "shared producer, waking a sleeper", .options = tiny(), .act = wake, .beside = sleeper_beside},
      {.name = "shared producer, attaching", .options = tiny(), .act = attach, .others = Others::read},
      {.name = "exclusive producer, attaching",
       .options = tiny(),
       .act = attach_exclusive,
       .others = Others::read,
       .exclusive_end = true},
      {.name = "repair by the first to attach after a dead shared producer",
       .options = tiny(),
       .act = attach,
       .before = dead_claim,
       .others = Others::read},
      {.name = "repair by the first to attach after a dead exclusive producer",
       .options = tiny(),
       .act = attach,
       .before = dead_exclusive,
       .others = Others::read},
      {.name = "repair of an ephemeral topic, attaching",
       .options = ephemeral(),
       .act = attach,
       .before = dead_claim,
       .beside = shared_beside,
       .others = Others::append},
      {.name = "repair of an ephemeral topic, appending",
       .options = ephemeral(),
       .act = act(shared, append_far),
       .before = nullptr,
       .beside =
           [](Scene& scene) {
             const Domain domain = scene.domain();
             auto producer = scene.topic(domain).shared_producer(kPatient);
             dead_claim(scene);
             scene.ready();
             scene.await_end();
           },
       .others = Others::append},
  };
}

// One test case each, so that they run side by side.
SPILLWAY_SCENARIO("exclusive producer, appending")
SPILLWAY_SCENARIO("exclusive producer, batches")
SPILLWAY_SCENARIO("exclusive producer, in place")
SPILLWAY_SCENARIO("exclusive producer, closing")
SPILLWAY_SCENARIO("exclusive producer, full ring, block")
SPILLWAY_SCENARIO("exclusive producer, full ring, drop_new")
SPILLWAY_SCENARIO("exclusive producer, full ring, overwrite")
SPILLWAY_SCENARIO("shared producer, appending")
SPILLWAY_SCENARIO("shared producer, batches")
SPILLWAY_SCENARIO("shared producer, in place")
SPILLWAY_SCENARIO("shared producer, losing a race")
SPILLWAY_SCENARIO("shared producer, closing")
SPILLWAY_SCENARIO("shared producer, full ring, block")
SPILLWAY_SCENARIO("shared producer, full ring, drop_new")
SPILLWAY_SCENARIO("shared producer, ephemeral topic")
SPILLWAY_SCENARIO("shared producer, waking a sleeper")
SPILLWAY_SCENARIO("shared producer, attaching")
SPILLWAY_SCENARIO("exclusive producer, attaching")
SPILLWAY_SCENARIO("repair by the first to attach after a dead shared producer")
SPILLWAY_SCENARIO("repair by the first to attach after a dead exclusive producer")
SPILLWAY_SCENARIO("repair of an ephemeral topic, attaching")
SPILLWAY_SCENARIO("repair of an ephemeral topic, appending")

}  // namespace spillway::test
