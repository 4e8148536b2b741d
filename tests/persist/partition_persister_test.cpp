// One partition's persister, driven by hand: what it writes is what was appended, whatever fails and whoever dies.
#include "spillway/persist/partition_persister.h"

#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <random>

#include "spillway/ipc/space.h"
#include "support/catch.h"
#include "support/checked_queue.h"
#include "support/open_partition.h"

using namespace spillway;
using namespace spillway::test;

namespace {

constexpr std::uint64_t kPatienceNs = 60'000'000'000;

// A partition, its only producer, and a persister that does a step whenever it is told to.
struct Rig {
  explicit Rig(const TopicOptions& options, IoKind wanted_kind = IoKind::automatic)
      : place(options), kind(wanted_kind), ring(place.open()) {
    start();
  }
  ~Rig() {
    if (queue) REQUIRE(finish_io());
    CHECK(violations == std::vector<std::string>{});
  }

  void start() {
    queue = std::make_unique<CheckedQueue>(kind);
    queue->segment_bytes = place.config().segment_bytes;
    queue->durable_end = [this] { return durable(); };
    buffers = std::make_unique<IoBuffers>(*queue);
    persister = std::make_unique<PartitionPersister>(ring, PartitionPersister::Shared{*queue, *buffers, events}, false);
  }
  // What the death of the persister's process does: nothing is finished, I/O under way may still land.
  void die() {
    queue->hold = false;
    violations.insert(violations.end(), queue->violations.begin(), queue->violations.end());
    // The locks of a dead process' segments go when its last I/O is over; so they do here.
    queue->wait_all(Deadline::after_ns(kPatienceNs));
    persister.reset();
    buffers.reset();
    queue.reset();
  }
  void lose_power(std::mt19937_64& random) {
    producer.reset();
    queue->hold = false;
    queue->wait_all(Deadline::after_ns(kPatienceNs));
    queue->lose_power(random);
    die();
    ring.reset();
    place.lose_ring();
  }
  bool finish_io() {
    queue->hold = false;
    for (int i = 0; i < 10'000 && persister && persister->under_way() > 0; ++i) poll(1);
    violations.insert(violations.end(), queue->violations.begin(), queue->violations.end());
    queue->violations.clear();
    return !persister || persister->under_way() == 0;
  }
  void poll(std::size_t count) {
    queue->poll(count, Deadline::after_ns(1'000'000'000), [](const IoQueue::Completion& c) {
      IoOperation& operation = IoOperation::of(c.tag);
      operation.owner->io_completed(operation, c.error);
    });
  }
  void step() {
    if (!persister->holds_role()) persister->take_role(monotonic_ns());
    persister->step(monotonic_ns());
    if (!queue->hold) poll(queue->in_flight() > 0 ? 1 : 0);
  }
  template <class Ready>
  bool run_until(Ready&& ready) {
    const Deadline deadline = Deadline::after_ns(kPatienceNs);
    while (!ready()) {
      if (deadline.passed()) return false;
      step();
    }
    return true;
  }
  Offset durable() const { return area().durable_end.load(); }
  Offset written() const { return area().written_end.load(); }
  PersisterArea& area() const { return ring->control().persister; }
  bool sync_all() {
    return run_until([&] {
      persister->ask_sync();
      return durable() >= end;
    });
  }

  ExclusiveProducer& appender() {
    if (!producer) producer.emplace(ring, ProducerOptions{.partition = 0, .deadline_ns = 0});
    return *producer;
  }
  // Appends record `count`, stepping the persister while there is no room.
  void append(std::size_t bytes = 100) {
    const std::string text = numbered(payloads.size(), bytes);
    const Deadline deadline = Deadline::after_ns(kPatienceNs);
    for (;;) {
      const Appended appended = appender().append(text);
      if (appended) {
        payloads.push_back(text);
        offsets.push_back(appended.position.offset);
        end = appended.end;
        return;
      }
      REQUIRE(appended.status == AppendStatus::full);
      REQUIRE_FALSE(deadline.passed());
      step();
    }
  }
  void append_many(std::size_t count, std::size_t bytes = 100) {
    for (std::size_t i = 0; i < count; ++i) append(bytes);
  }
  void append_batch(std::size_t count, std::size_t bytes) {
    std::vector<std::string> texts;
    std::vector<RecordInput> inputs;
    for (std::size_t i = 0; i < count; ++i) texts.push_back(numbered(payloads.size() + i, bytes));
    for (const std::string& text : texts) inputs.push_back({bytes_of(text), {}});
    Appended appended;
    const Deadline deadline = Deadline::after_ns(kPatienceNs);
    while (!(appended = appender().append_batch(inputs))) {
      REQUIRE(appended.status == AppendStatus::full);
      REQUIRE_FALSE(deadline.passed());
      step();
    }
    Offset at = appended.position.offset;
    for (const std::string& text : texts) {
      payloads.push_back(text);
      offsets.push_back(at);
      at += record_bytes(text.size());
    }
    end = appended.end;
  }
  // Everything appended up to `count` records is on disk, byte for byte and at its offset.
  void check_disk(const OnDisk& disk, std::size_t count) {
    REQUIRE(disk.payloads.size() >= count);
    REQUIRE(disk.payloads.size() <= payloads.size());
    CHECK(disk.gaps.empty());
    CHECK(std::equal(disk.payloads.begin(), disk.payloads.end(), payloads.begin()));
    CHECK(std::equal(disk.offsets.begin(), disk.offsets.end(), offsets.begin()));
  }
  std::size_t records_before(Offset offset) const {
    return static_cast<std::size_t>(
        std::count_if(offsets.begin(), offsets.end(), [&](Offset o) { return o < offset; }));
  }
  bool saw(PersisterChange change) const {
    return std::any_of(events.begin(), events.end(), [&](const PersisterEvent& e) { return e.change == change; });
  }

  OpenPlace place;
  IoKind kind;
  std::shared_ptr<Partition> ring;
  std::unique_ptr<CheckedQueue> queue;
  std::unique_ptr<IoBuffers> buffers;
  std::vector<PersisterEvent> events;
  std::unique_ptr<PartitionPersister> persister;
  std::optional<ExclusiveProducer> producer;
  std::vector<std::string> violations;
  std::vector<std::string> payloads;
  std::vector<Offset> offsets;
  Offset end = 0;
};

TopicOptions with(SyncPolicy sync, OnFull on_full = OnFull::block) {
  TopicOptions options = tiny_topic();
  options.sync = sync;
  options.sync_interval_ms = 5;
  options.on_full = on_full;
  return options;
}

}  // namespace

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
  REQUIRE(rig.run_until([&] { return rig.area().lost_end.load() != 0; }));
  CHECK(rig.area().lost_begin.load() == durable);
  CHECK(rig.area().lost_end.load() >= end);
  CHECK(rig.durable() == durable);
  failing = false;
  rig.append_many(10);
  REQUIRE(rig.sync_all());  // the disk works again: what comes after is durable
  CHECK(rig.area().lost_end.load() < rig.end);
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

TEST_CASE("a ring that was faster than the disk leaves exact gaps, split at segments, and everything else") {
  const std::uint64_t seed = GENERATE(range<std::uint64_t>(1, 9));
  CAPTURE(seed);
  Rig rig(with(seed % 2 == 0 ? SyncPolicy::interval : SyncPolicy::none, OnFull::overwrite));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 40; ++round) {
    // From a few records to several segments' worth between two looks of the persister.
    const std::size_t count = random() % 3 == 0 ? 500 + random() % 3000 : random() % 100;
    for (std::size_t i = 0; i < count; ++i) {
      if (random() % 40 == 0)
        rig.append_batch(1 + random() % 10, random() % 1000);
      else
        rig.append(random() % 300);
    }
    for (std::uint64_t i = random() % 6; i > 0; --i) rig.step();
    if (random() % 5 == 0) {
      rig.die();
      rig.start();
    }
  }
  REQUIRE(rig.sync_all());
  const OnDisk disk = read_disk(rig.place, rig.ring);
  CHECK(disk.end >= rig.end);
  CHECK_FALSE(disk.gaps.empty());  // the scene
  // Every record is on disk or wholly inside a gap, and gaps hold nothing that is on disk.
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
  const std::string data = rig.place.paths().data;
  // The partition's directory on a small file system of its own; the lock and horizon files move with it.
  rig.die();
  rig.ring.reset();
  const std::string aside = rig.place.place().data() + "/aside";
  std::filesystem::copy(data, aside, std::filesystem::copy_options::recursive);
  if (::mount("none", data.c_str(), "tmpfs", 0, "size=400k,mode=0700") != 0) SPILLWAY_SKIP("can't mount a tmpfs here");
  struct Unmount {
    std::string path;
    ~Unmount() { ::umount2(path.c_str(), MNT_DETACH); }
  } unmount{data};
  std::filesystem::copy(aside, data, std::filesystem::copy_options::recursive);
  rig.ring = rig.place.open();
  rig.start();
  // The ring's own room: one segment of 128 KiB fits twice, a third does not.
  const Deadline deadline = Deadline::after_ns(kPatienceNs);
  while (rig.area().state.load() != PersisterState::no_space) {
    REQUIRE_FALSE(deadline.passed());
    const std::string text = numbered(rig.payloads.size());
    const Appended appended = rig.appender().append(text);
    if (appended) {
      rig.payloads.push_back(text);
      rig.offsets.push_back(appended.position.offset);
      rig.end = appended.end;
    }
    rig.step();
  }
  CHECK(rig.area().error.load() == ENOSPC);
  REQUIRE(::mount("none", data.c_str(), "tmpfs", MS_REMOUNT, "size=100m,mode=0700") == 0);
  rig.append_many(200);
  REQUIRE(rig.sync_all());
  CHECK(rig.area().state.load() == PersisterState::working);
  rig.check_disk(read_disk(rig.place, rig.ring), rig.payloads.size());
  REQUIRE(rig.finish_io());
  rig.die();
  rig.producer.reset();
  rig.ring.reset();
}
