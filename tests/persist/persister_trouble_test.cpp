// What once went wrong with the persister when the disk was slow, full or failing, when the ring's bytes were bad, or
// when another held the role before.
#include <fstream>

#include "spillway/core/disk.h"
#include "spillway/persist/persister.h"
#include "support/persister_rig.h"

using namespace spillway;
using namespace spillway::test;

namespace {

constexpr std::uint64_t kSegment = 128 * kKiB;  // of tiny_topic()

// A topic that syncs when it is asked to, and not by the clock.
TopicOptions on_demand(OnFull on_full = OnFull::block) {
  TopicOptions options = with(SyncPolicy::interval, on_full);
  options.sync_interval_ms = 3'600'000;
  return options;
}

// ... and nobody has asked for more than that.
void sync_all(Rig& rig) {
  REQUIRE(rig.sync_all());
  rig.step();
}

// Written, and not synced if only done on demand.
void write_all(Rig& rig) {
  REQUIRE(rig.run_until([&] {
    rig.persister->ask_write();
    return rig.written() >= rig.end;
  }));
}

// Segments, spares and those being made.
std::size_t files_of_segments(const Rig& rig) {
  std::size_t count = 0;
  for (const std::string& name : list_directory(rig.place.paths().data)) {
    count += name.ends_with(".log") || name.starts_with(kSparePrefix) || name.starts_with(kMakingPrefix) ? 1U : 0U;
  }
  return count;
}

std::string path_of_segment(const Rig& rig, Offset base) { return rig.place.paths().data + "/" + segment_name(base); }

Durable waited(Rig& rig, Offset end) {
  Persister other;
  other.add(rig.ring, {.stand_by = false});
  return other.wait_durable(*rig.ring, end, Deadline::now());
}

}  // namespace

TEST_CASE("a busy producer that always wants the newest record synced does not keep the others from it") {
  Rig rig(with(SyncPolicy::interval, OnFull::overwrite));
  for (int i = 0; i < 500 && rig.durable() == 0; ++i) {
    rig.append(1000);
    rig.area().sync_wanted.fetch_add(1);
    rig.step();
  }
  CHECK(rig.durable() > 0);
}

TEST_CASE("what is written is synced although the next segment can't be made") {
  Rig rig(on_demand());
  while (rig.end < kSegment - 8 * kKiB) rig.append();
  REQUIRE(rig.sync_all());
  std::filesystem::create_directory(path_of_segment(rig, kSegment));
  while (rig.end < kSegment + 4 * kKiB) rig.append();
  rig.persister->ask_sync();
  REQUIRE(rig.run_until([&] { return rig.area().error.load() == EEXIST; }));
  for (int i = 0; i < 200; ++i) rig.step();
  CHECK(rig.durable() == kSegment);
  std::filesystem::remove(path_of_segment(rig, kSegment));
  REQUIRE(rig.sync_all());
  rig.check_disk(read_disk(rig.place, rig.ring), rig.payloads.size());
}

// Once a segment has got its name nothing can be synced or removed any more, until that is healed.
class FailingBirth final : public disk::Watch {
 public:
  FailingBirth() { disk::watch(this); }
  ~FailingBirth() override { disk::watch(nullptr); }
  FailingBirth(const FailingBirth&) = delete;
  FailingBirth& operator=(const FailingBirth&) = delete;
  int before(disk::Step& step) noexcept override {
    if (step.call == disk::Call::rename) born_ = born_ || std::string_view(step.to).ends_with(".log");
    return born_ && (step.call == disk::Call::sync || step.call == disk::Call::unlink) ? EIO : 0;
  }
  void after(const disk::Step& /*step*/, int /*error*/) noexcept override {}

 private:
  bool born_ = false;
};

TEST_CASE("a new segment that could neither be finished nor removed is taken over") {
  Rig rig(on_demand());
  while (rig.end < kSegment - 8 * kKiB) rig.append();
  REQUIRE(rig.sync_all());
  {
    const FailingBirth failing;
    while (rig.end < kSegment + 4 * kKiB) rig.append();
    rig.persister->ask_sync();
    REQUIRE(rig.run_until([&] { return rig.area().error.load() == EIO; }));
  }
  REQUIRE(std::filesystem::exists(path_of_segment(rig, kSegment)));
  rig.append_many(100);
  REQUIRE(rig.sync_all());
  CHECK(rig.area().error.load() == 0);
  rig.check_disk(read_disk(rig.place, rig.ring), rig.payloads.size());
}

TEST_CASE("a successor on an overwrite topic keeps what is written and was never synced, though the ring has not") {
  Rig rig(on_demand(OnFull::overwrite));
  rig.append_many(1);
  sync_all(rig);
  rig.append_many(50);
  write_all(rig);
  const Offset written = rig.written();
  const std::size_t count = rig.records_before(written);
  CHECK(rig.durable() < written);
  rig.die();
  rig.append_many(2000);
  REQUIRE_FALSE(still_in_ring(*rig.ring, written));  // the scene
  rig.start();
  REQUIRE(rig.sync_all());
  const OnDisk disk = read_disk(rig.place, rig.ring);
  REQUIRE_FALSE(disk.gaps.empty());
  CHECK(disk.gaps.front().from == written);
  CHECK(std::equal(rig.payloads.begin(), rig.payloads.begin() + static_cast<std::ptrdiff_t>(count),
                   disk.payloads.begin()));
}

TEST_CASE("a failed sync on an overwrite topic turns nothing that is written into a gap: waits for it answer lost") {
  Rig rig(on_demand(OnFull::overwrite));
  rig.append_many(10);
  REQUIRE(rig.sync_all());
  const Offset first = rig.end;
  int failures = 1;
  rig.queue->fail = [&](CheckedQueue::What what) {
    return what == CheckedQueue::What::sync && failures > 0 && failures-- > 0 ? EIO : 0;
  };
  rig.append_many(50);
  const Offset second = rig.end;
  rig.persister->ask_sync();
  REQUIRE(rig.run_until([&] { return rig.area().error.load() == EIO; }));
  CHECK(waited(rig, first) == Durable::yes);
  CHECK(waited(rig, second) == Durable::lost);
  const std::size_t written = rig.payloads.size();
  rig.append_many(2000);  // laps
  REQUIRE(rig.sync_all());
  const OnDisk disk = read_disk(rig.place, rig.ring);
  REQUIRE(disk.payloads.size() > written);
  CHECK(std::equal(rig.payloads.begin(), rig.payloads.begin() + static_cast<std::ptrdiff_t>(written),
                   disk.payloads.begin()));
}

TEST_CASE("a failed sync under policy none may have lost what was written while it was under way, too") {
  Rig rig(with(SyncPolicy::none));
  rig.append_many(1);
  sync_all(rig);
  rig.append_many(50);
  write_all(rig);
  rig.queue->fail = [&](CheckedQueue::What what) {
    if (what != CheckedQueue::What::sync) return 0;
    rig.queue->hold = true;
    return EIO;
  };
  rig.persister->ask_sync();
  REQUIRE(rig.run_until([&] { return rig.queue->hold; }));
  rig.queue->fail = nullptr;
  rig.append_many(50);
  rig.persister->ask_write();
  for (int i = 0; i < 3; ++i) rig.step();
  rig.queue->hold = false;
  REQUIRE(rig.run_until([&] { return rig.area().lost_count.load() == 1; }));
  CHECK(rig.ring->control().lost[0].to.load() >= rig.end);
}

// The next syncs of a segment that are not the queue's fail.
class FailingSyncs final : public disk::Watch {
 public:
  explicit FailingSyncs(int count) : left_(count) { disk::watch(this); }
  ~FailingSyncs() override { disk::watch(nullptr); }
  FailingSyncs(const FailingSyncs&) = delete;
  FailingSyncs& operator=(const FailingSyncs&) = delete;
  int before(disk::Step& step) noexcept override {
    if (step.call != disk::Call::sync || !step.data_only || left_ == 0) return 0;
    const std::string path = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(step.fd));
    if (!path.ends_with(".log")) return 0;
    --left_;
    return EIO;
  }
  void after(const disk::Step& /*step*/, int /*error*/) noexcept override {}
  int left() const noexcept { return left_; }

 private:
  int left_;
};

TEST_CASE("a sync that fails at take-over may have lost what the dead holder wrote, where the ring need not have it") {
  for (const bool overwrite : {false, true}) {
    CAPTURE(overwrite);
    Rig rig(overwrite ? on_demand(OnFull::overwrite) : with(SyncPolicy::none));
    rig.append_many(10);
    REQUIRE(rig.sync_all());
    for (int i = 0; i < 3; ++i) rig.step();  // the last wish to sync is over
    const Offset synced = rig.end;
    rig.append_many(50);
    write_all(rig);
    const Offset written = rig.end;
    REQUIRE(rig.durable() == synced);
    rig.die();
    rig.start();
    {
      const FailingSyncs failing(1);
      REQUIRE(rig.run_until([&] { return failing.left() == 0 && rig.area().error.load() == 0; }));
    }
    REQUIRE(rig.sync_all());
    CHECK(rig.durable() >= written);
    CHECK(waited(rig, synced) == Durable::yes);
    CHECK(waited(rig, written) == Durable::lost);
    rig.append_many(10);
    REQUIRE(rig.sync_all());
    CHECK(waited(rig, rig.end) == Durable::yes);
  }
}

TEST_CASE("a second failed sync does not lose what was synced between the two") {
  Rig rig(with(SyncPolicy::none));
  bool failing = false;
  rig.queue->fail = [&](CheckedQueue::What what) { return what == CheckedQueue::What::sync && failing ? EIO : 0; };
  std::vector<Offset> ends;
  for (std::uint64_t i = 0; i < 20; ++i) {  // more than there are ranges
    rig.append_many(10);
    REQUIRE(rig.sync_all());
    ends.push_back(rig.end);
    rig.append_many(10);
    failing = true;
    rig.persister->ask_sync();
    const Offset end = rig.end;
    REQUIRE(rig.run_until([&] {
      const std::uint64_t count = rig.area().lost_count.load();
      return count > 0 && rig.ring->control().lost[count - 1].to.load() >= end;
    }));
    ends.push_back(end);
    failing = false;
  }
  CHECK(rig.area().lost_count.load() == kLostRanges);
  REQUIRE(rig.sync_all());
  for (std::size_t i = 0; i < ends.size(); ++i) {
    CAPTURE(i);
    const bool lost = i % 2 == 1 || i > 2 * kLostRanges - 1;  // the last range has grown over what came between
    CHECK(waited(rig, ends[i]) == (lost ? Durable::lost : Durable::yes));
  }
  CHECK(waited(rig, rig.end) == Durable::lost);
}

TEST_CASE("the persister's thread has nothing to do while a repeated sync is under way") {
  Rig rig(with(SyncPolicy::none));
  rig.append_many(50);
  int syncs = 0;
  rig.queue->fail = [&](CheckedQueue::What what) {
    if (what != CheckedQueue::What::sync) return 0;
    if (++syncs == 1) return EIO;
    rig.queue->hold = true;
    return 0;
  };
  rig.persister->ask_sync();
  REQUIRE(rig.run_until([&] { return rig.queue->hold; }));
  const std::uint64_t now_ns = monotonic_ns();
  CHECK(rig.persister->next_step_ns(now_ns) > now_ns);
  rig.queue->fail = nullptr;
  rig.queue->hold = false;
  REQUIRE(rig.run_until([&] { return rig.area().state.load() == PersisterState::working; }));
}

// Method: an index block is full and written, and the next one begun; what was synced of it ends where a range begins, so
// both its homes look alike as far as that is durable. Which one is, only the writer knows.
TEST_CASE("a failed sync after an index block is full does not make its synced home the one to be overwritten") {
  const bool once_more = GENERATE(false, true);  // the synced home is the one, or the other
  TopicOptions options = on_demand();
  options.ring = 256 * kKiB;
  options.segment = 2 * kIndexBlockLogBytes;
  Rig rig(options, IoKind::pwrite);
  constexpr std::size_t kRecord = 128 - kRecordHeaderBytes;
  while (rig.end < kIndexBlockLogBytes - kRangeBytes - 128) rig.append(kRecord);
  if (once_more) REQUIRE(rig.sync_all());
  rig.append(kRecord);
  sync_all(rig);
  REQUIRE(rig.durable() == kIndexBlockLogBytes - kRangeBytes);
  while (rig.end < kIndexBlockLogBytes + 4 * kKiB) rig.append(kRecord);
  write_all(rig);
  int failures = 1;
  rig.queue->fail = [&](CheckedQueue::What what) {
    return what == CheckedQueue::What::sync && failures > 0 && failures-- > 0 ? EIO : 0;
  };
  rig.persister->ask_sync();
  REQUIRE(rig.run_until([&] { return rig.area().error.load() == EIO; }));
  REQUIRE(rig.sync_all());
  REQUIRE(rig.finish_io());
  CHECK(rig.violations == std::vector<std::string>{});
  rig.check_disk(read_disk(rig.place, rig.ring), rig.payloads.size());
}

TEST_CASE("records before a bad header are written and synced before the persister stops at it") {
  const OnFull on_full = GENERATE(OnFull::block, OnFull::overwrite);
  const SyncPolicy sync = GENERATE(SyncPolicy::none, SyncPolicy::interval);
  Rig rig(with(sync, on_full));
  rig.append_many(20);
  RecordHeader& header = *rig.ring->header_at(rig.offsets[10]);
  const std::uint64_t good = header.meta.load();
  header.meta.store(RecordMeta{0xFFFFFFF0U, 0, RecordKind::data, 0}.pack());
  REQUIRE(rig.run_until([&] { return rig.area().state.load() == PersisterState::io_error; }));
  CHECK(rig.area().error.load() == EBADMSG);
  CHECK(rig.durable() == rig.offsets[10]);
  CHECK(read_disk(rig.place, rig.ring).payloads.size() == 10);
  header.meta.store(good);
  REQUIRE(rig.sync_all());
  rig.check_disk(read_disk(rig.place, rig.ring), rig.payloads.size());
}

TEST_CASE("what lay unnoticed while nobody looked has been unsynced since the last look") {
  TopicOptions options = with(SyncPolicy::interval);
  options.sync_interval_ms = 1000;
  Rig rig(options);
  std::uint64_t now_ns = monotonic_ns();
  REQUIRE(rig.persister->take_role(now_ns));
  const auto step_often = [&] {
    for (int i = 0; i < 50; ++i) {
      rig.persister->step(now_ns);
      rig.poll(rig.queue->in_flight() > 0 ? 1 : 0);
    }
  };
  step_often();
  rig.append();
  now_ns += 1'000'000'000;  // asleep
  step_often();
  CHECK(rig.durable() >= rig.end);
}

TEST_CASE("a holder of the role sleeps no longer than the sync interval") {
  Rig rig(with(SyncPolicy::interval));
  CHECK(rig.persister->drowsy_ns() == 5'000'000);
}

TEST_CASE("at no instant are there more segments, spares included, than are retained, nor fewer in the end") {
  const std::uint64_t retained = GENERATE(2U, 3U, 5U);
  const SyncPolicy sync = GENERATE(SyncPolicy::none, SyncPolicy::interval, SyncPolicy::every_batch);
  const OnFull on_full = GENERATE(OnFull::block, OnFull::overwrite);
  CAPTURE(retained, static_cast<int>(sync), static_cast<int>(on_full));
  TopicOptions options = with(sync, on_full);
  options.retain = retained * kSegment;
  Rig rig(options);
  std::size_t most = 0;
  for (int i = 0; i < 1500; ++i) {
    rig.append(1000);
    if (on_full == OnFull::overwrite) rig.step();
    most = std::max(most, files_of_segments(rig));
    if (i % 400 != 399) continue;
    rig.die();
    rig.start();
  }
  REQUIRE(rig.sync_all());
  CHECK(most == retained);
  const Offset begin = rig.area().retained_begin.load();
  CHECK(align_down(rig.end - 1, kSegment) - begin == (retained - 1) * kSegment);
  const OnDisk disk = read_disk(rig.place, rig.ring, begin);
  if (on_full == OnFull::block) CHECK(disk.payloads.size() == rig.payloads.size() - rig.records_before(begin));
}

TEST_CASE("a disk too small for what is to be retained keeps less and stops nobody", "[serial]") {
  TopicOptions options = with(SyncPolicy::interval);
  options.retain = 100 * kSegment;
  Rig rig(options);
  SmallDisk disk(rig, "400k");
  if (!disk.mounted()) SPILLWAY_SKIP("can't mount a tmpfs here");
  rig.append_many(5000);
  REQUIRE(rig.sync_all());
  CHECK_FALSE(rig.saw(PersisterChange::failed));
  CHECK(rig.area().retained_begin.load() > 0);
}

TEST_CASE("a segment that could not be removed when it expired goes later") {
  TopicOptions options = on_demand();
  options.retain = 2 * kSegment;
  Rig rig(options);
  while (rig.end < kSegment + 16 * kKiB) rig.append();
  REQUIRE(rig.sync_all());
  const std::string oldest = path_of_segment(rig, 0);
  std::filesystem::remove(oldest);
  std::filesystem::create_directory(oldest);                                      // can't be unlinked
  std::ofstream(rig.place.paths().data + "/" + std::string(kSparePrefix) + "1");  // nor is there room for a spare
  rig.append_until([&] { return rig.area().error.load() != 0; });
  CHECK(files_of_segments(rig) == 3);
  std::filesystem::remove(oldest);
  std::ofstream{oldest};
  REQUIRE(rig.sync_all());
  CHECK_FALSE(std::filesystem::exists(oldest));
  CHECK(rig.area().state.load() == PersisterState::working);
  CHECK(rig.area().retained_begin.load() == kSegment);
}
