// Goal: consumers and cursors, whatever instant they are killed, stopped or forked at, harm nobody; and a cursor's place is
// one that was committed, or was about to be.
// Method: run.h.
#include <unistd.h>

#include "points/scenarios.h"
#include "spillway/ipc/consumers_layout.h"
#include "spillway/persist/cursor_file.h"
#include "spillway/persist/topic_files.h"
#include "spillway/persist/wait_set.h"

namespace spillway::test {
namespace {

using namespace std::chrono_literals;

PollResult poll(Consumer& consumer, std::chrono::nanoseconds timeout = 1ms) {
  const AsTwo two;
  return consumer.poll(timeout, [](const Record&) {}, [](const Gap&) {});
}

void consume(Scene& scene) {
  const Domain domain = scene.domain(StandBy::never);
  const Topic topic = domain.open("t");
  scene.arm();
  Consumer consumer =
      topic.consumer({.partition = 0, .from = From::earliest, .gating = topic.config().ephemeral, .name = "c"});
  for (int i = 0; i < 3; ++i) poll(consumer);
}

// More than a ring of records, all on disk, before; so the earliest are replayed.
void fill_disk(Scene& scene) {
  const Domain domain = scene.domain();
  const Topic topic = scene.topic(domain);
  auto producer = topic.shared_producer(kPatient);
  Appended appended;
  for (int i = 0; i < 60; ++i) appended = scene.append(producer, kHelper, 3000);
  scene.wait_durable(topic, appended.end);
}
void replay(Scene& scene) {
  const Domain domain = scene.domain(StandBy::never);
  const Topic topic = domain.open("t");
  scene.arm();
  Consumer consumer = topic.consumer({.partition = 0, .from = From::earliest, .records_max = 20});
  for (int i = 0; i < 6; ++i) poll(consumer);
}

// Sleeps twice: only a second sleep is a long one.
void sleep_twice(Scene& scene) {
  const Domain domain = scene.domain(StandBy::never);
  const Topic topic = domain.open("t");
  Consumer consumer = topic.consumer({.partition = 0, .wait = Wait::block});
  scene.arm();
  poll(consumer, 8ms);
}

void watch(Scene& scene) {
  const Domain domain = scene.domain(StandBy::never);
  const Topic topic = domain.open("t");
  Consumer consumer = topic.consumer({.partition = 0, .from = From::earliest});
  poll(consumer);
  scene.arm();
  WaitSet set;
  set.add(consumer);
  set.clear();
  const auto announced = [&] { return scene.word("consumers", offsetof(Consumers, announcement)) != 0; };
  if (!points::is_copy() && !eventually(announced)) fail("nobody announced");
}

constexpr const char* kCursor = "c";

void acknowledge(Scene& scene) {
  const Domain domain = scene.domain(StandBy::never);
  const Topic topic = domain.open("t");
  scene.arm();
  Consumer consumer = topic.consumer({.partition = std::nullopt, .cursor = kCursor, .records_max = 1});
  for (int i = 0; i < 3; ++i) {
    poll(consumer);
    if (!points::is_copy()) scene.book().cursor_wanted.store(consumer.offset(0));
    const AsTwo two;
    const int error = consumer.ack();
    if (!points::is_copy() && error == 0) scene.book().cursor.store(consumer.offset(0));
    if (!points::is_copy() && error != 0) fail("ack answered " + std::to_string(error));
  }
}
void look_at_cursor(Scene& scene) {
  const Offset committed = scene.book().cursor.load();
  const Domain domain = scene.domain(StandBy::never);
  Consumer consumer = domain.open("t").consumer({.partition = std::nullopt, .cursor = kCursor});
  const Offset found = consumer.offset(0);
  if (found < committed || found > std::max(committed, scene.book().cursor_wanted.load())) {
    fail("the cursor is at " + std::to_string(found) + ", committed was " + std::to_string(committed));
  }
  const TopicConfig config = scene.config();
  const std::string damage = CursorFile::damage(cursors_directory({scene.data(), scene.shm()}, config), kCursor);
  // A killed writer's write may be torn, which the other slot makes up for; that it is told of is no damage to others.
  if (!damage.empty() && found < committed) fail(damage);
}

}  // namespace

std::vector<Scenario> reader_scenarios() {
  return {
      {.name = "consumer, live", .options = tiny(), .act = consume, .beside = shared_beside},
      {.name = "consumer, gating", .options = ephemeral(), .act = consume, .beside = shared_beside},
      {.name = "consumer, replaying", .options = tiny(), .act = replay, .before = fill_disk, .beside = shared_beside},
      {.name = "consumer, sleeping", .options = tiny(), .act = sleep_twice, .beside = shared_beside},
      {.name = "wait set", .options = tiny(), .act = watch, .beside = shared_beside},
      {.name = "cursor", .options = tiny(), .act = acknowledge, .beside = shared_beside, .after = look_at_cursor},
      {.name = "cursor, on disk",
       .options = tiny(),
       .act = acknowledge,
       .beside = shared_beside,
       .after = look_at_cursor,
       .on_disk = true,
       .every = 4},
  };
}

SPILLWAY_SCENARIO("consumer, live")
SPILLWAY_SCENARIO("consumer, gating")
SPILLWAY_SCENARIO("consumer, replaying")
SPILLWAY_SCENARIO("consumer, sleeping")
SPILLWAY_SCENARIO("wait set")
SPILLWAY_SCENARIO("cursor")
SPILLWAY_SCENARIO("cursor, on disk")

}  // namespace spillway::test
