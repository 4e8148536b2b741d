// One partition's persister, driven by hand: what it writes is what was appended, whatever fails and whoever dies.
#include "spillway/persist/partition_persister.h"

#include <signal.h>
#include <unistd.h>

#include "spillway/ipc/space.h"
#include "support/persister_rig.h"

using namespace spillway;
using namespace spillway::test;

TEST_CASE("what is appended comes to disk at its offset, many laps and segments long, by both paths") {
  const IoKind kind = GENERATE(IoKind::uring, IoKind::pwrite);
  const SyncPolicy sync = GENERATE(SyncPolicy::none, SyncPolicy::interval, SyncPolicy::every_batch);
  CAPTURE(static_cast<int>(kind), static_cast<int>(sync));
  Rig rig(with(sync), kind);
  std::mt19937_64 random(7);
  for (int i = 0; i < 3000; ++i) {
    if (random() % 50 == 0)
      rig.append_batch(1 + random() % 20, random() % 400);
    else
      rig.append(random() % 100 == 0 ? random() % 15'000 : random() % 300);
    if (random() % 20 == 0) rig.step();
  }
  REQUIRE(rig.sync_all());
  CHECK(rig.end > 5 * rig.place.config().segment_bytes);  // the scene: it rolled
  rig.check_disk(read_disk(rig.place, rig.ring), rig.payloads.size());
  CHECK(rig.area().records_written.load() == rig.payloads.size());
  CHECK(rig.written() >= rig.end);
  CHECK(rig.area().reclaimable_end.load() == align_down(rig.durable(), kBlock));
}

TEST_CASE("a persister dies at any instant: the next one goes on, and nothing is missing or torn") {
  const SyncPolicy sync = GENERATE(SyncPolicy::none, SyncPolicy::interval);
  const std::uint64_t seed = GENERATE(range<std::uint64_t>(1, 6));
  CAPTURE(seed, static_cast<int>(sync));
  Rig rig(with(sync));
  std::mt19937_64 random(seed);
  for (int i = 0; i < 2000; ++i) {
    rig.append(random() % 600);
    if (random() % 10 == 0) rig.step();
    if (random() % 50 == 0) rig.persister->ask_sync();
    if (random() % 60 == 0) {
      const Offset written = rig.written(), durable = rig.durable();
      rig.die();
      rig.start();
      rig.step();
      CHECK(rig.written() >= written);
      CHECK(rig.durable() >= durable);
    }
  }
  REQUIRE(rig.sync_all());
  rig.check_disk(read_disk(rig.place, rig.ring), rig.payloads.size());
}

// Method: what was written since the last sync is there, not there, or torn by sectors, as chance has it.
TEST_CASE("power is lost at any instant: what was durable is there, the log ends at a claim, offsets go on beyond") {
  const std::uint64_t seed = GENERATE(range<std::uint64_t>(1, 41));
  CAPTURE(seed);
  Rig rig(with(seed % 2 == 0 ? SyncPolicy::interval : SyncPolicy::none));
  std::mt19937_64 random(seed);
  const std::size_t count = 1 + random() % 1500;
  for (std::size_t i = 0; i < count; ++i) {
    if (random() % 30 == 0)
      rig.append_batch(1 + random() % 20, random() % 500);
    else
      rig.append(random() % (i % 100 < 50 ? 600 : 30));
    if (random() % 10 == 0) rig.step();
    if (random() % 30 == 0) rig.persister->ask_sync();
  }
  const Offset durable = rig.durable(), reserved = rig.ring->control().claims.reserved_end.load();
  rig.lose_power(random);
  const OnDisk disk = read_disk(rig.place, nullptr);
  rig.check_disk(disk, rig.records_before(durable));
  CHECK(disk.end >= durable);
  const auto ring = rig.place.open();
  CHECK(ring->begin() >= reserved);
  CHECK(ring->begin() % rig.place.config().segment_bytes == 0);
  const OnDisk again = read_disk(rig.place, ring);
  CHECK(again.payloads == disk.payloads);
}

TEST_CASE("a sync that fails moves nothing: all since the last one is written again from the ring") {
  Rig rig(with(SyncPolicy::interval));
  rig.append_many(100);
  REQUIRE(rig.sync_all());
  const Offset durable = rig.durable();
  int failures = 3;
  rig.queue->fail = [&](CheckedQueue::What what) {
    return what == CheckedQueue::What::sync && failures > 0 && failures-- > 0 ? EIO : 0;
  };
  rig.append_many(100);
  rig.persister->ask_sync();
  REQUIRE(rig.run_until([&] { return rig.area().error.load() == EIO; }));
  CHECK(rig.area().state.load() == PersisterState::io_error);
  CHECK(rig.durable() == durable);
  CHECK(rig.area().reclaimable_end.load() <= durable);
  const int before = rig.queue->count[CheckedQueue::What::log_bytes];
  REQUIRE(rig.sync_all());
  CHECK(rig.queue->count[CheckedQueue::What::log_bytes] > before);
  REQUIRE(rig.run_until([&] { return rig.area().state.load() == PersisterState::working; }));
  CHECK(rig.area().error.load() == 0);
  CHECK(rig.saw(PersisterChange::failed));
  CHECK(rig.saw(PersisterChange::cleared));
  CHECK(failures == 0);
  rig.check_disk(read_disk(rig.place, rig.ring), rig.payloads.size());
}

TEST_CASE("under policy none a failed sync loses exactly what it was to cover") {
  Rig rig(with(SyncPolicy::none));
  rig.append_many(50);
  REQUIRE(rig.sync_all());
  const Offset durable = rig.durable();
  bool failing = true;
  rig.queue->fail = [&](CheckedQueue::What what) { return what == CheckedQueue::What::sync && failing ? EIO : 0; };
  rig.append_many(50);
  const Offset end = rig.end;
  rig.persister->ask_sync();
  const LostRange& lost = rig.ring->control().lost[0];
  REQUIRE(rig.run_until([&] { return rig.area().lost_count.load() == 1; }));
  CHECK(lost.from.load() == durable);
  CHECK(lost.to.load() >= end);
  CHECK(rig.durable() == durable);
  failing = false;
  rig.append_many(10);
  REQUIRE(rig.sync_all());  // the disk works again: what comes after is durable
  CHECK(lost.to.load() < rig.end);
  REQUIRE(rig.run_until([&] { return rig.area().state.load() == PersisterState::working; }));
}

TEST_CASE("writes that fail are done again from the ring, data and index, and nothing is promised meanwhile") {
  const CheckedQueue::What what = GENERATE(CheckedQueue::What::log_bytes, CheckedQueue::What::index);
  const int error = GENERATE(EIO, ENOSPC);
  Rig rig(with(SyncPolicy::interval));
  rig.append_many(20);
  REQUIRE(rig.sync_all());
  int failures = 2;
  rig.queue->fail = [&](CheckedQueue::What w) { return w == what && failures > 0 && failures-- > 0 ? error : 0; };
  const Offset written = rig.written();
  rig.append_many(40);
  rig.persister->ask_write();
  REQUIRE(rig.run_until([&] { return rig.area().error.load() == error; }));
  CHECK(rig.area().state.load() == (error == ENOSPC ? PersisterState::no_space : PersisterState::io_error));
  CHECK(rig.written() == written);
  REQUIRE(rig.sync_all());
  CHECK(rig.area().state.load() == PersisterState::working);
  rig.check_disk(read_disk(rig.place, rig.ring), rig.payloads.size());
}

TEST_CASE("a random disk that fails now and then loses nothing of a topic that syncs") {
  const std::uint64_t seed = GENERATE(range<std::uint64_t>(1, 9));
  CAPTURE(seed);
  Rig rig(with(SyncPolicy::interval));
  std::mt19937_64 random(seed);
  int countdown = 100;
  rig.queue->fail = [&](CheckedQueue::What) {
    if (--countdown > 0) return 0;
    countdown = 50 + static_cast<int>(random() % 200);
    return EIO;
  };
  for (int i = 0; i < 1500; ++i) {
    rig.append(random() % 500);
    if (random() % 10 == 0) rig.step();
  }
  REQUIRE(rig.sync_all());
  rig.check_disk(read_disk(rig.place, rig.ring), rig.payloads.size());
}

TEST_CASE("nothing of a range is promised while its write is under way") {
  Rig rig(with(SyncPolicy::interval));
  rig.append_many(10);
  rig.queue->hold = true;
  rig.persister->ask_sync();
  for (int i = 0; i < 5; ++i) rig.step();
  CHECK(rig.persister->under_way() >= 2);  // bytes and index at once
  rig.append_many(10);
  rig.persister->ask_sync();
  for (int i = 0; i < 5; ++i) rig.step();  // the same block: must wait (violations are checked at the end)
  CHECK(rig.written() == rig.ring->begin());
  CHECK(rig.durable() == rig.ring->begin());
  rig.queue->hold = false;
  REQUIRE(rig.sync_all());
  rig.check_disk(read_disk(rig.place, rig.ring), rig.payloads.size());
}

TEST_CASE("a successor waits until the I/O of the dead is over, and gives no space back before") {
  Rig rig(with(SyncPolicy::interval));
  rig.append_many(10);
  REQUIRE(rig.sync_all());
  // A dead process' description that the kernel still holds for its I/O.
  const SegmentFile held = SegmentFile::open(rig.place.paths().data, LogIdentity::of(rig.place.config(), 0), 0,
                                             Access::read_write, FileIo::direct);
  rig.die();
  FileLock::try_lock_description(held.descriptor(), LockMode::exclusive);
  rig.start();
  const Offset reclaimable = rig.area().reclaimable_end.load();
  rig.append_many(100);
  for (int i = 0; i < 200; ++i) {
    rig.persister->ask_sync();
    rig.step();
  }
  CHECK(rig.persister->holds_role());
  CHECK(rig.queue->count.empty());
  CHECK(rig.area().reclaimable_end.load() == reclaimable);
  const_cast<SegmentFile&>(held).close();
  REQUIRE(rig.sync_all());
  rig.check_disk(read_disk(rig.place, rig.ring), rig.payloads.size());
}

TEST_CASE("the horizon stays half a step ahead, and a clean one is taken back") {
  Rig rig(with(SyncPolicy::interval));
  rig.append_many(1);
  rig.step();
  const auto slot = HorizonFile::peek(rig.place.paths().data + "/horizon", rig.place.config().id, 0);
  REQUIRE(slot);
  CHECK(slot->clean == 0);
  CHECK(slot->horizon == rig.area().horizon.load());
  CHECK(slot->horizon >= horizon_step(rig.place.config()) / 2);
}

TEST_CASE("the oldest segments go once there is more than is to be kept, and their files are used again") {
  TopicOptions options = with(SyncPolicy::interval);
  options.retain = 3 * 128 * kKiB;
  Rig rig(options);
  rig.append_many(12'000);
  REQUIRE(rig.sync_all());
  const std::uint64_t segment = rig.place.config().segment_bytes;
  const Offset retained = rig.area().retained_begin.load();
  CHECK(retained > 0);
  CHECK(retained % segment == 0);
  CHECK(rig.end - retained <= 3 * segment);
  std::size_t segments = 0, spares = 0;
  for (const auto& file : std::filesystem::directory_iterator(rig.place.paths().data)) {
    const std::string name = file.path().filename();
    if (name.ends_with(".log")) ++segments;
    if (name.starts_with(kSparePrefix)) ++spares;
  }
  CHECK(segments <= 3);
  CHECK(spares <= kSparesMax);
  const OnDisk disk = read_disk(rig.place, rig.ring, retained);
  REQUIRE_FALSE(disk.payloads.empty());
  CHECK(disk.payloads.back() == rig.payloads.back());
  const std::size_t first = rig.records_before(retained);
  CHECK(disk.payloads.size() == rig.payloads.size() - first);
}

namespace {

// Records of any size, in bursts from a few to several segments' worth between two looks of a persister that dies every
// `dies_each` bursts after less than `steps` steps. Afterwards every record is on disk or wholly inside a gap.
void outrun(std::uint64_t seed, SyncPolicy sync, std::uint64_t steps, std::uint64_t dies_each) {
  Rig rig(with(sync, OnFull::overwrite));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 40; ++round) {
    const std::size_t count = random() % 3 == 0 ? 500 + random() % 3000 : random() % 100;
    for (std::size_t i = 0; i < count; ++i) {
      if (random() % 40 == 0)
        rig.append_batch(1 + random() % 10, random() % 1000);
      else
        rig.append(random() % 300);
    }
    for (std::uint64_t i = random() % steps; i > 0; --i) rig.step();
    if (random() % dies_each == 0) {
      rig.die();
      rig.start();
    }
  }
  REQUIRE(rig.sync_all());
  const OnDisk disk = read_disk(rig.place, rig.ring);
  CHECK(disk.end >= rig.end);
  CHECK_FALSE(disk.gaps.empty());  // the scene
  // Gaps hold nothing that is on disk.
  std::size_t next = 0, gap = 0;
  for (std::size_t i = 0; i < rig.payloads.size(); ++i) {
    while (gap < disk.gaps.size() && disk.gaps[gap].to <= rig.offsets[i]) ++gap;
    const bool inside = gap < disk.gaps.size() && disk.gaps[gap].from <= rig.offsets[i];
    if (inside) {
      CHECK(disk.gaps[gap].cause == GapCause::overwritten);
      continue;
    }
    REQUIRE(next < disk.payloads.size());
    REQUIRE(disk.offsets[next] == rig.offsets[i]);
    REQUIRE(disk.payloads[next] == rig.payloads[i]);
    ++next;
  }
  CHECK(next == disk.payloads.size());
  CHECK(rig.area().gap_count.load() > 0);
  // The newest gaps are in control, too, for those who wait.
  const std::uint64_t notices = rig.area().gap_count.load();
  const GapNotice& newest = rig.ring->control().gaps[(notices - 1) % kGapNotices];
  CHECK(newest.to.load() > newest.from.load());
}

}  // namespace

TEST_CASE("a ring that was faster than the disk leaves exact gaps, split at segments, and everything else") {
  const std::uint64_t seed = GENERATE(range<std::uint64_t>(1, 9));
  CAPTURE(seed);
  outrun(seed, seed % 2 == 0 ? SyncPolicy::interval : SyncPolicy::none, 6, 5);
}

// What a holder wrote behind written_end, its successor replaces by a gap, and dies before the gap's entry is written: the
// entry of the first, which reached over both, proved nothing any more, and the third took what was written for damage.
TEST_CASE("holders that die one after the other over what was lapped leave nothing unproven") {
  const std::uint64_t seed = GENERATE(range<std::uint64_t>(1, 31));
  CAPTURE(seed);
  outrun(seed, seed % 2 == 0 ? SyncPolicy::interval : SyncPolicy::none, 4, 1);
}

TEST_CASE("a dead shared producer's claim is closed by the holder of the role, and the rest goes to disk") {
  Rig rig(with(SyncPolicy::interval));
  const Signal claimed;
  const int child = in_child([&] {
    SharedProducer producer(Partition::attach(rig.place.paths(), rig.place.config(), 0, Access::read_write), {});
    producer.append(bytes_of(numbered(0)));
    auto claim = producer.claim(1000, {});
    claimed.raise();
    ::pause();
    return 0;
  });
  claimed.await();
  SharedProducer producer(rig.ring, {});
  REQUIRE(producer.append(bytes_of(numbered(1))));
  const Appended last = producer.append(bytes_of(numbered(2)));
  REQUIRE(last);
  for (int i = 0; i < 50; ++i) {
    rig.persister->ask_sync();
    rig.step();
  }
  CHECK(rig.durable() < last.position.offset);  // the scene: the claim's owner lives, and holds the others up
  CHECK(kill_and_wait(child) == 1000 + SIGKILL);
  REQUIRE(rig.run_until([&] {
    rig.persister->ask_sync();
    return rig.durable() >= last.end;
  }));
  CHECK(rig.ring->control().commits.committed_end.load() >= last.end);
  const OnDisk disk = read_disk(rig.place, rig.ring);
  CHECK(disk.payloads == std::vector<std::string>{numbered(0), numbered(1), numbered(2)});
}

TEST_CASE("a ring whose bytes can't be right stops the persister with a reason, not the process") {
  Rig rig(with(SyncPolicy::interval));
  rig.append_many(20);
  REQUIRE(rig.sync_all());
  rig.append_many(5);
  RecordHeader& header = *rig.ring->header_at(rig.offsets.back());
  const std::uint64_t good = header.meta.load();
  header.meta.store(RecordMeta{0xFFFFFFF0U, 0, RecordKind::data, 0}.pack());
  rig.persister->ask_sync();
  REQUIRE(rig.run_until([&] { return rig.area().state.load() == PersisterState::io_error; }));
  CHECK(rig.area().error.load() == EBADMSG);
  header.meta.store(good);
  REQUIRE(rig.sync_all());
  CHECK(rig.area().state.load() == PersisterState::working);
}

TEST_CASE("control's watermarks are not believed when they can't be right") {
  Rig rig(with(SyncPolicy::interval));
  rig.append_many(20);
  REQUIRE(rig.sync_all());
  rig.die();
  const Offset written = rig.written();
  rig.area().written_end.store(written + (1 << 30));
  rig.start();
  REQUIRE(rig.run_until([&] { return rig.area().state.load() == PersisterState::io_error; }));
  CHECK(rig.area().error.load() == EBADMSG);
  rig.area().written_end.store(written);
  rig.append_many(5);
  REQUIRE(rig.sync_all());
  rig.check_disk(read_disk(rig.place, rig.ring), rig.payloads.size());
}

TEST_CASE("a full disk is a state and not an end: it goes on when there is room", "[serial]") {
  Rig rig(with(SyncPolicy::interval));
  // One segment of 128 KiB fits twice, a third does not.
  SmallDisk disk(rig, "400k");
  if (!disk.mounted()) SPILLWAY_SKIP("can't mount a tmpfs here");
  rig.append_until([&] { return rig.area().state.load() == PersisterState::no_space; });
  CHECK(rig.area().error.load() == ENOSPC);
  REQUIRE(disk.grow("100m"));
  rig.append_many(200);
  REQUIRE(rig.sync_all());
  CHECK(rig.area().state.load() == PersisterState::working);
  rig.check_disk(read_disk(rig.place, rig.ring), rig.payloads.size());
}
