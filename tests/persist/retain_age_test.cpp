// Goal: what is too old goes, and only that: not what is young, written to, not durable, or needed by a cursor; what a
// cursor needs goes all the same when the limit of size says so. Time is that of the log's clock, whoever made the ring.
// Method: time is moved on for this process, and the persister is stepped by hand.
#include <filesystem>
#include <fstream>

#include "spillway/core/disk.h"
#include "spillway/persist/cursor_file.h"
#include "support/persister_rig.h"

using namespace spillway;
using namespace spillway::test;

namespace {

constexpr std::uint64_t kSegment = 128 * kKiB;  // of tiny_topic()
constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint32_t kAge = 1000;  // seconds

TopicOptions aging(SyncPolicy sync = SyncPolicy::interval) {
  TopicOptions options = with(sync);
  options.retain_age_s = kAge;
  return options;
}

std::vector<std::string> files_of(const Rig& rig, std::string_view part) {
  std::vector<std::string> names = list_directory(rig.place.paths().data);
  std::erase_if(names, [&](const std::string& name) { return name.find(part) == std::string::npos; });
  return names;
}
std::size_t segments(const Rig& rig) { return files_of(rig, ".log").size(); }
Offset retained(const Rig& rig) { return rig.area().retained_begin.load(); }

// Appends until the segment with this number has just begun, and all before is durable and closed.
void fill_up_to(Rig& rig, std::uint64_t number) {
  while (rig.end < number * kSegment + 4 * kKiB) rig.append(1000);
  REQUIRE(rig.sync_all());
  for (int i = 0; i < 3; ++i) rig.step();
}
// As a holder of the role that nothing rouses: it steps when it said it would, for this long.
void idle(Rig& rig, std::uint64_t ns) {
  for (const std::uint64_t until = rig.ahead_ns + ns; rig.ahead_ns < until;) {
    const std::uint64_t now_ns = monotonic_ns() + rig.ahead_ns;
    const std::uint64_t next_ns = rig.persister->next_step_ns(now_ns);
    rig.pass(std::min(until - rig.ahead_ns, next_ns - std::min(next_ns, now_ns)) + 1);
    rig.step();
  }
}

std::unique_ptr<CursorFile> cursor_of(const Rig& rig) {
  return CursorFile::open(parent_of(rig.place.paths().data) + "/cursors", "archiver", 1, rig.place.config().id,
                          Sharing::owner);
}
int ack(CursorFile& cursor, Offset offset) { return cursor.commit(std::span(&offset, 1)); }

}  // namespace

TEST_CASE("age: on an idle topic what is too old goes, oldest first, and the newest segment stays") {
  const SyncPolicy sync = GENERATE(SyncPolicy::none, SyncPolicy::interval, SyncPolicy::every_batch);
  Rig rig(aging(sync));
  fill_up_to(rig, 3);
  idle(rig, kAge / 2 * kSecond);
  fill_up_to(rig, 5);
  CHECK(retained(rig) == 0);
  idle(rig, (kAge / 2 - 10) * kSecond);
  CHECK(retained(rig) == 0);
  CHECK(segments(rig) == 6);
  idle(rig, 20 * kSecond);
  CHECK(retained(rig) == 3 * kSegment);
  CHECK(files_of(rig, ".log").front() == segment_name(3 * kSegment));
  CHECK(segments(rig) == 3);
  const OnDisk disk = read_disk(rig.place, rig.ring, retained(rig));
  CHECK(disk.payloads.size() == rig.payloads.size() - rig.records_before(retained(rig)));
  idle(rig, 10 * kAge * kSecond);
  CHECK(retained(rig) == 5 * kSegment);
  CHECK(segments(rig) == 1);
  CHECK(files_of(rig, kSparePrefix).empty());  // the disk has its room back
  // Who wants what is gone is told, and the log goes on.
  SegmentHistory history(rig.place.paths().data, rig.place.config(), 0, rig.ring);
  const HistoryRead read = history.read(0);
  CHECK(read.status == HistoryStatus::gap);
  CHECK(read.cause == GapCause::expired);
  CHECK(read.end == 5 * kSegment);
  rig.append_many(500);
  REQUIRE(rig.sync_all());
  CHECK(read_disk(rig.place, rig.ring).payloads.back() == rig.payloads.back());
}

TEST_CASE("age: a holder of the role that nothing rouses looks at ages when one is due, and seldom otherwise") {
  Rig rig(aging());
  fill_up_to(rig, 3);
  idle(rig, kSecond);
  int steps = 0;
  const std::uint64_t begun = rig.ahead_ns;
  while (retained(rig) < 3 * kSegment && rig.ahead_ns - begun < 2 * kAge * kSecond) {
    const std::uint64_t now_ns = monotonic_ns() + rig.ahead_ns;
    const std::uint64_t next_ns = rig.persister->next_step_ns(now_ns);
    rig.pass(next_ns - std::min(next_ns, now_ns) + 1);
    rig.step();
    ++steps;
  }
  CHECK(retained(rig) == 3 * kSegment);
  CHECK(rig.ahead_ns - begun <= (kAge + 5) * kSecond);
  CHECK(steps < 30);
}

TEST_CASE("age: while the log goes on, the next segment is made of one that went") {
  Rig rig(aging());
  fill_up_to(rig, 2);
  const std::filesystem::path data = rig.place.paths().data;
  std::filesystem::create_hard_link(data / segment_name(0), data / "first");
  idle(rig, kAge / 2 * kSecond);
  fill_up_to(rig, 4);
  for (const std::string& spare : files_of(rig, kSparePrefix)) std::filesystem::remove(data / spare);
  idle(rig, (kAge / 2 + 10) * kSecond);
  CHECK(retained(rig) == 2 * kSegment);
  REQUIRE(files_of(rig, kSparePrefix).size() == 1);
  CHECK(std::filesystem::equivalent(data / "first", data / files_of(rig, kSparePrefix).front()));
  fill_up_to(rig, 5);
  CHECK(std::filesystem::equivalent(data / "first", data / segment_name(5 * kSegment)));
}

TEST_CASE("age: what a cursor needs stays, until it needs it no more, or the limit of size says otherwise") {
  TopicOptions options = aging();
  options.retain = 6 * kSegment;
  Rig rig(options);
  const auto cursor = cursor_of(rig);
  fill_up_to(rig, 5);
  REQUIRE(ack(*cursor, kSegment + 16) == 0);
  idle(rig, 3 * kAge * kSecond);
  CHECK(retained(rig) == kSegment);
  REQUIRE(ack(*cursor, 3 * kSegment) == 0);
  idle(rig, kAge * kSecond);
  CHECK(retained(rig) == 3 * kSegment);
  fill_up_to(rig, 12);
  CHECK(retained(rig) == 7 * kSegment);
  CHECK(segments(rig) == 6);
  REQUIRE(ack(*cursor, 12 * kSegment) == 0);
  idle(rig, 2 * kAge * kSecond);
  CHECK(retained(rig) == 12 * kSegment);
}

TEST_CASE("age: a damaged cursor holds everything until it is gone") {
  Rig rig(aging());
  const std::string path = cursor_of(rig)->path();
  fill_up_to(rig, 3);
  std::ofstream(path, std::ios::trunc) << "rubbish";
  idle(rig, 3 * kAge * kSecond);
  CHECK(retained(rig) == 0);
  std::filesystem::remove(path);
  idle(rig, kAge * kSecond);
  CHECK(retained(rig) == 3 * kSegment);
}

// The first sync of a cursor fails while `failing`; and whether a directory was synced between any two removals of segments.
class Observer final : public disk::Watch {
 public:
  Observer() { disk::watch(this); }
  ~Observer() override { disk::watch(nullptr); }
  Observer(const Observer&) = delete;
  Observer& operator=(const Observer&) = delete;
  int before(disk::Step& step) noexcept override {
    if (step.call != disk::Call::sync) return 0;
    std::error_code none;
    const bool cursor = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(step.fd), none)
                            .parent_path()
                            .string()
                            .ends_with("/cursors");
    return failing && cursor && step.data_only ? EIO : 0;
  }
  void after(const disk::Step& step, int /*error*/) noexcept override {
    if (step.call == disk::Call::sync && !step.data_only) synced = true;
    const bool gone = step.call == disk::Call::unlink || step.call == disk::Call::rename;
    if (!gone || !std::string_view(step.path).ends_with(".log")) return;
    ++removals;
    if (!std::exchange(synced, false)) ++removals_unsynced;
  }
  bool failing = false;
  bool synced = false;
  int removals = 0, removals_unsynced = 0;
};

TEST_CASE("age: what a cursor needs counts once it is synced, or a power cut would bring back the need for what went") {
  Rig rig(aging());
  const auto cursor = cursor_of(rig);
  fill_up_to(rig, 3);
  REQUIRE(ack(*cursor, 16) == 0);
  Observer observer;
  observer.failing = true;
  CHECK(ack(*cursor, 3 * kSegment) == EIO);
  idle(rig, 3 * kAge * kSecond);
  CHECK(retained(rig) == 0);
  observer.failing = false;
  idle(rig, kAge * kSecond);
  CHECK(retained(rig) == 3 * kSegment);
}

TEST_CASE(
    "age: between two segments that go the directory is synced, or a power cut could bring back the older one only") {
  Rig rig(aging());
  fill_up_to(rig, 7);
  Observer observer;
  observer.synced = true;  // making the newest one did that
  idle(rig, 2 * kAge * kSecond);
  CHECK(retained(rig) == 7 * kSegment);
  CHECK(observer.removals == 7);
  CHECK(observer.removals_unsynced == 0);
}

TEST_CASE("age: where the cursors' directory was moved away everything stays") {
  Rig rig(aging());
  fill_up_to(rig, 3);
  const std::filesystem::path cursors = parent_of(rig.place.paths().data) + "/cursors";
  std::filesystem::rename(cursors, cursors.string() + ".away");
  idle(rig, 3 * kAge * kSecond);
  CHECK(retained(rig) == 0);
  std::filesystem::rename(cursors.string() + ".away", cursors);
  idle(rig, kAge * kSecond);
  CHECK(retained(rig) == 3 * kSegment);
}

TEST_CASE("age: what is not durable stays, however old") {
  TopicOptions options = aging(SyncPolicy::none);
  Rig rig(options);
  fill_up_to(rig, 1);
  const Offset durable = rig.durable();
  bool failing = true;
  rig.queue->fail = [&](CheckedQueue::What what) { return what == CheckedQueue::What::sync && failing ? EIO : 0; };
  rig.append_until([&] { return rig.written() > 3 * kSegment; });
  idle(rig, 3 * kAge * kSecond);
  CHECK(rig.durable() == durable);
  CHECK(retained(rig) == kSegment);
  failing = false;
  REQUIRE(rig.sync_all());
  idle(rig, kAge * kSecond);
  CHECK(retained(rig) == 3 * kSegment);
}

TEST_CASE("age: goes on in the next ring, and does not go back with the wall clock") {
  Rig rig(aging());
  fill_up_to(rig, 3);
  rig.pass(5000 * kSecond);  // so much is the wall clock behind by now
  const std::uint64_t young = rig.ring->clock().now_ns();
  while (rig.end < 5 * kSegment + 4 * kKiB) rig.append(1000);
  const Offset end = rig.end;
  REQUIRE(rig.sync_all());
  rig.producer.reset();
  rig.die();
  rig.ring.reset();
  rig.place.lose_ring();
  rig.ring = rig.place.open();
  CHECK(rig.ring->clock().now_ns() >= young);
  CHECK(rig.ring->clock().now_ns() < young + kAge / 2 * kSecond);
  rig.start();
  idle(rig, kAge / 2 * kSecond);
  const Offset kept = retained(rig);
  CHECK(kept >= 3 * kSegment);
  CHECK(kept <= 4 * kSegment);  // the fourth may have been begun before
  idle(rig, kAge * kSecond);
  CHECK(retained(rig) == align_down(end, kSegment));  // the newest there is
  rig.end = rig.ring->begin();
  rig.append_many(3, 1000);
  REQUIRE(rig.sync_all());
  idle(rig, 2 * kAge * kSecond);
  CHECK(retained(rig) == rig.ring->begin());
}

TEST_CASE("age: a segment whose index is damaged goes with the one behind it") {
  Rig rig(aging());
  fill_up_to(rig, 3);
  const std::string path = rig.place.paths().data + "/" + segment_name(0);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(index_block_pos(kSegment, 0, 0)));
    file << std::string(2 * kBlock, 'x');
  }
  idle(rig, (kAge - 10) * kSecond);
  CHECK(retained(rig) == 0);
  idle(rig, 20 * kSecond);
  CHECK(retained(rig) == 3 * kSegment);
}

TEST_CASE("age: what a dead holder had not removed yet, the next one does") {
  Rig rig(aging());
  fill_up_to(rig, 3);
  rig.die();
  rig.area().retained_begin.store(2 * kSegment);  // and there it died
  rig.start();
  idle(rig, 10 * kSecond);
  CHECK(segments(rig) == 4);
  rig.pass(2 * kAge * kSecond);
  idle(rig, kAge * kSecond);
  CHECK(segments(rig) == 1);
  CHECK(retained(rig) == 3 * kSegment);
}
