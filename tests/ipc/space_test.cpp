// How far producers may go: the three on_full policies on a partition whose watermarks are moved by hand, and gates.
#include "spillway/ipc/space.h"

#include <atomic>
#include <cerrno>
#include <thread>

#include "support/catch.h"
#include "support/ring_fixture.h"

namespace {

using namespace spillway_test::ring;

constexpr std::uint64_t kShortDeadline = 3'000'000;

template <class Producer>
std::size_t fill(Producer& producer, std::size_t text_bytes, Appended& last) {
  const std::string text(text_bytes, 'f');
  std::size_t count = 0;
  for (;;) {
    last = producer.append(text);
    if (!last) return count;
    ++count;
    REQUIRE(count < 100'000);
  }
}

// The same promises by either kind of producer.
template <class Case>
void for_both(const RingOptions& options, Case&& one) {
  for (const Start& start : starts()) {
    INFO(start.name);
    {
      INFO("exclusive");
      RingPlace place(options, start);
      const auto p = place.attach();
      ExclusiveProducer producer(p, {.deadline_ns = kShortDeadline});
      one(place, p, producer, start);
    }
    if (options.on_full == OnFull::overwrite) continue;
    {
      INFO("shared");
      RingPlace place(options, start);
      const auto p = place.attach();
      SharedProducer producer(p, {.deadline_ns = kShortDeadline});
      one(place, p, producer, start);
    }
  }
}

TEST_CASE(
    "block: a producer stops at reclaimable_end + capacity, to the record, and goes on when space is given back") {
  for_both({.ephemeral = false},
           [](RingPlace& place, const std::shared_ptr<Partition>& p, auto& producer, const Start& start) {
             auto& area = p->control().persister;
             const Offset given = align_down(start.at, kBlock);
             area.reclaimable_end.store(given);
             Appended last;
             fill(producer, 100, last);
             CHECK(last.status == AppendStatus::full);
             CHECK(last.blocked == Blocked::no_persister);
             const Offset end = find_committed_end(*p).end;
             CHECK(end <= given + kRing);
             CHECK(end + record_bytes(100) > given + kRing);
             CHECK(p->control().claims.reserved_end.load() <= given + kRing);  // INV-5
             CHECK(p->control().commits.committed_end.load() == end);          // told at a full ring
             {
               const FileLock role = FileLock::try_lock(place.paths().role_lock(), LockMode::exclusive);
               CHECK(producer.append(std::string(100, 'x')).blocked == Blocked::disk_behind);
               area.state.store(PersisterState::no_space);
               CHECK(producer.append(std::string(100, 'x')).blocked == Blocked::no_space);
               area.state.store(PersisterState::io_error);
               CHECK(producer.append(std::string(100, 'x')).blocked == Blocked::io_error);
               p->control().persister.error.store(EBADMSG);
               CHECK(producer.append(std::string(100, 'x')).blocked == Blocked::damaged);
               area.state.store(PersisterState::working);
             }
             area.reclaimable_end.store(given + kBlock);
             const std::size_t more = fill(producer, 100, last);
             CHECK(more >= kBlock / record_bytes(100) - 1);
             CHECK(find_committed_end(*p).end <= given + kBlock + kRing);
           });
}

TEST_CASE("drop_new: refused at once and counted, and nothing of it is in the log") {
  for_both({.on_full = OnFull::drop_new, .ephemeral = false},
           [](RingPlace&, const std::shared_ptr<Partition>& p, auto& producer, const Start&) {
             Appended last;
             fill(producer, 200, last);
             CHECK(last.status == AppendStatus::dropped);
             const Offset end = find_committed_end(*p).end;
             for (int i = 0; i < 5; ++i) CHECK(producer.append(std::string(200, 'x')).status == AppendStatus::dropped);
             CHECK(p->control().notices.dropped.load() == 6);
             CHECK(find_committed_end(*p).end == end);
             p->control().persister.reclaimable_end.fetch_add(kBlock);
             CHECK(producer.append(std::string(200, 'x')));
           });
}

TEST_CASE("overwrite: never waits for the disk, but stops at the horizon") {
  for_both({.on_full = OnFull::overwrite, .ephemeral = false},
           [](RingPlace&, const std::shared_ptr<Partition>& p, auto& producer, const Start& start) {
             p->control().persister.horizon.store(align_down(start.at, kRing) + 5 * kRing);
             Appended last;
             const std::size_t count = fill(producer, 1000, last);
             CHECK(count > 3 * kRing / 1024);
             CHECK(last.status == AppendStatus::no_horizon);
             CHECK(p->control().claims.reserved_end.load() <= align_down(start.at, kRing) + 5 * kRing);
             p->control().persister.horizon.fetch_add(kRing);
             CHECK(producer.append("on"));
           });
}

TEST_CASE("the horizon holds under block as well, and is named") {
  for_both({.ephemeral = false},
           [](RingPlace& place, const std::shared_ptr<Partition>& p, auto& producer, const Start& start) {
             const FileLock role = FileLock::try_lock(place.paths().role_lock(), LockMode::exclusive);
             p->control().persister.horizon.store(align_down(start.at, kBlock) + 2 * kBlock);
             p->control().persister.reclaimable_end.store(align_down(start.at, kBlock));
             Appended last;
             fill(producer, 100, last);
             CHECK(last.status == AppendStatus::full);
             CHECK(last.blocked == Blocked::no_horizon);
             CHECK(p->control().claims.reserved_end.load() <= align_down(start.at, kBlock) + 2 * kBlock);
           });
}

TEST_CASE("watermarks off the grid don't put a single claim off it") {
  for_both({.ephemeral = false},
           [](RingPlace&, const std::shared_ptr<Partition>& p, auto& producer, const Start& start) {
             p->control().persister.reclaimable_end.store(align_down(start.at, kBlock) + 1);
             p->control().persister.horizon.store(start.at + 3 * kBlock + 9);
             Appended last;
             fill(producer, 0, last);
             CHECK(last.status == AppendStatus::full);
             CHECK(p->control().claims.reserved_end.load() % kRecordAlign == 0);
             producer.close();
             CHECK(p->control().claims.reserved_end.load() % kRecordAlign == 0);
             CHECK(find_committed_end(*p).end == p->control().claims.reserved_end.load());
           });
}

TEST_CASE("a producer that waits goes on as soon as space is given back", "[threads]") {
  RingPlace place({.ephemeral = false});
  const auto p = place.attach();
  ExclusiveProducer producer(p, {.deadline_ns = UINT64_MAX});
  HandDisk disk(0);
  std::atomic<bool> stop{false};
  std::thread persister([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      const Offset to = find_committed_end(*p).end;
      p->control().persister.reclaimable_end.store(align_down(to, kBlock), std::memory_order_release);
      tell_progress(*p);
      std::this_thread::yield();
    }
  });
  for (int i = 0; i < 600; ++i) REQUIRE(producer.append(std::string(1000, 'w')));
  stop.store(true, std::memory_order_relaxed);
  persister.join();
  CHECK(p->control().commits.committed_end.load() > 8 * kRing);
}

TEST_CASE("shared producers never lap a claim that is open, dead or alive") {
  for (const bool ephemeral : {true, false}) {
    for (const Start& start : starts()) {
      INFO(start.name << (ephemeral ? " ephemeral" : " persistent"));
      RingPlace place({.ephemeral = ephemeral}, start);
      const auto p = place.attach();
      SharedProducer holder(p, {});
      SharedProducer other(p, {.deadline_ns = kShortDeadline});
      auto claim = holder.claim(48);
      REQUIRE(claim);
      const Offset held = find_committed_end(*p).end;
      p->control().persister.reclaimable_end.store(start.begin + 64 * kRing);  // space is not what stops it
      Appended last;
      fill(other, 500, last);
      CHECK(last.status == AppendStatus::full);
      if (ephemeral) CHECK(last.blocked == Blocked::held_by_live);
      CHECK(p->control().claims.reserved_end.load() <= held + kRing);  // INV-6
      REQUIRE(claim.commit());
      CHECK(other.append("on"));
    }
  }
}

// Gates. A consumer's slot by hand: its lock is the proof that it lives.
struct Gate {
  FileLock lock;
  ConsumerSlot* slot;
  Gate(const RingPlace& place, Partition& p, std::size_t i, Offset offset)
      : lock(FileLock::try_lock(place.paths().consumers_lock(), LockMode::exclusive, i)),
        slot(&p.consumers().slots[i]) {
    REQUIRE(lock);
    auto& used = p.consumers().announcement.gate_slots;
    used.store(std::max(used.load(), static_cast<std::uint32_t>(i + 1)));
    slot->gate.store(offset);
  }
};

TEST_CASE("a live gating consumer holds producers at its gate, and a dead one does not") {
  for_both({}, [](RingPlace& place, const std::shared_ptr<Partition>& p, auto& producer, const Start& start) {
    {
      Gate far(place, *p, 0, start.at + 512);
      Gate near(place, *p, 5, start.at);
      Appended last;
      fill(producer, 300, last);
      CHECK(last.status == AppendStatus::full);
      CHECK(last.blocked == Blocked::gated);
      CHECK(p->control().claims.reserved_end.load() <= start.at + kRing);
      near.slot->gate.store(start.at + kBlock);
      fill(producer, 300, last);
      CHECK(p->control().claims.reserved_end.load() <= start.at + kRing + 512);
      CHECK(p->control().claims.reserved_end.load() + 512 > start.at + kRing);
    }
    // Both locks are free; the gates still stand there.
    for (int i = 0; i < 600; ++i) REQUIRE(producer.append(std::string(300, 'x')));
  });
}

TEST_CASE("hostile gates: off the grid, in the past, in the future, at the end of numbers") {
  for (const Offset gate : {Offset{0}, Offset{1}, Offset{1007}, kFourGiB * 7 + 3, kOffsetEnd - 1, kOffsetEnd,
                            UINT64_MAX - 1, UINT64_MAX - kRing + 1}) {
    for_both({}, [&](RingPlace& place, const std::shared_ptr<Partition>& p, auto& producer, const Start& start) {
      INFO("gate " << gate);
      p->consumers().announcement.gate_slots.store(UINT32_MAX);
      Gate liar(place, *p, kConsumerSlots - 1, gate);
      // Whatever it says, it holds a producer at most until its lock is free, and never moves a claim off the grid.
      for (int i = 0; i < 40; ++i) {
        if (!producer.append(std::string(1000, 'x'))) break;
      }
      CHECK(p->control().claims.reserved_end.load() % kRecordAlign == 0);
      CHECK(p->control().claims.reserved_end.load() <= start.at + 64 * kRing);
      liar.lock.unlock();
      for (int i = 0; i < 100; ++i) REQUIRE(producer.append(std::string(1000, 'x')));
      producer.close();
      CHECK(find_committed_end(*p).end % kRecordAlign == 0);
    });
  }
}

TEST_CASE("a gate that appears while a producer runs is honoured within a chunk") {
  for_both({}, [](RingPlace&, const std::shared_ptr<Partition>& p, auto& producer, const Start&) {
    for (int i = 0; i < 100; ++i) REQUIRE(producer.append(std::string(300, 'x')));
    PartitionReader reader = live_reader(p);
    reader.start_earliest();
    const Offset from = reader.offset();
    REQUIRE(reader.register_slot("late", true));
    Appended last;
    fill(producer, 300, last);
    CHECK(last.blocked == Blocked::gated);
    CHECK(p->control().claims.reserved_end.load() <= from + kRing + kRing / 16);
    CHECK(reader.offset() == from);
  });
}

TEST_CASE("a gating consumer sees everything of a producer that never stops", "[threads]") {
  RingPlace place;
  const auto p = place.attach();
  std::optional<PartitionReader> reader(live_reader(p));
  reader->start_latest();
  REQUIRE(reader->register_slot("gate", true));
  constexpr int kRecords = 3000;
  std::thread thread([&] {
    ExclusiveProducer producer(p, {.deadline_ns = UINT64_MAX});
    for (int i = 0; i < kRecords; ++i) static_cast<void>(producer.append(std::to_string(i) + std::string(200, ' ')));
  });
  int next = 0;
  bool in_order = true;
  std::size_t gaps = 0;
  while (next < kRecords) {
    const Drained d = drain(*reader, 64);
    for (const Delivered& r : d.records) in_order = in_order && std::stoi(r.text) == next++;
    gaps += d.gaps.size();
    reader->publish();
    if (gaps > 0) break;
  }
  reader.reset();  // frees the gate
  thread.join();
  CHECK(in_order);
  CHECK(gaps == 0);
}

}  // namespace
