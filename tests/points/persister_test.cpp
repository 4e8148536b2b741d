// Goal: the persister role moves on from a holder that dies at any store or I/O; what it had promised holds, and what it had
// only begun does no harm.
// Method: run.h. The I/O is real: through io_uring or pwrite, to a disk where a scenario says so.
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "points/scenarios.h"
#include "spillway/core/clock.h"
#include "spillway/core/disk.h"
#include "spillway/persist/lifecycle.h"
#include "spillway/persist/persister.h"
#include "spillway/persist/topic_state.h"
#include "support/place.h"

namespace spillway::test {
namespace {

using namespace std::chrono_literals;

TopicOptions with(SyncPolicy sync) {
  TopicOptions options = tiny();
  options.sync = sync;
  return options;
}
TopicOptions rolling() {
  return {.ring = 64 * kKiB, .segment = 64 * kKiB, .retain = 192 * kKiB, .sync = SyncPolicy::every_batch};
}
TopicOptions aging() {
  return {.ring = 64 * kKiB, .segment = 64 * kKiB, .retain_age_s = 3600, .sync = SyncPolicy::every_batch};
}
TopicOptions overwriting() {
  TopicOptions options = tiny();
  options.on_full = OnFull::overwrite;
  return options;
}

// A process that takes the role, writes and syncs.
void persist(Scene& scene) {
  scene.arm();
  const Domain domain = scene.domain();
  const Topic topic = scene.topic(domain);
  auto producer = topic.shared_producer(kPatient);
  Appended appended = scene.append(producer, kVictim, 3000);
  scene.wait_written(topic, appended.end);
  scene.append(producer, kVictim, 100);
  appended = scene.append(producer, kVictim, 7000);
  scene.wait_durable(topic, appended.end);
}
void persist_by_pwrite(Scene& scene) {
  ::setenv("SPILLWAY_IO", "pwrite", 1);
  persist(scene);
}

// Segments are made, filled, sealed, expired and recycled.
void roll(Scene& scene) {
  scene.arm();
  const Domain domain = scene.domain();
  const Topic topic = scene.topic(domain);
  auto producer = topic.exclusive_producer(kPatient);
  for (int i = 0; i < 120; ++i) {
    const Appended appended = scene.append(producer, kVictim, 3000);
    if (i % 20 == 19) scene.wait_durable(topic, appended.end);
  }
}

// Segments expire because they are too old, by a clock that is hours ahead of that by which they were filled.
void fill_segments(Scene& scene) {
  const Domain domain = scene.domain();
  const Topic topic = scene.topic(domain);
  auto producer = topic.exclusive_producer(kPatient);
  Appended appended;
  for (int i = 0; i < 100; ++i) appended = scene.append(producer, kHelper, 3000);
  scene.wait_durable(topic, appended.end);
  // A cursor is asked before anything goes; this one needs nothing any more.
  Consumer archiver = topic.consumer({.cursor = "archiver"});
  while (archiver.offset(0) < appended.end) archiver.poll(std::chrono::milliseconds(10), [](const Record&) {});
  if (archiver.ack() != 0) fail("the cursor was not stored");
}
void let_age(Scene& scene) {
  skip_uptime(7'200'000'000'000);
  scene.arm();
  const Domain domain = scene.domain();
  const Topic topic = scene.topic(domain);
  const auto partition = topic.state().writing(0);
  const auto expired = [&] { return scene.ends().retained > 0; };
  if (!points::is_copy() && !eventually(expired)) fail("nothing expired");
  // Shared, because who looks whether the log goes on may come before it.
  auto producer = topic.shared_producer(kPatient);
  scene.wait_durable(topic, scene.append(producer, kVictim, 3000).end);
}

void wait_for_another(Scene& scene) {
  const Domain domain = scene.domain(StandBy::never);
  const Topic topic = scene.topic(domain);
  auto producer = topic.shared_producer(kPatient);
  const Appended appended = scene.append(producer, kVictim, 3000);
  scene.arm();
  scene.wait_durable(topic, appended.end);
}

// A holder dies after it wrote what it had not told, or synced.
template <bool kShared>
void dead_holder(Scene& scene) {
  result_of(in_child([&] {
    const Domain domain = scene.domain();
    const Topic topic = scene.topic(domain);
    const auto work = [&](auto producer) {
      Appended appended;
      for (int i = 0; i < 4; ++i) appended = scene.append(producer, kHelper, 5000);
      scene.wait_written(topic, appended.end);
      scene.append(producer, kHelper, 700);
      ::kill(::getpid(), SIGKILL);
    };
    if constexpr (kShared)
      work(topic.shared_producer(kPatient));
    else
      work(topic.exclusive_producer(kPatient));
    return 0;
  }));
}

// The ring has been overwritten more than once, and nobody wrote it to disk.
void lap(Scene& scene) {
  dead_holder<false>(scene);
  const Domain domain = scene.domain(StandBy::never);
  auto producer = scene.topic(domain).exclusive_producer();
  for (int i = 0; i < 70; ++i) scene.append(producer, kHelper, 3000);
}
void take_over_alone(Scene& scene) {
  scene.arm();
  const Domain domain = scene.domain();
  const Topic topic = scene.topic(domain);
  const auto partition = topic.state().writing(0);
  const Offset end = scene.ends().committed;
  static_cast<void>(topic.wait_durable(0, end, 20s));
}

void repair(Scene& scene) {
  scene.arm();
  const Domain domain = scene.domain();
  const Topic topic = scene.topic(domain);
  auto producer = topic.shared_producer(kPatient);
  const Appended appended = scene.append(producer, kVictim, 300);
  scene.wait_written(topic, appended.end);
}
void dead_claim_beside(Scene& scene) {
  const Domain domain = scene.domain(StandBy::never);
  auto producer = scene.topic(domain).shared_producer(kPatient);
  dead_claim(scene);
  scene.append(producer, kHelper, 300);
  scene.ready();
  scene.await_end();
}

bool daemon_holds(Scene& scene) {
  return scene.word("control", offsetof(Control, persister) + offsetof(PersisterArea, daemon)) != 0;
}
void be_daemon(Scene& scene) {
  scene.arm();
  const auto partition = open_for_writing(scene.paths(), scene.config(), 0);
  Persister persister;
  persister.add(partition, {.daemon = true});
  if (!points::is_copy() && !eventually([&] { return persister.holds_role(*partition); })) fail("no role for a daemon");
}
void daemon_beside(Scene& scene) {
  const Domain domain = scene.domain(StandBy::never);
  auto producer = scene.topic(domain).shared_producer(kPatient);
  scene.append(producer, kHelper, 60);
  const auto partition = open_for_writing(scene.paths(), scene.config(), 0);
  scene.ready();
  constexpr std::size_t state = offsetof(Control, persister) + offsetof(PersisterArea, state);
  while (!scene.ended() && scene.word("control", state) == 0) {
  }
  Persister persister;
  persister.add(partition, {.daemon = true});
  scene.await_end();
}
void hand_over(Scene& scene) {
  scene.arm();
  const Domain domain = scene.domain();
  const Topic topic = scene.topic(domain);
  auto producer = topic.shared_producer(kPatient);
  scene.append(producer, kVictim, 300);
  if (!points::is_copy() && !eventually([&] { return daemon_holds(scene); })) fail("the role was not let go");
}

// A disk that fails a sync, and is well again.
class BadSync final : public disk::Watch {
 public:
  int before(disk::Step& step) noexcept override {
    const bool strikes = on && step.call == disk::Call::sync && step.data_only;
    failures += strikes ? 1 : 0;
    return strikes ? EIO : 0;
  }
  void after(const disk::Step&, int) noexcept override {}
  std::atomic<bool> on{false};
  std::atomic<int> failures{0};
};
void fail_to_sync(Scene& scene) {
  ::setenv("SPILLWAY_IO", "pwrite", 1);
  static BadSync bad;
  disk::watch(&bad);
  const Domain domain = scene.domain();
  const Topic topic = scene.topic(domain);
  auto producer = topic.shared_producer(kPatient);
  scene.wait_durable(topic, scene.append(producer, kVictim, 300).end);
  scene.arm();
  bad.on = true;
  const Appended lost = scene.append(producer, kVictim, 300);
  static_cast<void>(topic.wait_durable(0, lost.end, 2s));
  bad.on = false;
  if (points::is_copy()) return;
  const Appended appended = scene.append(producer, kVictim, 300);
  if (bad.failures == 0) fail("no sync failed");
  scene.wait_durable(topic, appended.end);
}

// Making segments fails in each way, and then does not.
void fail_to_make_segments(Scene& scene) {
  using disk::Call;
  const Domain domain = scene.domain();
  const Topic topic = scene.topic(domain);
  auto producer = topic.shared_producer(kPatient);
  static BadDisk bad({{Call::allocate, ENOSPC},
                      {Call::rename, EEXIST, ".log"},
                      {Call::rename, EIO, ".log"},
                      {Call::rename, EINVAL, ".log"},
                      {Call::sync, EIO},
                      {Call::allocate, ENOSPC}});
  scene.arm();
  Appended appended;
  for (int i = 0; i < 100; ++i) appended = scene.append(producer, kVictim, 3000);
  scene.wait_durable(topic, appended.end);
  if (!points::is_copy() && !bad.all_refused()) fail("the disk was not asked for what it refuses");
}

void stop_cleanly(Scene& scene) {
  const Domain domain = scene.domain();
  Topic topic = scene.topic(domain);
  auto producer = topic.shared_producer(kPatient);
  for (int i = 0; i < 3; ++i) scene.append(producer, kVictim, 3000);
  producer.close();
  scene.arm();
  scene.close(topic);
}
void stop_before(Scene& scene) {
  const Domain domain = scene.domain();
  Topic topic = scene.topic(domain);
  {
    auto producer = topic.shared_producer(kPatient);
    scene.append(producer, kHelper, 300);
  }
  scene.close(topic);
}

}  // namespace

std::vector<Scenario> persister_scenarios() {
  std::vector<Scenario> all = {
      {.name = "persister, pwrite",
       .options = with(SyncPolicy::interval),
       .act = persist_by_pwrite,
       .beside = shared_beside_without_role,
       .every = 2},
      {.name = "persister, segments roll and are recycled",
       .options = rolling(),
       .act = roll,
       .others = Others::read,
       .gaps = {GapCause::expired},
       .every = 2},
      {.name = "persister, segments roll on disk",
       .options = rolling(),
       .act = roll,
       .others = Others::read,
       .gaps = {GapCause::expired},
       .on_disk = true,
       .every = 8},
      {.name = "persister, segments are too old",
       .options = aging(),
       .act = let_age,
       .before = fill_segments,
       .others = Others::read,
       .gaps = {GapCause::expired},
       .every = 2},
      {.name = "waiting for another process's persister",
       .options = tiny(),
       .act = wait_for_another,
       .beside = shared_beside},
      {.name = "persister, taking over from a dead one",
       .options = with(SyncPolicy::interval),
       .act = persist,
       .before = dead_holder<true>,
       .beside = shared_beside_without_role,
       .on_disk = true,
       .every = 4},
      {.name = "persister, taking over without syncs",
       .options = with(SyncPolicy::none),
       .act = persist,
       .before = dead_holder<true>,
       .beside = shared_beside_without_role,
       .every = 2},
      {.name = "persister, taking over what was overwritten",
       .options = overwriting(),
       .act = take_over_alone,
       .before = lap,
       .others = Others::nothing,
       .gaps = {GapCause::overwritten},
       .exclusive_end = true,
       .every = 2},
      {.name = "persister, repairing",
       .options = tiny(),
       .act = repair,
       .beside = dead_claim_beside,
       .others = Others::read_committed},
      {.name = "persister, a daemon asks for the role", .options = tiny(), .act = be_daemon, .beside = shared_beside},
      {.name = "persister, handing over to a daemon", .options = tiny(), .act = hand_over, .beside = daemon_beside},
      {.name = "persister, a sync fails", .options = with(SyncPolicy::none), .act = fail_to_sync, .every = 2},
      {.name = "persister, segments can't be made",
       .options = tiny(),
       .act = fail_to_make_segments,
       .others = Others::read,
       .every = 40},
      {.name = "clean stop", .options = tiny(), .act = stop_cleanly, .others = Others::read},
      {.name = "persister, after a clean stop",
       .options = tiny(),
       .act = persist,
       .before = stop_before,
       .others = Others::read,
       .every = 8},
  };
  for (const SyncPolicy sync : {SyncPolicy::none, SyncPolicy::interval, SyncPolicy::every_batch}) {
    all.push_back({.name = "persister, sync " + std::string(name_of(sync)),
                   .options = with(sync),
                   .act = persist,
                   .beside = shared_beside_without_role,
                   .on_disk = sync == SyncPolicy::interval,
                   .every = sync == SyncPolicy::interval ? 4U : 2U});
  }
  return all;
}

SPILLWAY_SCENARIO("persister, pwrite")
SPILLWAY_SCENARIO("persister, segments roll and are recycled")
SPILLWAY_SCENARIO("persister, segments roll on disk")
SPILLWAY_SCENARIO("persister, segments are too old")
SPILLWAY_SCENARIO("waiting for another process's persister")
SPILLWAY_SCENARIO("persister, taking over from a dead one")
SPILLWAY_SCENARIO("persister, taking over without syncs")
SPILLWAY_SCENARIO("persister, taking over what was overwritten")
SPILLWAY_SCENARIO("persister, repairing")
SPILLWAY_SCENARIO("persister, a daemon asks for the role")
SPILLWAY_SCENARIO("persister, handing over to a daemon")
SPILLWAY_SCENARIO("persister, a sync fails")
SPILLWAY_SCENARIO("persister, segments can't be made")
SPILLWAY_SCENARIO("clean stop")
SPILLWAY_SCENARIO("persister, after a clean stop")
SPILLWAY_SCENARIO("persister, sync none")
SPILLWAY_SCENARIO("persister, sync interval")
SPILLWAY_SCENARIO("persister, sync every_batch")

}  // namespace spillway::test
