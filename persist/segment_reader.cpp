#include "spillway/persist/segment_reader.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "spillway/core/checksum.h"
#include "spillway/core/error.h"

namespace spillway {

std::string_view describe(RangeFault fault) noexcept {
  switch (fault) {
    case RangeFault::none: return "no fault";
    case RangeFault::no_file: return "the segment file is missing";
    case RangeFault::no_entry: return "no valid index entry covers it";
    case RangeFault::truncated: return "the segment file is truncated";
    case RangeFault::mismatch: return "its CRC does not match the index";
    case RangeFault::record: return "no record begins where one must";
    case RangeFault::unsupported: return "it is of a newer version";
    case RangeFault::failed: return "it can't be read";
  }
  return "unknown";
}

SegmentReader::SegmentReader(std::string directory, const LogIdentity& log, FileIo io, IoKind io_kind,
                             std::size_t slots)
    : directory_(std::move(directory)),
      log_(log),
      mix_(log.salt),
      io_(io),
      chunk_bytes_(std::min<std::uint64_t>(kChunkBytesMax, log.segment_bytes)),
      slots_(slots),
      window_(Mapping::anonymous(slots * chunk_bytes_ + 2 * kIndexBlocksHeld * kBlock)),
      queue_(make_io_queue(io_kind, slots)) {}

SegmentReader::~SegmentReader() {
  // A read that never ends may still write into the window.
  if (!queue_->wait_all(Deadline::after_ns(1'000'000'000))) window_.leak();
}

std::byte* SegmentReader::home_memory(unsigned home) const noexcept {
  return window_.data() + slots_.size() * chunk_bytes_ + home * kIndexBlocksHeld * kBlock;
}

std::shared_ptr<SegmentFile> SegmentReader::open_segment(Offset base, int& error) {
  error = 0;
  const auto found = std::find_if(files_.begin(), files_.end(), [&](const auto& file) { return file->base() == base; });
  if (found != files_.end() && (*found)->header_error() == 0) {
    std::rotate(files_.begin(), found, found + 1);
    return files_.front();
  }
  if (found != files_.end()) files_.erase(found);  // its header could not be read: that may have been for once
  SegmentFile file = SegmentFile::try_open(directory_, log_, base, io_);
  if (!file) {
    if (errno != ENOENT && errno != ELOOP) error = errno;  // a link is followed nowhere: as good as missing
    return nullptr;
  }
  if (files_.size() >= slots_.size() + 2) files_.pop_back();
  files_.insert(files_.begin(), std::make_shared<SegmentFile>(std::move(file)));
  return files_.front();
}

const SegmentFile* SegmentReader::segment(Offset offset) {
  int error;
  return open_segment(align_down(offset, log_.segment_bytes), error).get();
}

void SegmentReader::forget(Offset base) noexcept {
  for (Slot& slot : slots_) {
    if (slot.chunk == kNoChunk || align_down(slot.chunk * chunk_bytes_, log_.segment_bytes) != base) continue;
    wait_for(slot);
    slot.chunk = kNoChunk;
    slot.state = SlotState::empty;
    slot.file.reset();
  }
  if (index_.file && index_.file->base() == base) index_ = {};
  std::erase_if(files_, [&](const auto& file) { return file->base() == base; });
}

std::size_t SegmentReader::bytes_wanted(std::uint64_t chunk) const noexcept {
  const Offset begin = chunk * chunk_bytes_;
  if (limit_ <= begin) return 0;
  return static_cast<std::size_t>(align_up(std::min(limit_ - begin, chunk_bytes_), kRangeBytes));
}

// False: the chunk can't be read ahead now. The slot is not in use.
bool SegmentReader::start_read(std::uint64_t chunk) {
  const std::size_t wanted = bytes_wanted(chunk);
  if (wanted == 0) return false;
  const Offset begin = chunk * chunk_bytes_;
  int error;
  std::shared_ptr<SegmentFile> file = open_segment(align_down(begin, log_.segment_bytes), error);
  if (!file) return false;
  Slot& slot = slots_[slot_of(chunk)];
  slot.chunk = chunk;
  slot.file = std::move(file);
  slot.limit = limit_;
  slot.wanted = wanted;
  slot.had.fill(0);
  slot.errors.fill(0);
  slot.checked_under.fill(0);
  slot.state = SlotState::reading;
  if (!queue_->submit_read(slot.file->descriptor(), slot_memory(slot_of(chunk)), wanted,
                           log_pos(slot.file->base(), begin), slot_of(chunk))) {
    slot.state = SlotState::ready;
    read_now(slot, 0, wanted);
  }
  return true;
}

void SegmentReader::wait_for(Slot& slot) {
  while (slot.state == SlotState::reading) {
    if (queue_->in_flight() == 0) {  // a forked child: the parent's queue is not ours
      finish_read(slot, EBADF);
      return;
    }
    queue_->poll(1, Deadline::never(),
                 [&](const IoQueue::Completion& done) { finish_read(slots_[done.tag % slots_.size()], done.error); });
  }
}

void SegmentReader::finish_read(Slot& slot, int error) noexcept {
  slot.state = SlotState::ready;
  // The queue can't tell a file's end from a broken disk, nor go on without O_DIRECT.
  if (error != 0) return read_now(slot, 0, slot.wanted);
  for (std::size_t place = 0; place * kRangeBytes < slot.wanted; ++place) slot.had[place] = kRangeBytes;
}

FileRead SegmentReader::read_part(Slot& slot, std::size_t from, std::size_t to) noexcept {
  std::byte* const memory = slot_memory(slot_of(slot.chunk)) + from;
  const std::uint64_t position = log_pos(slot.file->base(), slot.chunk * chunk_bytes_ + from);
  FileRead read = read_some(slot.file->descriptor(), memory, to - from, position);
  if (read.error == EINVAL && slot.file->direct() && slot.file->give_up_direct()) {
    read = read_some(slot.file->descriptor(), memory, to - from, position);
  }
  return read;
}

// Reads bytes [from, to) of the slot's chunk, `from` a multiple of kBlock and `to` of kRangeBytes; what is before and behind
// stays. Range by range where it can't be had in one.
void SegmentReader::read_now(Slot& slot, std::size_t from, std::size_t to) noexcept {
  FileRead read = read_part(slot, from, to);
  for (std::size_t at = from; at < to;) {
    const std::size_t place = at / kRangeBytes, end = (place + 1) * kRangeBytes;
    if (read.error != 0) {
      const FileRead alone = read_part(slot, at, end);
      slot.had[place] = at % kRangeBytes + alone.bytes;
      slot.errors[place] = alone.error;
    } else {
      slot.had[place] = std::min(end, std::max(at, from + read.bytes)) - place * kRangeBytes;
      slot.errors[place] = 0;
    }
    slot.checked_under[place] = 0;
    at = end;
  }
}

SegmentReader::Slot& SegmentReader::load(std::uint64_t chunk) {
  Slot& slot = slots_[slot_of(chunk)];
  wait_for(slot);
  if (slot.chunk != chunk) {
    slot.chunk = kNoChunk;
    slot.state = SlotState::empty;
    start_read(chunk);
  }
  read_ahead(chunk);
  wait_for(slot);
  return slot;
}

void SegmentReader::read_ahead(std::uint64_t chunk) {
  for (std::uint64_t next = chunk + 1; next < chunk + slots_.size(); ++next) {
    Slot& slot = slots_[slot_of(next)];
    if (slot.chunk == next) continue;
    if (slot.state == SlotState::reading || (pinned_ != kNoChunk && slot_of(pinned_) == slot_of(next))) return;
    slot.chunk = kNoChunk;
    slot.state = SlotState::empty;
    if (!start_read(next)) return;
  }
}

int SegmentReader::read_home(unsigned home, std::uint64_t block, std::uint64_t count) noexcept {
  const SegmentFile& file = *index_.file;
  std::byte* const memory = home_memory(home) + (block - index_.first) * kBlock;
  const std::uint64_t position = index_block_pos(log_.segment_bytes, block, home);
  const std::size_t bytes = static_cast<std::size_t>(count * kBlock);
  FileRead read = read_some(file.descriptor(), memory, bytes, position);
  if (read.error == EINVAL && index_.file->direct() && index_.file->give_up_direct()) {
    read = read_some(file.descriptor(), memory, bytes, position);
  }
  std::memset(memory + read.bytes, 0, bytes - read.bytes);
  return read.error;
}

// Block by block where they can't be had in one: a bad sector is no reason to give the others up.
void SegmentReader::read_index_blocks(std::uint64_t block, std::uint64_t count) noexcept {
  for (std::uint64_t i = 0; i < count; ++i) index_.errors[block - index_.first + i] = 0;
  for (unsigned home = 0; home < 2; ++home) {
    if (read_home(home, block, count) == 0) continue;
    for (std::uint64_t i = 0; i < count; ++i) {
      const int error = read_home(home, block + i, 1);
      if (error != 0) index_.errors[block - index_.first + i] = error;
    }
  }
}

void SegmentReader::load_index(const std::shared_ptr<SegmentFile>& file, std::uint64_t block, bool again) noexcept {
  const bool held = index_.file == file && block >= index_.first && block - index_.first < index_.count;
  if (held && !again && index_error(block) == 0) return;
  if (!held) {
    index_.file = file;
    index_.first = block;
    index_.count = std::min(kIndexBlocksHeld, index_blocks(log_.segment_bytes) - block);
  }
  const std::uint64_t count = held ? 1 : index_.count;
  for (std::uint64_t i = 0; i < count; ++i) index_.limits[block - index_.first + i] = limit_;
  read_index_blocks(block, count);
}

// Of the index as it was read when the limit was smaller what it says of the log before that limit is still true, but it may
// not be enough. Behind it nothing was final: on an `overwrite` topic a gap may stand by now where a holder of the role that
// died had written further than it told.
Candidates SegmentReader::fresh_candidates(const std::shared_ptr<SegmentFile>& file, Offset range_begin,
                                           Offset wanted_end, bool again) {
  const std::uint64_t block = index_block_of(file->base(), range_begin);
  load_index(file, block, again);
  Candidates found = candidates_in_window(range_begin);
  const Offset covered = found.count == 0 ? range_begin : range_begin + found.entries[0].bytes;
  const Offset wanted = std::min(wanted_end, range_begin + kRangeBytes);
  const Offset read_under = index_.limits[block - index_.first];
  if (wanted > std::min(covered, read_under) && read_under != limit_) {
    load_index(file, block, true);
    found = candidates_in_window(range_begin);
  }
  return found;
}

Candidates SegmentReader::candidates_in_window(Offset range_begin) const noexcept {
  const Offset base = index_.file->base();
  const std::uint64_t at = (index_block_of(base, range_begin) - index_.first) * kBlock;
  return candidates(IndexHome(home_memory(0) + at, kBlock), IndexHome(home_memory(1) + at, kBlock), log_.salt, base,
                    range_begin);
}

Candidates SegmentReader::entries(Offset range_begin, int& error) {
  const Offset base = align_down(range_begin, log_.segment_bytes);
  const std::shared_ptr<SegmentFile> file = open_segment(base, error);
  if (!file) return {};
  const std::uint64_t block = index_block_of(base, range_begin);
  load_index(file, block, false);
  error = index_error(block);
  return candidates_in_window(range_begin);
}

const CheckedRange& SegmentReader::unreadable(Offset range_begin, RangeFault fault, int error) noexcept {
  missing_ = {range_begin, error != 0 ? RangeFault::failed : fault, error, {}};
  return missing_;
}

const CheckedRange& SegmentReader::check(Offset range_begin, Offset wanted_end, bool again) {
  const std::uint64_t chunk = range_begin / chunk_bytes_;
  const std::size_t place = (range_begin % chunk_bytes_) / kRangeBytes;
  Slot* slot = &slots_[slot_of(chunk)];
  if (slot->chunk == chunk && slot->state == SlotState::ready && slot->checked_under[place] != 0) {
    const CheckedRange& range = slot->ranges[place];
    const Offset wanted = std::min(wanted_end, range_begin + kRangeBytes);
    const Offset checked_under = slot->checked_under[place];
    // What was found behind the limit of then was not final.
    if (range.checked_end >= wanted && (checked_under == limit_ || checked_under >= wanted)) return range;
    if (!again && checked_under == limit_ && range.fault != RangeFault::failed) return range;
    again = true;
  }
  const Offset base = align_down(range_begin, log_.segment_bytes);
  int error;
  const std::shared_ptr<SegmentFile> file = open_segment(base, error);
  if (!file) return unreadable(range_begin, RangeFault::no_file, error);
  if (file->header_error() != 0 || file->header_status() == HeaderStatus::unsupported) {
    return unreadable(range_begin, RangeFault::unsupported, file->header_error());
  }
  // A file of rubbish has no entries, and none of its bytes need be read to know it.
  if (fresh_candidates(file, range_begin, wanted_end, again).count == 0) {
    return unreadable(range_begin, RangeFault::no_entry, index_error(index_block_of(base, range_begin)));
  }
  slot = &load(chunk);
  if (slot->chunk != chunk) return unreadable(range_begin, RangeFault::no_file, 0);
  slot->file = file;
  return check_now(*slot, range_begin, again);
}

const CheckedRange& SegmentReader::check_now(Slot& slot, Offset range_begin, bool again) {
  const std::size_t at = range_begin % chunk_bytes_;
  const std::size_t place = at / kRangeBytes;
  const Offset begin = slot.chunk * chunk_bytes_;
  if (slot.limit < std::min(limit_, begin + chunk_bytes_)) {
    // The log grew since: the rest of the chunk, from the block that was not full.
    std::size_t had = 0;
    while (had < slot.wanted && slot.had[had / kRangeBytes] == kRangeBytes) had += kRangeBytes;
    if (had < slot.wanted) had += slot.had[had / kRangeBytes];
    const std::size_t known =
        slot.limit <= begin ? 0 : std::min<std::size_t>(std::min(slot.limit - begin, chunk_bytes_), had);
    slot.wanted = bytes_wanted(slot.chunk);
    slot.limit = limit_;
    read_now(slot, align_down(known, kBlock), slot.wanted);
  } else if (again || slot.errors[place] != 0) {
    const std::size_t end = std::min(slot.wanted, at + kRangeBytes);
    if (at < end) read_now(slot, at, end);
  }
  CheckedRange& range = slot.ranges[place];
  range = {range_begin, RangeFault::no_entry, 0, {}};
  // The limit the index block was read under, which may be older than today's: what it says is then asked again.
  slot.checked_under[place] = index_.limits[index_block_of(slot.file->base(), range_begin) - index_.first];
  ++ranges_checked_;
  const std::size_t available = slot.had[place];
  const std::span<const std::byte> memory(slot_memory(slot_of(slot.chunk)) + at, available);
  const Candidates found = candidates_in_window(range_begin);
  for (unsigned i = 0; i < found.count; ++i) {
    const IndexEntry& entry = found.entries[i];
    if (entry.bytes > available) {
      range.error = slot.errors[place];
      range.fault = range.error != 0 ? RangeFault::failed : RangeFault::truncated;
    } else if (crc32c(memory.first(entry.bytes)) != entry.crc) {
      range.fault = RangeFault::mismatch;
    } else {
      range.checked_end = range_begin + entry.bytes;
      range.entry = entry;
      if (entry.bytes == kRangeBytes) range.fault = RangeFault::none;
      break;
    }
  }
  const int in_index = index_error(index_block_of(slot.file->base(), range_begin));
  if (range.fault != RangeFault::none && range.fault != RangeFault::failed && in_index != 0) {
    range.fault = RangeFault::failed;  // the home that can't be read may vouch for more
    range.error = in_index;
  }
  return range;
}

SegmentReader::Bytes SegmentReader::bytes(Offset from, Offset to) {
  SPILLWAY_ASSERT(from < to && align_down(from, log_.segment_bytes) == align_down(to - 1, log_.segment_bytes));
  const std::uint64_t first = from / chunk_bytes_;
  const std::uint64_t last = (to - 1) / chunk_bytes_;
  const bool in_one_piece = last - first < slots_.size() && slot_of(first) <= slot_of(last);
  stitched_.clear();
  if (stitched_.capacity() > kChunkBytesMax && to - from < stitched_.capacity() / 2) stitched_.shrink_to_fit();
  if (!in_one_piece) stitched_.reserve(to - from);
  pinned_ = in_one_piece ? first : kNoChunk;
  Bytes result;
  for (Offset range_begin = range_begin_of(from); range_begin < to; range_begin += kRangeBytes) {
    const Offset wanted = std::min(to, range_begin + kRangeBytes);
    const CheckedRange& range = check(range_begin, wanted);
    if (range.checked_end < wanted) {
      result.fault = range.fault == RangeFault::none ? RangeFault::no_entry : range.fault;
      result.error = range.error;
      result.bad_range = range_begin;
      break;
    }
    if (in_one_piece) continue;
    const Offset piece = std::max(from, range_begin);
    const std::byte* const memory = slot_memory(slot_of(range_begin / chunk_bytes_)) + piece % chunk_bytes_;
    stitched_.insert(stitched_.end(), memory, memory + (wanted - piece));
  }
  pinned_ = kNoChunk;
  if (result.fault != RangeFault::none) return result;
  result.bytes = in_one_piece ? std::span<const std::byte>(slot_memory(slot_of(first)) + from % chunk_bytes_, to - from)
                              : std::span<const std::byte>(stitched_);
  return result;
}

std::span<const std::byte> SegmentReader::run(Offset from, Offset to) {
  const Offset stop = std::min(to, align_down(from, chunk_bytes_) + chunk_bytes_);
  Offset end = from;
  for (Offset range_begin = range_begin_of(from); range_begin < stop; range_begin += kRangeBytes) {
    const Offset wanted = std::min(stop, range_begin + kRangeBytes);
    const CheckedRange& range = check(range_begin, wanted);
    end = std::max(end, std::min(range.checked_end, wanted));
    if (range.checked_end < wanted) break;
  }
  return {slot_memory(slot_of(from / chunk_bytes_)) + from % chunk_bytes_, end - from};
}

FoundRecord SegmentReader::parse(const std::byte* header_bytes, Offset at) const noexcept {
  FoundRecord found;
  std::array<std::uint64_t, 2> header;
  std::memcpy(header.data(), header_bytes, sizeof header);
  const RecordMeta meta = RecordMeta::unpack(header[1]);
  if (header[0] != mix_.word(at)) {
    found.fault = RangeFault::record;
    return found;
  }
  // A gap record was written by the persister and ends at most with the segment; all others were in the ring.
  const std::uint64_t room_unit = meta.kind == RecordKind::gap ? log_.segment_bytes : log_.ring_bytes;
  const RecordShape shape = shape_of(meta, room_unit - at % room_unit);
  if (shape.status != ShapeStatus::ok) {
    found.fault = shape.status == ShapeStatus::unsupported ? RangeFault::unsupported : RangeFault::record;
    return found;
  }
  found.kind = meta.kind;
  found.more_in_batch = meta.kind == RecordKind::data && (meta.flags & flag::kMoreInBatch) != 0;
  if (meta.kind == RecordKind::gap) {
    const bool known = meta.key_bytes <= static_cast<std::uint16_t>(GapCause::damaged);
    found.cause = known ? static_cast<GapCause>(meta.key_bytes) : GapCause::damaged;
  }
  found.end = at + shape.bytes;
  return found;
}

SegmentReader::Piece SegmentReader::piece(Offset from, Offset to) {
  Piece piece;
  piece.end = piece.claim_end = from;
  std::span<const std::byte> bytes_here = run(from, to);
  if (bytes_here.empty()) {
    const CheckedRange& range = check(range_begin_of(from), from + kRecordHeaderBytes);
    if (range.checked_end >= from + kRecordHeaderBytes) bytes_here = run(from, to);  // it can be read by now
    if (bytes_here.empty()) {
      return bad_piece(from, range.fault == RangeFault::none ? RangeFault::no_entry : range.fault, range.error,
                       range_begin_of(from));
    }
  }
  FoundRecord found;
  while (piece.end - from < bytes_here.size()) {  // both are multiples of 16: a header is there whole
    found = parse(bytes_here.data() + (piece.end - from), piece.end);
    if (found.fault != RangeFault::none || found.kind == RecordKind::gap) break;
    if (found.end - from > bytes_here.size()) break;
    piece.end = found.end;
    if (found.kind == RecordKind::data) ++piece.records;
    if (!found.more_in_batch) piece.claim_end = found.end;
  }
  if (piece.end > from) {
    piece.what = Piece::What::records;
    piece.bytes = bytes_here.first(piece.end - from);
    return piece;
  }
  if (found.fault == RangeFault::none && found.end > to) found.fault = RangeFault::record;
  if (found.fault != RangeFault::none) return bad_piece(from, found.fault, 0, range_begin_of(from));
  piece.end = found.end;
  piece.claim_end = found.more_in_batch ? from : found.end;
  if (found.kind != RecordKind::data) {
    piece.what = found.kind == RecordKind::gap ? Piece::What::gap : Piece::What::padding;
    piece.cause = found.cause;
    return piece;
  }
  const Bytes whole = bytes(from, found.end);
  if (whole.fault != RangeFault::none) return bad_piece(from, whole.fault, whole.error, whole.bad_range);
  piece.what = Piece::What::records;
  piece.records = 1;
  piece.bytes = whole.bytes;
  return piece;
}

SegmentReader::Piece SegmentReader::bad_piece(Offset from, RangeFault fault, int error, Offset bad_range) noexcept {
  Piece piece;
  piece.what = Piece::What::bad;
  piece.end = piece.claim_end = from;
  piece.fault = fault;
  piece.error = error;
  piece.bad_range = bad_range;
  return piece;
}

}  // namespace spillway
