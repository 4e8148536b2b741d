// Goal: whatever happened to the files, a reader gets every record that is whole, once and in order, and for the
// rest gaps with exact bounds and the right cause.
// Method: a LogBuilder makes segments and is the model; then files are damaged, and what the history tells is
// compared.
#include "spillway/persist/segment_history.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <iostream>
#include <random>
#include <set>

#include "spillway/core/checksum.h"
#include "spillway/core/descriptor.h"
#include "spillway/core/error.h"
#include "spillway/persist/segment_store.h"
#include "support/catch.h"
#include "support/log_builder.h"

using namespace spillway;
using namespace spillway_test;

namespace {

constexpr std::uint64_t kRing = 256 * kKiB;
constexpr std::uint64_t kSegment = 512 * kKiB;

// What a reader must be told when the ranges in `bad` can't be had.
std::vector<Event> expected_with_damage(const LogBuilder& log, const std::set<Offset>& bad, Offset log_end) {
  std::vector<Event> events;
  const std::uint64_t segment_bytes = log.config().segment_bytes;
  const auto& records = log.records();
  const auto gap_end = [&](Offset range) {
    const Offset data_end = std::min(align_down(range - 1, segment_bytes) + segment_bytes, log_end);
    for (; range < data_end; range += kRangeBytes) {
      if (bad.contains(range)) continue;
      for (const LogBuilder::Record& record : records) {
        if (record.begins_claim && record.offset >= range && record.offset < std::min(range + kRangeBytes, data_end)) {
          return record.offset;
        }
      }
    }
    return data_end;
  };
  Offset at = log.begin();
  for (const LogBuilder::Record& record : records) {
    if (record.offset < at || record.end > log_end) continue;
    at = record.end;
    const Offset last = record.padding ? record.offset : record.end - 1;
    Offset bad_range = range_begin_of(record.offset);
    while (bad_range <= last && !bad.contains(bad_range)) bad_range += kRangeBytes;
    if (bad_range > last) {
      if (!record.padding) events.push_back({Event::What::record, record.offset, record.end, record.payload, {}});
      continue;
    }
    at = gap_end(bad_range + kRangeBytes);
    if (!events.empty() && events.back().what == Event::What::gap && events.back().to == record.offset) {
      events.back().to = at;
    } else {
      events.push_back({Event::What::gap, record.offset, at, "", GapCause::damaged});
    }
  }
  return events;
}

Drained read_all(const LogBuilder& log, FileIo io = FileIo::direct, IoKind kind = IoKind::automatic) {
  SegmentHistory history(log.directory(), log.config(), 0, nullptr, io, kind);
  return drain(history, history.begin());
}

void check_same(const std::vector<Event>& got, const std::vector<Event>& wanted) {
  if (got == wanted) {
    SUCCEED();
    return;
  }
  std::size_t i = 0;
  while (i < got.size() && i < wanted.size() && got[i] == wanted[i]) ++i;
  const auto from = [&](const std::vector<Event>& events) {
    const std::size_t first = std::min(i, events.size());
    return to_string({events.begin() + static_cast<std::ptrdiff_t>(first),
                      events.begin() + static_cast<std::ptrdiff_t>(std::min(first + 4, events.size()))});
  };
  FAIL("events differ at " << i << " (of " << got.size() << ", wanted " << wanted.size() << ")\ngot\n"
                           << from(got) << "wanted\n"
                           << from(wanted));
}

// A log of a few segments with records of all sizes, batches and padding.
void write_mixed(LogBuilder& log, Offset to, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  while (log.end() + kRing / 4 + kSegment / 8 < to) {
    const auto kind = random() % 10;
    if (kind == 0) {
      log.append_bytes(kRing / 4 - 16 - random() % 5000, static_cast<char>('A' + random() % 26));
    } else if (kind < 4) {
      std::vector<std::string> batch;
      for (std::uint64_t i = 0, n = 2 + random() % 20; i < n; ++i) {
        batch.push_back(std::string(random() % 900, static_cast<char>('a' + random() % 26)));
      }
      log.append_batch(batch);
    } else if (kind == 4) {
      const Offset room = kRing - log.end() % kRing;
      log.pad_to(log.end() + std::min<Offset>(room, 16 + random() % 70000 / 16 * 16));
    } else {
      log.append(std::string(random() % 300, static_cast<char>('a' + random() % 26)));
    }
  }
}

}  // namespace

TEST_CASE("history: a whole log is read, whatever the way of reading") {
  const Offset begin = GENERATE(Offset{0}, (Offset{1} << 32) - kSegment, Offset{1} << 40);
  const auto io = GENERATE(FileIo::direct, FileIo::buffered);
  const auto kind = GENERATE(IoKind::uring, IoKind::pwrite);
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, kSegment), begin);
  write_mixed(log, begin + 3 * kSegment, 1);
  log.synced_to(log.end());
  log.flush();
  log.write_horizon(begin + 16 * kSegment);
  const Drained drained = read_all(log, io, kind);
  check_same(drained.events, expected_records(log, begin, log.end()));
  CHECK(drained.last.status == HistoryStatus::end);
  CHECK(drained.last.begin == log.end());
}

TEST_CASE("history: records larger than a chunk and than the window come whole") {
  const TempDirectory directory;
  const std::uint64_t ring = 32 * kMiB;
  LogBuilder log(directory.path(), test_config(ring, ring));
  for (const std::uint64_t bytes : {100U, 1U << 20, 3U << 20, 100U, (8U << 20) - 16, 5U << 20, 77U, 900U << 10}) {
    log.append_bytes(bytes, 'x');
    log.append("small " + std::to_string(bytes));
  }
  log.flush();
  log.write_horizon(kGiB);
  const Drained drained = read_all(log);
  check_same(drained.events, expected_records(log, 0, log.end()));
}

TEST_CASE("history: segments smaller than a chunk are read ahead too") {
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(64 * kKiB, 64 * kKiB));
  log.fill_to(20 * 64 * kKiB, 3000);
  log.flush();
  log.write_horizon(kGiB);
  check_same(read_all(log).events, expected_records(log, 0, log.end()));
}

TEST_CASE("history: one flipped bit costs the records of its range and no others") {
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, kSegment));
  write_mixed(log, 4 * kSegment, 2);
  log.synced_to(log.end());
  log.flush();
  log.write_horizon(kGiB);
  // Every range in turn, at its first, a middle and its last byte.
  for (Offset range = 0; range < log.end(); range += kRangeBytes) {
    const std::uint64_t bytes = std::min(kRangeBytes, log.end() - range);
    for (const std::uint64_t at : {std::uint64_t{0}, bytes / 2, bytes - 1}) {
      flip_bit(log.path_of(range), log.file_pos(range + at));
      INFO("range " << range << " byte " << at);
      check_same(read_all(log).events, expected_with_damage(log, {range}, log.end()));
      flip_bit(log.path_of(range), log.file_pos(range + at));
    }
  }
  check_same(read_all(log).events, expected_records(log, 0, log.end()));
}

TEST_CASE("history: random damage against the model") {
  const std::uint64_t seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  std::mt19937_64 random(seed);
  for (int round = 0; round < 20; ++round) {
    const TempDirectory directory;
    LogBuilder log(directory.path(), test_config(kRing, kSegment), (random() % 3) << 32);
    write_mixed(log, log.begin() + (2 + random() % 3) * kSegment, random());
    log.synced_to(log.end());
    log.flush();
    log.write_horizon(log.begin() + kGiB);
    std::set<Offset> bad;
    const std::uint64_t ranges = (log.end() - log.begin() + kRangeBytes - 1) / kRangeBytes;
    for (std::uint64_t i = 0, n = random() % (ranges + 1); i < n; ++i) {
      const Offset range = log.begin() + random() % ranges * kRangeBytes;
      if (!bad.insert(range).second) continue;
      const Offset base = align_down(range, kSegment);
      if (random() % 2 == 0) {
        flip_bit(log.path_of(range), log.file_pos(range + random() % std::min(kRangeBytes, log.end() - range)));
      } else {  // its index entry
        flip_bit(log.path_of(range),
                 index_block_pos(kSegment, 0, 0) + (range - base) / kRangeBytes * sizeof(IndexEntry) + random() % 64);
      }
    }
    INFO("round " << round);
    check_same(read_all(log).events, expected_with_damage(log, bad, log.end()));
  }
}

TEST_CASE("history: a batch is delivered up to its first damaged record, and the gap ends at a claim") {
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, kSegment));
  log.append("before");
  const auto batch = log.append_batch(std::vector<std::string>(60, std::string(1000, 'b')));  // 60 KiB and more
  const auto second = log.append_batch(std::vector<std::string>(60, std::string(1000, 'c')));
  const Offset after = log.append("after");
  log.fill_to(3 * kRangeBytes);
  log.synced_to(log.end());
  log.flush();
  log.write_horizon(kGiB);
  REQUIRE(second.front() < kRangeBytes);
  REQUIRE(second.back() > kRangeBytes);
  REQUIRE(after > kRangeBytes);
  REQUIRE(after < 2 * kRangeBytes);
  flip_bit(log.path_of(0), log.file_pos(kRangeBytes + 4000));
  const auto events = read_all(log).events;
  const auto gap =
      std::find_if(events.begin(), events.end(), [](const Event& e) { return e.what == Event::What::gap; });
  REQUIRE(gap != events.end());
  // The first record that reaches into the second range, up to the first claim of the third.
  const auto first = std::find_if(second.begin(), second.end(), [](Offset o) { return o + 1024 > kRangeBytes; });
  CHECK(gap->from == *first);
  CHECK(gap->to == log.boundary_from(2 * kRangeBytes));
  CHECK(gap->cause == GapCause::damaged);
  CHECK(std::count_if(events.begin(), gap, [](const Event& e) { return e.payload[0] == 'c'; }) ==
        first - second.begin());
}

TEST_CASE("history: a file that is not what it should be") {
  enum class Bad { cut_index, cut_data, empty, zeros, random, huge, missing, other_log, directory, link, pipe };
  struct Row {
    const char* name;
    Bad bad;
  };
  // clang-format off
  const Row row = GENERATE(
      Row{"the index is cut off",          Bad::cut_index},
      Row{"the data are cut off",          Bad::cut_data},
      Row{"empty",                         Bad::empty},
      Row{"zeros",                         Bad::zeros},
      Row{"random bytes",                  Bad::random},
      Row{"random bytes and far too long", Bad::huge},
      Row{"missing",                       Bad::missing},
      Row{"another topic's segment",       Bad::other_log},
      Row{"a directory",                   Bad::directory},
      Row{"a symbolic link",               Bad::link},
      Row{"a named pipe",                  Bad::pipe});
  // clang-format on
  INFO(row.name);
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, kSegment));
  log.fill_to(3 * kSegment);
  log.synced_to(log.end());
  log.flush();
  log.write_horizon(kGiB);
  const std::string path = log.path_of(kSegment);
  switch (row.bad) {
    case Bad::cut_index: truncate_to(path, kSegmentHeaderBytes + kSegment); break;
    case Bad::cut_data: truncate_to(path, 10000); break;
    case Bad::empty: truncate_to(path, 0); break;
    case Bad::zeros: zero_fill(path, 0, segment_file_bytes(kSegment)); break;
    case Bad::random: randomize(path, segment_file_bytes(kSegment), 5); break;
    case Bad::huge:
      randomize(path, segment_file_bytes(kSegment), 6);
      truncate_to(path, std::uint64_t{1} << 40);
      break;
    case Bad::missing: std::filesystem::remove(path); break;
    case Bad::other_log: {
      const TempDirectory elsewhere;
      TopicConfig config = test_config(kRing, kSegment);
      config.id += 1;
      LogBuilder other(elsewhere.path(), config);
      other.fill_to(3 * kSegment);
      other.flush();
      copy_file(other.path_of(kSegment), path);
      break;
    }
    case Bad::directory:
      std::filesystem::remove(path);
      std::filesystem::create_directory(path);
      break;
    case Bad::link:
      std::filesystem::rename(path, directory.path() + "/elsewhere");
      std::filesystem::create_symlink("elsewhere", path);
      break;
    case Bad::pipe:
      std::filesystem::remove(path);
      REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
      break;
  }
  std::vector<Event> wanted = expected_records(log, 0, kSegment);
  wanted.push_back({Event::What::gap, kSegment, 2 * kSegment, "", GapCause::damaged});
  const auto rest = expected_records(log, 2 * kSegment, log.end());
  wanted.insert(wanted.end(), rest.begin(), rest.end());
  check_same(read_all(log).events, wanted);
}

TEST_CASE("history: a damaged header costs nothing as long as the index is whole") {
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, kSegment));
  log.fill_to(3 * kSegment);
  log.flush();
  log.write_horizon(kGiB);
  flip_bit(log.path_of(kSegment), 40);
  check_same(read_all(log).events, expected_records(log, 0, log.end()));
}

TEST_CASE("history: an older ring's sealed end is followed by one exact gap") {
  struct Row {
    const char* name;
    GapCause cause;
    bool told;
  };
  const Row row = GENERATE(Row{"a crash", GapCause::crash, true}, Row{"a clean stop", GapCause::none, false});
  const bool new_ring_has_segment = GENERATE(true, false);
  const bool at_segment_end = GENERATE(true, false);
  INFO(row.name << (new_ring_has_segment ? ", written on" : ", nothing written since"));
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, kSegment));
  log.fill_to(kSegment + kRing);
  if (at_segment_end) log.fill_to(2 * kSegment);
  const Offset sealed = log.end();
  if (!at_segment_end) log.append_torn("never whole");
  log.flush();
  log.next_ring(sealed, 8 * kSegment, row.cause);
  const Offset begin = 8 * kSegment;
  if (new_ring_has_segment) {
    log.fill_to(begin + kRing / 2);
    log.synced_to(log.end());
    log.flush(1);
  }
  log.write_horizon(begin + kGiB);
  std::vector<Event> wanted = expected_records(log, 0, sealed);
  if (new_ring_has_segment) {
    if (row.told) wanted.push_back({Event::What::gap, sealed, begin, "", row.cause});
    const auto rest = expected_records(log, begin, log.end());
    wanted.insert(wanted.end(), rest.begin(), rest.end());
  }
  const Drained drained = read_all(log);
  check_same(drained.events, wanted);
  CHECK(drained.last.status == HistoryStatus::end);
  CHECK(drained.last.begin == (new_ring_has_segment ? log.end() : sealed));
}

TEST_CASE("history: segments that were sealed away and not deleted yet are not read") {
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, kSegment));
  log.fill_to(3 * kSegment);
  log.flush();
  const Offset sealed = kSegment + 4 * 128;  // as if all behind had been torn
  const auto& records = log.records();
  const auto at = std::find_if(records.begin(), records.end(), [&](const auto& r) { return r.offset >= sealed; });
  const Offset end = at->offset;
  log.next_ring(end, 8 * kSegment, GapCause::crash);
  log.fill_to(8 * kSegment + 4096);
  log.synced_to(log.end());
  log.flush();
  log.write_horizon(8 * kSegment + kGiB);
  REQUIRE(std::filesystem::exists(log.path_of(2 * kSegment)));
  std::vector<Event> wanted = expected_records(log, 0, end);
  wanted.push_back({Event::What::gap, end, 8 * kSegment, "", GapCause::crash});
  const auto rest = expected_records(log, 8 * kSegment, log.end());
  wanted.insert(wanted.end(), rest.begin(), rest.end());
  check_same(read_all(log).events, wanted);
}

TEST_CASE("history: overwritten ranges are one gap however they lie on disk") {
  struct Row {
    const char* name;
    Offset from, to;
  };
  // clang-format off
  const Row row = GENERATE(
      Row{"inside one range",                       4096,             8192},
      Row{"to a range's end",                       4096,             kRangeBytes},
      Row{"over several ranges",                    4096,             3 * kRangeBytes + 320},
      Row{"over the ring's end",                    kRing - 4096,     kRing + 8192},
      Row{"to the segment's end",                   8192,             kSegment},
      Row{"into the next segment",                  8192,             kSegment + 12800},
      Row{"over a whole segment",                   8192,             2 * kSegment + 160},
      Row{"over a whole segment to an end",         8192,             3 * kSegment},
      Row{"from a segment's beginning",             kSegment,         2 * kSegment},
      Row{"from a segment's beginning, many",       kSegment,         4 * kSegment + kRangeBytes});
  // clang-format on
  const bool next_header_damaged = GENERATE(false, true);
  INFO(row.name << (next_header_damaged ? ", next header damaged" : ""));
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, kSegment, OnFull::overwrite));
  log.fill_to(row.from);
  log.gap_to(row.to);
  const std::string rest_path = log.path_of(row.to);
  log.append("first after");
  log.fill_to(align_up(log.end() + 1, kSegment));
  log.synced_to(log.end());
  log.flush();
  log.write_horizon(kGiB);
  // Without the header only the gap record before tells why the file is missing; at a segment's beginning there is
  // none.
  if (next_header_damaged) {
    if (row.from == kSegment) return;
    flip_bit(rest_path, 17);
  }
  std::vector<Event> wanted = expected_records(log, 0, row.from);
  wanted.push_back({Event::What::gap, row.from, row.to, "", GapCause::overwritten});
  const auto rest = expected_records(log, row.to, log.end());
  wanted.insert(wanted.end(), rest.begin(), rest.end());
  check_same(read_all(log).events, wanted);
  // Somebody who was thrown out of the ring in the middle of it.
  for (Offset at = row.from; at < row.to; at = align_up(at + 1, kRangeBytes)) {
    for (const Offset from : {at, at + 16, std::min(at + 4096, row.to - 16)}) {
      INFO("from " << from);
      SegmentHistory history(log.directory(), log.config(), 0, nullptr);
      const HistoryRead read = history.read(from);
      CHECK(read.status == HistoryStatus::gap);
      CHECK(read.end == row.to);
      CHECK(read.cause == GapCause::overwritten);
    }
  }
}

TEST_CASE("history: what was deleted before the first segment is expired") {
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, kSegment));
  log.fill_to(4 * kSegment);
  log.synced_to(log.end());
  log.flush();
  log.write_horizon(kGiB);
  std::filesystem::remove(log.path_of(0));
  std::filesystem::remove(log.path_of(kSegment));
  SegmentHistory history(directory.path(), log.config(), 0, nullptr);
  CHECK(history.begin() == 2 * kSegment);
  const Drained drained = drain(history, 160);
  std::vector<Event> wanted = {{Event::What::gap, 160, 2 * kSegment, "", GapCause::expired}};
  const auto rest = expected_records(log, 2 * kSegment, log.end());
  wanted.insert(wanted.end(), rest.begin(), rest.end());
  check_same(drained.events, wanted);
}

TEST_CASE("history: a segment that is recycled under its reader becomes a gap, never other bytes") {
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, 4 * kMiB));
  log.fill_to(3 * 4 * kMiB, 1000);
  log.synced_to(log.end());
  log.flush();
  log.write_horizon(kGiB);
  SegmentHistory history(directory.path(), log.config(), 0, nullptr);
  HistoryRead read = history.read(0);
  REQUIRE(read.status == HistoryStatus::data);
  // Its chunks are under way or in memory; now the file is renamed and filled with another part of the log.
  const std::string spare = directory.path() + "/spare-1";
  std::filesystem::rename(log.path_of(0), spare);
  randomize(spare, segment_file_bytes(4 * kMiB), 9);
  const Offset stopped = read.end;
  const Drained drained = drain(history, stopped);
  std::vector<Event> wanted = {{Event::What::gap, stopped, 4 * kMiB, "", GapCause::expired}};
  const auto rest = expected_records(log, 4 * kMiB, log.end());
  wanted.insert(wanted.end(), rest.begin(), rest.end());
  check_same(drained.events, wanted);
}

TEST_CASE("history: a boundary at or before any offset, near where the index is whole") {
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, kSegment));
  write_mixed(log, 3 * kSegment, 4);
  log.synced_to(log.end());
  log.flush();
  log.write_horizon(kGiB);
  std::set<Offset> boundaries = {log.end()};
  for (const auto& record : log.records()) {
    if (record.begins_claim) boundaries.insert(record.offset);
  }
  const bool damaged = GENERATE(false, true);
  if (damaged) {
    for (Offset range = 0; range < log.end(); range += 3 * kRangeBytes) {
      flip_bit(log.path_of(range), log.file_pos(range + 100));
    }
  }
  SegmentHistory history(directory.path(), log.config(), 0, nullptr);
  std::mt19937_64 random(11);
  for (int i = 0; i < 3000; ++i) {
    const Offset offset = random() % (log.end() + 1000);
    const Offset boundary = history.boundary_before(offset);
    REQUIRE(boundary <= offset);
    REQUIRE(boundaries.contains(boundary));
    if (!damaged && offset < log.end()) REQUIRE(offset - boundary <= kRing / 4 + kRangeBytes);
  }
  CHECK(history.boundary_before(0) == 0);
}

TEST_CASE("history: an unknown record kind is refused, not skipped") {
  const TempDirectory directory;
  LogBuilder log(directory.path(), test_config(kRing, kSegment));
  log.append("known");
  const Offset strange = log.append("strange");
  log.append("after");
  log.flush();
  // As a newer release would have written it: CRC and all.
  flip_bit(log.path_of(strange), log.file_pos(strange) + 14, 6);
  const FileDescriptor fd = open_file(log.path_of(0), O_RDWR);
  std::vector<std::byte> bytes(log.end());
  REQUIRE(read_at(fd.get(), bytes.data(), bytes.size(), kSegmentHeaderBytes) == 0);
  IndexEntry entry{};
  REQUIRE(read_at(fd.get(), &entry, sizeof entry, index_block_pos(kSegment, 0, 0)) == 0);
  entry.crc = crc32c(bytes);
  entry.durable_end = log.end();
  entry = sealed(entry, log.log().salt);
  REQUIRE(write_at(fd.get(), &entry, sizeof entry, index_block_pos(kSegment, 0, 0)) == 0);
  log.write_horizon(kGiB);
  const Drained drained = read_all(log);
  CHECK(drained.events.size() == 1);
  CHECK(drained.last.status == HistoryStatus::failed);
  CHECK(drained.last.error == EPROTONOSUPPORT);
}

TEST_CASE("history: offsets that can't be, and an empty directory") {
  const TempDirectory directory;
  SegmentHistory history(directory.path(), test_config(kRing, kSegment), 0, nullptr);
  CHECK(history.begin() == 0);
  CHECK(history.end() == 0);
  CHECK(history.durable_end() == 0);
  CHECK(history.boundary_before(12345) == 0);
  CHECK(history.read(0).status == HistoryStatus::end);
  CHECK(history.read(5).status == HistoryStatus::failed);
  CHECK(history.read(UINT64_MAX - 15).status == HistoryStatus::failed);
  CHECK(std::filesystem::is_empty(directory.path()));
}
