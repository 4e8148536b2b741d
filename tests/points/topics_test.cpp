// Goal: a topic that is being made, deleted, recovered or cleaned up by a process that is killed, stopped or forked is whole
// or not there for everybody else, and no record that was durable is lost.
// Method: run.h.
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "points/scenarios.h"
#include "spillway/core/error.h"
#include "spillway/persist/clean.h"
#include "support/place.h"

namespace spillway::test {
namespace {

using namespace std::chrono_literals;

void nothing(Scene&) {}

void create(Scene& scene) {
  scene.arm();
  const Domain domain = scene.domain(StandBy::never);
  static_cast<void>(scene.topic(domain));
}
void create_and_use(Scene& scene) {
  const Domain domain = scene.domain(StandBy::never);
  const Topic topic = scene.topic(domain);
  scene.arm();
  auto producer = topic.shared_producer();
  scene.append(producer, kVictim, 100);
}
// Each call fails once.
void fail_to_create(Scene& scene) {
  using disk::Call;
  scene.arm();
  static BadDisk bad({{Call::rename, EIO}, {Call::write, ENOSPC}, {Call::link, ENOSPC}, {Call::allocate, ENOSPC}});
  for (int i = 0; i < 5; ++i) {
    try {
      const Domain domain = scene.domain(StandBy::never);
      auto producer = scene.topic(domain).shared_producer();
      scene.append(producer, kVictim, 100);
      break;
    } catch (const Error&) {
      if (i == 4 || points::is_copy()) throw;
    }
  }
  disk::watch(nullptr);
}
void remove(Scene& scene) {
  const Domain domain = scene.domain(StandBy::never);
  scene.arm();
  domain.remove("t");
}

// What is durable, what is only written, and what is in the ring; then the host dies.
void lose_host(Scene& scene) {
  result_of(in_child([&] {
    const Domain domain = scene.domain();
    const Topic topic = scene.topic(domain);
    auto producer = topic.shared_producer(kPatient);
    Appended appended;
    for (int i = 0; i < 60; ++i) appended = scene.append(producer, kHelper, 3000);
    scene.wait_durable(topic, appended.end);
    for (int i = 0; i < 3; ++i) scene.append(producer, kHelper, 3000);
    ::kill(::getpid(), SIGKILL);
    return 0;
  }));
  scene.lose_rings();
}
void recover(Scene& scene) {
  scene.arm();
  const Domain domain = scene.domain(StandBy::never);
  auto producer = scene.topic(domain).shared_producer();
  scene.append(producer, kVictim, 100);
}
void recover_and_persist(Scene& scene) {
  scene.arm();
  const Domain domain = scene.domain();
  const Topic topic = scene.topic(domain);
  auto producer = topic.shared_producer(kPatient);
  scene.wait_durable(topic, scene.append(producer, kVictim, 100).end);
}

// A ring that nobody uses, with what is on no disk; and, with it, a topic whose deletion was interrupted.
void leave(Scene& scene) {
  result_of(in_child([&] {
    const Domain domain = scene.domain(StandBy::never);
    auto producer = scene.topic(domain).shared_producer();
    for (int i = 0; i < 3; ++i) scene.append(producer, kHelper, 3000);
    ::kill(::getpid(), SIGKILL);
    return 0;
  }));
}
// The ring of an earlier life stands in the place of the last one's.
void leave_stale(Scene& scene) {
  namespace fs = std::filesystem;
  leave(scene);
  const std::string ring = scene.shm() + "/t", aside = scene.shm() + "/aside";
  fs::rename(ring, aside);
  scene.lose_rings(ring);
  leave(scene);
  scene.lose_rings(ring);
  fs::rename(aside, ring);
}
void clean(Scene& scene) {
  scene.arm();
  const Domain domain = scene.domain();
  for (const CleanItem& item : plan_clean(domain).items) static_cast<void>(apply_clean(domain, item, 20s));
}

// Before others go on: with the stale ring in its place nobody can.
void clean_unwatched(Scene& scene) {
  const Domain domain = scene.domain();
  for (const CleanItem& item : plan_clean(domain).items) static_cast<void>(apply_clean(domain, item, 20s));
}

}  // namespace

std::vector<Scenario> topic_scenarios() {
  return {
      {.name = "topic creation", .options = tiny(), .act = create, .before = nothing, .may_not_exist = true},
      {.name = "topic creation, ephemeral",
       .options = ephemeral(),
       .act = create,
       .before = nothing,
       .may_not_exist = true},
      {.name = "ring creation", .options = tiny(), .act = create_and_use, .before = nothing, .others = Others::read},
      {.name = "ring creation, ephemeral",
       .options = ephemeral(),
       .act = create_and_use,
       .before = nothing,
       .others = Others::read},
      {.name = "topic deletion",
       .options = tiny(),
       .act = remove,
       .others = Others::nothing,
       .gaps = {GapCause::crash},  // its rings go first
       .may_not_exist = true},
      {.name = "topic deletion, ephemeral",
       .options = ephemeral(),
       .act = remove,
       .others = Others::nothing,
       .may_not_exist = true},
      {.name = "recovery",
       .options = tiny(),
       .act = recover,
       .before = lose_host,
       .others = Others::read,
       .rings_lost = true},
      {.name = "recovery, then the persister",
       .options = tiny(),
       .act = recover_and_persist,
       .before = lose_host,
       .others = Others::read,
       .on_disk = true,
       .rings_lost = true,
       .every = 8},
      {.name = "cleaning up", .options = tiny(), .act = clean, .before = leave, .others = Others::read},
      {.name = "topic creation, some calls fail",
       .options = tiny(),
       .act = fail_to_create,
       .before = nothing,
       .others = Others::nothing,
       .may_not_exist = true,
       .every = 4},
      {.name = "cleaning up, a stale ring",
       .options = tiny(),
       .act = clean,
       .before = leave_stale,
       .after = clean_unwatched,
       .others = Others::nothing,
       .rings_lost = true},
  };
}

SPILLWAY_SCENARIO("topic creation")
SPILLWAY_SCENARIO("topic creation, ephemeral")
SPILLWAY_SCENARIO("ring creation")
SPILLWAY_SCENARIO("ring creation, ephemeral")
SPILLWAY_SCENARIO("topic deletion")
SPILLWAY_SCENARIO("topic deletion, ephemeral")
SPILLWAY_SCENARIO("recovery")
SPILLWAY_SCENARIO("recovery, then the persister")
SPILLWAY_SCENARIO("cleaning up")
SPILLWAY_SCENARIO("topic creation, some calls fail")
SPILLWAY_SCENARIO("cleaning up, a stale ring")

}  // namespace spillway::test
