#include "spillway/persist/verify.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <span>
#include <thread>
#include <utility>

#include "spillway/core/bytes.h"
#include "spillway/core/error.h"
#include "spillway/persist/cursor_file.h"
#include "spillway/persist/segment_history.h"
#include "spillway/persist/segment_store.h"

namespace spillway {
namespace {

constexpr std::chrono::milliseconds kAskAgain(10);

// Data records in whole records that were checked already.
std::uint64_t count_records(std::span<const std::byte> bytes) {
  std::uint64_t records = 0;
  while (bytes.size() >= kRecordHeaderBytes) {
    std::array<std::uint64_t, 2> header;
    std::memcpy(header.data(), bytes.data(), sizeof header);
    const RecordMeta meta = RecordMeta::unpack(header[1]);
    const RecordShape shape = shape_of(meta, bytes.size());
    SPILLWAY_ASSERT(shape.status == ShapeStatus::ok);
    if (meta.kind == RecordKind::data) ++records;
    bytes = bytes.subspan(shape.bytes);
  }
  return records;
}

class Verifier {
 public:
  Verifier(const std::string& directory, const LogIdentity& log, SegmentHistory& history, VerifyResult& result)
      : directory_(directory), log_(log), history_(history), result_(result) {}

  void headers(std::span<const Offset> bases) {
    for (const Offset base : bases) {
      if (base >= result_.end) continue;
      ++result_.segments;
      const std::optional<HeaderRead> read = read_segment_header(directory_, log_, base);
      if (!read || (read->status == HeaderStatus::ok && read->error == 0)) continue;  // expired meanwhile, or sound
      const std::string path = directory_ + "/" + segment_name(base);
      result_.damage.push_back({base, base, base,
                                read->error != 0
                                    ? "the header of " + path + " can't be read: " + std::strerror(read->error)
                                    : header_problem(read->status, path)});
    }
  }

  // Whether each entry of the segments' indexes holds its checksum. Of a range whose entries can't be used records()
  // tells; but one that its other home, or an older entry, stands in for is damage as well.
  void indexes(std::span<const Offset> bases) {
    for (const Offset base : bases) {  // also behind the end: a damaged entry may be why it is there
      const SegmentFile file = SegmentFile::try_open(directory_, log_, base, FileIo::buffered);
      if (!file || file.header_error() != 0 || file.header_status() != HeaderStatus::ok) continue;
      const std::vector<IndexEntry> entries = read_index(file);
      std::vector<IndexEntry> again;
      for (std::size_t i = 0; i < entries.size(); ++i) {
        if (!entry_spoilt(entries[i], log_.salt)) continue;
        if (again.empty()) again = read_index(file);  // a persister may be writing it
        if (again.size() != entries.size() || std::memcmp(&entries[i], &again[i], sizeof(IndexEntry)) != 0) continue;
        const std::size_t per_home = entries.size() / 2;
        result_.problems.push_back("the index of " + directory_ + "/" + segment_name(base) + " is damaged in home " +
                                   (i < per_home ? "A" : "B") + ": the entry for offset " +
                                   std::to_string(base + i % per_home * kRangeBytes) +
                                   " does not hold its checksum; what its other home can't stand in for is a gap");
      }
    }
  }

  void records() {
    for (Offset at = result_.begin; at < result_.end;) {
      const HistoryRead read = history_.read(at);
      if (read.status == HistoryStatus::end) return;
      if (read.status == HistoryStatus::nothing) {
        if (at >= history_.final_end()) return;
        std::this_thread::sleep_for(kAskAgain);  // the persister may be writing there
        continue;
      }
      if (read.status == HistoryStatus::failed) {
        at = skip(at, read.error);
        continue;
      }
      if (read.status == HistoryStatus::data) {
        result_.records += count_records(read.bytes);
        result_.bytes += read.end - read.begin;
      } else {
        gap(read);
      }
      at = read.end;
    }
  }

 private:
  void gap(const HistoryRead& read) {
    if (read.cause == GapCause::damaged) {
      const SegmentHistory::Fault& fault = history_.last_fault();
      note(read.begin, read.end, std::string(describe(fault.fault)), fault.range);
    } else if (read.cause == GapCause::none) {
      const auto fault = history_.check_padding(read.begin, read.end, result_.end);
      if (fault)
        note(fault->range, fault->range + kRangeBytes, "in padding: " + std::string(describe(fault->fault)),
             fault->range);
    } else {
      ++result_.gaps;
    }
  }

  Offset skip(Offset at, int error) {
    const Offset next = std::min(history_.boundary_after(range_begin_of(at) + kRangeBytes), result_.end);
    note(at, next,
         error == EPROTONOSUPPORT ? "it is of a newer version"
                                  : std::string("it can't be read: ") + std::strerror(error),
         at);
    return next;
  }

  // Home A, then home B; nothing when it can't be read.
  std::vector<IndexEntry> read_index(const SegmentFile& file) const {
    std::vector<IndexEntry> entries(2 * index_blocks(log_.segment_bytes) * kIndexEntriesPerBlock);
    const std::size_t bytes = entries.size() * sizeof(IndexEntry);
    const FileRead read =
        read_some(file.descriptor(), entries.data(), bytes, index_block_pos(log_.segment_bytes, 0, 0));
    if (read.error != 0 || read.bytes != bytes) return {};
    return entries;
  }

  void note(Offset from, Offset to, std::string what, Offset where) {
    result_.damage.push_back({align_down(where, log_.segment_bytes), from, to, std::move(what)});
  }

  const std::string& directory_;
  const LogIdentity& log_;
  SegmentHistory& history_;
  VerifyResult& result_;
};

}  // namespace

VerifyResult verify_partition(const std::string& directory, const TopicConfig& config, std::uint32_t partition_number,
                              std::shared_ptr<const Partition> partition) {
  const LogIdentity log = LogIdentity::of(config, partition_number);
  VerifyResult result;
  std::optional<HorizonSlot> horizon;
  try {
    horizon = HorizonFile::peek(horizon_path(directory), log.topic_id, log.partition);
  } catch (const Error& error) {
    if (error.code() != Code::corrupt && error.code() != Code::unsupported) throw;
    result.problems.emplace_back(error.what());
  }
  RecoveredLog recovered;
  if (!partition) {
    try {
      recovered = recover_by(horizon, directory, log);
    } catch (const Error& error) {
      if (error.code() != Code::corrupt) throw;
      result.problems.emplace_back(error.what());
      horizon.reset();
      recovered = recover_by(horizon, directory, log);
    }
  }
  const std::vector<Offset> bases =
      live_segments(list_segments(directory, log.segment_bytes), horizon, log.segment_bytes);
  if (!horizon && result.problems.empty() && !bases.empty()) {
    result.problems.push_back(
        "the horizon file " + horizon_path(directory) +
        " is missing, so it is not known which offsets were handed out; restore it from a backup");
  }
  constexpr std::size_t kSlots = SegmentReader::kSlotsOfVerify;
  SegmentHistory history = partition ? SegmentHistory(directory, config, partition_number, std::move(partition),
                                                      FileIo::direct, IoKind::automatic, kSlots)
                                     : SegmentHistory(directory, config, partition_number, std::move(recovered),
                                                      FileIo::direct, IoKind::automatic, kSlots);
  result.begin = history.begin();
  result.end = history.end();
  Verifier verifier(directory, log, history, result);
  verifier.headers(bases);
  verifier.records();
  verifier.indexes(bases);
  if (horizon) {
    if (std::string damage = HorizonFile::damage(horizon_path(directory)); !damage.empty()) {
      result.problems.push_back(std::move(damage));
    }
  }
  if (const RecoveredLog& found = history.recovered(); found.error != 0) {
    result.problems.push_back("the log can't be read near offset " + std::to_string(found.error_at) + " (" +
                              std::strerror(found.error) + "): it may go on behind " + std::to_string(found.end));
  }
  result.ranges = history.ranges_checked();
  std::sort(result.damage.begin(), result.damage.end(),
            [](const LogDamage& a, const LogDamage& b) { return a.from != b.from ? a.from < b.from : a.to < b.to; });
  return result;
}

std::vector<std::string> verify_cursors(const std::string& cursors_directory, const TopicConfig& config) {
  std::vector<std::string> problems;
  for (const std::string& name : CursorFile::list(cursors_directory)) {
    try {
      CursorFile::peek(cursors_directory, name, config.partitions, config.id);
      if (std::string damage = CursorFile::damage(cursors_directory, name); !damage.empty()) {
        problems.push_back(std::move(damage));
      }
    } catch (const Error& error) {
      if (error.code() == Code::not_found) continue;  // deleted meanwhile
      problems.emplace_back(error.what());
    }
  }
  return problems;
}

}  // namespace spillway
