// Both kinds of producer on an ephemeral ring: what is appended is what is read, at the offsets that were told.
#include <atomic>
#include <random>
#include <thread>

#include "support/catch.h"
#include "support/ring_fixture.h"

namespace {

using namespace spillway_test::ring;

// A case for each kind of producer and each start.
template <class Case>
void for_both(Case&& one) {
  for (const Start& start : starts()) {
    INFO(start.name);
    {
      INFO("exclusive");
      RingPlace place({}, start);
      const auto p = place.attach();
      ExclusiveProducer producer(p, {});
      one(p, producer);
    }
    {
      INFO("shared");
      RingPlace place({}, start);
      const auto p = place.attach();
      SharedProducer producer(p, {});
      one(p, producer);
    }
  }
}

TEST_CASE("records come back in order, at the offsets told, and each claim ends where the next begins") {
  for_both([](const std::shared_ptr<Partition>& p, auto& producer) {
    PartitionReader reader = live_reader(p);
    reader.start_latest();
    std::vector<Delivered> sent;
    Offset end = reader.offset();
    for (int i = 0; i < 50; ++i) {
      const std::string text(static_cast<std::size_t>(i * 7), static_cast<char>('a' + i % 26));
      const Appended a = producer.append(text);
      REQUIRE(a);
      CHECK(a.position.partition == 0);
      CHECK(a.position.offset >= end);
      CHECK(a.end == a.position.offset + record_bytes(text.size()));
      end = a.end;
      sent.push_back({a.position.offset, text});
    }
    CHECK(drain(reader).records == sent);
    CHECK(reader.offset() == end);
    CHECK(find_committed_end(*p).end == end);
  });
}

TEST_CASE("no record crosses the ring's end, and padding leads there exactly") {
  for_both([](const std::shared_ptr<Partition>& p, auto& producer) {
    PartitionReader reader = live_reader(p);
    reader.start_latest();
    // A quarter of the ring each: the fifth never fits behind the fourth.
    const std::string text(kRing / 4 - kRecordHeaderBytes, 'q');
    for (int i = 0; i < 13; ++i) {
      const Appended a = producer.append(text);
      REQUIRE(a);
      CHECK(a.position.offset / kRing == (a.end - 1) / kRing);
      const Drained d = drain(reader);
      REQUIRE(d.records.size() == 1);
      CHECK(d.records[0].text == text);
    }
  });
}

TEST_CASE("what is larger than a quarter of the ring is refused, and nothing of it is left") {
  for_both([](const std::shared_ptr<Partition>& p, auto& producer) {
    const Offset before = find_committed_end(*p).end;
    const std::string text(kRing / 4 - kRecordHeaderBytes + 1, 'x');
    CHECK(producer.append(text).status == AppendStatus::too_large);
    CHECK(producer.claim(text.size()).status() == AppendStatus::too_large);
    CHECK(producer.claim(SIZE_MAX).status() == AppendStatus::too_large);
    CHECK(producer.claim(SIZE_MAX - 2, RecordOptions::keyed("key")).status() == AppendStatus::too_large);
    const std::string key(65536, 'k');
    CHECK(producer.append(bytes_of("p"), RecordOptions::keyed(key)).status == AppendStatus::too_large);
    const std::vector<RecordInput> batch(5, {bytes_of(std::string_view(text).substr(0, kRing / 16)), {}});
    CHECK(producer.append_batch(batch).status == AppendStatus::too_large);
    CHECK(find_committed_end(*p).end == before);
    CHECK(producer.append("fine"));
  });
}

TEST_CASE("keys, tombstones and extensions survive the ring, empty ones too") {
  for_both([](const std::shared_ptr<Partition>& p, auto& producer) {
    PartitionReader reader = live_reader(p);
    reader.start_latest();
    RecordOptions all = RecordOptions::keyed("key");
    all.tombstone = true;
    all.event_time_ns = 1;
    all.sequence = 42;
    all.tag = 7;
    REQUIRE(producer.append(bytes_of("payload"), all));
    REQUIRE(producer.append(bytes_of(""), RecordOptions::keyed("")));
    REQUIRE(producer.append(""));
    const std::string long_key(10'000, 'k');
    REQUIRE(producer.append(bytes_of("p"), RecordOptions::keyed(long_key)));
    int seen = 0;
    std::size_t count = 0;
    reader.read(
        [&](const Record& r) {
          switch (seen++) {
            case 0:
              CHECK(r.text() == "payload");
              CHECK(r.key_text() == "key");
              CHECK(r.tombstone());
              CHECK(r.event_time_ns() == 1U);
              CHECK_FALSE(r.send_time_ns().has_value());
              CHECK(r.sequence() == 42U);
              CHECK(r.tag() == 7U);
              break;
            case 1:
              CHECK(r.has_key());
              CHECK(r.key().empty());
              CHECK(r.payload().empty());
              break;
            case 2: CHECK_FALSE(r.has_key()); break;
            default: CHECK(r.key_text() == long_key);
          }
          return Flow::go_on;
        },
        100, count);
    CHECK(seen == 4);
  });
}

TEST_CASE("a claim is filled in place, 16-aligned, and shows when it is committed") {
  for_both([](const std::shared_ptr<Partition>& p, auto& producer) {
    PartitionReader reader = live_reader(p);
    reader.start_latest();
    for (const std::size_t bytes : {0U, 1U, 16U, 100U, 5000U}) {
      auto claim = producer.claim(bytes, RecordOptions::keyed("k"));
      REQUIRE(claim);
      REQUIRE(claim.payload().size() == bytes);
      CHECK(reinterpret_cast<std::uintptr_t>(claim.payload().data()) % 16 == 0);
      const std::string text(bytes, 'c');
      copy_to_ring(claim.payload().data(), text.data(), bytes);
      CHECK(drain(reader).records.empty());
      const Appended a = claim.commit();
      REQUIRE(a);
      CHECK_FALSE(claim);
      CHECK(claim.commit().status == AppendStatus::closed);
      CHECK(drain(reader).records == std::vector<Delivered>{{a.position.offset, text}});
    }
  });
}

TEST_CASE("an aborted claim becomes padding: explicitly, when dropped, when assigned over, after a move") {
  for_both([](const std::shared_ptr<Partition>& p, auto& producer) {
    PartitionReader reader = live_reader(p);
    reader.start_latest();
    {
      auto claim = producer.claim(100);
      claim.abort();
      claim.abort();
    }
    {
      auto claim = producer.claim(100);
    }
    {
      auto claim = producer.claim(100);
      auto moved = std::move(claim);
      CHECK_FALSE(claim);
      CHECK(moved);
    }
    {
      auto claim = producer.claim(100);
      claim = {};
    }
    REQUIRE(producer.append("after"));
    const Drained d = drain(reader);
    CHECK(texts(d.records) == std::vector<std::string>{"after"});
    CHECK(d.gaps.empty());
    CHECK(find_committed_end(*p).end == reader.offset());
  });
}

TEST_CASE("a batch shows whole, across any poll size, and counts as one claim") {
  for_both([](const std::shared_ptr<Partition>& p, auto& producer) {
    PartitionReader reader = live_reader(p);
    reader.start_latest();
    CHECK(producer.append_batch({}));
    std::vector<std::string> sent;
    for (int i = 0; i < 9; ++i) sent.push_back("record " + std::to_string(i));
    std::vector<RecordInput> batch;
    for (const std::string& s : sent) batch.push_back({bytes_of(s), {}});
    const Appended a = producer.append_batch(batch);
    REQUIRE(a);
    std::vector<std::string> got;
    bool more = true;
    while (got.size() < sent.size()) {
      std::size_t count = 0;
      reader.read(
          [&](const Record& r) {
            CHECK(more);
            more = r.more_in_batch();
            got.emplace_back(r.text());
            return Flow::go_on;
          },
          2, count);
      REQUIRE(count > 0);
      // A boundary is never inside the batch.
      CHECK(walk_committed(*p, a.position.offset, reader.offset()).end ==
            (got.size() == sent.size() ? a.end : a.position.offset));
    }
    CHECK_FALSE(more);
    CHECK(got == sent);
  });
}

// What a reader may see at any step of writing a batch: nothing, until its first commit word.
TEST_CASE("a batch whose first commit word is missing is not there, though its inner words are valid") {
  for (const Start& start : starts()) {
    INFO(start.name);
    RingPlace place({}, start);
    const auto p = place.attach();
    const Offset at = start.at % kRing + 128 > kRing ? align_up(start.at, kRing) : start.at;
    if (at != start.at) write_padding(*p->header_at(start.at), at - start.at, p->mix().word(start.at));
    p->control().claims.reserved_end.store(at + 64);
    PartitionReader reader = live_reader(p);
    reader.start_at_boundary(start.at);
    RecordMeta first{8, 0, RecordKind::data, flag::kMoreInBatch}, last{8, 0, RecordKind::data, 0};
    store_meta(*p->header_at(at), first);
    store_meta(*p->header_at(at + 32), last);
    store_commit(*p->header_at(at + 32), p->mix().word(at + 32));
    CHECK(drain(reader).records.empty());
    CHECK(reader.offset() == at);
    CHECK(find_committed_end(*p).end == at);
    store_commit(*p->header_at(at), p->mix().word(at));
    CHECK(drain(reader).records.size() == 2);
    CHECK(find_committed_end(*p).end == at + 64);
  }
}

TEST_CASE("close leaves nothing reserved, lets others in at once, and ends the handle") {
  for_both([](const std::shared_ptr<Partition>& p, auto& producer) {
    REQUIRE(producer.append("one"));
    producer.close();
    producer.close();
    CHECK(producer.append("two").status == AppendStatus::closed);
    CHECK(producer.append_batch(std::vector<RecordInput>(1)).status == AppendStatus::closed);
    CHECK(producer.claim(8).status() == AppendStatus::closed);
    CHECK(p->control().claims.reserved_end.load() == p->control().commits.committed_end.load());
    {
      ExclusiveProducer next(p, {});
      CHECK(next.append("three"));
    }
    SharedProducer last(p, {});
    CHECK(last.append("four"));
  });
}

TEST_CASE("a claim that is still open when its producer is closed is given up, and writes nothing any more") {
  for_both([](const std::shared_ptr<Partition>& p, auto& producer) {
    PartitionReader reader = live_reader(p);
    reader.start_latest();
    auto kept = producer.claim(40);
    REQUIRE(kept);
    producer.close();
    ExclusiveProducer next(p, {});
    REQUIRE(next.append("next"));
    CHECK(kept.commit().status == AppendStatus::closed);
    kept.abort();
    const Drained d = drain(reader);
    CHECK(texts(d.records) == std::vector<std::string>{"next"});
    CHECK(d.stop == ReadStop::caught_up);
  });
}

TEST_CASE("a second producer goes on where the first one closed, at larger offsets") {
  for (const Start& start : starts()) {
    INFO(start.name);
    RingPlace place({}, start);
    PartitionReader reader = live_reader(place.attach());
    reader.start_latest();
    Offset end = start.at;
    std::vector<std::string> sent;
    for (int i = 0; i < 6; ++i) {
      const auto p = place.attach();
      const auto run = [&](auto&& producer) {
        for (int k = 0; k < 3; ++k) {
          sent.push_back(std::to_string(i) + "." + std::to_string(k));
          const Appended a = producer.append(sent.back());
          REQUIRE(a);
          CHECK(a.position.offset >= end);
          end = a.end;
        }
      };
      if (i % 2 == 0) {
        run(ExclusiveProducer(p, {}));
      } else {
        run(SharedProducer(p, {}));
      }
    }
    CHECK(texts(drain(reader).records) == sent);
  }
}

TEST_CASE("boundaries are claim boundaries whenever they lie inside the ring") {
  for_both([](const std::shared_ptr<Partition>& p, auto& producer) {
    const unsigned seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    std::vector<Offset> ends = {find_committed_end(*p).end};
    for (int i = 0; i < 3000; ++i) {
      const std::string text(random() % 3 == 0 ? random() % 9000 : random() % 100, 'b');
      const Appended a = producer.append(text);
      REQUIRE(a);
      ends.push_back(a.position.offset);  // an end of what came before, padding or record
      ends.push_back(a.end);
      if (i % 50 != 0) continue;
      const Offset reserved = p->control().claims.reserved_end.load();
      std::size_t inside = 0;
      for (const auto& entry : p->control().boundaries) {
        const Offset b = entry.load();
        if (b + kRing < reserved || b > a.end) continue;
        ++inside;
        CHECK(std::find(ends.begin(), ends.end(), b) != ends.end());
      }
      CHECK(inside > 0);
      const Offset oldest = oldest_boundary(*p, 0);
      CHECK(reserved - oldest <= kRing);
      CHECK(walk_committed(*p, oldest, kOffsetEnd).end == a.end);
    }
  });
}

TEST_CASE("the log stops with a status before its offsets run out") {
  RingPlace place({}, {"the end", kOffsetEnd - kRing, kOffsetEnd - 64});
  {
    ExclusiveProducer producer(place.attach(), {});
    CHECK(producer.append("fits"));
    CHECK(producer.append(std::string(64, 'x')).status == AppendStatus::too_large);
  }
  SharedProducer producer(place.attach(), {});
  CHECK_FALSE(producer.append(std::string(64, 'x')));
}

TEST_CASE("a shared producer is refused on a topic that overwrites") {
  RingPlace place({.on_full = OnFull::overwrite});
  CHECK(code_of([&] { SharedProducer(place.attach(), {}); }) == Code::invalid_argument);
}

TEST_CASE("when the ring's files are deleted a producer says gone within a chunk") {
  for_both([](const std::shared_ptr<Partition>& p, auto& producer) {
    REQUIRE(producer.append("before"));
    remove_file(p->paths().ring);
    p->look_whether_gone();
    AppendStatus status = AppendStatus::ok;
    std::uint64_t appended = 0;
    while (status == AppendStatus::ok && appended < kRing / 2) {
      const std::string text(1000, 'g');
      status = producer.append(text).status;
      appended += text.size();
    }
    CHECK(status == AppendStatus::gone);
    CHECK(appended <= kRing / 8);
  });
}

TEST_CASE("many threads share a partition: every record once, each thread's in its order", "[threads]") {
  constexpr int kThreads = 3, kEach = 400;
  for (const Start& start : starts()) {
    INFO(start.name);
    RingPlace place({.ring_bytes = kMiB}, {start.name, align_down(start.begin, kMiB), align_down(start.begin, kMiB)});
    const auto p = place.attach();
    PartitionReader reader = live_reader(p);
    reader.start_latest();
    std::vector<std::thread> threads;
    std::atomic<int> failed{0};
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        SharedProducer producer(p, {});
        for (int i = 0; i < kEach; ++i) {
          const std::string text = std::to_string(t) + ":" + std::to_string(i);
          bool fine = true;
          if (i % 5 == 0) {
            const std::string second = text + "+";
            const std::vector<RecordInput> batch = {{bytes_of(text), {}}, {bytes_of(second), {}}};
            fine = static_cast<bool>(producer.append_batch(batch));
          } else if (i % 7 == 0) {
            auto claim = producer.claim(text.size());
            copy_to_ring(claim.payload().data(), text.data(), text.size());
            fine = static_cast<bool>(claim.commit());
          } else {
            fine = static_cast<bool>(producer.append(text));
          }
          if (!fine) failed.fetch_add(1);
        }
      });
    }
    for (std::thread& t : threads) t.join();
    CHECK(failed == 0);
    std::vector<int> next(kThreads, 0);
    std::string expect_second;
    const Drained d = drain(reader);
    CHECK(d.gaps.empty());
    bool in_order = true;
    for (const Delivered& r : d.records) {
      if (!expect_second.empty()) {
        in_order = in_order && r.text == expect_second;  // nothing comes between the records of a batch
        expect_second.clear();
        continue;
      }
      const auto t = static_cast<std::size_t>(r.text[0] - '0');
      const int i = std::stoi(r.text.substr(2));
      in_order = in_order && i == next[t]++;
      if (i % 5 == 0) expect_second = r.text + "+";
    }
    CHECK(in_order);
    CHECK(next == std::vector<int>(kThreads, kEach));
  }
}

}  // namespace
