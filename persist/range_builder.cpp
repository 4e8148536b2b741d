#include "spillway/persist/range_builder.h"

#include <algorithm>
#include <cstring>

#include "spillway/core/checksum.h"
#include "spillway/core/error.h"

namespace spillway {
namespace {

struct HeaderCopy {
  std::uint64_t commit;
  std::uint64_t meta;
};

constexpr std::array<std::byte, kBlock> kZeros{};

}  // namespace

void RangeBuilder::start(const Start& start) noexcept {
  const std::uint64_t block_bytes = start.at % kBlock;
  SPILLWAY_ASSERT(start.before.size() == start.at - range_begin_of(start.at));
  now_ = {start.at, crc32c(start.before), start.first_boundary, start.records};
  if (start.damaged) now_.crc = ~now_.crc;
  if (block_bytes > 0) {
    std::memcpy(block_.data(), start.before.data() + start.before.size() - block_bytes, block_bytes);
    recent_ = block_;
  }
  safe_ = now_;
  next_record_ = start.at;
  in_batch_ = false;
  whole_.clear();
}

ShapeStatus RangeBuilder::take(std::span<const std::byte> bytes) noexcept {
  const Offset begin = now_.end;
  const Offset end = begin + bytes.size();
  // Headers first, so that nothing is taken of what is not right.
  Offset at = next_record_, boundary = safe_.end, first_boundary = now_.first_boundary;
  std::uint64_t records = now_.records, records_at_boundary = safe_.records;
  Offset first_at_boundary = safe_.first_boundary;
  bool in_batch = in_batch_;
  const auto note_boundary = [&] {
    if (in_batch || at > end) return;
    boundary = at;
    records_at_boundary = records;
    first_at_boundary = first_boundary;
  };
  note_boundary();  // of a claim whose last header came earlier
  while (at < end) {
    HeaderCopy header;  // records begin at multiples of 16, and so do pieces: a header is never split
    std::memcpy(&header, bytes.data() + (at - begin), sizeof header);
    const RecordMeta meta = RecordMeta::unpack(header.meta);
    if (header.commit != mix_.word(at)) return ShapeStatus::corrupt;
    const RecordShape shape = shape_of(meta, ring_bytes_ - (at & (ring_bytes_ - 1)));
    if (shape.status != ShapeStatus::ok) return shape.status;
    if (!in_batch && first_boundary == kNoBoundary) first_boundary = at;
    if (meta.kind == RecordKind::data) ++records;
    in_batch = (meta.flags & flag::kMoreInBatch) != 0;
    at += shape.bytes;
    note_boundary();
  }
  if (boundary > begin) {
    const auto head = bytes.first(boundary - begin);
    now_.crc = crc32c(head, now_.crc);
    safe_ = {boundary, now_.crc, first_at_boundary, records_at_boundary};
    const Offset block_begin = align_down(boundary, kBlock);
    const std::size_t before = block_begin >= begin ? 0 : begin - block_begin;  // of the block, taken earlier
    std::memcpy(block_.data(), recent_.data(), before);
    std::memcpy(block_.data() + before, head.data() + (block_begin + before - begin), boundary - block_begin - before);
    now_.crc = crc32c(bytes.subspan(boundary - begin), now_.crc);
  } else {
    now_.crc = crc32c(bytes, now_.crc);
  }
  next_record_ = at;
  in_batch_ = in_batch;
  now_.first_boundary = first_boundary;
  now_.records = records;
  advance(bytes);
  return ShapeStatus::ok;
}

void RangeBuilder::advance(std::span<const std::byte> bytes) noexcept {
  const Offset begin = now_.end;
  const Offset range_end = range_begin_of(begin) + kRangeBytes;
  now_.end += bytes.size();
  const Offset block_begin = align_down(now_.end, kBlock);
  const Offset from = std::max(begin, block_begin);
  std::memcpy(recent_.data() + (from - block_begin), bytes.data() + (from - begin), now_.end - from);
  if (now_.end == next_record_ && !in_batch_) safe_ = now_;
  if (now_.end < range_end) return;
  SPILLWAY_ASSERT(now_.end == range_end);
  whole_.push_back(entry_of(range_end - kRangeBytes, kRangeBytes, now_));
  now_.crc = 0;
  now_.first_boundary = kNoBoundary;
  if (safe_.end == now_.end) safe_ = now_;
}

IndexEntry RangeBuilder::entry_of(Offset range_begin, std::uint64_t bytes, const State& state) const noexcept {
  IndexEntry entry{};
  entry.range_begin = range_begin;
  entry.bytes = static_cast<std::uint32_t>(bytes);
  entry.crc = state.crc;
  entry.boundary = safe_.end;
  entry.first_boundary = state.first_boundary;
  entry.records = state.records;
  return entry;
}

void RangeBuilder::gap(Offset to, GapCause cause, std::span<std::byte, kRecordHeaderBytes> header) noexcept {
  SPILLWAY_ASSERT(now_.end == safe_.end && to > now_.end);
  const RecordMeta meta{static_cast<std::uint32_t>((to - now_.end) / kRecordAlign), static_cast<std::uint16_t>(cause),
                        RecordKind::gap, 0};
  const HeaderCopy copy{mix_.word(now_.end), meta.pack()};
  std::memcpy(header.data(), &copy, sizeof copy);
  if (now_.first_boundary == kNoBoundary) now_.first_boundary = now_.end;
  now_.crc = crc32c(header, now_.crc);
  next_record_ = to;
  advance(header);
  reach_boundary();
}

void RangeBuilder::zeros(std::uint64_t bytes) noexcept {
  while (bytes > 0) {
    const std::uint64_t piece = std::min<std::uint64_t>(bytes, kZeros.size());
    now_.crc = crc32c(std::span(kZeros).first(piece), now_.crc);
    advance(std::span(kZeros).first(piece));
    bytes -= piece;
  }
  reach_boundary();
}

// The gap's end is a claim boundary.
void RangeBuilder::reach_boundary() noexcept {
  if (now_.end != next_record_) return;
  safe_ = now_;
  block_ = recent_;
}

void RangeBuilder::skip(Offset range_begin) noexcept {
  SPILLWAY_ASSERT(is_aligned(now_.end, kRangeBytes) && is_aligned(range_begin, kRangeBytes) && range_begin >= now_.end);
  now_.end = range_begin;
  reach_boundary();
}

void RangeBuilder::rewind() noexcept {
  while (!whole_.empty() && whole_.back().range_begin + kRangeBytes > safe_.end) whole_.pop_back();
  now_ = safe_;
  recent_ = block_;
  next_record_ = safe_.end;
  in_batch_ = false;
}

std::optional<IndexEntry> RangeBuilder::pop() noexcept {
  if (whole_.empty() || whole_.front().range_begin + kRangeBytes > safe_.end) return std::nullopt;
  const IndexEntry entry = whole_.front();
  whole_.pop_front();
  return entry;
}

std::optional<IndexEntry> RangeBuilder::partial() const noexcept {
  const std::uint64_t bytes = safe_.end - range_begin_of(safe_.end);
  if (bytes == 0) return std::nullopt;
  return entry_of(range_begin_of(safe_.end), bytes, safe_);
}

}  // namespace spillway
