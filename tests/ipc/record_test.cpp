// A record's bytes: commit words, sizes, extensions, and what a reader makes of bytes that nobody wrote on purpose.
#include "spillway/ipc/record.h"

#include <random>
#include <set>

#include "spillway/ipc/record_writer.h"
#include "support/catch.h"

namespace {

using namespace spillway;

TEST_CASE("commit words are never zero, and differ between offsets, laps and logs") {
  for (const std::uint64_t salt : {std::uint64_t{0}, std::uint64_t{1}, UINT64_MAX, std::uint64_t{0x123456789ABCDEF}}) {
    const CommitMix mix(salt);
    std::set<std::uint64_t> seen;
    std::size_t asked = 0;
    for (const Offset begin : {Offset{0}, (Offset{1} << 32) - 4096, (Offset{1} << 48), kOffsetEnd - 4096}) {
      for (Offset at = begin; at < begin + 8192; at += 16, ++asked) {
        const std::uint64_t word = mix.word(at);
        CHECK((word & 1) == 1);
        seen.insert(word);
      }
    }
    CHECK(seen.size() == asked);
    // The same place in the ring, lap after lap.
    for (Offset lap = 1; lap < 1000; ++lap) CHECK(mix.word(64) != mix.word(64 + lap * 65536));
  }
  CHECK(CommitMix(1).word(16) != CommitMix(2).word(16));
}

TEST_CASE("the header packs into one word and back") {
  const RecordMeta meta{0xFFFFFFFF, 0xFFFE, RecordKind::gap, 0xA5};
  const RecordMeta back = RecordMeta::unpack(meta.pack());
  CHECK(back.length == meta.length);
  CHECK(back.key_bytes == meta.key_bytes);
  CHECK(back.kind == meta.kind);
  CHECK(back.flags == meta.flags);
  CHECK(RecordMeta{3, 0, RecordKind::data, 0}.pack() == 0x0001'0000'0000'0003U);
}

TEST_CASE("a header is believed only if its record fits where it stands") {
  struct Row {
    const char* name;
    RecordMeta meta;
    std::uint64_t room;
    ShapeStatus status;
    std::uint64_t bytes;
  };
  const auto data = RecordKind::data;
  const Row rows[] = {
      {"empty data", {0, 0, data, 0}, 16, ShapeStatus::ok, 16},
      {"one byte", {1, 0, data, 0}, 32, ShapeStatus::ok, 32},
      {"one byte, no room", {1, 0, data, 0}, 16, ShapeStatus::corrupt, 0},
      {"just fits", {65520, 0, data, 0}, 65536, ShapeStatus::ok, 65536},
      {"one over", {65521, 0, data, 0}, 65536, ShapeStatus::corrupt, 0},
      {"the longest there is", {UINT32_MAX, 0, data, 0}, 65536, ShapeStatus::corrupt, 0},
      {"key as long as the record", {8, 8, data, flag::kHasKey}, 32, ShapeStatus::ok, 32},
      {"key longer than the record", {8, 9, data, flag::kHasKey}, 64, ShapeStatus::corrupt, 0},
      {"key without the flag", {8, 4, data, 0}, 64, ShapeStatus::corrupt, 0},
      {"flag without a key: an empty one", {8, 0, data, flag::kHasKey}, 64, ShapeStatus::ok, 32},
      {"unknown flag", {8, 0, data, 16}, 64, ShapeStatus::unsupported, 0},
      {"unknown kind", {8, 0, static_cast<RecordKind>(4), 0}, 64, ShapeStatus::unsupported, 0},
      {"kind zero", {8, 0, static_cast<RecordKind>(0), 0}, 64, ShapeStatus::unsupported, 0},
      {"padding of one unit", {1, 0, RecordKind::padding, 0}, 16, ShapeStatus::ok, 16},
      {"padding of nothing", {0, 0, RecordKind::padding, 0}, 16, ShapeStatus::corrupt, 0},
      {"padding past the end", {5, 0, RecordKind::padding, 0}, 64, ShapeStatus::corrupt, 0},
      {"padding of 64 GiB", {UINT32_MAX, 0, RecordKind::padding, 0}, 65536, ShapeStatus::corrupt, 0},
      {"padding with a flag", {1, 0, RecordKind::padding, 1}, 64, ShapeStatus::unsupported, 0},
      {"gap", {4, 2, RecordKind::gap, 0}, 64, ShapeStatus::ok, 64},
  };
  for (const Row& row : rows) {
    INFO(row.name);
    const RecordShape shape = shape_of(row.meta, row.room);
    CHECK(shape.status == row.status);
    if (row.status == ShapeStatus::ok) CHECK(shape.bytes == row.bytes);
  }
}

TEST_CASE("a plan is empty for what no record can be, also where the sum of the parts overflows") {
  CHECK(RecordPlan::plain(UINT32_MAX).bytes > 0);
  CHECK(RecordPlan::plain(std::size_t{1} << 32).bytes == 0);
  CHECK(RecordPlan::of(SIZE_MAX, {}).bytes == 0);
  CHECK(RecordPlan::of(SIZE_MAX - 3, RecordOptions::keyed("key")).bytes == 0);
  CHECK(RecordPlan::of(UINT32_MAX, RecordOptions::keyed("k")).bytes == 0);
  const std::string long_key(65536, 'k');
  CHECK(RecordPlan::of(1, RecordOptions::keyed(long_key)).bytes == 0);
  CHECK(RecordPlan::of(1, RecordOptions::keyed(std::string_view(long_key).substr(1))).bytes > 0);
}

// Writes one record into memory as a producer would and takes it apart as a reader would.
Record round_trip(std::vector<std::byte>& memory, std::string_view payload, const RecordOptions& options) {
  RecordPlan plan = RecordPlan::of(payload.size(), options);
  memory.assign(plan.bytes, std::byte{0xCC});
  copy_to_ring(payload_of(memory.data(), plan), payload.data(), payload.size());
  write_extras(memory.data(), plan, options);
  Record record;
  REQUIRE(Record::parse(memory.data() + kRecordHeaderBytes, plan.meta, 4096, 3, record));
  CHECK(record.text() == payload);
  CHECK(record.offset() == 4096);
  CHECK(record.partition() == 3);
  return record;
}

TEST_CASE("every combination of key, tombstone and extension comes back as it was given") {
  std::vector<std::byte> memory;
  for (unsigned bits = 0; bits < 128; ++bits) {
    RecordOptions options;
    const std::string key = (bits & 1) != 0 ? "a key" : "";
    if ((bits & 3) != 0) options.key = bytes_of(std::string_view(key));
    options.tombstone = (bits & 4) != 0;
    if ((bits & 8) != 0) options.event_time_ns = 11;
    if ((bits & 16) != 0) options.send_time_ns = UINT64_MAX;
    options.commit_time = (bits & 32) != 0;
    if ((bits & 64) != 0) options.sequence = 33;
    if ((bits & 10) != 0) options.tag = 44;
    INFO(bits);
    const std::uint64_t before = wall_ns();
    for (const std::string_view payload : {"", "x", "sixteen bytes...", "more than sixteen bytes, not aligned"}) {
      const Record r = round_trip(memory, payload, options);
      CHECK(r.has_key() == options.key.has_value());
      CHECK(r.key_text() == (options.key ? key : ""));
      CHECK(r.tombstone() == options.tombstone);
      CHECK(r.event_time_ns() == options.event_time_ns);
      CHECK(r.send_time_ns() == options.send_time_ns);
      CHECK(r.commit_time_ns().has_value() == options.commit_time);
      if (r.commit_time_ns()) CHECK(*r.commit_time_ns() + 3'600'000'000'000U > before);
      CHECK(r.sequence() == options.sequence);
      CHECK(r.tag() == options.tag);
    }
  }
}

TEST_CASE("bodies of random bytes are taken apart within their bounds or refused") {
  const unsigned seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  int parsed = 0;
  for (int i = 0; i < 20000; ++i) {
    RecordMeta meta;
    meta.length = static_cast<std::uint32_t>(random() % 80);
    meta.key_bytes = static_cast<std::uint16_t>(random() % (meta.length + 1));
    meta.flags = static_cast<std::uint8_t>(flag::kHasKey | (random() % 2 ? flag::kHasExtension : 0));
    std::vector<std::byte> body(meta.length);  // exactly as long: a sanitizer sees a byte too far
    for (std::byte& b : body) b = static_cast<std::byte>(random());
    if (body.size() >= 4 && random() % 2 != 0) {
      body[0] = static_cast<std::byte>(random() % 32);
      body[1] = body[2] = body[3] = std::byte{0};
    }
    Record r;
    if (!Record::parse(body.data(), meta, 0, 0, r)) continue;
    ++parsed;
    static_cast<void>(r.tag());
    static_cast<void>(r.sequence());
    static_cast<void>(r.event_time_ns());
    const auto begin = body.data(), end = body.data() + body.size();
    CHECK((r.payload().data() >= begin && r.payload().data() + r.payload().size() <= end));
    CHECK((r.key().data() >= begin && r.key().data() + r.key().size() <= end));
  }
  CHECK(parsed > 1000);
}

}  // namespace
