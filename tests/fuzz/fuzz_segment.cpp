// A segment file, whole: header, log bytes, index; as the only one of a partition or with another behind it, and the
// horizon beside it. Read as history, by recovery, by verify, and by a consumer without a ring.
//
// Asserted: reading ends; what is delivered lies where it says, one record behind the other, each with its own commit
// word and within its log; what recovery finds is in order; what verify calls sound is read without damage and is as
// many records as it counted; an input that edits nothing is read as it was written.
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <optional>

#include "fuzz_support.h"
#include "spillway/core/bytes.h"
#include "spillway/core/checksum.h"
#include "spillway/core/error.h"
#include "spillway/ipc/partition_reader.h"
#include "spillway/persist/recovery.h"
#include "spillway/persist/segment_history.h"
#include "spillway/persist/verify.h"
#include "support/log_builder.h"

using namespace spillway;
using namespace spillway_fuzz;

namespace {

constexpr std::uint64_t kRing = 64 * kKiB;
constexpr std::uint64_t kSegment = 128 * kKiB;
constexpr std::uint64_t kIndex = kSegmentHeaderBytes + kSegment;

// Two segments and a horizon file as they were written, and what was written.
struct Scene {
  TopicConfig config;
  LogIdentity log;
  std::string directory;
  std::map<Offset, std::vector<std::byte>> files;
  std::vector<std::byte> horizon;
  std::vector<spillway_test::Event> records;
};

std::vector<std::byte> bytes_of_file(const std::string& path) { return read_file(path, kMiB).value(); }

Scene make_scene(unsigned which) {
  Scene scene;
  scene.config = spillway_test::test_config(kRing, kSegment, which == 1 ? OnFull::overwrite : OnFull::block);
  scene.log = LogIdentity::of(scene.config, 0);
  scene.directory = scratch() + "/" + std::to_string(which);
  make_directory(scene.directory, Sharing::owner);
  const Offset begin = which == 3 ? (Offset{1} << 32) - kSegment : 0;
  spillway_test::LogBuilder log(scene.directory, scene.config, begin);
  log.append("first");
  log.append_batch({"one of three", "two", std::string(300, '3')});
  log.append_bytes(10'000, 'x');
  log.pad_to(begin + 20 * kKiB);
  log.fill_to(begin + kRing + 8 * kKiB, 900);
  if (which == 1) log.gap_to(begin + kRing + 40 * kKiB);
  const Offset ring_end = log.end();
  if (which == 2) {
    log.flush();
    log.next_ring(ring_end, begin + kSegment, GapCause::crash);
  }
  log.fill_to(begin + kSegment, 2000);
  log.synced_to(log.end());
  log.append_bytes(100, 'y');
  log.append_batch({"a", "b"});
  log.fill_to(log.end() + 3 * kKiB, 100);
  log.append_torn("never whole");
  log.flush();
  log.write_horizon(begin + kGiB);
  for (const Offset base : {begin, begin + kSegment}) scene.files[base] = bytes_of_file(log.path_of(base));
  scene.horizon = bytes_of_file(horizon_path(scene.directory));
  scene.records = spillway_test::expected_records(log, begin, log.end());
  scene.records.pop_back();  // the torn one
  return scene;
}

const Scene& scene(unsigned which) {
  static const auto scenes = [] {
    // Each iteration makes readers anew, and what a kernel does for a ring of its own is not the subject.
    ::setenv("SPILLWAY_IO", "pwrite", 1);
    std::vector<Scene> made;
    for (unsigned i = 0; i < 4; ++i) made.push_back(make_scene(i));
    return made;
  }();
  return scenes[which];
}

// A header that passes for a record's at some place of the log, with a size of the input's choice.
void plant_record(Source& source, const Scene& s, Offset base, std::span<std::byte> file) {
  const Offset at = source.number<std::uint16_t>() * kRecordAlign % kSegment;
  const CommitMix mix(s.log.salt);
  RecordMeta meta;
  const std::uint8_t kind = source.byte();
  meta.kind = kind < 200 ? static_cast<RecordKind>(1 + kind % 3) : static_cast<RecordKind>(kind);
  meta.flags = source.byte();
  meta.key_bytes = source.number<std::uint16_t>();
  meta.length = static_cast<std::uint32_t>(source.word());
  store(file, kSegmentHeaderBytes + at, mix.word(base + at));
  store(file, kSegmentHeaderBytes + at + 8, meta.pack());
}

void edit_segment(Source& source, const Scene& s, Offset base, std::span<std::byte> file) {
  const std::span<std::byte> index = file.subspan(kIndex);
  switch (source.byte() % 6) {
    case 0: return edit(source, file);
    case 1: return edit(source, index);
    case 2: return store(file, source.byte() % 12 * sizeof(std::uint64_t), source.word());
    case 3: {
      const std::size_t home = source.byte() % 2 * kBlock;
      const std::size_t entry = source.byte() % (kSegment / kRangeBytes + 1) * sizeof(IndexEntry);
      const std::size_t field = source.byte() % 8 * sizeof(std::uint64_t);
      const bool half = source.byte() % 2 != 0;  // `bytes` without the CRC behind it
      const std::uint64_t word = source.word();
      if (half) return store(index, home + entry + field, static_cast<std::uint32_t>(word));
      return store(index, home + entry + field, word);
    }
    case 4: return plant_record(source, s, base, file);
    default: {
      const std::size_t from = source.byte() % 2 * kBlock;
      std::copy_n(index.begin() + static_cast<std::ptrdiff_t>(from), kBlock,
                  index.begin() + static_cast<std::ptrdiff_t>(kBlock - from));
    }
  }
}

void mend_segment(const Scene& s, std::span<std::byte> file) {
  auto header = load<SegmentHeader>(file, 0);
  header.checksum = xxh3(file.first(offsetof(SegmentHeader, checksum)));
  store(file, 0, header);
  for (std::size_t home = 0; home < 2; ++home) {
    for (std::size_t i = 0; i < kSegment / kRangeBytes; ++i) {
      const std::size_t at = kIndex + home * kBlock + i * sizeof(IndexEntry);
      auto entry = load<IndexEntry>(file, at);
      const std::size_t bytes = std::min<std::size_t>(entry.bytes, kRangeBytes);
      entry.crc = crc32c(file.subspan(kSegmentHeaderBytes + i * kRangeBytes, bytes));
      store(file, at, sealed(entry, s.log.salt));
    }
  }
}

void mend_horizon(std::span<std::byte> file) {
  for (unsigned i = 0; i < 2; ++i) {
    auto slot = load<HorizonSlot>(file, i * kBlock);
    if (slot.magic != kHorizonMagic) continue;
    slot.checksum = xxh3(file.subspan(i * kBlock, offsetof(HorizonSlot, checksum)));
    store(file, i * kBlock, slot);
  }
}

bool is_damage(const Error& error) { return error.code() == Code::corrupt || error.code() == Code::unsupported; }

struct Delivered {
  std::vector<spillway_test::Event> records;
  std::uint64_t bytes = 0;
  bool damaged = false;
  bool failed = false;
};

void check_data(const Scene& s, const HistoryRead& read, Delivered& delivered) {
  SPILLWAY_ASSERT(read.bytes.size() == read.end - read.begin && !read.bytes.empty());
  const CommitMix mix(s.log.salt);
  for (std::size_t at = 0; at < read.bytes.size();) {
    SPILLWAY_ASSERT(read.bytes.size() - at >= kRecordHeaderBytes);
    SPILLWAY_ASSERT(load<std::uint64_t>(read.bytes, at) == mix.word(read.begin + at));
    const RecordMeta meta = RecordMeta::unpack(load<std::uint64_t>(read.bytes, at + 8));
    const RecordShape shape = shape_of(meta, read.bytes.size() - at);
    SPILLWAY_ASSERT(shape.status == ShapeStatus::ok && meta.kind != RecordKind::gap);
    const auto body = read.bytes.subspan(at + kRecordHeaderBytes, shape.bytes - kRecordHeaderBytes);
    touch(body);
    if (meta.kind == RecordKind::data) {
      delivered.records.push_back({spillway_test::Event::What::record, read.begin + at, read.begin + at + shape.bytes,
                                   std::string(reinterpret_cast<const char*>(body.data()), meta.length),
                                   GapCause::none});
    }
    at += shape.bytes;
  }
  delivered.bytes += read.bytes.size();
}

Delivered read_all(const Scene& s, SegmentHistory& history) {
  Delivered delivered;
  const Offset end = history.end();
  Offset from = history.begin();
  SPILLWAY_ASSERT(from <= end && history.durable_end() <= end);
  for (unsigned reads = 0;; ++reads) {
    SPILLWAY_ASSERT(reads < 3 * kSegment / kRecordAlign);  // each goes on by a record at least, or ends it
    const HistoryRead read = history.read(from);
    SPILLWAY_ASSERT(read.begin == from);
    if (read.status == HistoryStatus::failed) {
      delivered.failed = true;
      const Offset next = history.boundary_after(align_down(from, kRangeBytes) + kRangeBytes);
      if (next <= from || next >= end) return delivered;
      from = next;
      continue;
    }
    if (read.status != HistoryStatus::data && read.status != HistoryStatus::gap) return delivered;
    SPILLWAY_ASSERT(read.end > from && read.end <= end && is_aligned(read.end, kRecordAlign));
    if (read.status == HistoryStatus::data) check_data(s, read, delivered);
    if (read.status == HistoryStatus::gap && read.cause == GapCause::damaged) delivered.damaged = true;
    from = read.end;
  }
}

void check_seeks(SegmentHistory& history, Source& source) {
  for (int i = 0; i < 4; ++i) {
    const Offset wanted = align_down(source.word(), kRecordAlign);
    const Offset boundary = history.boundary_before(wanted);
    SPILLWAY_ASSERT(is_aligned(boundary, kRecordAlign));
    SPILLWAY_ASSERT(boundary <= wanted || boundary == history.begin());
    const HistoryRead read = history.read(wanted);
    if (read.status == HistoryStatus::data) touch(read.bytes);
  }
}

// A consumer without a ring is told the same records; one whose extension can't be ends it.
void check_consumer(const Scene& s, const Delivered& expected) {
  PartitionReader reader(
      0, {nullptr, std::make_unique<SegmentHistory>(s.directory, s.config, 0, nullptr, FileIo::buffered)}, nullptr,
      ReadUpTo::committed);
  reader.start_earliest();
  std::size_t told = 0;
  for (Offset before = reader.offset();;) {
    std::size_t count = 0;
    const ReadStop stop = reader.read(
        [&](const Record& record) {
          SPILLWAY_ASSERT(told < expected.records.size() && record.offset() == expected.records[told].from);
          SPILLWAY_ASSERT(record.payload().size() + record.key().size() <= expected.records[told].payload.size());
          touch(record.payload());
          touch(record.key());
          ++told;
          return Flow::go_on;
        },
        100, count);
    SPILLWAY_ASSERT(reader.offset() >= before);
    before = reader.offset();
    if (stop == ReadStop::gap) {
      SPILLWAY_ASSERT(reader.gap().from == before && reader.gap().to > before);
      reader.skip_gap();
      continue;
    }
    if (stop == ReadStop::full) continue;
    SPILLWAY_ASSERT(stop == ReadStop::end || stop == ReadStop::corrupt || stop == ReadStop::failed);
    if (stop == ReadStop::end && !expected.failed) SPILLWAY_ASSERT(told == expected.records.size());
    return;
  }
}

void check_recovered(const RecoveredLog& recovered) {
  SPILLWAY_ASSERT(recovered.begin <= recovered.end && recovered.synced_end <= recovered.end);
  SPILLWAY_ASSERT(recovered.end <= recovered.horizon && recovered.end <= 2 * kOffsetEnd);
  SPILLWAY_ASSERT(is_aligned(recovered.end, kRecordAlign) && is_aligned(recovered.synced_end, kRecordAlign));
  for (const LogDamage& damage : recovered.damage) SPILLWAY_ASSERT(damage.from <= damage.to);
}

void check_all(const Scene& s, Source& source, bool untouched) {
  std::optional<Delivered> delivered;
  try {
    const RecoveredLog recovered = recover(s.directory, s.log, FileIo::buffered);
    check_recovered(recovered);
    SegmentHistory history(s.directory, s.config, 0, recovered, FileIo::buffered);
    delivered = read_all(s, history);
    check_seeks(history, source);
    check_consumer(s, *delivered);
  } catch (const Error& error) {
    SPILLWAY_ASSERT(is_damage(error));
  }
  const VerifyResult verified = verify_partition(s.directory, s.config, 0, nullptr);
  SPILLWAY_ASSERT(verified.begin <= verified.end);
  for (std::size_t i = 1; i < verified.damage.size(); ++i) {
    SPILLWAY_ASSERT(verified.damage[i - 1].from <= verified.damage[i].from);
  }
  if (verified.sound()) {
    SPILLWAY_ASSERT(delivered && !delivered->damaged && !delivered->failed);
    SPILLWAY_ASSERT(delivered->records.size() == verified.records && delivered->bytes == verified.bytes);
  }
  if (untouched) SPILLWAY_ASSERT(verified.sound() && delivered && delivered->records == s.records);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  Source source({data, bytes});
  const std::uint8_t how = source.byte();
  const Scene& s = scene(how & 3);
  const bool alone = (how & 4) != 0;
  auto files = s.files;
  std::vector<std::byte> horizon = s.horizon;
  const unsigned edits = source.byte() % 24;
  for (unsigned i = 0; i < edits && !source.empty(); ++i) {
    const std::uint8_t where = source.byte();
    if (where % 8 == 7) {
      store(std::span(horizon), where / 8 % 11 * sizeof(std::uint64_t), source.word());
      continue;
    }
    auto& [base, file] = alone || where % 2 == 0 ? *files.begin() : *std::next(files.begin());
    edit_segment(source, s, base, file);
  }
  for (auto& [base, file] : files) {
    if ((how & 8) != 0) mend_segment(s, file);
  }
  if ((how & 16) != 0) mend_horizon(horizon);
  if ((how & 32) != 0) files.begin()->second.resize(source.number<std::uint32_t>() % (2 * kIndex));
  for (const auto& [base, file] : files) {
    const std::string path = s.directory + "/" + segment_name(base);
    if (alone && base != files.begin()->first) {
      remove_file(path);
    } else {
      put_file(path, file);
    }
  }
  put_file(horizon_path(s.directory), horizon);
  check_all(s, source, edits == 0 && (how & 0x24) == 0);
  return 0;
}
