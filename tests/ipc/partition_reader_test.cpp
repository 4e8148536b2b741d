// One reader's place in a partition: seeks, laps, gaps, hand-over between ring and history, rings that go and come, and
// shared memory that lies.
#include "spillway/ipc/partition_reader.h"

#include <sys/resource.h>

#include <fstream>
#include <random>

#include "spillway/ipc/record_writer.h"
#include "support/catch.h"
#include "support/ring_fixture.h"

namespace {

using namespace spillway_test::ring;

struct Sent {
  std::vector<Delivered> records;
  std::vector<Offset> ends;
};

// Appends records and batches of several sizes; some end in padding.
Sent send(ExclusiveProducer& producer, int count, int from = 0) {
  Sent sent;
  for (int i = from; i < from + count; ++i) {
    const std::string text = std::to_string(i) + std::string(static_cast<std::size_t>(i * 37 % 700), '.');
    const std::string second = text + "b";
    Appended a;
    if (i % 4 == 3) {
      const std::vector<RecordInput> batch = {{bytes_of(text), {}}, {bytes_of(second), {}}};
      a = producer.append_batch(batch);
    } else {
      a = producer.append(text);
    }
    REQUIRE(a);
    sent.records.push_back({a.position.offset, text});
    if (i % 4 == 3) sent.records.push_back({a.position.offset + record_bytes(text.size()), second});
    sent.ends.push_back(a.end);
    if (i % 5 == 4) producer.claim(100).abort();
  }
  return sent;
}

std::vector<Delivered> from_offset(const std::vector<Delivered>& records, Offset offset) {
  std::vector<Delivered> rest;
  for (const Delivered& d : records) {
    if (d.offset >= offset) rest.push_back(d);
  }
  return rest;
}

TEST_CASE("a seek to any offset finds the first record that begins there or behind") {
  for (const Start& start : starts()) {
    INFO(start.name);
    RingPlace place({}, start);
    const auto p = place.attach();
    ExclusiveProducer producer(p, {});
    const Sent sent = send(producer, 60);
    PartitionReader reader = live_reader(p);
    const Offset end = find_committed_end(*p).end;
    for (Offset at = start.at; at <= end; at += 8) {  // every second one off the grid
      REQUIRE(reader.start_at(at));
      const Drained d = drain(reader, 3);
      auto expected = from_offset(sent.records, at);
      expected.resize(std::min<std::size_t>(expected.size(), 3));
      if (d.records != expected || !d.gaps.empty()) {
        INFO("at " << at);
        CHECK(d.records == expected);
        CHECK(d.gaps.empty());
      }
    }
    CHECK_FALSE(reader.start_at(end + 1));
    CHECK_FALSE(reader.start_at(UINT64_MAX));
    reader.start_latest();
    CHECK(reader.offset() == end);
    reader.start_earliest();
    CHECK(drain(reader).records == sent.records);
  }
}

TEST_CASE("a seek before what the ring still has is an exact gap, then the oldest record") {
  for (const Start& start : starts()) {
    INFO(start.name);
    RingPlace place({}, start);
    const auto p = place.attach();
    ExclusiveProducer producer(p, {});
    Sent sent;
    for (int i = 0; i < 4; ++i) {
      const Sent more = send(producer, 100, i * 100);
      sent.records.insert(sent.records.end(), more.records.begin(), more.records.end());
    }
    PartitionReader reader = live_reader(p);
    const Offset oldest = reader.begin_now();
    REQUIRE(oldest > start.at);
    for (const Offset wanted : {start.begin, start.at, start.at + 5, oldest - 16}) {
      REQUIRE(reader.start_at(wanted));
      CHECK(reader.offset() == wanted);
      const Drained d = drain(reader);
      REQUIRE(d.gaps.size() == 1);
      CHECK(d.gaps[0].from == wanted);
      CHECK(d.gaps[0].to == oldest);
      CHECK(d.gaps[0].cause == GapCause::overwritten);
      CHECK(d.records == from_offset(sent.records, oldest));
    }
    // Somewhere inside the ring, in the middle of things.
    const Offset middle = oldest + kRing / 3 + 7;
    REQUIRE(reader.start_at(middle));
    CHECK(drain(reader).records == from_offset(sent.records, middle));
  }
}

TEST_CASE("a lapped reader of an ephemeral log is told exactly what it missed, and rejoins at the committed end") {
  for (const Start& start : starts()) {
    INFO(start.name);
    RingPlace place({}, start);
    const auto p = place.attach();
    ExclusiveProducer producer(p, {});
    PartitionReader reader = live_reader(p);
    reader.start_latest();
    const Sent first = send(producer, 10);
    CHECK(drain(reader, 5).records.size() == 5);  // inside a batch, perhaps
    const Offset stood = reader.offset();
    for (int i = 0; i < 4; ++i) send(producer, 60);
    const Offset end = find_committed_end(*p).end;
    std::size_t count = 0;
    REQUIRE(reader.read([](const Record&) { return Flow::go_on; }, 10, count) == ReadStop::gap);
    CHECK(count == 0);
    CHECK(reader.gap().from == stood);
    CHECK(reader.gap().to == end);
    CHECK(reader.gap().cause == GapCause::overwritten);
    CHECK(reader.offset() == stood);
    // The producer laps it again before it goes on: another gap, without a hole between the two.
    for (int i = 0; i < 4; ++i) send(producer, 60);
    reader.skip_gap();
    const Drained d = drain(reader);
    REQUIRE(d.gaps.size() == 1);
    CHECK(d.gaps[0].from == end);
    CHECK(d.gaps[0].to == find_committed_end(*p).end);
    CHECK(d.stop == ReadStop::caught_up);
    const Sent last = send(producer, 3);
    CHECK(drain(reader).records == last.records);
  }
}

TEST_CASE("one capacity behind is still in the ring, one claim more is not") {
  RingPlace place;
  const auto p = place.attach();
  PartitionReader reader = live_reader(p);
  reader.start_at_boundary(0);
  {
    ExclusiveProducer producer(p, {});
    for (int i = 0; i < 16; ++i) REQUIRE(producer.append(std::string(kRing / 16 - 16, static_cast<char>('a' + i))));
  }
  REQUIRE(p->control().claims.reserved_end.load() == kRing);
  CHECK(drain(reader, 1).records.size() == 1);
  reader.start_at_boundary(0);
  p->control().claims.reserved_end.store(kRing + 16);
  const Drained d = drain(reader);
  CHECK(d.records.empty());
  CHECK(d.gaps.size() == 1);
}

// History: what a persister would have written, as plain bytes.
struct WithDisk {
  RingPlace place;
  std::shared_ptr<Partition> p;
  std::shared_ptr<HandDisk> disk;
  explicit WithDisk(const Start& start, OnFull on_full = OnFull::block)
      : place({.on_full = on_full, .ephemeral = false}, start),
        p(place.attach()),
        disk(std::make_shared<HandDisk>(start.at)) {}
  PartitionReader reader(ReadUpTo up_to = ReadUpTo::committed) const {
    return PartitionReader(0, {p, std::make_unique<HandHistory>(disk)}, nullptr, up_to);
  }
};

TEST_CASE("a reader that falls behind goes through history and back, without a seam") {
  for (const Start& start : starts()) {
    INFO(start.name);
    WithDisk log(start);
    ExclusiveProducer producer(log.p, {});
    PartitionReader slow = log.reader();
    slow.start_latest();
    std::vector<Delivered> sent, got;
    bool replayed = false;
    for (int i = 0; i < 30; ++i) {
      const Sent more = send(producer, 20, i * 20);
      sent.insert(sent.end(), more.records.begin(), more.records.end());
      log.disk->persist(*log.p);
      const Drained d = drain(slow, i % 3 == 0 ? 1U : i % 7 == 0 ? 500U : 3U);
      CHECK(d.gaps.empty());
      replayed = replayed || slow.replaying();
      got.insert(got.end(), d.records.begin(), d.records.end());
    }
    const Drained rest = drain(slow);
    got.insert(got.end(), rest.records.begin(), rest.records.end());
    CHECK(replayed);
    CHECK_FALSE(slow.replaying());
    CHECK(got == sent);
    // And a seek to any place, wherever it is kept.
    for (Offset at = start.at; at <= sent.back().offset; at += 4099) {
      REQUIRE(slow.start_at(at));
      CHECK(drain(slow, 1).records == std::vector<Delivered>{from_offset(sent, at).at(0)});
    }
  }
}

TEST_CASE("read up to durable: nothing behind durable_end, live or replaying, and all of it when it moves") {
  for (const Start& start : starts()) {
    INFO(start.name);
    WithDisk log(start);
    ExclusiveProducer producer(log.p, {});
    PartitionReader reader = log.reader(ReadUpTo::durable);
    reader.start_latest();
    const Sent first = send(producer, 5);
    CHECK(drain(reader).records.empty());
    CHECK_FALSE(reader.ready());
    log.disk->persist(*log.p);
    CHECK(reader.ready());
    CHECK(drain(reader).records == first.records);
    CHECK(reader.end_now() == log.disk->end());
    // Far behind: history has more than is durable.
    std::vector<Delivered> sent;
    for (int i = 0; i < 12; ++i) {
      const Sent more = send(producer, 20, i * 20);
      sent.insert(sent.end(), more.records.begin(), more.records.end());
      log.disk->persist(*log.p);
    }
    const Offset durable = sent[100].offset;
    log.p->control().persister.durable_end.store(durable);
    PartitionReader behind = log.reader(ReadUpTo::durable);
    behind.start_at_boundary(sent[0].offset);
    CHECK(behind.replaying());
    const Drained d = drain(behind);
    CHECK(d.records.size() == 100);
    CHECK(d.stop == ReadStop::caught_up);
    CHECK(behind.offset() <= durable);
    log.p->control().persister.durable_end.store(log.disk->end());
    CHECK(drain(behind).records.size() == sent.size() - 100);
  }
}

TEST_CASE("a gap of the history is passed on with its bounds and cause, padding of it is not told") {
  WithDisk log(starts()[0]);
  {
    ExclusiveProducer producer(log.p, {});
    for (int i = 0; i < 12; ++i) {
      send(producer, 20);
      log.disk->persist(*log.p);
    }
  }
  const Offset end = log.disk->end();
  int padding_told = 0;
  auto history = std::make_unique<HandHistory>(log.disk, [&](Offset from) {
    HistoryRead r;
    if (from < 1024) {
      r.status = HistoryStatus::gap;
      r.begin = from;
      r.end = from < 512 ? 512 : 1024;
      r.cause = from < 512 ? GapCause::none : GapCause::damaged;
      if (from < 512) ++padding_told;
    }
    return r;
  });
  PartitionReader reader(0, {log.p, std::move(history)}, nullptr, ReadUpTo::committed);
  reader.start_at_boundary(0);
  std::size_t count = 0;
  CHECK(reader.read([](const Record&) { return Flow::go_on; }, 10, count) == ReadStop::gap);
  CHECK(padding_told == 1);
  CHECK(reader.gap().from == 512);
  CHECK(reader.gap().to == 1024);
  CHECK(reader.gap().cause == GapCause::damaged);
  CHECK(reader.offset() == 512);
  // A seek into the gap begins it where it was asked for.
  REQUIRE(reader.start_at(777));
  CHECK(reader.gap_pending());
  CHECK(reader.gap().from == 777);
  CHECK(reader.gap().to == 1024);
  CHECK(reader.offset() == 777);
  CHECK(end > kRing);
}

TEST_CASE("history that fails or has nothing ends the read with that, and is asked again") {
  WithDisk log(starts()[0]);
  HistoryStatus answer = HistoryStatus::failed;
  auto history = std::make_unique<HandHistory>(log.disk, [&](Offset) {
    HistoryRead r;
    r.status = answer;
    r.error = EIO;
    return r;
  });
  {
    ExclusiveProducer producer(log.p, {});
    for (int i = 0; i < 12; ++i) {
      send(producer, 20);
      log.disk->persist(*log.p);
    }
  }
  PartitionReader reader(0, {log.p, std::move(history)}, nullptr, ReadUpTo::committed);
  reader.start_at_boundary(0);
  CHECK(reader.ready());  // replaying: only a read can tell
  std::size_t count = 0;
  const auto ignore = [](const Record&) { return Flow::go_on; };
  CHECK(reader.read(ignore, 10, count) == ReadStop::failed);
  CHECK(reader.error() == EIO);
  answer = HistoryStatus::end;
  CHECK(reader.read(ignore, 10, count) == ReadStop::end);
  answer = HistoryStatus::gap;  // one that leads nowhere
  CHECK(reader.read(ignore, 10, count) == ReadStop::corrupt);
  answer = HistoryStatus::nothing;  // then the bytes themselves
  CHECK(drain(reader).records.size() > 100);
}

// ---- Rings that go and come.

FindSource finder(const RingPlace& place, std::shared_ptr<HandDisk> disk = nullptr) {
  return [&place, disk] {
    ReaderSource source;
    source.ring = place.attach();
    if (disk) source.history = std::make_unique<HandHistory>(disk);
    return source;
  };
}

// The reader looks for a new ring at most every ten milliseconds.
template <class Until>
void read_until(PartitionReader& reader, Drained& all, Until&& until) {
  const Deadline deadline = Deadline::after_ns(20'000'000'000U);
  while (!until() && !deadline.passed()) {
    const Drained d = drain(reader);
    all.records.insert(all.records.end(), d.records.begin(), d.records.end());
    all.gaps.insert(all.gaps.end(), d.gaps.begin(), d.gaps.end());
    all.stop = d.stop;
  }
}

TEST_CASE("an ephemeral ring is deleted and made anew: the reader finishes the old one, is told, and goes on") {
  struct Row {
    const char* name;
    Offset begin;
  };
  for (const Row& row : {Row{"behind the old one", 4 * kRing}, Row{"from zero", 0}}) {
    INFO(row.name);
    RingPlace place;
    PartitionReader reader(0, {place.attach(), nullptr}, finder(place), ReadUpTo::committed);
    reader.start_latest();
    REQUIRE(reader.register_slot("name", false));
    auto first = std::make_unique<ExclusiveProducer>(place.attach(), ProducerOptions{});
    REQUIRE(first->append("old"));
    const Offset old_end = first->offset();
    place.create({"", row.begin, row.begin});
    reader.ring()->look_whether_gone();
    first->close();
    ExclusiveProducer second(place.attach(), {});
    REQUIRE(second.append("new"));
    Drained all;
    read_until(reader, all, [&] { return all.records.size() == 2; });
    CHECK(texts(all.records) == std::vector<std::string>{"old", "new"});
    REQUIRE(all.gaps.size() == 1);
    CHECK(all.gaps[0].cause == GapCause::crash);
    CHECK(all.gaps[0].from >= old_end);
    CHECK(all.gaps[0].to == std::max(row.begin, all.gaps[0].from));
    CHECK(reader.registered());  // in the new ring's consumers file too
    CHECK(reader.ring()->consumers().slots[0].state.load() != ConsumerState::none);
  }
}

TEST_CASE("a deleted ring that nobody makes anew is gone, and stays readable to its end") {
  RingPlace place;
  int asked = 0;
  PartitionReader reader(
      0, {place.attach(), nullptr},
      [&]() -> ReaderSource {
        ++asked;
        throw Error(Code::not_found, "no ring");
      },
      ReadUpTo::committed);
  reader.start_latest();
  ExclusiveProducer producer(place.attach(), {});
  REQUIRE(producer.append("last"));
  remove_file(place.paths().ring);
  reader.ring()->look_whether_gone();
  Drained all;
  read_until(reader, all, [&] { return asked >= 2; });
  CHECK(texts(all.records) == std::vector<std::string>{"last"});
  CHECK(all.stop == ReadStop::gone);
}

TEST_CASE("a reader up to durable notices as well that its ring is gone, and goes on in the next one") {
  for (const bool replaying : {false, true}) {
    INFO((replaying ? "replaying" : "live"));
    RingPlace place({.ephemeral = false});
    const auto p = place.attach();
    const auto disk = std::make_shared<HandDisk>(0);
    PartitionReader reader(0, {p, std::make_unique<HandHistory>(disk)}, finder(place, disk), ReadUpTo::durable);
    reader.start_latest();
    {
      ExclusiveProducer producer(p, {});
      for (int i = 0; i < (replaying ? 12 : 1); ++i) {
        send(producer, 20, i * 20);
        disk->persist(*p);
      }
    }
    disk->persist(*p);
    const std::uint64_t durable = replaying ? 16 : p->control().persister.durable_end.load();
    p->control().persister.durable_end.store(durable);
    static_cast<void>(drain(reader));
    REQUIRE(reader.replaying() == replaying);
    // Another ring follows, directly behind; what is on disk is durable by now.
    const Offset begin = align_up(disk->end(), kRing);
    {
      const Offset end = disk->end();
      std::vector<std::byte> padding(begin - end);
      if (!padding.empty()) {
        alignas(16) RecordHeader header;
        write_padding(header, begin - end, p->mix().word(end));
        std::memcpy(padding.data(), &header, sizeof header);
      }
      disk->log.insert(disk->log.end(), padding.begin(), padding.end());
    }
    place.create({"", begin, begin});
    p->look_whether_gone();
    ExclusiveProducer next(place.attach(), {});
    REQUIRE(next.append("in the next ring"));
    disk->persist(*next.partition());
    Drained all;
    read_until(reader, all, [&] { return !all.records.empty() && all.records.back().text == "in the next ring"; });
    CHECK(all.records.back().text == "in the next ring");
    CHECK(all.gaps.empty());
  }
}

TEST_CASE("without a ring a reader reads history to its end, and attaches when a writer comes") {
  RingPlace place({.ephemeral = false});
  const auto disk = std::make_shared<HandDisk>(0);
  bool ring_there = false;
  {
    ExclusiveProducer producer(place.attach(), {});
    REQUIRE(producer.append("written"));
    producer.close();
    disk->persist(*producer.partition());
  }
  PartitionReader reader(
      0,
      {nullptr, std::make_unique<HandHistory>(disk,
                                              [&](Offset from) {
                                                HistoryRead r;
                                                if (from >= disk->end()) r.status = HistoryStatus::end;
                                                return r;
                                              })},
      [&]() -> ReaderSource {
        if (!ring_there) return {};
        return {place.attach(), std::make_unique<HandHistory>(disk)};
      },
      ReadUpTo::committed);
  reader.start_earliest();
  CHECK(reader.ended());
  Drained d = drain(reader);
  CHECK(texts(d.records) == std::vector<std::string>{"written"});
  CHECK(d.stop == ReadStop::end);
  CHECK(reader.end_now() == disk->end());
  ring_there = true;
  ExclusiveProducer producer(place.attach(), {});
  REQUIRE(producer.append("live"));
  Drained all;
  read_until(reader, all, [&] { return !all.records.empty(); });
  CHECK(texts(all.records) == std::vector<std::string>{"live"});
  CHECK_FALSE(reader.ended());
}

#ifndef __SANITIZE_ADDRESS__  // its own memory needs room, too
TEST_CASE("a ring for which there is no memory is asked for again, and nothing is read meanwhile") {
  RingPlace place({.ring_bytes = 32 * kMiB});
  const auto p = place.attach();
  {
    ExclusiveProducer producer(p, {});
    REQUIRE(producer.append("x"));
  }
  const pid_t child = in_child([&] {
    const auto mine = place.attach();
    PartitionReader reader(0, {}, [&] { return ReaderSource{mine, nullptr}; }, ReadUpTo::committed);
    struct rlimit before;
    ::getrlimit(RLIMIT_AS, &before);
    std::ifstream("/proc/self/statm") >> before.rlim_cur;  // pages
    const struct rlimit tight = {before.rlim_cur * 4096 + kMiB, before.rlim_max};
    if (::setrlimit(RLIMIT_AS, &tight) != 0) return 1;
    while (::operator new(mine->claim_bytes_max(), std::nothrow) != nullptr) {  // what other tests have freed
    }
    for (int i = 0; i < 3; ++i) {
      if (drain(reader).stop != ReadStop::end) return 2;
    }
    const struct rlimit wide = {before.rlim_max, before.rlim_max};
    if (::setrlimit(RLIMIT_AS, &wide) != 0) return 3;
    Drained all;
    read_until(reader, all, [&] { return !all.records.empty(); });
    return texts(all.records) == std::vector<std::string>{"x"} ? 0 : 4;
  });
  CHECK(result_of(child) == 0);
}
#endif

// ---- Shared memory that lies.

TEST_CASE("a committed record that can't be is corrupt or unsupported, unless it was lapped meanwhile") {
  struct Row {
    const char* name;
    RecordMeta meta;
    ReadStop stop;
  };
  const Row rows[] = {
      {"past the ring's end", {UINT32_MAX, 0, RecordKind::data, 0}, ReadStop::corrupt},
      {"larger than a claim", {kRing / 2, 0, RecordKind::data, 0}, ReadStop::corrupt},
      {"padding of nothing", {0, 0, RecordKind::padding, 0}, ReadStop::corrupt},
      {"key longer than all", {8, 9, RecordKind::data, flag::kHasKey}, ReadStop::corrupt},
      {"extension without room", {4, 0, RecordKind::data, flag::kHasExtension}, ReadStop::corrupt},
      {"unknown kind", {8, 0, static_cast<RecordKind>(200), 0}, ReadStop::unsupported},
      {"unknown flag", {8, 0, RecordKind::data, 0x80}, ReadStop::unsupported},
  };
  for (const Start& start : {starts()[0], starts()[1]}) {
    for (const Row& row : rows) {
      INFO(start.name << ", " << row.name);
      RingPlace place({}, start);
      const auto p = place.attach(Access::read_write);
      p->control().claims.reserved_end.store(start.at + 32);
      store_meta(*p->header_at(start.at), row.meta);
      store_commit(*p->header_at(start.at), p->mix().word(start.at));
      PartitionReader reader = live_reader(p);
      reader.start_at_boundary(start.at);
      CHECK(drain(reader).stop == row.stop);
      CHECK(reader.offset() == start.at);
      p->control().claims.reserved_end.store(start.at + kRing + 16);
      std::size_t count = 0;
      CHECK(reader.read([](const Record&) { return Flow::go_on; }, 1, count) == ReadStop::gap);
      CHECK(count == 0);
    }
  }
}

TEST_CASE("random bytes in ring, control and consumers never crash or hang a reader, nor lead it out of the ring") {
  const unsigned seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  RingPlace place;
  const auto p = place.attach();
  const auto noise = [&](void* at, std::size_t bytes) {
    auto* out = static_cast<std::byte*>(at);
    for (std::size_t i = 0; i < bytes; ++i) out[i] = static_cast<std::byte>(random());
  };
  const auto some_offset = [&]() -> Offset {
    switch (random() % 6) {
      case 0: return random();
      case 1: return UINT64_MAX - random() % 32;
      case 2: return random() % (4 * kRing);
      case 3: return kOffsetEnd - 8 + random() % 16;
      case 4: return kRing - 8;
      default: return random() % kRing & ~Offset{15};
    }
  };
  for (int round = 0; round < 400; ++round) {
    auto& c = p->control();
    c.claims.reserved_end.store(some_offset());
    c.commits.committed_end.store(some_offset());
    for (auto& b : c.boundaries) b.store(some_offset());
    auto& area = c.persister;
    for (auto* end :
         {&area.durable_end, &area.written_end, &area.reclaimable_end, &area.horizon, &area.retained_begin}) {
      end->store(some_offset());
    }
    c.notices.mode.store(static_cast<ProducerMode>(random() % 4));
    noise(c.slots.data(), sizeof c.slots);
    noise(&p->consumers().announcement, sizeof(Announcement));
    noise(p->consumers().slots.data(), sizeof(ConsumerSlot) * 4);
    if (round % 20 == 0) noise(p->records(), kRing);
    // Headers with valid words at places a reader may come to, so that lengths are looked at.
    for (int i = 0; i < 64; ++i) {
      const Offset at = (random() % 3 != 0 ? random() % kRing : kRing + random() % kRing) & ~Offset{15};
      noise(p->at(at) + 8, 8);
      if (random() % 2 != 0)
        store_meta(*p->header_at(at), {static_cast<std::uint32_t>(random() % 300), 0, RecordKind::data, 0});
      store_commit(*p->header_at(at), p->mix().word(at));
    }
    PartitionReader reader = live_reader(p, random() % 2 != 0 ? ReadUpTo::committed : ReadUpTo::durable);
    switch (random() % 4) {
      case 0: reader.start_earliest(); break;
      case 1: reader.start_latest(); break;
      case 2: static_cast<void>(reader.start_at(some_offset())); break;
      default: reader.start_at_boundary(some_offset());
    }
    for (int i = 0; i < 20; ++i) {
      std::size_t count = 0;
      static_cast<void>(reader.read(
          [](const Record& r) { return r.payload().size() > kRing ? Flow::stop : Flow::go_on; }, 50, count));
      static_cast<void>(reader.ready());
      static_cast<void>(reader.held_by_dead());
      reader.skip_gap();
    }
    static_cast<void>(reader.begin_now());
    static_cast<void>(reader.end_now());
    static_cast<void>(boundary_before(*p, some_offset()));
  }
  SUCCEED("came through");
}

TEST_CASE("a cursor off the grid, or beyond all offsets, is survived") {
  RingPlace place;
  const auto p = place.attach();
  ExclusiveProducer producer(p, {});
  send(producer, 10);
  PartitionReader reader = live_reader(p);
  for (const Offset at : {Offset{1}, Offset{kRing - 8}, kOffsetEnd + 1, UINT64_MAX, UINT64_MAX - 7}) {
    reader.start_at_boundary(at);
    CHECK(reader.offset() % kRecordAlign == 0);
    static_cast<void>(drain(reader, 1));
  }
}

TEST_CASE("consumer slots: shown, freed, and none left keeps nobody out") {
  RingPlace place;
  const auto p = place.attach();
  auto& slots = p->consumers().slots;
  slots[0].gate.store(12345);  // what a dead one left
  {
    PartitionReader reader = live_reader(p);
    REQUIRE(reader.register_slot("a name that is much longer than the forty-eight bytes there are", false));
    CHECK(slots[0].state.load() == ConsumerState::live);
    CHECK(slots[0].pid.load() == static_cast<std::uint32_t>(::getpid()));
    CHECK(slots[0].gate.load() == kNoGate);
    CHECK(slots[0].name[kConsumerNameBytes - 1].load() != '\0');
  }
  CHECK(slots[0].state.load() == ConsumerState::none);
  std::vector<FileLock> all;
  for (std::size_t i = 0; i < kConsumerSlots; ++i) {
    all.push_back(FileLock::try_lock(place.paths().consumers_lock(), LockMode::exclusive, i));
  }
  PartitionReader reader = live_reader(p);
  CHECK_FALSE(reader.register_slot("late", true));
  reader.start_latest();
  ExclusiveProducer producer(p, {});
  REQUIRE(producer.append("read all the same"));
  CHECK(drain(reader).records.size() == 1);
}

}  // namespace
