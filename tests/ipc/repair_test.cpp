// Whatever instant a producer dies at, the others see its whole claim or none of it, and never stall.
#include "spillway/ipc/repair.h"

#include <random>

#include "spillway/ipc/record_writer.h"
#include "support/catch.h"
#include "support/ring_fixture.h"

namespace {

using namespace spillway_test::ring;

// ---- The decision, on plain memory.

constexpr Offset kH = 4096;
constexpr auto kNone = NoteState::none;
constexpr auto kTent = NoteState::tentative;
constexpr auto kConf = NoteState::confirmed;

struct Row {
  const char* name;
  Offset reserved;              // as h + ...
  std::vector<NoteSeen> notes;  // start and end as h + ...
  std::vector<Offset> words;    // valid commit words, as h + ...
  RepairChoice choice;
  Offset end = 0;
};

using Decide =
    std::function<RepairDecision(Offset, Offset, std::span<const NoteSeen>, const std::function<bool(Offset)>&)>;

RepairDecision as_built(Offset h, Offset reserved, std::span<const NoteSeen> notes,
                        const std::function<bool(Offset)>& starts) {
  return decide_repair(h, reserved, notes, 65536, 16384, starts);
}

std::vector<Row> decision_table() {
  const auto wait = RepairChoice::wait_for_live, close = RepairChoice::close, again = RepairChoice::look_again,
             bad = RepairChoice::corrupt;
  return {
      {"confirmed, dead: closed exactly", 512, {{0, 64, kConf, true}}, {}, close, 64},
      {"confirmed, dead, a batch: as a whole, not to its first inner word",
       512,
       {{0, 192, kConf, true}},
       {64, 128},
       close,
       192},
      {"confirmed, alive: wait", 512, {{0, 64, kConf, false}}, {}, wait},
      {"tentative, alive: it may have won", 512, {{0, 64, kTent, false}}, {64}, wait},
      {"one dead confirmed, another alive that lost: wait for its clearing",
       512,
       {{0, 64, kConf, true}, {0, 32, kTent, false}},
       {},
       wait},
      {"tentative, dead, last claim of all", 64, {{0, 64, kTent, true}}, {}, close, 64},
      {"tentative, dead, a committed claim behind it", 128, {{0, 64, kTent, true}}, {64}, close, 64},
      {"tentative, dead, a noted claim behind it", 128, {{0, 64, kTent, true}, {64, 128, kConf, true}}, {}, close, 64},
      {"two dead, the shorter won",
       256,
       {{0, 32, kTent, true}, {0, 64, kTent, true}, {32, 256, kConf, false}},
       {},
       close,
       32},
      {"two dead, the longer won",
       256,
       {{0, 32, kTent, true}, {0, 64, kTent, true}, {64, 256, kConf, false}},
       {},
       close,
       64},
      {"two dead of one length", 64, {{0, 64, kTent, true}, {0, 64, kTent, true}}, {}, close, 64},
      {"confirmed beats tentative", 256, {{0, 32, kTent, true}, {0, 64, kConf, true}}, {32, 64}, close, 64},
      {"a note elsewhere says nothing of h", 512, {{64, 128, kConf, true}}, {}, again},
      {"no note at all: an old snapshot", 512, {}, {64}, again},
      {"tentative with no sign of where it ended: an old snapshot", 512, {{0, 64, kTent, true}}, {}, again},
      {"its CAS never came: it ends behind everything that was claimed", 64, {{0, 128, kTent, true}}, {}, again},
      {"hostile: confirmed and empty", 512, {{0, 0, kConf, true}}, {}, bad},
      {"hostile: confirmed and backwards", 512, {{0, Offset(0) - 64, kConf, true}}, {}, bad},
      {"hostile: past what was claimed", 512, {{0, 1024, kConf, true}}, {}, bad},
      {"hostile: larger than a claim", 65536, {{0, 32768, kConf, true}}, {}, bad},
      {"hostile: off the grid", 512, {{0, 65, kConf, true}}, {}, bad},
      {"hostile: tentative off the grid", 512, {{0, 65, kTent, true}}, {65}, again},
  };
}

// How many rows a decision gets wrong.
int wrong(const Decide& decide) {
  int count = 0;
  for (Row row : decision_table()) {
    for (NoteSeen& n : row.notes) n.start += kH, n.end += kH;
    const auto starts = [&](Offset e) {
      return std::find(row.words.begin(), row.words.end(), e - kH) != row.words.end();
    };
    const RepairDecision d = decide(kH, kH + row.reserved, row.notes, starts);
    if (d.choice != row.choice || (d.choice == RepairChoice::close && d.end != kH + row.end)) ++count;
  }
  return count;
}

TEST_CASE("the decision what closes the hole, row by row") {
  for (Row row : decision_table()) {
    INFO(row.name);
    for (NoteSeen& n : row.notes) n.start += kH, n.end += kH;
    const auto starts = [&](Offset e) {
      return std::find(row.words.begin(), row.words.end(), e - kH) != row.words.end();
    };
    const RepairDecision d = as_built(kH, kH + row.reserved, row.notes, starts);
    CHECK(d.choice == row.choice);
    if (row.choice == RepairChoice::close) CHECK(d.end == kH + row.end);
  }
}

TEST_CASE("every weaker version of the decision is wrong somewhere in the table") {
  CHECK(wrong(as_built) == 0);
  const auto edited = [](const std::function<void(std::vector<NoteSeen>&)>& edit) {
    return [=](Offset h, Offset reserved, std::span<const NoteSeen> notes, const std::function<bool(Offset)>& starts) {
      std::vector<NoteSeen> copy(notes.begin(), notes.end());
      edit(copy);
      return as_built(h, reserved, copy, starts);
    };
  };
  INFO("takes everybody for dead");
  CHECK(wrong(edited([](auto& notes) {
          for (auto& n : notes) n.dead = true;
        })) > 0);
  INFO("believes a tentative note as if it were confirmed");
  CHECK(wrong(edited([](auto& notes) {
          for (auto& n : notes)
            if (n.state == kTent) n.state = kConf;
        })) > 0);
  INFO("ignores tentative notes");
  CHECK(wrong(edited([](auto& notes) {
          for (auto& n : notes)
            if (n.state == kTent) n.state = kNone;
        })) > 0);
  INFO("closes up to the first valid word: the first record of a dead batch only");
  CHECK(
      wrong([](Offset h, Offset reserved, std::span<const NoteSeen> notes, const std::function<bool(Offset)>& starts) {
        RepairDecision d = as_built(h, reserved, notes, starts);
        for (Offset e = h + 16; d.choice == RepairChoice::close && e < d.end; e += 16) {
          if (starts(e)) d.end = e;
        }
        return d;
      }) > 0);
  INFO("does not ask whether a claim starts at a tentative end");
  CHECK(wrong([](Offset h, Offset reserved, std::span<const NoteSeen> notes, const std::function<bool(Offset)>&) {
          return as_built(h, reserved, notes, [](Offset) { return true; });
        }) > 0);
  INFO("does not count notes as signs of a claim");
  CHECK(
      wrong([](Offset h, Offset reserved, std::span<const NoteSeen> notes, const std::function<bool(Offset)>& starts) {
        std::vector<NoteSeen> here;
        for (const NoteSeen& n : notes) {
          if (n.start == h) here.push_back(n);
        }
        return as_built(h, reserved, here, starts);
      }) > 0);
}

// ---- A dies after step k.

enum class Step { none, noted, claimed, confirmed, payload_half, inner_committed, committed, cleared };
enum class Seen { absent, skipped, read };

// A shared producer whose steps are taken one by one; its slot's lock says whether it lives.
class SteppedProducer {
 public:
  SteppedProducer(const RingPlace& place, Partition& p, std::size_t slot)
      : p_(p),
        lock_(FileLock::try_lock(place.paths().slots_lock(), LockMode::exclusive, slot)),
        slot_(p.control().slots[slot]) {
    REQUIRE(lock_);
  }
  // A batch of two records of 48 bytes each, as far as `last`.
  void run_to(Step last) {
    constexpr std::uint64_t kBytes = 96;
    begin = p_.control().claims.reserved_end.load();
    if (last == Step::none) return;
    slot_.end.store(begin + kBytes);
    slot_.start_state.store(begin | 1);
    if (last == Step::noted) return;
    p_.control().claims.reserved_end.store(begin + kBytes);
    if (last == Step::claimed) return;
    slot_.start_state.store(begin | 2);
    if (last == Step::confirmed) return;
    for (const std::uint64_t at : {std::uint64_t{0}, std::uint64_t{48}}) {
      const std::string_view text = at == 0 ? "A, the first record" : "A, the second one..";
      copy_to_ring(p_.at(begin + at) + kRecordHeaderBytes, text.data(), text.size());
      store_meta(*p_.header_at(begin + at),
                 {19, 0, RecordKind::data, static_cast<std::uint8_t>(at == 0 ? flag::kMoreInBatch : 0)});
      if (last == Step::payload_half) return;
    }
    store_commit(*p_.header_at(begin + 48), p_.mix().word(begin + 48));
    if (last == Step::inner_committed) return;
    store_commit(*p_.header_at(begin), p_.mix().word(begin));
    if (last == Step::committed) return;
    slot_.start_state.store(0);
  }
  void die() { lock_.unlock(); }
  Offset begin = 0;

 private:
  Partition& p_;
  FileLock lock_;
  ProducerSlot& slot_;
};

struct DeathRow {
  Step last;
  const char* name;
  Seen a;
  int repairs;
};
const DeathRow kDeaths[] = {
    {Step::none, "nothing", Seen::absent, 0},
    {Step::noted, "noted", Seen::absent, 0},
    {Step::claimed, "claimed", Seen::skipped, 1},
    {Step::confirmed, "confirmed", Seen::skipped, 1},
    {Step::payload_half, "payload_half", Seen::skipped, 1},
    {Step::inner_committed, "inner_committed", Seen::skipped, 1},
    {Step::committed, "committed", Seen::read, 0},
    {Step::cleared, "cleared", Seen::read, 0},
};

// Method: A takes its steps to k and dies; B (real, alive) commits a record; repair runs until there is nothing more. One row
// per k, with and without B, at each start. The start one record short of a lap makes A's claim the ring's first bytes.
TEST_CASE("A dies after step k: its whole claim is read or none of it, and B is read always") {
  for (const Start& start : starts()) {
    for (const DeathRow& row : kDeaths) {
      for (const bool with_b : {true, false}) {
        INFO(start.name << ", " << row.name << (with_b ? ", B commits" : ""));
        RingPlace place({}, start);
        const auto p = place.attach();
        PartitionReader reader = live_reader(p);
        reader.start_latest();
        SharedProducer b(p, {});
        REQUIRE(b.append("before"));
        // A's claim must not cross the ring's end: B goes there first, as A would with padding.
        while (p->control().claims.reserved_end.load() % kRing + 96 > kRing) REQUIRE(b.append("filler"));
        drain(reader);
        SteppedProducer a(place, *p, 100);
        a.run_to(row.last);
        const RepairResult while_alive = repair_claim_at_committed_end(*p);
        CHECK((while_alive == RepairResult::nothing || while_alive == RepairResult::waiting_for_live ||
               while_alive == RepairResult::repaired));  // repaired: committed_end moved over what is committed
        if (with_b) REQUIRE(b.append("B"));
        if (row.a == Seen::skipped) {
          CHECK(repair_claim_at_committed_end(*p) == RepairResult::waiting_for_live);
          CHECK(find_committed_end(*p).end == a.begin);
          CHECK_FALSE(reader.held_by_dead());
        }
        a.die();
        CHECK(reader.held_by_dead() == (row.a == Seen::skipped));
        int repairs = 0;
        while (find_committed_end(*p).end < p->control().claims.reserved_end.load()) {
          REQUIRE(repair_claim_at_committed_end(*p) == RepairResult::repaired);
          ++repairs;
        }
        CHECK(repairs == row.repairs);
        CHECK(repair_claim_at_committed_end(*p) != RepairResult::waiting_for_live);
        std::vector<std::string> expected;
        if (row.a == Seen::read) expected = {"A, the first record", "A, the second one.."};
        if (with_b) expected.push_back("B");
        CHECK(texts(drain(reader).records) == expected);
        // The slot can be used again, at once or when its start is passed, and the log goes on.
        CHECK(note_settled(*p, 100));
        REQUIRE(b.append("after"));
        CHECK(texts(drain(reader).records) == std::vector<std::string>{"after"});
      }
    }
  }
}

// Two producers tried for one place and died; only one CAS can have come. Notes by hand: {slot 100: 48 bytes, slot 101: 96}.
TEST_CASE("two dead tentative notes at one place: what follows tells which of them won") {
  for (const std::uint64_t won : {48U, 96U}) {
    for (const bool followed : {true, false}) {
      INFO(won << (followed ? " followed" : " last"));
      RingPlace place;
      const auto p = place.attach();
      PartitionReader reader = live_reader(p);
      reader.start_latest();
      SharedProducer b(p, {});
      REQUIRE(b.append("before"));
      const Offset h = find_committed_end(*p).end;
      auto& slots = p->control().slots;
      slots[100].end.store(h + 48);
      slots[100].start_state.store(h | 1);
      slots[101].end.store(h + 96);
      slots[101].start_state.store(h | 1);
      p->control().claims.reserved_end.store(h + won);
      if (followed) REQUIRE(b.append("B"));
      CHECK(repair_claim_at_committed_end(*p) == RepairResult::repaired);
      CHECK(find_committed_end(*p).end == p->control().claims.reserved_end.load());
      CHECK(texts(drain(reader).records) ==
            (followed ? std::vector<std::string>{"before", "B"} : std::vector<std::string>{"before"}));
      CHECK(note_settled(*p, 100));
      CHECK(note_settled(*p, 101));
    }
  }
}

TEST_CASE("closing only the first record of a dead batch would deliver its second: the whole claim is closed") {
  RingPlace place;
  const auto p = place.attach();
  SharedProducer b(p, {});
  SteppedProducer a(place, *p, 100);
  a.run_to(Step::inner_committed);
  a.die();
  {
    // The weaker version, to show that this test could fail.
    PartitionReader reader = live_reader(p);
    reader.start_at_boundary(a.begin);
    write_padding(*p->header_at(a.begin), 48, p->mix().word(a.begin));
    CHECK(texts(drain(reader).records) == std::vector<std::string>{"A, the second one.."});
    p->header_at(a.begin)->commit.store(0);
    p->control().commits.committed_end.store(a.begin);
  }
  PartitionReader reader = live_reader(p);
  reader.start_at_boundary(a.begin);
  CHECK(repair_claim_at_committed_end(*p) == RepairResult::repaired);
  CHECK(drain(reader).records.empty());
}

TEST_CASE("a slot with an unsettled note is left alone, and the note of one whose CAS never came is no obstacle") {
  RingPlace place({.ephemeral = false});  // or attaching would repair
  const auto p = place.attach();
  SharedProducer keeps_mode_shared(p, {});
  auto& slot = p->control().slots[1];
  const Offset at = p->control().claims.reserved_end.load();
  slot.end.store(at + 64);
  slot.start_state.store(at | 1);
  CHECK(note_settled(*p, 1));
  slot.start_state.store(at | 2);
  CHECK_FALSE(note_settled(*p, 1));  // confirmed: its claim must be closed first
  slot.start_state.store(at | 1);
  p->control().claims.reserved_end.store(at + 64);
  CHECK_FALSE(note_settled(*p, 1));
  {
    SharedProducer next(p, {});
    CHECK(slot.start_state.load() == (at | 1));  // it took another
    CHECK(LockProbe(place.paths().slots_lock()).held(2));
  }
  CHECK(repair_claim_at_committed_end(*p) == RepairResult::repaired);
  CHECK(note_settled(*p, 1));
  SharedProducer after(p, {});
  CHECK(slot.start_state.load() == 0);
}

TEST_CASE(
    "an exclusive producer's chunk is never taken for a dead claim, whatever the notes of the last generation say") {
  for (const std::uint64_t stale : {std::uint64_t{48}, std::uint64_t{kBlock}}) {
    RingPlace place;
    const auto p = place.attach();
    {
      SharedProducer last(p, {});
    }
    // Somebody noted this claim and died before its CAS: settled, and never cleared.
    const Offset at = p->control().claims.reserved_end.load();
    auto& slot = p->control().slots[9];
    slot.end.store(at + stale);
    slot.start_state.store(at | 1);
    PartitionReader reader = live_reader(p);
    reader.start_latest();
    ExclusiveProducer producer(p, {});
    auto claim = producer.claim(100);
    REQUIRE(claim);
    REQUIRE(p->control().claims.reserved_end.load() == at + kBlock);
    // A persister that has not yet seen the mode change looks for holes.
    CHECK(repair_claim_at_committed_end(*p) == RepairResult::nothing);
    CHECK(drain(reader).records.empty());
    REQUIRE(claim.commit());
    CHECK(drain(reader).records.size() == 1);
  }
}

// ---- Settling.

TEST_CASE("after an exclusive producer's death its chunk is padded, whatever was in it") {
  struct Dead {
    const char* name;
    bool inner_words;  // of a batch whose first word is missing
    std::uint64_t chunk;
  };
  for (const Start& start : starts()) {
    for (const Dead& dead : {Dead{"nothing written", false, 4096}, Dead{"half a batch", true, 4096},
                             Dead{"one unit left", false, 16}, Dead{"a claim of a quarter", true, kRing / 4}}) {
      INFO(start.name << ", " << dead.name);
      RingPlace place({}, start);
      const auto p = place.attach();
      PartitionReader reader = live_reader(p);
      reader.start_latest();
      {
        ExclusiveProducer producer(p, {});
        REQUIRE(producer.append("whole"));
      }
      auto& control = p->control();
      const Offset at = control.claims.reserved_end.load();
      const std::uint64_t room = kRing - (at & (kRing - 1));
      const std::uint64_t chunk = std::min(dead.chunk, room);  // no chunk crosses the ring's end
      control.claims.reserved_end.store(at + chunk);
      if (dead.inner_words && chunk >= 96) {
        store_meta(*p->header_at(at), {30, 0, RecordKind::data, flag::kMoreInBatch});
        store_meta(*p->header_at(at + 48), {30, 0, RecordKind::data, 0});
        store_commit(*p->header_at(at + 48), p->mix().word(at + 48));
      }
      // The floor may be as old as the chunk before.
      control.commits.committed_end.store(start.at);
      {
        SharedProducer next(p, {});
        CHECK(control.commits.committed_end.load() == control.claims.reserved_end.load());
        REQUIRE(next.append("next"));
      }
      CHECK(texts(drain(reader).records) == std::vector<std::string>{"whole", "next"});
    }
  }
}

TEST_CASE("after shared producers' deaths an exclusive one finds every claim closed") {
  for (const DeathRow& row : kDeaths) {
    INFO(row.name);
    RingPlace place;
    const auto p = place.attach();
    PartitionReader reader = live_reader(p);
    reader.start_latest();
    {
      SharedProducer b(p, {});
      SteppedProducer a(place, *p, 100), c(place, *p, 101);
      a.run_to(row.last);
      REQUIRE(b.append("B"));
      c.run_to(row.last);
    }
    ExclusiveProducer next(p, {});
    CHECK(p->control().commits.committed_end.load() == p->control().claims.reserved_end.load());
    REQUIRE(next.append("next"));
    std::vector<std::string> expected;
    const auto add_dead = [&] {
      if (row.a == Seen::read) expected.insert(expected.end(), {"A, the first record", "A, the second one.."});
    };
    add_dead();
    expected.push_back("B");
    add_dead();
    expected.push_back("next");
    CHECK(texts(drain(reader).records) == expected);
  }
}

TEST_CASE("watermarks and notes that can't be make attaching an error, not a crash, a hang or a write") {
  const std::function<void(Partition&)> damages[] = {
      [](Partition& p) { p.control().claims.reserved_end.store(p.begin() + 8); },
      [](Partition& p) { p.control().claims.reserved_end.store(Offset{1} << 63); },
      [](Partition& p) { p.control().claims.reserved_end.store(UINT64_MAX); },
      [](Partition& p) { p.control().claims.reserved_end.store(p.begin() + 3 * kRing); },
      [](Partition& p) { p.control().commits.committed_end.store(p.begin() + 3 * kRing); },
      [](Partition& p) { p.control().commits.committed_end.store(UINT64_MAX); },
      [](Partition& p) { p.control().commits.committed_end.fetch_add(4); },
      [](Partition& p) { p.control().commits.committed_end.store(p.begin() - 16); },
      [](Partition& p) { p.control().notices.mode.store(static_cast<ProducerMode>(77)); },
      [](Partition& p) {
        p.control().notices.mode.store(ProducerMode::none);
        p.control().claims.reserved_end.fetch_add(64);
      },
      [](Partition& p) {  // a hole that no note explains
        p.control().notices.mode.store(ProducerMode::shared);
        p.control().claims.reserved_end.fetch_add(64);
      },
      [](Partition& p) {  // a committed record that can't be
        const Offset at = p.control().claims.reserved_end.fetch_add(64);
        store_meta(*p.header_at(at), {1U << 30, 0, RecordKind::data, 0});
        store_commit(*p.header_at(at), p.mix().word(at));
      },
      [](Partition& p) {
        p.control().notices.mode.store(ProducerMode::shared);
        const Offset at = p.control().claims.reserved_end.fetch_add(64);
        store_meta(*p.header_at(at), {8, 0, static_cast<RecordKind>(99), 0});
        store_commit(*p.header_at(at), p.mix().word(at));
      },
      [](Partition& p) {
        p.control().notices.mode.store(ProducerMode::shared);
        const Offset at = p.control().claims.reserved_end.fetch_add(64);
        p.control().slots[3].end.store(at + 9);
        p.control().slots[3].start_state.store(at | 2);
      },
  };
  int i = 0;
  for (const auto& damage : damages) {
    INFO("damage " << i++);
    for (const bool exclusive : {true, false}) {
      RingPlace place({}, {"somewhere", kRing, kRing + 512});
      const auto p = place.attach();
      {
        ExclusiveProducer before(p, {});
      }
      damage(*p);
      std::vector<std::byte> ring(p->records(), p->records() + kRing);
      std::string sentence;
      const Code code = code_of(
          [&] {
            if (exclusive)
              ExclusiveProducer(p, {});
            else
              SharedProducer(p, {});
          },
          &sentence);
      INFO(sentence);
      CHECK(code == Code::corrupt);
      CHECK(sentence.find("spillway clean") != std::string::npos);
      CHECK(std::equal(ring.begin(), ring.end(), p->records()));
    }
  }
}

TEST_CASE("notes of random bytes never make a repairer write outside the dead's claim") {
  const unsigned seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 60; ++round) {
    RingPlace place;
    const auto p = place.attach();
    SharedProducer b(p, {});
    REQUIRE(b.append("before"));
    const Offset h = find_committed_end(*p).end;
    p->control().claims.reserved_end.store(h + 320);
    for (std::size_t i = 1; i < kProducerSlots; ++i) {
      auto& slot = p->control().slots[i];
      const auto some = [&]() -> Offset {
        switch (random() % 5) {
          case 0: return random();
          case 1: return h;
          case 2: return h + 16 * (random() % 24);
          case 3: return UINT64_MAX - random() % 64;
          default: return h - 16 * (random() % 8);
        }
      };
      slot.end.store(some());
      slot.start_state.store((some() & ~kNoteStateMask) | random() % 16);
    }
    std::vector<std::byte> ring(p->records(), p->records() + kRing);
    for (int i = 0; i < 5; ++i) static_cast<void>(repair_claim_at_committed_end(*p));
    for (std::size_t i = 0; i < kProducerSlots; ++i) static_cast<void>(note_settled(*p, i));
    const std::size_t first = h & (kRing - 1);
    bool outside_untouched = true;
    for (std::size_t i = 0; i < kRing; ++i) {
      if (i < first || i >= first + 320) outside_untouched = outside_untouched && ring[i] == p->records()[i];
    }
    CHECK(outside_untouched);
    CHECK(p->control().commits.committed_end.load() <= h + 320);
  }
}

// ---- Real processes.

// Method: children append numbered records; each tells a pipe after every append; when some have been told it is killed.
// Whoever attaches next must find every told record, in order, and at most one more of each child.
TEST_CASE("producers that are killed at random leave whole records, in order, and a log that goes on") {
  const unsigned seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  constexpr std::size_t kChildren = 3;
  for (int round = 0; round < 8; ++round) {
    const bool exclusive = round % 4 == 3;
    const Start& start = starts()[static_cast<std::size_t>(round) % 2];
    RingPlace place({.ring_bytes = 4 * kMiB},
                    {start.name, align_down(start.begin, 4 * kMiB), align_down(start.begin, 4 * kMiB)});
    std::vector<std::pair<pid_t, int>> children;
    for (std::size_t c = 0; c < (exclusive ? 1 : kChildren); ++c) {
      int ends[2];
      REQUIRE(::pipe(ends) == 0);
      const pid_t pid = in_child([&] {
        const auto p = place.attach();
        const auto run = [&](auto&& producer) {
          for (int i = 0; i < 5000; ++i) {
            const std::string text =
                std::to_string(c) + ":" + std::to_string(i) + std::string(static_cast<std::size_t>(i % 90), '.');
            Appended a;
            if (i % 3 == 0) {
              auto claim = producer.claim(text.size());
              std::memcpy(claim.payload().data(), text.data(), text.size());
              a = claim.commit();
            } else {
              const std::vector<RecordInput> batch = {{bytes_of(text), {}}};
              a = i % 3 == 1 ? producer.append(text) : producer.append_batch(batch);
            }
            if (!a) return 1;
            const char one = 1;
            if (::write(ends[1], &one, 1) != 1) return 2;
          }
          return 0;
        };
        return exclusive ? run(ExclusiveProducer(p, {})) : run(SharedProducer(p, {}));
      });
      ::close(ends[1]);
      children.emplace_back(pid, ends[0]);
    }
    std::vector<int> told;
    for (const auto& [pid, fd] : children) {
      int count = 0;
      char byte = 0;
      for (const int most = 1 + static_cast<int>(random() % 400); count < most && ::read(fd, &byte, 1) == 1;) ++count;
      ::kill(pid, SIGKILL);
      static_cast<void>(result_of(pid));
      while (::read(fd, &byte, 1) == 1) ++count;
      ::close(fd);
      told.push_back(count);
    }
    const auto p = place.attach();
    PartitionReader reader = live_reader(p);
    reader.start_at_boundary(p->begin());
    {
      SharedProducer next(p, {});
      REQUIRE(next.append("9:0"));
    }
    const Drained d = drain(reader);
    CHECK(d.gaps.empty());
    REQUIRE_FALSE(d.records.empty());
    CHECK(d.records.back().text == "9:0");
    std::vector<int> seen(10, 0);
    bool in_order = true;
    for (const Delivered& r : d.records) {
      const auto c = static_cast<std::size_t>(r.text[0] - '0');
      in_order = in_order && std::stoi(r.text.substr(2)) == seen[c]++;
    }
    CHECK(in_order);
    for (std::size_t c = 0; c < told.size(); ++c) {
      CHECK(seen[c] >= told[c]);
      CHECK(seen[c] <= told[c] + 1);
    }
  }
}

TEST_CASE("on an ephemeral topic whoever gets stuck closes the claim of the dead and goes on") {
  for (const Start& start : starts()) {
    INFO(start.name);
    RingPlace place({}, start);
    const auto p = place.attach();
    const pid_t pid = in_child([&] {
      SharedProducer producer(place.attach(), {});
      auto claim = producer.claim(100);
      die_now();
      return static_cast<bool>(claim) ? 0 : 1;
    });
    PartitionReader reader = live_reader(p);
    reader.start_at_boundary(start.at);
    SharedProducer b(p, {.deadline_ns = UINT64_MAX});
    REQUIRE(result_of(pid) == 1000 + SIGKILL);
    std::vector<std::string> sent;
    std::vector<std::string> got;
    for (int i = 0; i < 300; ++i) {
      sent.push_back(std::to_string(i) + std::string(500, '.'));
      REQUIRE(b.append(sent.back()));
      if (i % 20 == 0) {
        for (const Delivered& r : drain(reader).records) got.push_back(r.text);
      }
    }
    for (const Delivered& r : drain(reader).records) got.push_back(r.text);
    CHECK(got.size() >= 100);  // lapped once at most: the claim held it up for a lap
    CHECK(got.back() == sent.back());
  }
}

TEST_CASE(
    "on an ephemeral topic a producer that is not stuck closes the claim of the dead within two sixteenths of the "
    "ring") {
  for (const Start& start : starts()) {
    INFO(start.name);
    RingPlace place({}, start);
    const auto p = place.attach();
    SharedProducer b(p, {});
    const pid_t pid = in_child([&] {
      SharedProducer producer(place.attach(), {});
      auto claim = producer.claim(100);
      die_now();
      return static_cast<bool>(claim) ? 0 : 1;
    });
    REQUIRE(result_of(pid) == 1000 + SIGKILL);
    PartitionReader reader = live_reader(p);
    reader.start_at_boundary(start.at);
    for (int i = 0; i < 3 * static_cast<int>(kRing / kBoundaries) / 500; ++i) REQUIRE(b.append(std::string(500, '.')));
    CHECK(drain(reader).records.size() == 3 * (kRing / kBoundaries) / 500);
  }
}

}  // namespace
