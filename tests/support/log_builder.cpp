#include "support/log_builder.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <span>
#include <utility>

#include "spillway/core/checksum.h"
#include "spillway/core/descriptor.h"
#include "spillway/core/error.h"

namespace spillway_test {

using namespace spillway;

namespace {

std::string default_place() {
  const char* base = std::getenv("TMPDIR");
  return base != nullptr && *base != '\0' ? base : "/tmp";
}

}  // namespace

TempDirectory::TempDirectory() : TempDirectory(default_place()) {}

TempDirectory::TempDirectory(const std::string& above) : path_(above + "/spillway-test-XXXXXX") {
  SPILLWAY_ASSERT(::mkdtemp(path_.data()) != nullptr);
}

TempDirectory::~TempDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

TopicConfig test_config(std::uint64_t ring_bytes, std::uint64_t segment_bytes, OnFull on_full) {
  TopicConfig config;
  config.name = "t";
  config.id = 0x1234'5678'9ABC'DEF1U;
  config.ring_bytes = ring_bytes;
  config.segment_bytes = segment_bytes;
  config.on_full = on_full;
  return config;
}

LogBuilder::LogBuilder(std::string directory, const TopicConfig& config, Offset begin)
    : directory_(std::move(directory)),
      config_(config),
      log_(LogIdentity::of(config, 0)),
      mix_(log_.salt),
      begin_(begin),
      end_(begin),
      ring_begin_(begin),
      claim_end_(begin),
      previous_end_(begin) {}

LogBuilder::Segment& LogBuilder::segment_at(Offset offset) {
  const Offset base = align_down(offset, log_.segment_bytes);
  Segment& segment = segments_[base];
  if (segment.bytes.empty()) {
    segment.birth = {base, previous_end_, previous_cause_, 7};
    segment.bytes.resize(log_.segment_bytes);
    segment.written.resize(log_.segment_bytes / kRangeBytes);
    previous_end_ = base + log_.segment_bytes;
    previous_cause_ = GapCause::none;
  }
  return segment;
}

void LogBuilder::put(RecordMeta meta, const std::string& payload, std::uint64_t bytes, bool begins_claim) {
  Segment& segment = segment_at(end_);
  const std::uint64_t at = end_ - segment.birth.base;
  const std::uint64_t header[2] = {mix_.word(end_), meta.pack()};
  std::memcpy(segment.bytes.data() + at, header, sizeof header);
  std::memcpy(segment.bytes.data() + at + sizeof header, payload.data(), payload.size());
  // A gap's body is never written, save for zeros where a range has other bytes too.
  const std::uint64_t last = meta.kind == RecordKind::gap ? at : at + bytes - 1;
  for (std::uint64_t range = at / kRangeBytes; range <= last / kRangeBytes; ++range) segment.written[range] = true;
  records_.push_back(
      {end_, end_ + bytes, payload, meta.kind == RecordKind::padding, meta.kind == RecordKind::gap, begins_claim});
  end_ += bytes;
  if ((meta.flags & flag::kMoreInBatch) == 0) claim_end_ = end_;
}

void LogBuilder::make_room(std::uint64_t claim_bytes) {
  const std::uint64_t room = log_.ring_bytes - end_ % log_.ring_bytes;
  SPILLWAY_ASSERT(claim_bytes <= log_.ring_bytes);
  if (claim_bytes > room) pad_to(end_ + room);
}

Offset LogBuilder::append(const std::string& payload) {
  const std::uint64_t bytes = record_bytes(payload.size());
  make_room(bytes);
  put({static_cast<std::uint32_t>(payload.size()), 0, RecordKind::data, 0}, payload, bytes, true);
  return records_.back().offset;
}

Offset LogBuilder::append_bytes(std::uint64_t bytes, char fill) { return append(std::string(bytes, fill)); }

std::vector<Offset> LogBuilder::append_batch(const std::vector<std::string>& payloads) {
  std::uint64_t total = 0;
  for (const std::string& payload : payloads) total += record_bytes(payload.size());
  make_room(total);
  std::vector<Offset> offsets;
  for (std::size_t i = 0; i < payloads.size(); ++i) {
    const std::uint8_t flags = i + 1 < payloads.size() ? flag::kMoreInBatch : std::uint8_t{0};
    put({static_cast<std::uint32_t>(payloads[i].size()), 0, RecordKind::data, flags}, payloads[i],
        record_bytes(payloads[i].size()), i == 0);
    offsets.push_back(records_.back().offset);
  }
  return offsets;
}

void LogBuilder::append_torn(const std::string& payload) {
  make_room(record_bytes(payload.size()));
  put({static_cast<std::uint32_t>(payload.size()), 0, RecordKind::data, flag::kMoreInBatch}, payload,
      record_bytes(payload.size()), true);
}

void LogBuilder::pad_to(Offset offset) {
  put({static_cast<std::uint32_t>((offset - end_) / kRecordAlign), 0, RecordKind::padding, 0}, "", offset - end_, true);
}

void LogBuilder::fill_to(Offset offset, std::size_t payload_bytes) {
  unsigned number = 0;
  while (end_ + 2 * record_bytes(payload_bytes) <= offset) {
    std::string payload = std::to_string(number++) + "@" + std::to_string(end_) + ":";
    payload.resize(payload_bytes, static_cast<char>('a' + number % 26));
    append(payload);
  }
  while (end_ < offset) pad_to(std::min(offset, align_down(end_, log_.ring_bytes) + log_.ring_bytes));
}

void LogBuilder::gap_to(Offset offset) {
  while (end_ < offset) {
    const Offset base = align_down(end_, log_.segment_bytes);
    const Offset segment_end = base + log_.segment_bytes;
    if (end_ == base && segment_end <= offset) {  // wholly inside: no file
      if (previous_cause_ == GapCause::none) previous_end_ = end_;
      previous_cause_ = GapCause::overwritten;
      records_.push_back({end_, segment_end, "", false, true, true});
      end_ = claim_end_ = segment_end;
      continue;
    }
    const Offset to = std::min(offset, segment_end);
    put({static_cast<std::uint32_t>((to - end_) / kRecordAlign), static_cast<std::uint16_t>(GapCause::overwritten),
         RecordKind::gap, 0},
        "", to - end_, true);
  }
}

std::optional<IndexEntry> LogBuilder::entry_of(const Segment& segment, Offset range_begin) const {
  const std::uint64_t at = range_begin - segment.birth.base;
  if (!segment.written[at / kRangeBytes] || end_ <= range_begin) return std::nullopt;
  IndexEntry entry{};
  entry.range_begin = range_begin;
  entry.bytes = static_cast<std::uint32_t>(std::min(end_ - range_begin, kRangeBytes));
  const Offset range_end = range_begin + entry.bytes;
  entry.crc = crc32c(std::span(segment.bytes).subspan(at, entry.bytes));
  entry.first_boundary = kNoBoundary;
  entry.boundary = claim_end_ <= range_end ? claim_end_ : 0;
  for (const Record& record : records_) {
    if (!record.padding && !record.gap && record.offset < range_end) ++entry.records;
    if (!record.begins_claim || record.offset > range_end) continue;
    entry.boundary = std::max(entry.boundary, record.offset);
    if (record.offset >= range_begin && record.offset < range_end) {
      entry.first_boundary = std::min(entry.first_boundary, record.offset);
    }
  }
  entry.commit_time_ns = 1;
  entry.durable_end = durable_end_;
  return sealed(entry, log_.salt);
}

void LogBuilder::flush(unsigned home) {
  for (auto& [base, segment] : segments_) {
    if (segment.sealed) continue;
    if (segment.made && store_ != nullptr && !file_exists(path_of(base))) {
      segment.sealed = true;
      continue;
    }
    SegmentFile file = segment.made ? SegmentFile::open(directory_, log_, base, Access::read_write, FileIo::buffered)
                       : store_ != nullptr
                           ? store_->make_segment(segment.birth)
                           : SegmentFile::create(directory_, log_, segment.birth, Sharing::owner, FileIo::buffered);
    segment.made = true;
    SPILLWAY_ASSERT(write_at(file.descriptor(), segment.bytes.data(), segment.bytes.size(), kSegmentHeaderBytes) == 0);
    for (std::uint64_t block = 0; block < index_blocks(log_.segment_bytes); ++block) {
      std::vector<std::byte> image(kBlock);
      for (std::uint64_t slot = 0; slot < kIndexEntriesPerBlock; ++slot) {
        const Offset range = base + (block * kIndexEntriesPerBlock + slot) * kRangeBytes;
        if (range >= base + log_.segment_bytes) break;
        const std::optional<IndexEntry> entry = entry_of(segment, range);
        if (entry) std::memcpy(image.data() + slot * sizeof *entry, &*entry, sizeof *entry);
      }
      SPILLWAY_ASSERT(write_at(file.descriptor(), image.data(), image.size(),
                               index_block_pos(log_.segment_bytes, block, home)) == 0);
    }
  }
}

void LogBuilder::next_ring(Offset end, Offset begin, GapCause cause) {
  std::erase_if(records_, [&](const Record& record) { return record.end > end; });
  for (auto& [base, segment] : segments_) segment.sealed = true;
  previous_end_ = end;
  previous_cause_ = cause;
  end_ = claim_end_ = ring_begin_ = begin;
}

void LogBuilder::write_horizon(Offset horizon, bool clean) {
  HorizonFile file = HorizonFile::open(horizon_path(directory_), log_.topic_id, log_.partition, Sharing::owner);
  HorizonFields fields;
  fields.incarnation = 7;
  fields.begin = ring_begin_;
  fields.horizon = horizon;
  fields.previous_end = ring_begin_ == begin_ ? begin_ : previous_end_;
  fields.previous_cause = previous_cause_;
  for (const auto& [base, segment] : segments_) {  // the ring's first segment knows, once there is one
    if (base != ring_begin_) continue;
    fields.previous_end = segment.birth.previous_end;
    fields.previous_cause = segment.birth.gap_cause;
  }
  fields.clean = clean;
  SPILLWAY_ASSERT(file.write(fields) == 0);
}

std::string LogBuilder::path_of(Offset offset) const {
  return directory_ + "/" + segment_name(align_down(offset, log_.segment_bytes));
}

std::uint64_t LogBuilder::file_pos(Offset offset) const {
  return log_pos(align_down(offset, log_.segment_bytes), offset);
}

Offset LogBuilder::boundary_from(Offset offset) const {
  for (const Record& record : records_) {
    if (record.begins_claim && record.offset >= offset) return record.offset;
  }
  return end_;
}

std::string to_string(const std::vector<Event>& events) {
  std::string text;
  for (const Event& event : events) {
    text += event.what == Event::What::record ? "record " : "gap ";
    text += std::to_string(event.from) + ".." + std::to_string(event.to);
    text += event.what == Event::What::record ? " " + event.payload.substr(0, 16)
                                              : " cause " + std::to_string(static_cast<int>(event.cause));
    text += "\n";
  }
  return text;
}

Drained drain(History& history, Offset from) {
  Drained result;
  for (;;) {
    result.last = history.read(from);
    const HistoryRead& read = result.last;
    if (read.status != HistoryStatus::data && read.status != HistoryStatus::gap) return result;
    SPILLWAY_ASSERT(read.begin == from && read.end > from);
    if (read.status == HistoryStatus::gap && read.cause != GapCause::none) {
      result.events.push_back({Event::What::gap, read.begin, read.end, "", read.cause});
    }
    if (read.status == HistoryStatus::data) {
      SPILLWAY_ASSERT(read.bytes.size() == read.end - read.begin);
      for (std::size_t at = 0; at < read.bytes.size();) {
        std::uint64_t header[2];
        std::memcpy(header, read.bytes.data() + at, sizeof header);
        const RecordMeta meta = RecordMeta::unpack(header[1]);
        const RecordShape shape = shape_of(meta, read.bytes.size() - at);
        SPILLWAY_ASSERT(shape.status == ShapeStatus::ok && meta.kind != RecordKind::gap);
        if (meta.kind == RecordKind::data) {
          result.events.push_back(
              {Event::What::record, from + at, from + at + shape.bytes,
               std::string(reinterpret_cast<const char*>(read.bytes.data()) + at + sizeof header, meta.length),
               GapCause::none});
        }
        at += shape.bytes;
      }
    }
    from = read.end;
  }
}

std::vector<Event> expected_records(const LogBuilder& log, Offset from, Offset to) {
  std::vector<Event> events;
  for (const LogBuilder::Record& record : log.records()) {
    if (record.padding || record.gap || record.offset < from || record.end > to) continue;
    events.push_back({Event::What::record, record.offset, record.end, record.payload, GapCause::none});
  }
  return events;
}

void flip_bit(const std::string& path, std::uint64_t file_pos, unsigned bit) {
  const FileDescriptor fd = open_file(path, O_RDWR);
  std::uint8_t byte = 0;
  SPILLWAY_ASSERT(read_at(fd.get(), &byte, 1, file_pos) == 0);
  byte = static_cast<std::uint8_t>(byte ^ (1U << bit));
  SPILLWAY_ASSERT(write_at(fd.get(), &byte, 1, file_pos) == 0);
}

void zero_fill(const std::string& path, std::uint64_t file_pos, std::uint64_t bytes) {
  const FileDescriptor fd = open_file(path, O_RDWR);
  const std::vector<char> zeros(bytes);
  SPILLWAY_ASSERT(write_at(fd.get(), zeros.data(), zeros.size(), file_pos) == 0);
}

void randomize(const std::string& path, std::uint64_t bytes, std::uint64_t seed) {
  const FileDescriptor fd = open_file(path, O_WRONLY | O_CREAT | O_TRUNC);
  std::mt19937_64 random(seed);
  std::vector<std::uint64_t> words(bytes / sizeof(std::uint64_t));
  for (std::uint64_t& word : words) word = random();
  SPILLWAY_ASSERT(write_at(fd.get(), words.data(), words.size() * sizeof(std::uint64_t), 0) == 0);
}

void truncate_to(const std::string& path, std::uint64_t bytes) {
  SPILLWAY_ASSERT(::truncate(path.c_str(), static_cast<off_t>(bytes)) == 0);
}

void copy_file(const std::string& from, const std::string& to) {
  std::filesystem::copy_file(from, to, std::filesystem::copy_options::overwrite_existing);
}

}  // namespace spillway_test
