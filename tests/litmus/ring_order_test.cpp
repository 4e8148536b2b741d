// Litmus tests for the rows of the ring's ORDER tables: two or three threads run one side each, as often as a moment allows, and an
// outcome that the row forbids is counted. The comment above each names its rows (check_rows.sh).
#include <array>
#include <atomic>
#include <thread>

#include "litmus/side_by_side.h"
#include "spillway/ipc/record_writer.h"
#include "spillway/ipc/repair.h"
#include "spillway/ipc/ring_walk.h"
#include "spillway/ipc/space.h"
#include "spillway/ipc/waker.h"
#include "support/catch.h"
#include "support/ring_fixture.h"

namespace {

using namespace spillway_test::ring;
using spillway_test::litmus::Meeting;
using spillway_test::litmus::side_by_side;

// A payload that shows every torn byte: its own number, over and over.
constexpr std::size_t kWords = 12;
using Payload = std::array<std::uint64_t, kWords>;

std::span<const std::byte> bytes_of(const Payload& payload) { return std::as_bytes(std::span(payload)); }
Payload payload_of(std::uint64_t number) {
  Payload payload;
  payload.fill(number);
  return payload;
}
// The number, or UINT64_MAX when the bytes are of more than one.
std::uint64_t number_of(std::span<const std::byte> bytes) {
  Payload payload;
  if (bytes.size() != sizeof payload) return UINT64_MAX;
  std::memcpy(payload.data(), bytes.data(), sizeof payload);
  for (const std::uint64_t word : payload) {
    if (word != payload[0]) return UINT64_MAX;
  }
  return payload[0];
}

constexpr int kRecords = 20'000;

// For a producer that nothing stops: goes on until the observer has met what it is to look at, on a busy machine as well. There
// it lets the observer run now and then: one that shares its core would be lapped in every turn and rejoin at the end for ever.
class Scene {
 public:
  bool goes_on(int i) const noexcept {
    if (i >= kRecords && i % 64 == 0) std::this_thread::yield();
    return i < kRecords || (!met_.load(std::memory_order_relaxed) && !limit_.passed());
  }
  void met() noexcept { met_.store(true, std::memory_order_relaxed); }

 private:
  std::atomic<bool> met_{false};
  Deadline limit_ = Deadline::after_ns(30'000'000'000U);
};

// ROW: exclusive_producer.cpp R1, R3; partition_reader.cpp A1, A2
TEST_CASE("R1 -> A1: what is delivered is whole, while the ring is lapped all the time (and R3 -> A2)", "[threads]") {
  for (const Offset begin : {Offset{0}, kFourGiB - kMiB}) {
    RingPlace place({.ring_bytes = kMiB}, {"", begin, begin});
    const auto p = place.attach();
    PartitionReader reader = live_reader(p);
    reader.start_latest();
    Scene scene;
    std::uint64_t torn = 0, seen = 0, last = 0, backwards = 0;
    side_by_side(
        [&] {
          ExclusiveProducer producer(p, {});
          std::uint64_t number = 0;
          for (int i = 0; scene.goes_on(i); ++i) static_cast<void>(producer.append(bytes_of(payload_of(++number))));
        },
        [&] {
          std::size_t count = 0;
          const ReadStop stop = reader.read(
              [&](const Record& r) {
                const std::uint64_t number = number_of(r.payload());
                if (number == UINT64_MAX) ++torn;
                if (number <= last) ++backwards;
                last = number;
                ++seen;
                return Flow::go_on;
              },
              100, count);
          if (stop == ReadStop::corrupt || stop == ReadStop::unsupported) ++torn;
          reader.skip_gap();
          if (seen > 0) scene.met();
        });
    CHECK(torn == 0);
    CHECK(backwards == 0);
    CHECK(seen > 0);
  }
}

// ROW: exclusive_producer.cpp R2; ring_walk.cpp W3
TEST_CASE("R2 -> W3: everything before committed_end is committed", "[threads]") {
  RingPlace place;
  const auto p = place.attach();
  Offset before = 0;
  Scene scene;
  std::uint64_t forbidden = 0, moved = 0;
  side_by_side(
      [&] {
        ExclusiveProducer producer(p, {});
        for (int i = 0; scene.goes_on(i); ++i) static_cast<void>(producer.append(bytes_of(payload_of(1))));
      },
      [&] {
        const Offset committed = p->control().commits.committed_end.load(std::memory_order_acquire);
        const Walk walk = walk_committed(*p, before, committed);
        if (walk.status == WalkStatus::corrupt || walk.status == WalkStatus::unsupported) ++forbidden;
        if (walk.status == WalkStatus::boundary && walk.end != committed) ++forbidden;
        if (committed < before) ++forbidden;
        moved += committed > before;
        before = committed;
        if (moved > 100) scene.met();
      });
  CHECK(forbidden == 0);
  CHECK(moved > 0);
}

// The bytes themselves, without a commit word to protect them: whoever copied a byte of the next lap finds reserved_end past it.
// ROW: exclusive_producer.cpp R3; ring_walk.cpp W2
TEST_CASE("R3 -> W2: a copy that still_in_ring calls good holds no byte of a newer lap", "[threads]") {
  RingPlace place;
  const auto p = place.attach();
  Scene scene;
  std::uint64_t forbidden = 0, good = 0;
  std::uint64_t turn = 0;
  side_by_side(
      [&] {
        ExclusiveProducer producer(p, {});
        Payload payload;
        for (int i = 0; scene.goes_on(i); ++i) {
          payload.fill(producer.offset() / kRing);  // each byte says which lap it is of; a record never crosses laps
          static_cast<void>(producer.append(bytes_of(payload)));
        }
      },
      [&] {
        // 16 header bytes and 96 of payload: the place of a record is the same in every lap.
        const Offset end = p->control().commits.committed_end.load(std::memory_order_acquire);
        if (end < kRing) return;
        const std::uint64_t index = ++turn * 112 % (kRing / 112 * 112) / 112 * 112;
        const Offset at = align_down(end, kRing) + index < end ? align_down(end, kRing) + index
                                                               : align_down(end, kRing) - kRing + index;
        if (at % kRing + 112 > kRing) return;
        if (p->header_at(at)->commit.load(std::memory_order_acquire) != p->mix().word(at)) return;
        Payload copy;
        copy_from_ring(copy.data(), p->at(at) + kRecordHeaderBytes, sizeof copy);
        if (!still_in_ring(*p, at)) return;
        if (++good > 100) scene.met();
        for (const std::uint64_t lap : copy) forbidden += lap > at / kRing;
      });
  CHECK(forbidden == 0);
  CHECK(good > 0);
}

// ROW: space.cpp S1; exclusive_producer.cpp S1
TEST_CASE("S1 <- persister: a byte is overwritten only after the copy that reclaimable_end stands for", "[threads]") {
  RingPlace place({.ephemeral = false});
  const auto p = place.attach();
  std::uint64_t torn = 0, next = 1;
  HandDisk disk(0);
  side_by_side(
      [&] {
        ExclusiveProducer producer(p, {.deadline_ns = UINT64_MAX});
        for (std::uint64_t i = 1; i <= kRecords / 4; ++i) static_cast<void>(producer.append(bytes_of(payload_of(i))));
      },
      [&] {
        const Offset from = disk.end();
        const Offset to = find_committed_end(*p).end;
        std::vector<std::byte> copy(112);
        for (Offset at = from; at < to;) {
          const RecordMeta meta = RecordMeta::unpack(p->header_at(at)->meta.load(std::memory_order_relaxed));
          const RecordShape shape = shape_of(meta, kRing - (at & (kRing - 1)));
          if (shape.status != ShapeStatus::ok) {
            ++torn;
            break;
          }
          if (meta.kind == RecordKind::data) {
            copy_from_ring(copy.data(), p->at(at) + kRecordHeaderBytes, sizeof(Payload));
            torn += number_of(std::span(copy).first(sizeof(Payload))) != next++;
          }
          at += shape.bytes;
        }
        disk.log.resize(to);
        p->control().persister.written_end.store(to, std::memory_order_release);
        p->control().persister.reclaimable_end.store(align_down(to, kBlock), std::memory_order_release);
        tell_progress(*p);
      });
  CHECK(torn == 0);
  CHECK(next == kRecords / 4 + 1);
}

// ROW: space.cpp S2; exclusive_producer.cpp S2
TEST_CASE("S2 <- persister: no claim is past a horizon that is not on disk", "[threads]") {
  RingPlace place({.on_full = OnFull::overwrite, .ephemeral = false});
  const auto p = place.attach();
  std::atomic<Offset> on_disk{kRing};
  p->control().persister.horizon.store(kRing);
  std::uint64_t forbidden = 0;
  side_by_side(
      [&] {
        ExclusiveProducer producer(p, {.deadline_ns = UINT64_MAX});
        for (int i = 0; i < kRecords / 2; ++i) {
          static_cast<void>(producer.append(bytes_of(payload_of(1))));
          // relaxed: seen through the acquire load of the horizon, or not at all.
          forbidden += p->control().claims.reserved_end.load(std::memory_order_relaxed) >
                       on_disk.load(std::memory_order_relaxed);
        }
      },
      [&] {
        const Offset reserved = p->control().claims.reserved_end.load(std::memory_order_relaxed);
        const Offset horizon = on_disk.load(std::memory_order_relaxed);
        if (reserved + kRing / 2 < horizon) return;
        on_disk.store(horizon + kRing / 2, std::memory_order_relaxed);
        p->control().persister.horizon.store(horizon + kRing / 2, std::memory_order_release);
        tell_progress(*p);
      });
  CHECK(forbidden == 0);
}

// ROW: partition_reader.cpp G1; space.cpp S3; exclusive_producer.cpp S3
TEST_CASE("G1 -> S3: what a gate gave up had been read, so a copy needs no second look", "[threads]") {
  RingPlace place;
  const auto p = place.attach();
  const FileLock lock = FileLock::try_lock(place.paths().consumers_lock(), LockMode::exclusive, 0);
  auto& gate = p->consumers().slots[0].gate;
  gate.store(0);
  p->consumers().announcement.gate_slots.store(1);
  Offset at = 0;
  std::uint64_t torn = 0, next = 1;
  side_by_side(
      [&] {
        ExclusiveProducer producer(p, {.deadline_ns = UINT64_MAX});
        for (std::uint64_t i = 1; i <= kRecords / 4; ++i) static_cast<void>(producer.append(bytes_of(payload_of(i))));
      },
      [&] {
        const Offset to = find_committed_end(*p).end;
        while (at < to) {
          const RecordMeta meta = RecordMeta::unpack(p->header_at(at)->meta.load(std::memory_order_relaxed));
          const RecordShape shape = shape_of(meta, kRing - (at & (kRing - 1)));
          if (shape.status != ShapeStatus::ok) {
            ++torn;
            return;
          }
          Payload copy;
          copy_from_ring(copy.data(), p->at(at) + kRecordHeaderBytes, sizeof copy);
          if (meta.kind == RecordKind::data) torn += number_of(bytes_of(copy)) != next++;
          at += shape.bytes;
          gate.store(at, std::memory_order_release);  // G1
        }
      });
  CHECK(torn == 0);
  CHECK(next == kRecords / 4 + 1);
}

// What a repairer relies on: a claim before a T that was loaded first is committed, or its note stands where notes are looked at.
// ROW: shared_producer.cpp C1, R4, R5; repair.cpp P1, P2, P3
TEST_CASE("C1 -> P1, R5 -> P2, R4 -> P3: no claim is without both a note and a commit", "[threads]") {
  RingPlace place({.ring_bytes = 4 * kMiB});
  const auto p = place.attach();
  std::uint64_t forbidden = 0, holes = 0;
  std::atomic<int> failed{0};
  side_by_side(
      [&] {
        std::vector<std::thread> threads;
        for (std::uint64_t t = 0; t < 2; ++t) {
          threads.emplace_back([&, t] {
            SharedProducer producer(p, {.deadline_ns = UINT64_MAX});
            for (std::uint64_t i = 0; i < kRecords / 8; ++i) {
              if (!producer.append(bytes_of(payload_of(t + i)))) failed.fetch_add(1);
            }
          });
        }
        for (std::thread& t : threads) t.join();
      },
      [&] {
        const Offset h = advance_committed(*p);
        const Offset reserved = p->control().claims.reserved_end.load(std::memory_order_acquire);
        if (h >= reserved) return;
        bool noted = false;
        for (const ProducerSlot& slot : p->control().slots) {
          const std::uint64_t note = slot.start_state.load(std::memory_order_acquire);
          noted = noted || ((note & kNoteStateMask) != 0 && (note & ~kNoteStateMask) == h);
        }
        const bool committed = p->header_at(h)->commit.load(std::memory_order_acquire) == p->mix().word(h);
        if (p->control().commits.committed_end.load(std::memory_order_acquire) != h) return;
        ++holes;
        forbidden += !noted && !committed;
      });
  CHECK(forbidden == 0);
  CHECK(failed == 0);
  INFO("holes met: " << holes);
}

// ROW: shared_producer.cpp C2; repair.cpp R8
TEST_CASE("C2 <- R8: no claim is a lap ahead of an open one", "[threads]") {
  RingPlace place;
  const auto p = place.attach();
  std::uint64_t forbidden = 0;
  side_by_side(
      [&] {
        std::vector<std::thread> threads;
        for (int t = 0; t < 2; ++t) {
          threads.emplace_back([&] {
            SharedProducer producer(p, {.deadline_ns = UINT64_MAX});
            for (int i = 0; i < kRecords / 8; ++i) static_cast<void>(producer.append(bytes_of(payload_of(1))));
          });
        }
        for (std::thread& t : threads) t.join();
      },
      [&] {
        // The other way round than INV-2 says, so that the second is not older than the first.
        const Offset reserved = p->control().claims.reserved_end.load(std::memory_order_acquire);
        const Offset committed = p->control().commits.committed_end.load(std::memory_order_acquire);
        forbidden += reserved > committed + kRing;
      });
  CHECK(forbidden == 0);
}

// ROW: shared_producer.cpp R4; partition_reader.cpp A1; ring_walk.cpp W1
TEST_CASE("R4 -> A1, W1: a batch of a shared producer is seen whole or not at all", "[threads]") {
  RingPlace place({.ring_bytes = kMiB});
  const auto p = place.attach();
  Scene scene;
  std::uint64_t forbidden = 0, batches = 0;
  std::optional<PartitionReader> reader(live_reader(p));
  reader->start_latest();
  side_by_side(
      [&] {
        std::vector<std::thread> threads;
        for (std::uint64_t t = 0; t < 2; ++t) {
          threads.emplace_back([&, t] {
            SharedProducer producer(p, {.deadline_ns = UINT64_MAX});
            std::uint64_t number = t;
            for (int i = 0; scene.goes_on(8 * i); ++i) {
              const Payload payload = payload_of(number += 2);
              const std::vector<RecordInput> batch(3, {bytes_of(payload), {}});
              static_cast<void>(producer.append_batch(batch));
            }
          });
        }
        for (std::thread& t : threads) t.join();
      },
      [&] {
        std::vector<std::uint64_t> numbers;
        std::size_t count = 0;
        // One batch at a time: its first record was visible, so the two others are.
        const ReadStop stop = reader->read(
            [&](const Record& r) {
              numbers.push_back(number_of(r.payload()));
              return r.more_in_batch() ? Flow::go_on : Flow::stop;
            },
            100, count);
        if (stop == ReadStop::gap) return reader->skip_gap();  // lapped inside a batch, perhaps
        if (numbers.empty()) return;
        if (++batches > 10) scene.met();
        forbidden += stop != ReadStop::stopped || numbers.size() != 3 || numbers[0] == UINT64_MAX ||
                     numbers[0] != numbers[1] || numbers[1] != numbers[2];
      });
  CHECK(forbidden == 0);
  CHECK(batches > 0);
}

// ROW: repair.cpp R7, R8; partition_reader.cpp A1; ring_walk.cpp W1, W3
TEST_CASE("R7 -> W1, A1 and R8 -> W3: a repairer's padding has its length when it shows", "[threads]") {
  RingPlace place({.ring_bytes = kMiB});
  const auto p = place.attach();
  SharedProducer alive(p, {});
  PartitionReader reader = live_reader(p);
  reader.start_latest();
  std::uint64_t forbidden = 0, records = 0;
  int repaired = 0;
  side_by_side(
      [&] {
        auto& slot = p->control().slots[50];
        for (int i = 0; i < 400; ++i) {
          const Offset begin = p->control().claims.reserved_end.load();
          if (begin % kMiB + 160 <= kMiB) {
            slot.end.store(begin + 160, std::memory_order_release);
            slot.start_state.store(begin | 1, std::memory_order_release);
            p->control().claims.reserved_end.store(begin + 160, std::memory_order_release);
            slot.start_state.store(begin | 2, std::memory_order_release);
            // A dead batch: a valid word inside.
            std::atomic_thread_fence(std::memory_order_release);
            store_meta(*p->header_at(begin + 80), {8, 0, RecordKind::data, 0});
            store_commit(*p->header_at(begin + 80), p->mix().word(begin + 80));
            repaired += repair_claim_at_committed_end(*p) == RepairResult::repaired;
          }
          static_cast<void>(alive.append(bytes_of(payload_of(7))));
        }
      },
      [&] {
        std::size_t count = 0;
        const ReadStop stop = reader.read(
            [&](const Record& r) {
              forbidden += number_of(r.payload()) != 7;
              ++records;
              return Flow::go_on;
            },
            100, count);
        forbidden += stop == ReadStop::corrupt || stop == ReadStop::unsupported;
        reader.skip_gap();
      });
  CHECK(forbidden == 0);
  CHECK(repaired > 300);
  CHECK(records > 0);
}

// ROW: partition_reader.cpp A3
TEST_CASE("A3 <- persister: nothing is delivered as durable before the disk has it", "[threads]") {
  RingPlace place({.on_full = OnFull::overwrite, .ephemeral = false, .ring_bytes = kMiB});
  const auto p = place.attach();
  p->control().persister.horizon.store(kOffsetEnd);
  std::atomic<Offset> on_disk{0};
  PartitionReader reader = live_reader(p, ReadUpTo::durable);
  reader.start_latest();
  Scene scene;
  std::uint64_t forbidden = 0, seen = 0;
  side_by_side(
      [&] {
        ExclusiveProducer producer(p, {});
        for (int i = 0; scene.goes_on(2 * i); ++i) {
          static_cast<void>(producer.append(bytes_of(payload_of(1))));
          on_disk.store(producer.offset(), std::memory_order_relaxed);
          p->control().persister.durable_end.store(producer.offset(), std::memory_order_release);
        }
      },
      [&] {
        std::size_t count = 0;
        reader.read(
            [&](const Record& r) {
              forbidden += r.offset() >= on_disk.load(std::memory_order_relaxed);
              ++seen;
              return Flow::go_on;
            },
            100, count);
        reader.skip_gap();
        if (seen > 100) scene.met();
      });
  CHECK(forbidden == 0);
  CHECK(seen > 0);
}

// ROW: sleeper.cpp Z1
TEST_CASE("Waker -> Z1: whoever sees the wake word stepped sees the commit it was stepped for", "[threads]") {
  RingPlace place;
  const auto p = place.attach();
  std::uint64_t forbidden = 0;
  std::uint32_t steps = 0;
  std::atomic<Offset> last_end{0};
  side_by_side(
      [&] {
        ExclusiveProducer producer(p, {});
        auto& sequence = p->consumers().wake.sequence;
        auto& last = p->control().notices.last_wake_ns;
        for (int i = 0; i < 2000; ++i) {
          p->consumers().announcement.asleep.store(1, std::memory_order_relaxed);
          last.store(0, std::memory_order_relaxed);  // no rate limit here
          const std::uint32_t before = sequence.load(std::memory_order_relaxed);
          const Appended a = producer.append("x");
          if (sequence.load(std::memory_order_relaxed) == before) continue;
          last_end.store(a.end, std::memory_order_relaxed);
        }
      },
      [&] {
        const Offset end = last_end.load(std::memory_order_relaxed);
        const std::uint32_t sequence = p->consumers().wake.sequence.load(std::memory_order_acquire);  // Z1
        if (sequence == steps) return;
        steps = sequence;
        // Each step stands for one record more, all of 32 bytes: so many are committed.
        const Offset committed = find_committed_end(*p).end;
        forbidden += committed < Offset{sequence} * 32 || committed < end;
      });
  CHECK(forbidden == 0);
  CHECK(steps > 0);
}

TEST_CASE("the drawing Progress: waiter and teller can't both miss", "[threads]") {
  RingPlace place({.ephemeral = false});
  const auto p = place.attach();
  auto& area = p->control().persister;
  constexpr int kRounds = 200;
  Meeting before, after;
  int forbidden = 0;
  std::thread teller([&] {
    for (int i = 0; i < kRounds; ++i) {
      before.wait(i);
      area.written_end.store(static_cast<Offset>(i + 1), std::memory_order_release);
      tell_progress(*p);
      after.wait(2 * i);
      after.wait(2 * i + 1);
    }
  });
  for (int i = 0; i < kRounds; ++i) {
    const std::uint32_t stepped_before = area.progress.load();
    bool saw = false;
    before.wait(i);
    wait_progress(*p, 0,
                  [&] { return saw = area.written_end.load(std::memory_order_acquire) == static_cast<Offset>(i + 1); });
    after.wait(2 * i);
    forbidden += !saw && area.progress.load() == stepped_before;
    area.waiters.store(0);
    after.wait(2 * i + 1);
  }
  teller.join();
  CHECK(forbidden == 0);
}

TEST_CASE("the drawing Waking: after a membarrier committer and sleeper can't both miss", "[threads]") {
  if (!membarrier_register() || !membarrier_everyone()) SPILLWAY_SKIP("this kernel has no global expedited membarrier");
  constexpr int kRounds = 400;
  RingPlace place;
  const auto p = place.attach();
  auto& asleep = p->consumers().announcement.asleep;
  Meeting before, after;
  int forbidden = 0;
  bool committer_saw = false;
  std::thread committer([&] {
    for (int i = 0; i < kRounds; ++i) {
      RecordHeader& header = *p->header_at(16 * static_cast<Offset>(i));
      before.wait(i);
      store_commit(header, p->mix().word(16 * static_cast<Offset>(i)));
      std::atomic_signal_fence(std::memory_order_seq_cst);  // as in Waker::notify
      committer_saw = asleep.load(std::memory_order_relaxed) != 0;
      after.wait(2 * i);
      after.wait(2 * i + 1);
    }
  });
  for (int i = 0; i < kRounds; ++i) {
    asleep.store(0);
    const RecordHeader& header = *p->header_at(16 * static_cast<Offset>(i));
    before.wait(i);
    asleep.store(1, std::memory_order_relaxed);
    static_cast<void>(membarrier_everyone());
    const bool sleeper_saw =
        header.commit.load(std::memory_order_acquire) == p->mix().word(16 * static_cast<Offset>(i));
    after.wait(2 * i);
    forbidden += !committer_saw && !sleeper_saw;
    after.wait(2 * i + 1);
  }
  committer.join();
  CHECK(forbidden == 0);
}

}  // namespace
