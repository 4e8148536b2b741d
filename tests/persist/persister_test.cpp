// The persister of a process: its thread, its waits, the election, and what becomes of the role when processes come
// and go.
#include "spillway/persist/persister.h"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <thread>

#include "spillway/ipc/space.h"
#include "spillway/persist/clean_stop.h"
#include "spillway/persist/role.h"
#include "support/catch.h"
#include "support/checked_queue.h"
#include "support/open_partition.h"

using namespace spillway;
using namespace spillway::test;

namespace {

Deadline patience() { return Deadline::after_ns(60'000'000'000); }

TopicOptions with(SyncPolicy sync) {
  TopicOptions options = tiny_topic();
  options.sync = sync;
  return options;
}

// Waits, looking now and then, for what another thread or process brings about.
template <class Ready>
bool eventually(Ready&& ready) {
  const Deadline deadline = patience();
  while (!ready()) {
    if (deadline.passed()) return false;
    pause_about(100'000);
  }
  return true;
}

std::string text_of(std::uint64_t i) { return numbered(i, 200); }

// Appends records [first, first + count), blocking while the ring is full.
Offset append(ExclusiveProducer& producer, std::uint64_t first, std::uint64_t count) {
  Offset end = 0;
  for (std::uint64_t i = first; i < first + count; ++i) {
    const Appended appended = producer.append(text_of(i));
    if (!appended) throw std::runtime_error("append failed: " + std::string(name_of(appended.blocked)));
    end = appended.end;
  }
  return end;
}

void check_disk(const OnDisk& disk, std::uint64_t count) {
  REQUIRE(disk.payloads.size() == count);
  CHECK(disk.gaps.empty());
  for (std::uint64_t i = 0; i < count; ++i) REQUIRE(disk.payloads[i] == text_of(i));
}

// A process that opens the partition, stands by, appends records, tells, and then lives until it is killed.
int writer_process(const OpenPlace& place, std::uint64_t first, std::uint64_t count, const Signal& ready, bool daemon) {
  return in_child([&] {
    const auto ring = place.open();
    Persister persister;
    persister.add(ring, {.daemon = daemon});
    if (count > 0) {
      ExclusiveProducer producer(ring, {});
      append(producer, first, count);
    }
    if (!eventually([&] { return persister.holds_role(*ring); })) return 1;
    ready.raise();
    for (;;) ::pause();
    return 0;
  });
}

}  // namespace

TEST_CASE("a producer streams laps through a small ring and its persister keeps up, by both paths", "[threads]") {
  const IoKind kind = GENERATE(IoKind::uring, IoKind::pwrite);
  const SyncPolicy sync = GENERATE(SyncPolicy::none, SyncPolicy::interval, SyncPolicy::every_batch);
  OpenPlace place(with(sync));
  const auto ring = place.open();
  Persister persister({.io = kind});
  persister.add(ring, {});
  ExclusiveProducer producer(ring, {});
  const Offset end = append(producer, 0, 5000);
  CHECK(persister.wait_written(*ring, end, patience()) == Durable::yes);
  CHECK(persister.wait_durable(*ring, end, patience()) == Durable::yes);
  CHECK(ring->control().persister.durable_end.load() >= end);
  CHECK(ring->control().persister.path.load() == persister.path());
  CHECK(persister.holds_role(*ring));
  check_disk(read_disk(place, ring), 5000);
}

TEST_CASE("a wait does the work on the caller's own thread when nobody else is at it", "[threads]") {
  OpenPlace place(with(SyncPolicy::none));
  const auto ring = place.open();
  Persister persister;
  persister.add(ring, {});
  ExclusiveProducer producer(ring, {});
  for (int i = 0; i < 50; ++i) {
    const Offset end = append(producer, static_cast<std::uint64_t>(i), 1);
    REQUIRE(persister.wait_durable(*ring, end, patience()) == Durable::yes);
  }
  check_disk(read_disk(place, ring), 50);
}

TEST_CASE("many threads wait for the disk at once, and each gets its answer", "[threads]") {
  OpenPlace place(with(SyncPolicy::interval));
  const auto ring = place.open();
  Persister persister;
  persister.add(ring, {});
  std::atomic<int> bad{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      SharedProducer producer(ring, {});
      for (int i = 0; i < 100; ++i) {
        const Appended appended = producer.append(bytes_of("x"));
        if (!appended || persister.wait_durable(*ring, appended.end, patience()) != Durable::yes) ++bad;
        if (ring->control().persister.durable_end.load() < appended.end) ++bad;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(bad == 0);
}

TEST_CASE("a wait ends at its deadline when nobody persists, and says why", "[threads]") {
  OpenPlace place(with(SyncPolicy::interval));
  const auto ring = place.open();
  Persister persister;
  persister.add(ring, {.stand_by = false});
  // Nobody has moved the horizon, but a new ring has a step of it.
  ExclusiveProducer producer(ring, {});
  const Offset end = append(producer, 0, 1);
  CHECK(persister.wait_durable(*ring, end, Deadline::after_ns(20'000'000)) == Durable::timed_out);
  CHECK(persister_blocked(*ring) == Blocked::no_persister);
  CHECK(persister.wait_durable(*ring, end, Deadline::now()) == Durable::timed_out);
  Persister other;
  other.add(ring, {});
  CHECK(persister.wait_durable(*ring, end, patience()) == Durable::yes);  // asks the other one
}

TEST_CASE("the role is taken over when its holder is killed, and nothing is missing", "[threads]") {
  OpenPlace place(with(SyncPolicy::interval));
  const Signal ready;
  const int first = writer_process(place, 0, 3000, ready, false);
  ready.await();
  const auto ring = place.open();
  Persister persister;
  persister.add(ring, {});
  CHECK_FALSE(persister.holds_role(*ring));
  CHECK(kill_and_wait(first) == 1000 + SIGKILL);
  REQUIRE(eventually([&] { return persister.holds_role(*ring); }));
  ExclusiveProducer producer(ring, {});
  const Offset end = append(producer, 3000, 1000);
  CHECK(persister.wait_durable(*ring, end, patience()) == Durable::yes);
  check_disk(read_disk(place, ring), 4000);
}

TEST_CASE("processes that write, persist and are killed at random leave one unbroken log", "[threads]") {
  OpenPlace place(with(SyncPolicy::interval));
  std::uint64_t next = 0;
  for (int i = 0; i < 12; ++i) {
    const Signal ready;
    const std::uint64_t count = 100 + static_cast<std::uint64_t>(i * 137 % 700);
    const int child = writer_process(place, next, count, ready, i % 3 == 0);
    ready.await();
    next += count;
    kill_and_wait(child);
  }
  const auto ring = place.open();
  Persister persister;
  persister.add(ring, {});
  REQUIRE(persister.drain(*ring, patience()) == Durable::yes);
  check_disk(read_disk(place, ring), next);
}

TEST_CASE("what a crash took is lost to those who wait for it with the next ring, and what it left is there") {
  const bool some = GENERATE(false, true);  // or nothing of the first ring comes to disk
  OpenPlace place(with(SyncPolicy::interval));
  Offset kept = 0, lost = 0;
  {
    const auto ring = place.open();
    ExclusiveProducer producer(ring, {});
    if (some) {
      Persister persister;
      persister.add(ring, {});
      kept = append(producer, 0, 10);
      REQUIRE(persister.wait_durable(*ring, kept, patience()) == Durable::yes);
    }
    lost = append(producer, 10, 10);
  }
  place.lose_ring();
  const auto ring = place.open();
  Persister persister;
  persister.add(ring, {});
  if (some) CHECK(persister.wait_durable(*ring, kept, patience()) == Durable::yes);
  CHECK(persister.wait_written(*ring, lost, patience()) == Durable::lost);
  CHECK(persister.wait_durable(*ring, lost, patience()) == Durable::lost);
  CHECK(persister.drain(*ring, patience()) == Durable::yes);
}

TEST_CASE("a producer in the slot of a daemon that was killed while it asked for the role is not taken for it") {
  OpenPlace place(with(SyncPolicy::interval));
  const Signal asked;
  const int daemon = in_child([&] {
    Role role(place.open(), true);
    role.ask();
    asked.raise();
    for (;;) ::pause();
    return 0;
  });
  asked.await();
  const auto ring = place.open();
  const Role holder(ring, false);
  CHECK(holder.asked_for());
  CHECK(kill_and_wait(daemon) == 1000 + SIGKILL);
  ExclusiveProducer producer(ring, {});
  CHECK(ring->control().slots[0].mode.load() == ProducerMode::exclusive);  // the scene: it is the daemon's slot
  CHECK_FALSE(holder.asked_for());
}

TEST_CASE("a daemon that asks gets the role, and one that is no daemon does not take it back", "[threads]") {
  OpenPlace place(with(SyncPolicy::interval));
  const auto ring = place.open();
  std::mutex mutex;
  std::vector<PersisterChange> changes;
  Persister persister({.on_event = [&](const PersisterEvent& e) {
    std::lock_guard lock(mutex);
    changes.push_back(e.change);
  }});
  persister.add(ring, {});
  ExclusiveProducer producer(ring, {});
  append(producer, 0, 500);
  REQUIRE(eventually([&] { return persister.holds_role(*ring); }));
  const Signal ready;
  const int daemon = writer_process(place, 0, 0, ready, true);
  ready.await();
  CHECK_FALSE(persister.holds_role(*ring));
  CHECK(ring->control().persister.daemon.load() == 1);
  CHECK(ring->control().persister.pid.load() == static_cast<std::uint32_t>(daemon));
  const Offset end = append(producer, 500, 500);
  CHECK(persister.wait_durable(*ring, end, patience()) == Durable::yes);  // by the daemon
  CHECK_FALSE(persister.holds_role(*ring));
  CHECK(kill_and_wait(daemon) == 1000 + SIGKILL);
  REQUIRE(eventually([&] { return persister.holds_role(*ring); }));
  const Offset last = append(producer, 1000, 10);
  CHECK(persister.wait_durable(*ring, last, patience()) == Durable::yes);
  check_disk(read_disk(place, ring), 1010);
  REQUIRE(eventually([&] {
    std::lock_guard lock(mutex);
    return changes.size() >= 3;
  }));
  std::lock_guard lock(mutex);
  CHECK(changes[0] == PersisterChange::took_role);
  CHECK(changes[1] == PersisterChange::handed_over);
  CHECK(changes[2] == PersisterChange::took_role);
}

TEST_CASE("a daemon that asks from a dead producer's slot does not keep the dead one's note alive") {
  OpenPlace place(with(SyncPolicy::interval));
  const auto ring = place.open();
  Role holder(ring, false);
  REQUIRE(holder.try_take(monotonic_ns()));
  ProducerSlot& slot = ring->control().slots[0];
  const Offset reserved = ring->control().claims.reserved_end.load();
  slot.end.store(reserved + 64);
  slot.start_state.store(reserved | static_cast<std::uint64_t>(NoteState::tentative));
  Role daemon(ring, true);
  daemon.ask();
  REQUIRE(LockProbe(ring->paths().slots_lock()).held(0));
  CHECK(slot.start_state.load() == 0);
}

TEST_CASE("a clean stop leaves everything on disk, the role free and, by the last one, the horizon trimmed",
          "[threads]") {
  OpenPlace place(with(GENERATE(SyncPolicy::none, SyncPolicy::interval)));
  auto ring = place.open();
  Offset reserved = 0;
  {
    Persister persister;
    persister.add(ring, {});
    ExclusiveProducer producer(ring, {});
    append(producer, 0, 700);
    producer.close();
    CHECK(persister.stop_cleanly(ring, patience()) == Durable::yes);
    CHECK_FALSE(LockProbe(place.paths().role_lock()).held(0));
    CHECK(ring->control().persister.state.load() == PersisterState::stopped);
    const auto other = place.open();
    CHECK_FALSE(seal_if_last(*ring));  // somebody else is attached
  }
  reserved = ring->control().claims.reserved_end.load();
  CHECK(seal_if_last(*ring));
  ring.reset();
  const auto slot = HorizonFile::peek(place.paths().data + "/horizon", place.config().id, 0);
  REQUIRE(slot);
  CHECK(slot->clean == 1);
  CHECK(slot->horizon == reserved);

  // Once more in the same ring: the mark of the clean stop goes before anything is handed out.
  ring = place.open();
  Persister persister;
  persister.add(ring, {});
  ExclusiveProducer producer(ring, {});
  const Offset end = append(producer, 700, 300);
  CHECK(persister.wait_durable(*ring, end, patience()) == Durable::yes);
  CHECK(HorizonFile::peek(place.paths().data + "/horizon", place.config().id, 0)->clean == 0);
  check_disk(read_disk(place, ring), 1000);
}

TEST_CASE("under policy none a wait for what a failed sync lost says so", "[threads]") {
  OpenPlace place(with(SyncPolicy::none));
  const auto ring = place.open();
  std::atomic<bool> failing{false};
  Persister persister({.make_queue = [&] {
    auto queue = std::make_unique<CheckedQueue>(IoKind::automatic);
    queue->fail = [&](CheckedQueue::What what) { return what == CheckedQueue::What::sync && failing ? EIO : 0; };
    return queue;
  }});
  persister.add(ring, {});
  ExclusiveProducer producer(ring, {});
  const Offset kept = append(producer, 0, 1);
  REQUIRE(persister.wait_durable(*ring, kept, patience()) == Durable::yes);
  failing = true;
  const Offset lost = append(producer, 1, 1);
  CHECK(persister.wait_durable(*ring, lost, patience()) == Durable::lost);
  CHECK(persister.wait_written(*ring, lost, patience()) == Durable::yes);
  CHECK(persister.wait_durable(*ring, kept, patience()) == Durable::yes);
  failing = false;
  const Offset later = append(producer, 2, 1);
  CHECK(persister.wait_durable(*ring, later, patience()) == Durable::yes);
  CHECK(persister.wait_durable(*ring, lost, patience()) == Durable::lost);
}

TEST_CASE("a wait for a record that was overwritten says lost, for one that was written yes", "[threads]") {
  TopicOptions options = with(SyncPolicy::interval);
  options.on_full = OnFull::overwrite;
  OpenPlace place(options);
  const auto ring = place.open();
  ExclusiveProducer producer(ring, {});
  std::vector<Offset> ends;
  for (std::uint64_t i = 0; i < 3000; ++i) ends.push_back(append(producer, i, 1));  // nobody persists yet
  Persister persister;
  persister.add(ring, {});
  CHECK(persister.wait_durable(*ring, ends.back(), patience()) == Durable::yes);
  CHECK(persister.wait_durable(*ring, ends[10], patience()) == Durable::lost);
  CHECK(persister.wait_written(*ring, ends[10], patience()) == Durable::lost);
  const OnDisk disk = read_disk(place, ring);
  REQUIRE_FALSE(disk.gaps.empty());
  CHECK(disk.gaps[0].from == ring->begin());
  CHECK(disk.payloads.back() == text_of(2999));
}

TEST_CASE("with more gaps than control notes, the segments still tell a late question", "[threads]") {
  TopicOptions options = with(SyncPolicy::interval);
  options.on_full = OnFull::overwrite;
  OpenPlace place(options);
  const auto ring = place.open();
  ExclusiveProducer producer(ring, {});
  const auto queue = make_io_queue(IoKind::automatic, 64);
  IoBuffers buffers(*queue);
  std::vector<PersisterEvent> events;
  PartitionPersister by_hand(ring, {*queue, buffers, events}, false);
  std::vector<Offset> ends;
  std::uint64_t next = 0;
  // A lap and a half, then a look of the persister, again and again.
  while (ring->control().persister.gap_count.load() < kGapNotices + 10) {
    for (int i = 0; i < 450; ++i) ends.push_back(append(producer, next++, 1));
    by_hand.ask_sync();
    do {
      by_hand.take_role(monotonic_ns());
      by_hand.step(monotonic_ns());
      queue->poll(1, Deadline::after_ns(1'000'000'000), [](const IoQueue::Completion& c) {
        IoOperation::of(c.tag).owner->io_completed(IoOperation::of(c.tag), c.error);
      });
    } while (ring->control().persister.durable_end.load() < ends.back());
  }
  Persister persister;
  persister.add(ring, {.stand_by = false});
  const OnDisk disk = read_disk(place, ring);
  REQUIRE(disk.gaps.size() > kGapNotices);
  CHECK(persister.wait_durable(*ring, disk.gaps[0].from + 216, Deadline::now()) == Durable::lost);
  const Offset on_disk = disk.offsets[5];  // behind the first gap, before most others
  CHECK(persister.wait_durable(*ring, on_disk + 1, Deadline::now()) == Durable::yes);

  // The oldest notice that is kept, when its replacement has begun (and perhaps ended there, with its process).
  GapNotice& oldest = ring->control().gaps[ring->control().persister.gap_count.load() % kGapNotices];
  const Offset lost_end = oldest.from.load() + 216;
  oldest.to.store(0);
  CHECK(persister.wait_durable(*ring, lost_end, Deadline::now()) == Durable::lost);

#if !defined(__SANITIZE_ADDRESS__)  // UndefinedBehaviorSanitizer needs a descriptor itself to look at an exception
  // What can't be read is neither there nor lost.
  rlimit before = {};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit none = {0, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  const Durable unread = persister.wait_durable(*ring, lost_end, Deadline::now());
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(unread == Durable::timed_out);
#endif
}

TEST_CASE("in a forked child the persister answers forked, and the parent's goes on", "[threads]") {
  OpenPlace place(with(SyncPolicy::interval));
  const auto ring = place.open();
  auto persister = std::make_unique<Persister>();
  persister->add(ring, {});
  ExclusiveProducer producer(ring, {});
  append(producer, 0, 100);
  const int child = in_child([&] {
    const bool forked = persister->wait_durable(*ring, 1, Deadline::now()) == Durable::forked &&
                        !persister->holds_role(*ring) && persister->path() == IoPath::none;
    persister->remove(ring);
    persister.reset();
    return forked ? 0 : 1;
  });
  CHECK(result_of(child) == 0);
  const Offset end = append(producer, 100, 2000);
  CHECK(persister->wait_durable(*ring, end, patience()) == Durable::yes);
  check_disk(read_disk(place, ring), 2100);
}

TEST_CASE("more partitions than a thread can sleep on are all persisted", "[threads]") {
  TopicOptions options = with(SyncPolicy::interval);
  options.partitions = 140;
  Place place;
  const TopicConfig config = make_topic_config("many", options);
  make_directory(place.data() + "/many", Sharing::owner);
  replace_file(place.data() + "/many/topic.json", to_json(config), Sharing::owner);
  Persister persister;
  std::vector<std::shared_ptr<Partition>> rings;
  std::vector<Offset> ends;
  for (std::uint32_t p = 0; p < config.partitions; ++p) {
    const PartitionPaths paths = PartitionPaths::of(place.shm(), place.data(), config, p);
    Partition::create_locks(paths, Sharing::owner);
    rings.push_back(open_for_writing(paths, config, p));
    persister.add(rings.back(), {});
  }
  for (const auto& ring : rings) {
    ExclusiveProducer producer(ring, {});
    ends.push_back(append(producer, 0, 3));
  }
  for (std::size_t i = 0; i < rings.size(); ++i) {
    CHECK(persister.wait_durable(*rings[i], ends[i], patience()) == Durable::yes);
  }
}

TEST_CASE("a persister can be destroyed at any time, and another takes over where it stopped", "[threads]") {
  OpenPlace place(with(SyncPolicy::interval));
  const auto ring = place.open();
  std::uint64_t next = 0;
  for (int i = 0; i < 10; ++i) {
    Persister persister;
    persister.add(ring, {});
    ExclusiveProducer producer(ring, {});
    append(producer, next, 300);
    next += 300;
  }
  Persister persister;
  persister.add(ring, {});
  REQUIRE(persister.drain(*ring, patience()) == Durable::yes);
  check_disk(read_disk(place, ring), next);
}
