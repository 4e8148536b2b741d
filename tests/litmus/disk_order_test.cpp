// Litmus tests for the rows of the ORDER tables in persist/: real persisters, readers and waiters run beside each other, and an
// outcome that a row forbids is counted. Where the partner is a file or a lock it is the real one. The comment above each names its
// rows (check_rows.sh).
#include <concurrentqueue/concurrentqueue.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <memory>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "litmus/side_by_side.h"
#include "spillway/core/error.h"
#include "spillway/ipc/ring_walk.h"
#include "spillway/ipc/space.h"
#include "spillway/persist/async_producer.h"
#include "spillway/persist/horizon_file.h"
#include "spillway/persist/persister.h"
#include "spillway/persist/role.h"
#include "support/catch.h"
#include "support/checked_queue.h"
#include "support/open_partition.h"
#include "support/persister_rig.h"

namespace {

using namespace spillway;
using namespace spillway::test;
using spillway_test::litmus::Meeting;
using spillway_test::litmus::side_by_side;

constexpr std::uint64_t kRing = 64 * kKiB;
constexpr std::size_t kPayload = 200;
constexpr std::uint64_t kRecord = record_bytes(kPayload);
constexpr std::uint64_t kLap = kRing / kRecord;  // records in one; the rest is padding

Deadline patience() { return Deadline::after_ns(kPatienceNs); }

std::uint64_t number_at(Offset offset) { return offset / kRing * kLap + offset % kRing / kRecord; }

// Appends records 0 to count - 1, each of its place's number; a producer of the whole log.
void append_all(const std::shared_ptr<Partition>& ring, std::uint64_t count, std::atomic<Offset>* end = nullptr) {
  ExclusiveProducer producer(ring, {.deadline_ns = UINT64_MAX});
  for (std::uint64_t i = 0; i < count; ++i) {
    const Appended appended = producer.append(numbered(i, kPayload));
    if (end != nullptr) end->store(appended.end, std::memory_order_relaxed);
  }
}

// The records of one piece of history, how many of them are not what was appended there.
std::uint64_t wrong_in(const HistoryRead& read, std::uint64_t& seen) {
  std::uint64_t wrong = 0;
  for (Offset at = read.begin; at < read.end;) {
    const std::byte* const header = read.bytes.data() + (at - read.begin);
    std::uint64_t word = 0;
    std::memcpy(&word, header + 8, sizeof word);
    const RecordMeta meta = RecordMeta::unpack(word);
    const RecordShape shape = shape_of(meta, read.end - at);
    if (shape.status != ShapeStatus::ok) return wrong + 1;
    if (meta.kind == RecordKind::data) {
      ++seen;
      const std::string wanted = numbered(number_at(at), kPayload);
      wrong += meta.length != kPayload || std::memcmp(header + kRecordHeaderBytes, wanted.data(), kPayload) != 0;
    }
    at += shape.bytes;
  }
  return wrong;
}

// Goal: whoever sees written_end past a record finds it in its file, whole; and the ring is overwritten only behind that.
// Method: a producer laps the ring, held back by what the persister gives back; a reader of history follows written_end.
// ROW: partition_persister.cpp S1, S3; segment_history.cpp R1
TEST_CASE("S3 -> R1 and S1: what written_end has passed is in its file, although the ring is lapped all the time",
          "[threads]") {
  constexpr std::uint64_t kCount = 6000;
  OpenPlace place(with(SyncPolicy::none));
  const auto ring = place.open();
  Persister persister;
  persister.add(ring, {});
  SegmentHistory history(place.paths().data, place.config(), 0, ring);
  Offset at = 0;
  std::uint64_t forbidden = 0, seen = 0;
  side_by_side(
      [&] {
        append_all(ring, kCount);
        static_cast<void>(persister.drain(*ring, patience()));
      },
      [&] {
        for (HistoryRead read = history.read(at); read.end > at; read = history.read(at)) {
          if (read.status == HistoryStatus::data) forbidden += wrong_in(read, seen);
          if (read.status == HistoryStatus::gap) forbidden += read.cause != GapCause::none;
          at = read.end;
        }
      });
  CHECK(forbidden == 0);
  CHECK(seen == kCount);
}

// Goal: a reader is given a segment's own bytes, or told that it expired, whenever its file is used again.
// Method: the log is retained for two segments only; the reader goes back to its oldest record again and again.
// ROW: writer_row.cpp S5; segment_history.cpp R3
TEST_CASE("S5 -> R3: of a segment whose file is used again nothing foreign is delivered", "[threads]") {
  TopicOptions options = with(SyncPolicy::none);
  options.retain = 2 * *options.segment;
  OpenPlace place(options);
  const auto ring = place.open();
  Persister persister;
  persister.add(ring, {});
  SegmentHistory history(place.paths().data, place.config(), 0, ring);
  Offset at = 0;
  std::uint64_t forbidden = 0, seen = 0, turn = 0;
  side_by_side(
      [&] {
        append_all(ring, 8000);
        static_cast<void>(persister.drain(*ring, patience()));
      },
      [&] {
        if (++turn % 4 == 0) at = history.begin();
        const HistoryRead read = history.read(at);
        if (read.status == HistoryStatus::data) forbidden += wrong_in(read, seen);
        if (read.status == HistoryStatus::gap) {
          forbidden += read.cause != GapCause::none && read.cause != GapCause::expired;
        }
        at = std::max(at, read.end);
      });
  CHECK(forbidden == 0);
  CHECK(seen > 0);
  CHECK(ring->control().persister.retained_begin.load() > 0);
}

// A queue that tells what syncs that are over were to cover.
class SyncWatch final : public IoQueue {
 public:
  // `written_end` is asked when a sync is submitted; `synced` is set when all that were are over.
  SyncWatch(const std::atomic<Offset>& written_end, std::atomic<Offset>& synced)
      : real_(make_io_queue(IoKind::automatic, 64)), written_end_(written_end), synced_(synced) {}

  bool submit_write(int fd, const std::byte* from, std::size_t bytes, std::uint64_t file_pos,
                    std::uint64_t tag) noexcept override {
    return real_->submit_write(fd, from, bytes, file_pos, tag);
  }
  bool submit_read(int fd, std::byte* to, std::size_t bytes, std::uint64_t file_pos,
                   std::uint64_t tag) noexcept override {
    return real_->submit_read(fd, to, bytes, file_pos, tag);
  }
  bool submit_sync(int fd, std::uint64_t tag) noexcept override {
    if (!real_->submit_sync(fd, tag)) return false;
    if (syncs_.empty()) covered_ = written_end_.load();
    syncs_.insert(tag);
    return true;
  }
  bool register_buffer(std::byte* memory, std::size_t bytes) noexcept override {
    return real_->register_buffer(memory, bytes);
  }
  void unregister_buffer(std::byte* memory) noexcept override { real_->unregister_buffer(memory); }
  std::size_t in_flight() const noexcept override { return real_->in_flight(); }
  std::size_t depth() const noexcept override { return real_->depth(); }
  IoPath path() const noexcept override { return real_->path(); }

 protected:
  bool next(Deadline deadline, Completion& completion) noexcept override {
    if (reported_.empty()) real_->poll(1, deadline, [&](const Completion& c) { reported_.push_back(c); });
    if (reported_.empty()) return false;
    completion = reported_.front();
    reported_.pop_front();
    // relaxed: the release of durable_end is what orders it.
    if (syncs_.erase(completion.tag) == 1 && syncs_.empty()) synced_.store(covered_, std::memory_order_relaxed);
    return true;
  }

 private:
  std::unique_ptr<IoQueue> real_;
  const std::atomic<Offset>& written_end_;
  std::atomic<Offset>& synced_;
  std::set<std::uint64_t> syncs_;
  Offset covered_ = 0;
  std::deque<Completion> reported_;
};

// Goal: durable_end is never past what a sync that is over was to cover, for readers and for those who wait.
// Method: the queue notes written_end as syncs are submitted, and tells it when they are over.
// ROW: partition_persister.cpp S4; segment_history.cpp R2; persister_wait.cpp V1
TEST_CASE("S4 -> R2, V1: nothing is durable before the sync behind it is over", "[threads]") {
  OpenPlace place(with(SyncPolicy::every_batch));
  const auto ring = place.open();
  const PersisterArea& area = ring->control().persister;
  std::atomic<Offset> synced{0};
  Persister persister({.make_queue = [&] { return std::make_unique<SyncWatch>(area.written_end, synced); }});
  persister.add(ring, {});
  SegmentHistory history(place.paths().data, place.config(), 0, ring);
  std::atomic<Offset> appended{0};
  std::uint64_t forbidden = 0, moved = 0;
  Offset before = 0;
  side_by_side([&] { append_all(ring, 4000, &appended); },
               [&] {
                 const Offset durable = history.durable_end();
                 forbidden += durable > synced.load(std::memory_order_relaxed);
                 forbidden += durable > area.written_end.load(std::memory_order_acquire);
                 forbidden += durable < before;
                 if (durable == before) return;
                 before = durable;
                 // Now and then only: what this thread works at itself it does not observe.
                 if (++moved % 4 != 0) return;
                 const Offset end = appended.load(std::memory_order_relaxed);
                 if (persister.wait_durable(*ring, end, patience()) != Durable::yes) ++forbidden;
                 forbidden += end > synced.load(std::memory_order_relaxed);
               });
  CHECK(forbidden == 0);
  CHECK(moved > 0);
}

// Goal: under policy none nobody is told that a record is durable which a failed sync may have lost.
// Method: every fourth sync fails and notes what it was to cover; two threads append and wait.
// ROW: partition_persister.cpp S6; persister_wait.cpp V1
TEST_CASE("S6 -> V1: a lost range stands before durable_end passes it", "[threads]") {
  OpenPlace place(with(SyncPolicy::none));
  const auto ring = place.open();
  const PersisterArea& area = ring->control().persister;
  std::vector<std::pair<Offset, Offset>> failed;  // by who holds the persister's mutex
  int syncs = 0;
  std::array<std::vector<std::pair<Offset, Durable>>, 2> answers;
  {
    Persister persister({.make_queue = [&] {
      auto queue = std::make_unique<CheckedQueue>(IoKind::automatic);
      queue->fail = [&](CheckedQueue::What what) {
        if (what != CheckedQueue::What::sync || ++syncs % 4 != 0) return 0;
        failed.emplace_back(area.durable_end.load(), area.written_end.load());
        return EIO;
      };
      return queue;
    }});
    persister.add(ring, {});
    const auto work = [&](std::size_t t) {
      SharedProducer producer(ring, {.deadline_ns = UINT64_MAX});
      for (int i = 0; i < 20; ++i) {
        const Offset end = producer.append(bytes_of("x")).end;
        answers[t].emplace_back(end, persister.wait_durable(*ring, end, patience()));
      }
    };
    std::thread other([&] { work(1); });
    work(0);
    other.join();
  }
  std::size_t lost = 0, forbidden = 0;
  for (const auto& each : answers) {
    for (const auto& [end, answer] : each) {
      const bool may_be_lost = std::any_of(failed.begin(), failed.end(),
                                           [at = end](const auto& f) { return f.first < at && at <= f.second; });
      const bool right = answer == Durable::yes ? !may_be_lost : answer == Durable::lost;
      forbidden += !right;
      lost += answer == Durable::lost;
    }
  }
  CHECK(forbidden == 0);
  CHECK(lost > 0);
}

// Goal: a wait for a record that the ring lost before the disk had it says so, and one that says yes is right.
// Method: an overwriting producer laps the persister; the observer waits for the newest record; the disk is read afterwards.
// ROW: ring_intake.cpp N1; persister_wait.cpp V1
TEST_CASE("N1 -> V1: a gap's notice stands before written_end passes it", "[threads]") {
  OpenPlace place(with(SyncPolicy::interval, OnFull::overwrite));
  const auto ring = place.open();
  Persister persister;
  persister.add(ring, {});
  std::atomic<Offset> appended{0};
  std::vector<std::pair<Offset, Durable>> answers;
  side_by_side([&] { append_all(ring, 40'000, &appended); },
               [&] {
                 const Offset end = appended.load(std::memory_order_relaxed);
                 if (end != 0) answers.emplace_back(end, persister.wait_written(*ring, end, patience()));
               });
  REQUIRE(persister.drain(*ring, patience()) == Durable::yes);
  const OnDisk disk = read_disk(place, ring);
  const std::set<Offset> there(disk.offsets.begin(), disk.offsets.end());
  std::size_t forbidden = 0, lost = 0;
  for (const auto& [end, answer] : answers) {
    forbidden += answer != (there.contains(end - kRecord) ? Durable::yes : Durable::lost);
    lost += answer == Durable::lost;
  }
  INFO("answers: " << answers.size() << ", lost: " << lost);
  CHECK(forbidden == 0);
  CHECK_FALSE(answers.empty());
}

// Goal: everything before a committed_end that the persister moved is committed.
// Method: a shared producer appends a little, and waits until the persister has moved it: it would do so itself only once in a
// sixteenth of the ring.
// ROW: partition_persister.cpp C; ring_walk.cpp W3
TEST_CASE("C -> W3: everything before a committed_end that the persister moved is committed", "[threads]") {
  OpenPlace place(with(SyncPolicy::none));
  const auto ring = place.open();
  const auto& committed_end = ring->control().commits.committed_end;
  Persister persister;
  persister.add(ring, {});
  Offset before = 0;
  std::uint64_t forbidden = 0, moved = 0;
  side_by_side(
      [&] {
        SharedProducer producer(ring, {.deadline_ns = UINT64_MAX});
        const Deadline limit = patience();
        for (int i = 0; i < 3000 && !limit.passed(); ++i) {
          const Offset end = producer.append(bytes_of("x")).end;
          if (i % 10 != 0) continue;
          want_persister(*ring);
          while (committed_end.load(std::memory_order_relaxed) < end && !limit.passed()) std::this_thread::yield();
        }
      },
      [&] {
        const Offset committed = committed_end.load(std::memory_order_acquire);
        const Walk walk = walk_committed(*ring, before, committed);
        forbidden += walk.status == WalkStatus::corrupt || walk.status == WalkStatus::unsupported;
        forbidden += walk.status == WalkStatus::boundary && walk.end != committed;
        forbidden += committed < before;
        moved += committed > before;
        before = committed;
      });
  CHECK(forbidden == 0);
  CHECK(moved > 0);
}

// Goal: no holder takes a wish for the disk as seen and misses what was committed before it.
// Method: nothing but wishes makes this holder sync; who wishes waits until it has what it appended before.
// ROW: persister_wait.cpp V2
TEST_CASE("V2 -> look: what was committed before a wish is synced for it", "[threads]") {
  TopicOptions options = with(SyncPolicy::interval);
  options.sync_interval_ms = 3'600'000;
  Rig rig(options);
  PersisterArea& area = rig.area();
  REQUIRE(rig.run_until([&] { return rig.persister->holds_role() && rig.persister->idle(); }));
  std::atomic<std::uint64_t> forbidden{0};
  side_by_side(
      [&] {
        ExclusiveProducer producer(rig.ring, {});
        for (int i = 0; i < 100 && forbidden == 0; ++i) {
          const Offset end = producer.append("x").end;
          area.sync_wanted.fetch_add(1, std::memory_order_release);  // V2, as Persister::wait does
          const Deadline limit = patience();
          while (area.durable_end.load(std::memory_order_acquire) < end && forbidden == 0) {
            if (limit.passed()) ++forbidden;
            std::this_thread::yield();
          }
        }
      },
      [&] { rig.step(); });
  CHECK(forbidden == 0);
  CHECK(rig.durable() >= 100 * record_bytes(1));
}

// Goal: whoever sees a horizon finds it promised in the file.
// Method: reserved_end is moved by hand, so that every step of the holder moves the horizon; the observer reads the file after
// control.
// ROW: partition_take_over.cpp S2
TEST_CASE("S2 -> Space: a horizon is in its file before it shows", "[threads]") {
  Rig rig(with(SyncPolicy::none));
  const auto& horizon = rig.area().horizon;
  std::uint64_t forbidden = 0, moved = 0;
  Offset before = horizon.load();
  side_by_side(
      [&] {
        for (int i = 0; i < 40; ++i) {
          rig.ring->control().claims.reserved_end.store(horizon.load() - kGiB / 4);
          rig.step();
        }
      },
      [&] {
        const Offset seen = horizon.load(std::memory_order_acquire);
        try {
          const auto slot = HorizonFile::peek(horizon_path(rig.place.paths().data), rig.place.config().id, 0);
          forbidden += !slot || slot->horizon < seen;
          moved += seen > before;
          before = seen;
        } catch (const Error&) {
          // Both slots were written while it was read: asked again.
        }
      });
  CHECK(forbidden == 0);
  CHECK(moved > 0);
}

// Goal: whoever sees a request for the role finds the asker's slot locked, as long as it asks.
// Method: a daemon asks and withdraws; looks that a withdrawal may have disturbed are left out.
// ROW: role.cpp Q1
TEST_CASE("Q1 of the role: the asker's slot is locked before its number shows", "[threads]") {
  OpenPlace place(with(SyncPolicy::none));
  const auto ring = place.open();
  const auto& request = ring->control().persister.request;
  const LockProbe slots(ring->paths().slots_lock());
  std::atomic<std::uint64_t> begun{0}, over{0};  // withdrawals
  std::atomic<bool> met{false};
  std::uint64_t forbidden = 0, seen = 0;
  side_by_side(
      [&] {
        Role daemon(ring, true);
        for (int i = 0; i < 2000 || (!met && i < 1'000'000); ++i) {
          daemon.ask();
          begun.fetch_add(1, std::memory_order_seq_cst);
          daemon.withdraw();
          over.fetch_add(1, std::memory_order_seq_cst);
        }
      },
      [&] {
        const std::uint64_t none_under_way = over.load(std::memory_order_seq_cst);
        if (begun.load(std::memory_order_seq_cst) != none_under_way) return;
        const std::uint32_t number = request.load(std::memory_order_acquire);  // Q1
        if (number == 0) return;
        const bool held = slots.held(number - 1);
        if (begun.load(std::memory_order_seq_cst) != none_under_way) return;
        met = ++seen > 10;
        forbidden += !held;
      });
  CHECK(forbidden == 0);
  CHECK(seen > 0);
}

// Goal: of the records that were counted as taken the refusals are counted, too, and who has flushed finds its own counted.
// Method: nobody persists, so that the ring is soon full and drops; counts are taken all the time.
// ROW: async_producer.cpp Q1, Q2
TEST_CASE("Q1 and Q2 of the async producer: no refusal is taken for a record in the ring", "[threads]") {
  constexpr std::uint64_t kCount = 20'000;
  const Place place;
  Topic topic = place.domain(StandBy::never)
                    .open_or_create("t", {.ring = kRing, .segment = 4 * kRing, .on_full = OnFull::drop_new});
  AsyncProducer async(topic);
  std::uint64_t most = 0;
  std::atomic<std::uint64_t> forbidden{0};
  side_by_side(
      [&] {
        for (std::uint64_t i = 1; i <= kCount; ++i) {
          while (async.append("x") != AppendStatus::ok) std::this_thread::yield();
          if (i % 100 != 0) continue;
          if (!async.flush(std::chrono::seconds(60))) ++forbidden;
          const AsyncProducer::Counts counts = async.counts();
          if (counts.appended + counts.refused < i) ++forbidden;
        }
      },
      [&] { most = std::max(most, async.counts().appended); });
  const AsyncProducer::Counts counts = async.counts();
  CHECK(forbidden == 0);
  CHECK(most <= counts.appended);
  CHECK(counts.appended + counts.refused == kCount);
  CHECK(counts.refused > 0);
}

// Goal: of who queues and who goes to sleep one sees the other.
// Method: the two sides' stores, fences and loads as in AsyncProducer, on its kind of queue; they meet for each step.
// ROW: async_producer.cpp Q3
TEST_CASE("Q3: who queues and who goes to sleep can't both miss", "[threads]") {
  constexpr int kRounds = 2000;
  moodycamel::ConcurrentQueue<int> queue;
  std::atomic<std::uint32_t> asleep{0};
  Meeting before, after;
  bool woke = false;
  int forbidden = 0;
  std::thread other([&] {
    for (int i = 0; i < kRounds; ++i) {
      before.wait(i);
      queue.enqueue(i);
      std::atomic_thread_fence(std::memory_order_seq_cst);  // as in wake_if_asleep
      woke = asleep.load(std::memory_order_relaxed) != 0;
      after.wait(2 * i);
      after.wait(2 * i + 1);
    }
  });
  for (int i = 0; i < kRounds; ++i) {
    asleep.store(0);
    before.wait(i);
    asleep.store(1, std::memory_order_seq_cst);  // as in AsyncProducer::Impl::sleep
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const bool found = queue.size_approx() != 0;
    after.wait(2 * i);
    forbidden += !found && !woke;
    int taken = 0;
    while (!queue.try_dequeue(taken)) std::this_thread::yield();
    after.wait(2 * i + 1);
  }
  other.join();
  CHECK(forbidden == 0);
}

}  // namespace
