// ORDER.
//   N1 gap notice -> the waiter in persister_wait.cpp: a notice stands before any watermark passes the gap's beginning
//   Reading the ring itself is ring_walk.h's (W1, W2); bytes that were copied are believed after still_in_ring().
#include "spillway/persist/ring_intake.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "spillway/core/error.h"

namespace spillway {
namespace {

constexpr std::uint64_t kWalkAheadBytes =
    512 * kKiB;  // so little that what was walked over is still in the cache when taken
constexpr std::uint64_t kMuchBytes = 256 * kKiB;     // a backlog worth taking although nobody asks
constexpr std::uint64_t kBeingWritten = 128 * kKiB;  // so close to reserved_end lines are left to the producers
// Two mebibytes under way: enough to keep a disk busy, and little enough that an index block and a sync, which queue up
// behind them, come back while the ring still has room (measured: ARCHITECTURE.md, Decisions).
constexpr std::size_t kPiecesMax = 8;
constexpr std::uint64_t kQuietBytes = 512 * kKiB;  // with more than this under way a partly filled range can wait

}  // namespace

RingIntake::RingIntake(Partition& partition, WriterRow& row, IoBuffers& buffers, IoOwner& owner)
    : partition_(partition),
      row_(row),
      buffers_(buffers),
      owner_(owner),
      builder_(partition.mix(), partition.capacity()),
      piece_bytes_(std::clamp<std::uint64_t>(partition.capacity() / 8, kRangeBytes, IoBuffers::kLargeBytes)) {}

void RingIntake::clear() noexcept {
  for (Piece& piece : pieces_) {
    SPILLWAY_ASSERT(!piece.operation.under_way);
    if (piece.buffer != nullptr) buffers_.give_back_large(piece.buffer);
  }
  pieces_.clear();
  marks_.clear();
  handed_ = 0;
  gap_end_ = 0;
  more_ = false;
  ring_broken_ = false;
}

void RingIntake::start(const RangeBuilder::Start& start) {
  clear();
  builder_.start(start);
  known_end_ = indexed_end_ = data_end_ = handed_end_ = start.at;
}

RingIntake::Look RingIntake::look() noexcept {
  if (ring_broken_) return Look::corrupt;
  const Offset before = known_end_;
  const Offset limit = taken_end() + kWalkAheadBytes;
  if (known_end_ >= limit) return Look::enough;
  fetch(limit);
  Walk walk = walk_committed(partition_, known_end_, limit);
  // One claim may be larger than what is walked ahead.
  if (walk.status == WalkStatus::boundary && walk.end == known_end_) {
    walk = walk_committed(partition_, known_end_, known_end_ + partition_.claim_bytes_max());
  }
  known_end_ = walk.end;
  switch (walk.status) {
    case WalkStatus::boundary: break;
    case WalkStatus::lapped: lapped(); return ring_broken_ ? Look::corrupt : Look::found;
    case WalkStatus::corrupt:
    case WalkStatus::unsupported: return known_end_ > before ? Look::found : Look::corrupt;
  }
  return known_end_ > before ? Look::found : Look::nothing_new;
}

// Asks for all lines of what is walked over next, so that they come side by side from the core that wrote them: walking asks
// for one header after the other, and the copy finds them in the cache, too.
void RingIntake::fetch(Offset limit) const noexcept {
  // relaxed: only a guess of what is worth it.
  const Offset reserved = partition_.control().claims.reserved_end.load(std::memory_order_relaxed);
  const Offset end = std::min(limit, reserved - std::min(reserved, kBeingWritten));
  for (Offset at = align_down(known_end_, kCacheLine); at < end; at += kCacheLine) prefetch(partition_.at(at));
}

int RingIntake::take(Offset urgent_end) noexcept try {
  more_ = false;
  if (ring_broken_) return EBADMSG;
  if (gap_end_ != 0) {
    const int error = take_gap();
    if (error != 0 || gap_end_ != 0) return error;
  }
  const Offset at = taken_end();
  if (known_end_ <= at || pieces_.size() >= kPiecesMax) return 0;
  const bool urgent = urgent_end > at;
  const bool much = known_end_ - at >= std::min<std::uint64_t>(kMuchBytes, partition_.capacity() / 4);
  const Offset whole = align_down(known_end_, kRangeBytes);
  Offset cut = 0;
  if (urgent && !partial_under_way() && quiet()) {
    cut = known_end_;
  } else if (whole > at && (much || (urgent && !partial_under_way()))) {
    cut = whole;
  } else {
    return 0;
  }
  const std::size_t before = pieces_.size();
  const int error = take_piece(cut);
  more_ = error == 0 && (gap_end_ != 0 || (pieces_.size() > before && taken_end() < cut));
  return error;
} catch (...) {
  return ENOMEM;
}

// One piece from taken_end() on, at most to `cut`. None is made when there is no buffer, or no segment yet.
int RingIntake::take_piece(Offset cut) noexcept try {
  int error = 0;
  const Offset from = taken_end();
  Piece& piece = pieces_.emplace_back();  // first: with no memory for it nothing was taken
  if (!begin_piece(from, error, piece)) {
    pieces_.pop_back();
    return error;
  }
  const Offset to = std::min({cut, align_down(piece.begin, kRangeBytes) + piece_bytes_, piece.writer->end()});
  if (!fill(piece, to, error) && error == 0) lapped();  // whole claims that were copied in time are kept
  if (error != 0 || piece.end <= from) {
    buffers_.give_back_large(piece.buffer);
    pieces_.pop_back();
    return error;
  }
  finish_piece(piece);
  collect();
  return 0;
} catch (...) {
  return ENOMEM;
}

// A piece that begins with the block that holds `at`, filled up to `at`.
bool RingIntake::begin_piece(Offset at, int& error, Piece& piece) noexcept {
  piece.writer = row_.open(at, error);
  if (piece.writer == nullptr) return false;
  piece.buffer = buffers_.take_large();
  if (piece.buffer == nullptr) return false;
  piece.begin = align_down(at, kBlock);
  piece.end = at;
  const auto block = builder_.block();
  SPILLWAY_ASSERT(at == piece.begin || block.size() == at - piece.begin);
  if (at != piece.begin) std::memcpy(piece.buffer, block.data(), block.size());
  piece.operation = {&owner_, IoPurpose::log_bytes, false};
  return true;
}

// Copies from the ring, a range or less at a time and by way of memory that stays in the cache: CRC and check find the
// bytes there, and the buffer's lines, which the device has read since, need not be fetched. False: the ring was lapped (what was taken before is good), or the bytes can't be right (`error`).
bool RingIntake::fill(Piece& piece, Offset to, int& error) noexcept {
  for (Offset at = taken_end(); at < to; at = taken_end()) {
    const auto copy = buffers_.stage().first(std::min(to, range_begin_of(at) + kRangeBytes) - at);
    copy_from_ring(copy.data(), partition_.at(at), copy.size());
    if (!still_in_ring(partition_, at)) return false;
    if (builder_.take(copy) != ShapeStatus::ok) {
      error = EBADMSG;
      ring_broken_ = true;
      return false;
    }
    copy_streaming(piece.buffer + (at - piece.begin), copy.data(), copy.size());
    piece.end = taken_end();
  }
  return true;
}

void RingIntake::finish_piece(Piece& piece) noexcept {
  piece.padded_end = align_up(piece.end, kBlock);
  std::memset(piece.buffer + (piece.end - piece.begin), 0, piece.padded_end - piece.end);
}

bool RingIntake::partial_under_way() const noexcept {
  return !pieces_.empty() && !pieces_.back().done && pieces_.back().end != pieces_.back().padded_end;
}

// The ring has passed known_end() or what was being copied: records resume at the oldest boundary that has some room
// before it is lapped, too.
void RingIntake::lapped() noexcept {
  const Offset resume = oldest_boundary(partition_, partition_.capacity() / 4);
  const Offset from = gap_end_ != 0 ? gap_end_ : boundary();
  if (partition_.config().on_full != OnFull::overwrite || resume <= from || !is_aligned(resume, kRecordAlign)) {
    // What is not reclaimed was overwritten, or the boundaries can't be right: somebody wrote what they may not.
    ring_broken_ = partition_.config().on_full != OnFull::overwrite || !still_in_ring(partition_, from);
    rewind();
    known_end_ = std::max(boundary(), gap_end_);
    return;
  }
  rewind();
  give_notice(boundary(), resume);
  gap_end_ = resume;
  known_end_ = resume;
}

// Back to the last claim boundary: of a claim that was overwritten half-way nothing counts.
void RingIntake::rewind() noexcept {
  builder_.rewind();
  for (Piece& piece : pieces_) piece.end = std::min(piece.end, boundary());
  data_end_ = std::min(data_end_, boundary());
}

// N1. Readers take `to`, then `from`, then the count: see persister_wait.cpp.
void RingIntake::give_notice(Offset from, Offset to) noexcept {
  PersisterArea& area = partition_.control().persister;
  // relaxed: only the holder of the role writes it.
  const std::uint64_t count = area.gap_count.load(std::memory_order_relaxed);
  const std::uint64_t index = gap_end_ != 0 && count > 0 ? count - 1 : count;  // the last one grows, or a new one
  GapNotice& notice = partition_.control().gaps[index % kGapNotices];
  if (index == count) {
    notice.to.store(0, std::memory_order_release);
    notice.from.store(from, std::memory_order_release);
  }
  notice.to.store(to, std::memory_order_release);
  area.gap_count.store(index + 1, std::memory_order_release);
}

// Writes gap records from taken_end() to gap_end_: one per segment that holds records before or after. Stops
// (gap_end_ is not 0 then) when there is no buffer or segment.
int RingIntake::take_gap() noexcept try {
  while (taken_end() < gap_end_) {
    const Offset from = taken_end();
    const Offset end = row_.segment_end(from);
    // A segment wholly inside has no file; one that an earlier holder of the role made gets a gap record all the
    // same, and so does a ring's first, whose header says how the log before it ended.
    const bool inside = from == row_.segment_base(from) && gap_end_ >= end;
    if (inside && from != partition_.begin() && !row_.exists(from)) {
      builder_.start({end, {}, kNoBoundary, builder_.records(), false});
      marks_.push_back({{}, std::min(from, indexed_end_), end, true});
      continue;
    }
    const std::size_t before = pieces_.size();
    const int error = take_gap_record(std::min(gap_end_, end));
    if (error != 0 || pieces_.size() == before) return error;
    collect();
  }
  gap_end_ = 0;
  return 0;
} catch (...) {
  return ENOMEM;
}

// One gap record, within one segment: a piece with its header and the zeros behind it in its range; where records
// resume in a later range, a piece with the zeros at that one's beginning.
int RingIntake::take_gap_record(Offset to) noexcept try {
  int error = 0;
  const Offset from = taken_end();
  const Offset head_end = std::min(to, range_begin_of(from) + kRangeBytes);
  const Offset tail_begin = range_begin_of(to);
  const bool has_tail = tail_begin >= head_end && to > tail_begin;
  const std::size_t before = pieces_.size();
  pieces_.resize(before + (has_tail ? 2 : 1));  // first, as in take_piece()
  Piece& head = pieces_[before];
  Piece& tail = pieces_.back();
  const bool begun = begin_piece(from, error, head);
  if (begun && has_tail) tail.buffer = buffers_.take_large();
  if (!begun || (has_tail && tail.buffer == nullptr)) {
    if (begun) buffers_.give_back_large(head.buffer);
    pieces_.resize(before);
    return error;
  }
  std::byte* const header = head.buffer + (from - head.begin);
  builder_.gap(to, GapCause::overwritten, std::span<std::byte, kRecordHeaderBytes>(header, kRecordHeaderBytes));
  std::memset(header + kRecordHeaderBytes, 0, head_end - from - kRecordHeaderBytes);
  builder_.zeros(head_end - from - kRecordHeaderBytes);
  head.end = head_end;
  finish_piece(head);
  if (to > head_end) builder_.skip(tail_begin);
  if (has_tail) {
    tail.operation = {&owner_, IoPurpose::log_bytes, false};
    tail.writer = head.writer;
    tail.begin = tail_begin;
    tail.end = to;
    std::memset(tail.buffer, 0, to - tail_begin);
    builder_.zeros(to - tail_begin);
    finish_piece(tail);
  }
  return 0;
} catch (...) {
  return ENOMEM;
}

// Marks for the ranges that are full and may be indexed, and for the part of the last one up to the claim boundary.
void RingIntake::collect() {
  const auto push = [&](const IndexEntry& entry) {
    const Offset end = entry.range_begin + entry.bytes;
    marks_.push_back({entry, end, entry.boundary, entry.boundary == end});
    marks_.back().entry.commit_time_ns = partition_.clock().now_ns();
    if (entry.boundary == end) indexed_end_ = end;
  };
  while (const auto entry = builder_.pop()) push(*entry);
  if (boundary() <= indexed_end_) return;
  if (const auto entry = builder_.partial()) push(*entry);
}

void RingIntake::hand_on(bool ahead, Offset durable_end) noexcept try {
  std::size_t count = handed_;
  for (std::size_t i = handed_; i < marks_.size() && (ahead || marks_[i].end <= data_end_); ++i) {
    if (marks_[i].closes) count = i + 1;
  }
  for (; handed_ < count; ++handed_) {
    IndexEntry& entry = marks_[handed_].entry;
    if (entry.bytes == 0) continue;
    entry.durable_end = durable_end;
    SegmentWriter* const writer = row_.find(entry.range_begin);
    SPILLWAY_ASSERT(writer != nullptr);
    writer->update(entry);
    handed_end_ = marks_[handed_].end;
  }
} catch (...) {
  // No memory for a block of index: tried again in the next step.
}

bool RingIntake::may_submit(const Piece& piece) const noexcept {
  for (const Piece& earlier : pieces_) {
    if (&earlier == &piece) return true;
    if (!earlier.done && earlier.padded_end > piece.begin && earlier.begin < piece.padded_end) return false;
  }
  return true;
}

std::uint64_t RingIntake::bytes_under_way() const noexcept {
  std::uint64_t bytes = 0;
  for (const Piece& piece : pieces_) bytes += piece.done ? 0 : piece.padded_end - piece.begin;
  return bytes;
}

bool RingIntake::quiet() const noexcept { return bytes_under_way() < kQuietBytes; }

void RingIntake::retire() noexcept {
  while (!pieces_.empty() && pieces_.front().done) {
    data_end_ = pieces_.front().end;
    pieces_.pop_front();
  }
}

bool RingIntake::pop_mark(Offset end, Mark& mark) noexcept {
  std::size_t count = 0;
  for (std::size_t i = 0; i < handed_ && marks_[i].end <= end; ++i) {
    if (!marks_[i].closes) continue;
    mark = marks_[i];
    count = i + 1;
  }
  marks_.erase(marks_.begin(), marks_.begin() + static_cast<std::ptrdiff_t>(count));
  handed_ -= count;
  return count > 0;
}

}  // namespace spillway
