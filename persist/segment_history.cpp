// ORDER. Every acquire here names the release that it reads, and what may then be relied on.
//   R1 the persister stores written_end     -> A1 limit, end     data and index before it are in their files
//   R2 the persister stores durable_end     -> A2 durable_end    and synced
//   R3 the persister stores retained_begin  -> A3 oldest         it is past a segment's content before that is
//      replaced: whoever reads other bytes than it should, and looks afterwards, sees it. The bytes themselves are
//      read by system calls between A1 and A3, which no compiler moves; the acquire fence before A3 keeps the
//      processor from doing it.
#include "spillway/persist/segment_history.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <utility>

#include "spillway/core/bytes.h"
#include "spillway/core/clock.h"
#include "spillway/core/error.h"

namespace spillway {
namespace {

constexpr unsigned kBackwardRangesMax = 64;
constexpr std::uint64_t kTailDoubtNs = 1'000'000'000;
constexpr std::uint64_t kTailDoubtLooks = 16;

HistoryRead gap(Offset from, Offset to, GapCause cause) noexcept {
  return {HistoryStatus::gap, from, to, cause, 0, {}};
}
HistoryRead data(Offset from, const SegmentReader::Piece& piece) noexcept {
  return {HistoryStatus::data, from, piece.end, GapCause::none, 0, piece.bytes};
}
HistoryRead nothing(Offset from, HistoryStatus status) noexcept { return {status, from, from, GapCause::none, 0, {}}; }
HistoryRead failed(Offset from, int error) noexcept {
  return {HistoryStatus::failed, from, from, GapCause::none, error, {}};
}

}  // namespace

SegmentHistory::SegmentHistory(const std::string& directory, const TopicConfig& config, std::uint32_t partition_number,
                               std::shared_ptr<const Partition> partition, FileIo io, IoKind io_kind, std::size_t slots)
    : directory_(directory),
      log_(LogIdentity::of(config, partition_number)),
      overwrite_(config.on_full == OnFull::overwrite),
      rewrites_(partition && config.on_full != OnFull::overwrite && config.sync != SyncPolicy::none),
      partition_(std::move(partition)),
      recovered_(partition_ ? RecoveredLog{} : recover(directory, log_, io)),
      row_(directory, log_),
      reader_(directory, log_, io, io_kind, slots) {}

SegmentHistory::SegmentHistory(const std::string& directory, const TopicConfig& config, std::uint32_t partition_number,
                               RecoveredLog recovered, FileIo io, IoKind io_kind, std::size_t slots)
    : directory_(directory),
      log_(LogIdentity::of(config, partition_number)),
      overwrite_(config.on_full == OnFull::overwrite),
      recovered_(std::move(recovered)),
      row_(directory, log_),
      reader_(directory, log_, io, io_kind, slots) {}

SegmentHistory::~SegmentHistory() = default;

Offset SegmentHistory::limit() noexcept {
  if (!partition_) return recovered_.end;
  const Offset written = partition_->control().persister.written_end.load(std::memory_order_acquire);  // A1
  return std::min(align_down(written, kRecordAlign), kOffsetEnd);  // another process wrote it
}

Offset SegmentHistory::oldest() noexcept {
  if (!partition_) return row_.bases().empty() ? recovered_.end : std::min(row_.bases().front(), recovered_.end);
  std::atomic_thread_fence(std::memory_order_acquire);
  const Offset begin = partition_->control().persister.retained_begin.load(std::memory_order_acquire);  // A3
  return std::min(align_down(begin, kRecordAlign), kOffsetEnd);
}

Offset SegmentHistory::begin() noexcept { return fork_mark_.forked() ? 0 : oldest(); }

Offset SegmentHistory::end() noexcept { return fork_mark_.forked() ? 0 : limit(); }

Offset SegmentHistory::final_end() noexcept { return rewrites_ ? durable_end() : end(); }

Offset SegmentHistory::durable_end() noexcept {
  if (fork_mark_.forked()) return 0;
  if (partition_) {
    const Offset durable = partition_->control().persister.durable_end.load(std::memory_order_acquire);  // A2
    return std::min(align_down(durable, kRecordAlign), limit());
  }
  // What is found behind the last known sync may be in a disk's cache only. Syncing a file changes nothing in it.
  if (!synced_) synced_ = sync_recovered(directory_, log_, recovered_) == 0;
  return synced_ ? recovered_.end : recovered_.synced_end;
}

HistoryRead SegmentHistory::read(Offset from) noexcept try {
  if (fork_mark_.forked()) return failed(from, EBADF);
  if (!is_aligned(from, kRecordAlign) || from >= kOffsetEnd) return failed(from, EINVAL);
  const Offset limit_now = limit();
  reader_.set_limit(limit_now);
  HistoryRead result = step(from, limit_now);
  // One gap is told once, in however many pieces it lies on disk.
  const Fault fault = last_fault_;
  while (result.status == HistoryStatus::gap && result.cause != GapCause::expired && result.end < limit_now) {
    const HistoryRead next = step(result.end, limit_now);
    if (next.status != HistoryStatus::gap || next.cause != result.cause) break;
    result.end = next.end;
  }
  last_fault_ = fault;
  return result;
} catch (const Error& error) {
  return failed(from, error.errno_value() != 0 ? error.errno_value() : EIO);
} catch (...) {
  return failed(from, ENOMEM);
}

HistoryRead SegmentHistory::step(Offset from, Offset limit_now) {
  if (from < oldest()) return before_first(from);
  if (from >= limit_now) {
    if (!partition_ && recovered_.error != 0) return failed(from, recovered_.error);  // it may go on there
    return nothing(from, partition_ ? HistoryStatus::nothing : HistoryStatus::end);
  }
  const SegmentRow::Place place = row_.place(from, limit_now);
  switch (place.what) {
    case SegmentRow::Place::What::gap: return gap(from, place.end, place.cause);
    case SegmentRow::Place::What::missing: return missing(from, place.end);
    case SegmentRow::Place::What::data: break;
  }
  return read_data(from, place.end, limit_now);
}

// Behind where the log before the first segment ended there never was anything to expire.
HistoryRead SegmentHistory::before_first(Offset from) {
  const Offset first = oldest();
  const SegmentRow::Place place = row_.place(from, first);
  const bool told = place.what == SegmentRow::Place::What::gap;
  return told ? gap(from, place.end, place.cause) : gap(from, first, GapCause::expired);
}

HistoryRead SegmentHistory::missing(Offset from, Offset to) {
  reader_.forget(align_down(from, log_.segment_bytes));
  row_.refresh();
  if (from < oldest()) return before_first(from);
  if (row_.has(align_down(from, log_.segment_bytes)) && reader_.segment(from) != nullptr) {
    return failed(from, EAGAIN);  // another file has its name now: ask again
  }
  // A gap record that reaches a segment's end goes on in segments that have no file.
  if (from != 0 && from == gap_reached_) return gap(from, to, GapCause::overwritten);
  if (const Offset end = overwritten_end(from, to); end != 0) return gap(from, end, GapCause::overwritten);
  if (const Offset end = noticed_end(from, to); end != 0) return gap(from, end, GapCause::overwritten);
  last_fault_ = {RangeFault::no_file, 0, from};
  return gap(from, to, GapCause::damaged);
}

HistoryRead SegmentHistory::read_data(Offset from, Offset to, Offset limit_now) {
  SegmentReader::Piece piece = reader_.piece(from, to);
  if (expired(from)) return missing(from, to);
  Offset durable = kOffsetEnd;
  if (piece.what == SegmentReader::Piece::What::bad && rewrites_) {
    durable = durable_end();
    if (from < durable) piece = look_again(from, to, durable, piece);
    // A sync was over meanwhile, after which the other of the index's homes is written: a look at both may have missed each.
    if (piece.what == SegmentReader::Piece::What::bad && durable_end() != durable) {
      return nothing(from, HistoryStatus::nothing);
    }
    if (expired(from)) return missing(from, to);
  }
  switch (piece.what) {
    case SegmentReader::Piece::What::records: return data(from, piece);
    case SegmentReader::Piece::What::padding: return gap(from, piece.end, GapCause::none);
    case SegmentReader::Piece::What::gap:
      gap_reached_ = piece.end;
      return gap(from, piece.end, piece.cause == GapCause::none ? GapCause::overwritten : piece.cause);
    case SegmentReader::Piece::What::bad: break;
  }
  return damage(from, piece, to, durable, limit_now);
}

// A successor of a dead holder writes anew what lies behind durable_end, while written_end stays where the dead one had it. A
// look at that may find it under way; by now it may be durable. What lies before durable_end is found by a look that begins
// after A2 read it: the bytes and an entry that covers them were synced, and neither is replaced by others.
SegmentReader::Piece SegmentHistory::look_again(Offset from, Offset to, Offset durable, SegmentReader::Piece piece) {
  Offset looked = kOffsetEnd;
  while (piece.what == SegmentReader::Piece::What::bad && piece.bad_range != looked) {
    looked = piece.bad_range;
    reader_.check(looked, std::min(durable, looked + kRangeBytes), true);
    piece = reader_.piece(from, to);
  }
  return piece;
}

HistoryRead SegmentHistory::damage(Offset from, const SegmentReader::Piece& piece, Offset to, Offset durable,
                                   Offset limit_now) {
  if (piece.fault == RangeFault::failed) return failed(from, piece.error);
  if (piece.fault == RangeFault::unsupported) return failed(from, EPROTONOSUPPORT);
  if (piece.fault == RangeFault::no_file) return missing(from, to);
  if (const Offset end = overwritten_end(from, to); end != 0) {
    if (expired(from)) return missing(from, to);
    gap_reached_ = end;
    return gap(from, end, GapCause::overwritten);
  }
  const Offset range_end = piece.bad_range + kRangeBytes;
  const bool filling = partition_ && !rewrites_ && piece.fault != RangeFault::record && limit_now < range_end;
  if (from >= durable || filling) {
    // What is written again, or the range that the persister is filling: its entry may be under way this very moment.
    // The ring holds it still. (Where the topic syncs, and look_again() has looked, the tail before durable_end is like the
    // rest of it.)
    const Offset wanted = std::min(limit_now, range_end);
    const CheckedRange& again = reader_.check(piece.bad_range, wanted, true);
    if (again.checked_end >= wanted) {
      const SegmentReader::Piece retried = reader_.piece(from, to);
      if (retried.what == SegmentReader::Piece::What::records && !expired(from)) return data(from, retried);
    }
    if (from >= durable || !settled_tail(from)) return nothing(from, HistoryStatus::nothing);
  }
  to = std::min(to, durable);
  Offset end = gap_end(range_end, to);
  const bool swallows_tail = partition_ && end == limit_now && !is_aligned(end, kRangeBytes);
  if (swallows_tail) {
    reader_.check(range_begin_of(limit_now), limit_now, true);
    end = gap_end(range_end, to);
  }
  if (expired(from)) return missing(from, to);
  if (swallows_tail && end == limit_now && !settled_tail(from)) {
    return nothing(from, HistoryStatus::nothing);
  }
  last_fault_ = {piece.fault, piece.error, piece.bad_range};
  return gap(from, end, GapCause::damaged);
}

// Where the gap record ends inside which `from` lies, `to` (its segment's, or the log's end) at the latest; 0: in none. So
// does a reader stand that was thrown out of the ring in the middle of what the persister never had.
Offset SegmentHistory::overwritten_end(Offset from, Offset to) {
  if (!overwrite_) return 0;
  const std::optional<Offset> base = row_.base_before(from);
  if (!base) return 0;
  const Offset segment_end = *base + log_.segment_bytes;
  const bool no_file = from >= segment_end;  // then the gap reaches up to it from the segment before
  const Offset walk_end = no_file ? segment_end : to;
  for (Offset at = boundary_in_segment(*base, std::min(from, segment_end - kRecordAlign)); at <= from;) {
    const SegmentReader::Piece piece = reader_.piece(at, walk_end);
    if (piece.what == SegmentReader::Piece::What::bad || piece.end <= at) return 0;
    const bool is_gap = piece.what == SegmentReader::Piece::What::gap;
    if (is_gap && no_file && piece.end == segment_end) return to;
    if (is_gap && piece.end > from) return piece.end;
    at = piece.end;
    if (at >= walk_end) return 0;
  }
  return 0;
}

// Where the gap ends that the persister gave notice of and that `from` lies in, `to` at the latest; 0: in none. Of segments
// wholly inside a gap nothing on disk tells before the segment behind it is made, and written_end may be past them by then.
Offset SegmentHistory::noticed_end(Offset from, Offset to) const noexcept {
  if (!overwrite_ || !partition_) return 0;
  for (const GapNotice& notice : partition_->control().gaps) {
    // acquire: `to` before `from`: a notice that is being replaced is then empty or the new one (N1 in ring_intake.cpp). It
    // stands before any watermark passes its beginning, and A1 has read one that did.
    const Offset end = align_down(notice.to.load(std::memory_order_acquire), kRecordAlign);
    const Offset begin = notice.from.load(std::memory_order_acquire);
    if (begin <= from && from < end) return std::min(end, to);
  }
  return 0;
}

// The first claim boundary at or after the range's begin from which something can be had, `to` (a boundary) at the
// latest.
Offset SegmentHistory::gap_end(Offset range_begin, Offset to) {
  for (; range_begin < to; range_begin += kRangeBytes) {
    const CheckedRange& range = reader_.check(range_begin, std::min(to, range_begin + kRangeBytes));
    if (range.checked_end > range_begin && range.entry.first_boundary < range.checked_end) {
      return std::min(range.entry.first_boundary, to);
    }
  }
  return to;
}

Offset SegmentHistory::boundary_after(Offset range_begin) {
  const Offset limit_now = limit();
  reader_.set_limit(limit_now);
  if (range_begin >= limit_now) return limit_now;
  const SegmentRow::Place place = row_.place(range_begin, limit_now);
  return place.what == SegmentRow::Place::What::data ? gap_end(range_begin, place.end) : range_begin;
}

// A gap that would swallow the range that the persister is filling is told only after that was unreadable at each of many
// looks in a second: its entry may be under way.
bool SegmentHistory::settled_tail(Offset from) noexcept {
  const std::uint64_t now_ns = monotonic_ns();
  if (doubt_.from != from) doubt_ = {from, 0, now_ns};
  return ++doubt_.looks >= kTailDoubtLooks && now_ns - doubt_.since_ns >= kTailDoubtNs;
}

// Whether the segment that holds `from` may have been taken away while it was read.
bool SegmentHistory::expired(Offset from) {
  if (partition_) return from < oldest();  // A3
  const SegmentFile* const file = reader_.segment(from);
  return file != nullptr && !file->still_named();
}

Offset SegmentHistory::boundary_before(Offset offset) noexcept try {
  if (fork_mark_.forked()) return 0;
  const Offset limit_now = limit();
  reader_.set_limit(limit_now);
  const Offset first = oldest();
  if (offset <= first) return first;
  if (offset >= limit_now) return std::max(first, limit_now);
  SegmentRow::Place place = row_.place(offset, limit_now);  // lists again where it has to
  const std::optional<Offset> base = row_.base_before(offset);
  if (!base || *base < first) return first;
  place = row_.place(*base, limit_now);
  // Behind the segment's part of the log lies a gap or nothing, and that begins there.
  if (place.what != SegmentRow::Place::What::data) return *base;
  if (offset >= place.end) return place.end;
  return boundary_in_segment(*base, offset);
} catch (...) {
  return begin();
}

Offset SegmentHistory::boundary_in_segment(Offset base, Offset offset) {
  const Offset own = range_begin_of(offset);
  const CheckedRange& range = reader_.check(own, std::min(offset + kRecordHeaderBytes, own + kRangeBytes));
  if (range.checked_end > own && range.entry.first_boundary <= offset) return range.entry.first_boundary;
  Offset before = own;
  for (unsigned i = 0; before > base && i < kBackwardRangesMax; ++i) {
    before -= kRangeBytes;
    const CheckedRange& earlier = reader_.check(before, before + kRangeBytes);
    if (earlier.checked_end > before) return std::clamp(earlier.entry.boundary, base, offset);
  }
  // Nothing to go by nearby. Every lap of the ring begins with a claim, but a gap record may have swallowed that.
  return overwrite_ ? base : std::max(base, align_down(offset, log_.ring_bytes));
}

std::optional<SegmentHistory::Fault> SegmentHistory::check_padding(Offset from, Offset to, Offset read_end) {
  read_end = std::min(read_end, final_end());
  // Of a range that goes on behind the padding all is checked with what follows; unless nothing does (a lost ring's end), or
  // nobody reads it.
  const bool goes_on = to < read_end && row_.place(to, read_end).what == SegmentRow::Place::What::data;
  for (Offset range = align_up(from, kRangeBytes); range < std::min(to, read_end); range += kRangeBytes) {
    if (range + kRangeBytes > to && goes_on) break;
    int error = 0;
    const Candidates known = reader_.entries(range, error);
    if (error != 0) return Fault{RangeFault::failed, error, range};
    if (known.count == 0) continue;
    // As much as the entry that covers more says, or the log's end: an older entry that holds would hide the rest.
    const Offset wanted = std::min({to, read_end, range + known.entries[0].bytes});
    CheckedRange checked = reader_.check(range, wanted);
    if (checked.checked_end < wanted) checked = reader_.check(range, wanted, true);
    if (checked.checked_end >= wanted || checked.fault == RangeFault::no_file) continue;
    if (expired(range)) return std::nullopt;  // other bytes may be in its file by now
    return Fault{checked.fault, checked.error, range};
  }
  return std::nullopt;
}

}  // namespace spillway
