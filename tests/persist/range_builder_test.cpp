// Index entries out of log bytes, compared with what a plain walk over a whole log says.
#include "spillway/persist/range_builder.h"

#include <cstring>
#include <random>
#include <vector>

#include "spillway/core/checksum.h"
#include "support/catch.h"

using namespace spillway;

namespace {

constexpr std::uint64_t kRing = 256 * kKiB;

// A log of random claims: bytes, and for each offset what is known of it.
struct Log {
  Log(std::uint64_t seed, Offset first, std::uint64_t bytes_wanted) : begin(first) {
    std::mt19937_64 random(seed);
    while (end() < begin + bytes_wanted) claim(random);
  }
  Offset end() const { return begin + bytes.size(); }

  void record(RecordMeta meta, std::uint64_t size) {
    const std::uint64_t words[2] = {mix.word(end()), meta.pack()};
    record_begins.push_back(meta.kind == RecordKind::data ? end() : kNoBoundary);
    const auto* raw = reinterpret_cast<const std::byte*>(words);
    bytes.insert(bytes.end(), raw, raw + sizeof words);
    for (std::uint64_t i = sizeof words; i < size; ++i) bytes.push_back(static_cast<std::byte>(i * 13));
  }
  void claim(std::mt19937_64& random) {
    const std::size_t count = random() % 4 == 0 ? 1 + random() % 20 : 1;
    std::vector<std::uint32_t> lengths(count);
    std::uint64_t total = 0;
    for (auto& length : lengths) {
      length = static_cast<std::uint32_t>(random() % 8 == 0 ? random() % (kRing / 8) : random() % 300);
      if (total + record_bytes(length) > kRing / 4) length = 0;
      total += record_bytes(length);
    }
    const std::uint64_t room = kRing - end() % kRing;
    if (total > room) {
      claim_begins.push_back(end());
      record({static_cast<std::uint32_t>(room / kRecordAlign), 0, RecordKind::padding, 0}, room);
    }
    claim_begins.push_back(end());
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint8_t more = i + 1 < count ? flag::kMoreInBatch : 0;
      record({lengths[i], 0, RecordKind::data, more}, record_bytes(lengths[i]));
    }
  }
  IndexEntry expected(Offset range, std::uint64_t size) const {
    IndexEntry e{};
    e.range_begin = range;
    e.bytes = static_cast<std::uint32_t>(size);
    e.crc = crc32c(std::span(bytes).subspan(range - begin, size));
    e.first_boundary = kNoBoundary;
    for (const Offset b : claim_begins) {
      if (b <= range + size) e.boundary = b;
      if (b >= range && b < range + size && e.first_boundary == kNoBoundary) e.first_boundary = b;
    }
    if (end() <= range + size) e.boundary = end();
    for (const Offset b : record_begins) e.records += b < range + size ? 1 : 0;
    return e;
  }

  Offset begin;
  CommitMix mix{12345};
  std::vector<std::byte> bytes;
  std::vector<Offset> claim_begins, record_begins;
};

void check_same(const IndexEntry& got, const IndexEntry& want) {
  CHECK(got.range_begin == want.range_begin);
  CHECK(got.bytes == want.bytes);
  CHECK(got.crc == want.crc);
  CHECK(got.boundary == want.boundary);
  CHECK(got.first_boundary == want.first_boundary);
  CHECK(got.records == want.records);
}

}  // namespace

TEST_CASE("entries say of each range what a walk over the whole log says, however the bytes come in") {
  const std::uint64_t seed = GENERATE(range<std::uint64_t>(1, 9));
  const Offset begin = GENERATE(Offset{0}, (Offset{1} << 32) - kRing);
  CAPTURE(seed, begin);
  const Log log(seed, begin, 700'000);
  std::mt19937_64 random(seed);
  RangeBuilder builder(log.mix, kRing);
  builder.start({begin, {}, kNoBoundary, 0, false});
  std::vector<IndexEntry> entries;
  while (builder.end() < log.end()) {
    const Offset at = builder.end();
    std::uint64_t size = std::min(log.end(), range_begin_of(at) + kRangeBytes) - at;
    if (random() % 2 == 0) size = std::min<std::uint64_t>(size, align_up(1 + random() % 9000, kRecordAlign));
    REQUIRE(builder.take(std::span(log.bytes).subspan(at - begin, size)) == ShapeStatus::ok);
    while (const auto entry = builder.pop()) entries.push_back(*entry);
    const auto block = builder.block();
    REQUIRE(block.size() == builder.boundary() % kBlock);
    if (!block.empty()) {
      CHECK(std::memcmp(block.data(), log.bytes.data() + (builder.boundary() - begin - block.size()), block.size()) ==
            0);
    }
    if (random() % 6 == 0) builder.rewind();
  }
  REQUIRE(builder.boundary() == log.end());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    check_same(entries[i], log.expected(begin + i * kRangeBytes, kRangeBytes));
  }
  CHECK(entries.size() == (log.end() - begin) / kRangeBytes);
  if (const auto partial = builder.partial()) {
    check_same(*partial, log.expected(range_begin_of(log.end()), log.end() % kRangeBytes));
  }
}

TEST_CASE("a builder goes on in the middle of a range as if it had never stopped") {
  const std::uint64_t seed = GENERATE(range<std::uint64_t>(1, 6));
  CAPTURE(seed);
  const Log log(seed, 0, 300'000);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 10; ++i) {
    const Offset at = log.claim_begins[random() % log.claim_begins.size()];
    const Offset range = range_begin_of(at);
    const IndexEntry before = at == range ? IndexEntry{} : log.expected(range, at - range);
    RangeBuilder builder(log.mix, kRing);
    std::uint64_t records = 0;
    for (const Offset b : log.record_begins) records += b < at ? 1 : 0;
    builder.start({at, std::span(log.bytes).subspan(range, at - range),
                   at == range ? kNoBoundary : before.first_boundary, records, false});
    if (at != range) check_same(*builder.partial(), before);
    const Offset to = std::min(log.end(), range + kRangeBytes);
    REQUIRE(builder.take(std::span(log.bytes).subspan(at, to - at)) == ShapeStatus::ok);
    builder.rewind();  // to the last claim that is whole
    const auto partial = builder.partial();
    if (partial) check_same(*partial, log.expected(range, builder.boundary() - range));
  }
}

TEST_CASE("a range is not indexed before every claim in it is whole, and not at all after a rewind") {
  CommitMix mix{7};
  std::vector<std::byte> bytes(3 * kRangeBytes);
  const auto put = [&](Offset at, RecordMeta meta) {
    const std::uint64_t words[2] = {mix.word(at), meta.pack()};
    std::memcpy(bytes.data() + at, words, sizeof words);
  };
  put(0, {100 - 16, 0, RecordKind::data, 0});  // [0, 112)
  const Offset big = record_bytes(100 - 16);
  put(big, {static_cast<std::uint32_t>(2 * kRangeBytes), 0, RecordKind::data, 0});
  RangeBuilder builder(mix, 16 * kRangeBytes);
  builder.start({0, {}, kNoBoundary, 0, false});
  REQUIRE(builder.take(std::span(bytes).first(kRangeBytes)) == ShapeStatus::ok);
  REQUIRE(builder.take(std::span(bytes).subspan(kRangeBytes, kRangeBytes)) == ShapeStatus::ok);
  CHECK(builder.end() == 2 * kRangeBytes);
  CHECK(builder.boundary() == big);
  CHECK_FALSE(builder.pop());
  REQUIRE(builder.partial());
  CHECK(builder.partial()->bytes == big);
  builder.rewind();
  CHECK(builder.end() == big);
  CHECK_FALSE(builder.pop());
  const auto partial = builder.partial();
  REQUIRE(partial);
  CHECK(partial->bytes == big);
  CHECK(partial->crc == crc32c(std::span(bytes).first(big)));
  CHECK(partial->records == 1);
}

TEST_CASE("bytes that can't be right are refused, and nothing of them is taken") {
  Log log(3, 0, 10'000);
  RangeBuilder builder(log.mix, kRing);
  builder.start({0, {}, kNoBoundary, 0, false});
  log.bytes[log.claim_begins[2]] ^= std::byte{1};
  CHECK(builder.take(std::span(log.bytes)) == ShapeStatus::corrupt);
  CHECK(builder.end() == 0);
  CHECK(builder.boundary() == 0);
  log.bytes[log.claim_begins[2]] ^= std::byte{1};
  log.bytes[log.claim_begins[2] + 14] = std::byte{9};
  CHECK(builder.take(std::span(log.bytes)) == ShapeStatus::unsupported);
  CHECK(builder.end() == 0);
}

// A gap from `from` (a claim boundary) to `to`, as take_gap() in ring_intake.cpp drives it.
TEST_CASE("a gap leaves zeros in the ranges at its two ends and nothing between") {
  struct Row {
    Offset to;
    std::size_t ranges_between;
  };
  const Row row = GENERATE(Row{3200, 0}, Row{kRangeBytes, 0}, Row{kRangeBytes + 160, 0}, Row{4 * kRangeBytes, 3},
                           Row{4 * kRangeBytes + 5008, 3});
  CAPTURE(row.to);
  Log log(5, 0, 0);
  for (int i = 0; i < 10; ++i) log.record({90, 0, RecordKind::data, 0}, record_bytes(90));
  const Offset from = log.end();
  RangeBuilder builder(log.mix, 16 * kRangeBytes);
  builder.start({0, {}, kNoBoundary, 0, false});
  REQUIRE(builder.take(log.bytes) == ShapeStatus::ok);
  std::vector<std::byte> range = log.bytes;
  range.resize(kRangeBytes);
  const Offset head_end = std::min<Offset>(row.to, kRangeBytes);
  builder.gap(row.to, GapCause::overwritten, std::span<std::byte, 16>(range.data() + from, 16));
  CHECK(builder.boundary() == from);
  builder.zeros(head_end - from - 16);
  if (row.to > head_end) {
    builder.skip(range_begin_of(row.to));
    builder.zeros(row.to - range_begin_of(row.to));
  }
  CHECK(builder.end() == row.to);
  CHECK(builder.boundary() == row.to);
  std::optional<IndexEntry> first = builder.pop();
  if (row.to < kRangeBytes) {
    CHECK_FALSE(first);
    first = builder.partial();
  }
  REQUIRE(first);
  CHECK(first->crc == crc32c(std::span(range).first(head_end)));
  CHECK(first->first_boundary == 0);
  CHECK(first->boundary == (row.to <= kRangeBytes ? row.to : from));
  CHECK_FALSE(builder.pop());
  const std::uint64_t tail = row.to % kRangeBytes;
  if (row.to > kRangeBytes && tail != 0) {
    const auto last = builder.partial();
    REQUIRE(last);
    CHECK(last->range_begin == range_begin_of(row.to));
    CHECK(last->bytes == tail);
    CHECK(last->crc == crc32c(std::vector<std::byte>(tail)));
  }
  CHECK(builder.block().size() == row.to % kBlock);
}
