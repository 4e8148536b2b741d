// Goal: beside a living ring a history reads exactly what the persister says is written, and notices what it takes
// away.
// Method: a LogBuilder writes the segments, the test moves the watermarks by hand as a persister would, or shortly
// before.
#include <fcntl.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "spillway/core/directory.h"
#include "spillway/core/error.h"
#include "spillway/persist/segment_history.h"
#include "spillway/persist/segment_store.h"
#include "support/catch.h"
#include "support/log_builder.h"

using namespace spillway;
using namespace spillway_test;

namespace {

constexpr std::uint64_t kRing = 256 * kKiB;
constexpr std::uint64_t kSegment = 512 * kKiB;

class LiveScene {
 public:
  explicit LiveScene(Offset begin = 0, Offset retained_begin = 0, OnFull on_full = OnFull::block)
      : config(test_config(kRing, kSegment, on_full)),
        paths(PartitionPaths::of(shm_.path(), disk_.path(), config, 0)),
        log(paths.data, config, retained_begin) {
    Partition::create_locks(paths, Sharing::owner);
    Partition::create_files(paths, config, 0, {7, begin, retained_begin, begin + kGiB});
    ring = Partition::attach(paths, config, 0, Access::read_write);
  }

  void persisted(Offset written, Offset durable) const {
    auto& area = ring->control().persister;
    area.written_end.store(written, std::memory_order_release);
    area.durable_end.store(durable, std::memory_order_release);
  }
  // As the persister does: the watermark first, then the name, then other bytes.
  void expire(Offset upto) const {
    ring->control().persister.retained_begin.store(upto, std::memory_order_release);
    SegmentStore store(paths.data, log.log(), Sharing::owner, FileIo::buffered);
    std::vector<Offset> going;
    for (const Offset base : store.list()) {
      if (base < upto) going.push_back(base);
    }
    store.expire(going);
  }
  SegmentHistory history() const { return SegmentHistory(paths.data, config, 0, ring); }

 private:
  TempDirectory shm_{"/dev/shm"};
  TempDirectory disk_;

 public:
  TopicConfig config;
  PartitionPaths paths;
  LogBuilder log;
  std::shared_ptr<Partition> ring;
};

}  // namespace

TEST_CASE("live history: it reads up to written_end, step by step") {
  LiveScene scene;
  SegmentHistory history = scene.history();
  CHECK(history.read(0).status == HistoryStatus::nothing);
  std::vector<Event> got;
  Offset at = 0;
  // Small steps and large ones, within blocks, ranges, chunks and segments and over their ends.
  for (const Offset step : {160U, 320U, 4096U, 60000U, 5000U, 16U, 200000U, 300000U, 64U, 400000U}) {
    const unsigned home = static_cast<unsigned>(scene.log.records().size() % 2);
    scene.log.fill_to(align_up(scene.log.end() + step, 16), 50);
    scene.log.flush(home);
    CHECK(history.read(at).status == HistoryStatus::nothing);  // in the files, but the persister has not said so
    scene.persisted(scene.log.end(), at);
    CHECK(history.end() == scene.log.end());
    CHECK(history.durable_end() == at);
    const Drained drained = drain(history, at);
    CHECK(drained.last.status == HistoryStatus::nothing);
    CHECK(drained.last.begin == scene.log.end());
    got.insert(got.end(), drained.events.begin(), drained.events.end());
    at = scene.log.end();
  }
  CHECK(got == expected_records(scene.log, 0, scene.log.end()));
}

TEST_CASE("live history: an entry ahead of its data is not believed, nor called damage") {
  LiveScene scene;
  scene.log.fill_to(kRangeBytes + 4096, 50);
  const Offset written = scene.log.end();
  scene.log.flush(0);
  scene.log.fill_to(kRangeBytes + 20480, 50);
  scene.log.flush(1);
  scene.persisted(written, 0);
  SECTION("its data are not there yet") {
    zero_fill(scene.log.path_of(0), scene.log.file_pos(written), 4096);
    SegmentHistory history = scene.history();
    CHECK(drain(history, 0).events == expected_records(scene.log, 0, written));
    CHECK(history.read(written).status == HistoryStatus::nothing);
  }
  SECTION("its data are there") {
    SegmentHistory history = scene.history();
    CHECK(drain(history, 0).events == expected_records(scene.log, 0, written));
  }
  SECTION("the older home is being overwritten, and the newer is not whole") {
    zero_fill(scene.log.path_of(0), scene.log.file_pos(written), 4096);
    zero_fill(scene.log.path_of(0), index_block_pos(kSegment, 0, 0), kBlock);
    SegmentHistory history = scene.history();
    // The first range is final and in both homes; of the one that is being written nothing can be said yet.
    const Drained first = drain(history, 0);
    CHECK(first.last.status == HistoryStatus::nothing);
    CHECK(first.events == expected_records(scene.log, 0, first.last.begin));
    CHECK(first.last.begin > kRangeBytes - 200);
    scene.log.flush(0);
    scene.persisted(scene.log.end(), 0);
    CHECK(drain(history, first.last.begin).events == expected_records(scene.log, first.last.begin, scene.log.end()));
  }
}

// What was checked in part, by an index block that was read under a smaller limit, was taken for all that can be had under
// the new one, and the rest of the range for damage.
TEST_CASE("a range that was read in part is read again when the log has grown") {
  LiveScene scene;
  LogBuilder& log = scene.log;
  log.fill_to(kRangeBytes + 4096, 50);
  log.flush(0);
  const Offset before = log.end();
  SegmentReader reader(scene.paths.data, log.log(), FileIo::buffered);
  reader.set_limit(before);
  REQUIRE(reader.check(0, kRangeBytes).checked_end == kRangeBytes);  // the index block is read now
  log.fill_to(kRangeBytes + 20480, 50);
  log.flush(1);
  const Offset after = log.end();
  reader.set_limit(after);
  REQUIRE(reader.check(kRangeBytes, before).checked_end >= before);
  CHECK(reader.check(kRangeBytes, after).checked_end == after);
}

TEST_CASE("live history: damage does not swallow the range that is being filled, unless it stays unreadable") {
  LiveScene scene;
  scene.log.fill_to(2 * kRangeBytes + 4096, 50);
  scene.log.flush(0);
  scene.persisted(scene.log.end(), scene.log.end());
  const Offset tail = scene.log.boundary_from(2 * kRangeBytes);
  flip_bit(scene.log.path_of(0), scene.log.file_pos(kRangeBytes + 100));
  const std::uint64_t entry = index_block_pos(kSegment, 0, 0) + 2 * sizeof(IndexEntry) + 20;
  flip_bit(scene.log.path_of(0), entry);  // as if the block were being written this moment
  SegmentHistory history = scene.history();
  const Drained before = drain(history, 0);
  CHECK(before.last.status == HistoryStatus::nothing);
  CHECK(before.events == expected_records(scene.log, 0, before.last.begin));
  CHECK(before.last.begin + 200 > kRangeBytes);
  std::vector<Event> wanted = {{Event::What::gap, before.last.begin, tail, "", GapCause::damaged}};
  SECTION("the write is over") {
    flip_bit(scene.log.path_of(0), entry);
    const auto rest = expected_records(scene.log, tail, scene.log.end());
    wanted.insert(wanted.end(), rest.begin(), rest.end());
  }
  SECTION("it was no write") {
    wanted[0].to = scene.log.end();
    while (history.read(before.last.begin).status == HistoryStatus::nothing) std::this_thread::yield();
  }
  CHECK(drain(history, before.last.begin).events == wanted);
}

TEST_CASE("live history: behind durable_end nothing is damage while a new persister writes it and its index again") {
  LiveScene scene;
  scene.log.fill_to(3 * kRangeBytes + 4096, 50);
  scene.log.flush(0);
  const Offset durable = scene.log.boundary_from(kRangeBytes - 4096);
  scene.persisted(scene.log.end(), durable);
  // The image that the new one begins with has no entries past durable_end.
  zero_fill(scene.log.path_of(0), index_block_pos(kSegment, 0, 0) + sizeof(IndexEntry), 3 * sizeof(IndexEntry));
  SegmentHistory history = scene.history();
  SECTION("the rest is whole") {
    const Drained before = drain(history, 0);
    CHECK(before.last.status == HistoryStatus::nothing);
    CHECK(before.last.begin >= durable);
    CHECK(before.events == expected_records(scene.log, 0, before.last.begin));
    scene.log.flush(1);
    CHECK(drain(history, before.last.begin).events == expected_records(scene.log, before.last.begin, scene.log.end()));
  }
  SECTION("damage before it does not reach past it") {
    flip_bit(scene.log.path_of(0), scene.log.file_pos(100));
    const Drained before = drain(history, 0);
    CHECK(before.events == std::vector<Event>{{Event::What::gap, 0, durable, "", GapCause::damaged}});
    CHECK(before.last.status == HistoryStatus::nothing);
    CHECK(before.last.begin == durable);
  }
}

// The holder of the role that died had written further than it told, the reader had looked at all of that range, and the next
// holder, whom the ring had left behind meanwhile, put a gap in the place of what was not told.
TEST_CASE("live history: what was seen behind written_end is not believed once a gap stands there") {
  LiveScene scene(0, 0, OnFull::overwrite);
  scene.log.fill_to(2 * kRangeBytes + 4096, 50);
  const Offset written = scene.log.end();
  const TempDirectory elsewhere;
  LogBuilder next(elsewhere.path(), scene.config);
  next.fill_to(written, 50);
  REQUIRE(next.end() == written);
  next.gap_to(4 * kRangeBytes + 4096);  // the ring left it behind
  next.fill_to(5 * kRangeBytes, 50);
  for (const unsigned home : {0U, 1U}) next.flush(home);
  scene.log.append_bytes(kRangeBytes / 2, 'x');
  scene.log.fill_to(3 * kRangeBytes + 8192, 50);
  for (const unsigned home : {0U, 1U}) scene.log.flush(home);

  scene.persisted(written, 0);
  SegmentHistory history = scene.history();
  CHECK(drain(history, 0).events == expected_records(scene.log, 0, written));
  const auto bytes = read_file(next.path_of(0), 2 * kSegment);
  REQUIRE(bytes);
  const FileDescriptor file = open_file(scene.log.path_of(0), O_WRONLY);  // in place: the reader has it open
  REQUIRE(write_at(file.get(), bytes->data(), bytes->size(), 0) == 0);
  scene.persisted(next.end(), 0);
  const Offset gap_end = 4 * kRangeBytes + 4096;
  std::vector<Event> wanted = {{Event::What::gap, written, gap_end, "", GapCause::overwritten}};
  const std::vector<Event> rest = expected_records(next, gap_end, next.end());
  wanted.insert(wanted.end(), rest.begin(), rest.end());
  CHECK(drain(history, written).events == wanted);
}

// A reader asks for what is not durable yet while a new holder writes it again; by the next time it is durable, and
// written_end, which the dead holder had told, is where it was.
TEST_CASE("live history: what was being written again is looked at anew once it is durable") {
  LiveScene scene;
  scene.log.fill_to(3 * kRangeBytes, 50);
  scene.log.flush(0);
  const Offset durable = scene.log.boundary_from(kRangeBytes + 4096);
  scene.persisted(scene.log.end(), durable);
  const std::uint64_t entry = index_block_pos(kSegment, 0, 0) + sizeof(IndexEntry);
  flip_bit(scene.log.path_of(0), entry + 20);
  SegmentHistory history = scene.history();
  const Offset at = scene.log.boundary_from(kRangeBytes + 8192);
  CHECK(history.read(at).status == HistoryStatus::nothing);
  flip_bit(scene.log.path_of(0), entry + 20);
  scene.persisted(scene.log.end(), scene.log.end());
  CHECK(drain(history, at).events == expected_records(scene.log, at, scene.log.end()));
}

// The log is whole up to a segment's end, the next segment lies wholly inside a gap and has no file, and the one behind it,
// whose header would tell, is not made yet.
TEST_CASE("live history: a segment without a file is a gap as soon as the persister says so") {
  LiveScene scene(0, 0, OnFull::overwrite);
  scene.log.fill_to(kSegment);
  scene.log.flush();
  GapNotice& notice = scene.ring->control().gaps[0];
  notice.from.store(kSegment, std::memory_order_release);
  notice.to.store(2 * kSegment, std::memory_order_release);
  scene.persisted(2 * kSegment, 0);
  SegmentHistory history = scene.history();
  std::vector<Event> wanted = expected_records(scene.log, 0, kSegment);
  wanted.push_back({Event::What::gap, kSegment, 2 * kSegment, "", GapCause::overwritten});
  CHECK(drain(history, 0).events == wanted);
}

TEST_CASE("live history: expired before it was asked, with an exact end") {
  LiveScene scene;
  scene.log.fill_to(4 * kSegment);
  scene.log.flush();
  scene.persisted(scene.log.end(), scene.log.end());
  SegmentHistory history = scene.history();
  REQUIRE(history.read(0).status == HistoryStatus::data);
  scene.expire(2 * kSegment);
  CHECK(history.begin() == 2 * kSegment);
  HistoryRead read = history.read(320);
  CHECK(read.status == HistoryStatus::gap);
  CHECK(read.cause == GapCause::expired);
  CHECK(read.begin == 320);
  CHECK(read.end == 2 * kSegment);
  CHECK(history.boundary_before(100) == 2 * kSegment);
  CHECK(drain(history, read.end).events == expected_records(scene.log, 2 * kSegment, scene.log.end()));
}

TEST_CASE("live history: the ring has begun and nothing of it is on disk") {
  const Offset begin = 4 * kSegment;
  LiveScene scene(begin, 0);
  scene.log.fill_to(kSegment + 4096);
  const Offset sealed = scene.log.end();
  scene.log.flush();
  scene.log.next_ring(sealed, begin, GapCause::crash);
  scene.log.write_horizon(begin + kGiB);
  scene.persisted(begin, begin);
  SegmentHistory history = scene.history();
  std::vector<Event> wanted = expected_records(scene.log, 0, sealed);
  wanted.push_back({Event::What::gap, sealed, begin, "", GapCause::crash});
  Drained drained = drain(history, 0);
  CHECK(drained.events == wanted);
  CHECK(drained.last.status == HistoryStatus::nothing);
  CHECK(drained.last.begin == begin);
  // A cursor that lies in what was lost.
  const HistoryRead read = history.read(sealed + 4096);
  CHECK(read.status == HistoryStatus::gap);
  CHECK(read.end == begin);
  scene.log.fill_to(begin + 8192);
  scene.log.flush();
  scene.persisted(scene.log.end(), scene.log.end());
  CHECK(drain(history, begin).events == expected_records(scene.log, begin, scene.log.end()));
}

TEST_CASE("live history: watermarks that make no sense are survived") {
  LiveScene scene;
  scene.log.fill_to(kSegment);
  scene.log.flush();
  auto& area = scene.ring->control().persister;
  SegmentHistory history = scene.history();
  for (const Offset nonsense : {UINT64_MAX, UINT64_MAX - 1, kOffsetEnd + 5, Offset{12345}}) {
    area.written_end.store(nonsense);
    area.durable_end.store(nonsense);
    static_cast<void>(history.read(0));
    static_cast<void>(history.read(4096));
    static_cast<void>(history.boundary_before(5000));
    CHECK(history.end() <= kOffsetEnd);
    CHECK(history.durable_end() <= history.end());
  }
  area.retained_begin.store(UINT64_MAX);
  CHECK(history.read(0).status == HistoryStatus::gap);
  CHECK(history.begin() <= kOffsetEnd);
}

// Method: a writer appends, retains four segments and recycles the rest as a persister does; a slow reader reads all
// the time. Whatever it is told must be true of the log as it was made, and what it is not told must be in a gap.
TEST_CASE("live history: a reader beside a writer that recycles", "[threads]") {
  LiveScene scene;
  scene.log.fill_to(kSegment);
  scene.log.flush();
  scene.persisted(scene.log.end(), scene.log.end());
  constexpr int kRolls = 30;
  std::atomic<bool> done{false};
  std::vector<Event> told;
  Offset reached = 0;
  std::thread reader([&] {
    SegmentHistory history = scene.history();
    while (true) {
      const bool last = done.load();
      const Drained drained = drain(history, reached);
      told.insert(told.end(), drained.events.begin(), drained.events.end());
      reached = drained.last.begin;
      if (last && drained.last.status == HistoryStatus::nothing) break;
      std::this_thread::yield();
    }
  });
  SegmentStore store(scene.paths.data, scene.log.log(), Sharing::owner, FileIo::buffered);
  for (int roll = 1; roll <= kRolls; ++roll) {
    const Offset base = static_cast<Offset>(roll) * kSegment;
    const auto going = plan_retention({store.list(), kSegment, 4 * kSegment, base, 1});
    if (!going.empty()) scene.expire(going.back() + kSegment);
    scene.log.recycle_from(store);
    scene.log.fill_to(base + kSegment, 700);
    scene.log.flush();
    scene.persisted(scene.log.end(), scene.log.end());
  }
  done.store(true);
  reader.join();
  CHECK(reached == scene.log.end());
  // One walk over the model and what was told.
  const auto all = expected_records(scene.log, 0, scene.log.end());
  std::size_t next = 0;
  for (const Event& event : told) {
    if (event.what == Event::What::gap) {
      REQUIRE(event.cause == GapCause::expired);
      REQUIRE(event.from == (next < all.size() ? all[next].from : scene.log.end()));
      while (next < all.size() && all[next].from < event.to) ++next;
    } else {
      REQUIRE(next < all.size());
      REQUIRE(event == all[next]);
      ++next;
    }
  }
  CHECK(next == all.size());
}
