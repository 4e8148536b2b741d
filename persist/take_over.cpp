#include "spillway/persist/take_over.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "spillway/core/checksum.h"
#include "spillway/core/disk.h"
#include "spillway/core/error.h"
#include "spillway/ipc/ring_walk.h"

namespace spillway {
namespace {

void sync_file(const SegmentFile& file) {
  int rc;
  do rc = disk::sync_data(file.descriptor());
  while (rc != 0 && errno == EINTR);
  if (rc == 0) return;
  const Error error = system_error(errno, "can't sync " + file.path());
  throw SyncFailed(error.code(), error.what(), error.errno_value());
}

// Reads whole blocks into page-aligned memory, as O_DIRECT wants it.
Mapping read_blocks(const SegmentFile& file, std::uint64_t file_pos, std::size_t bytes) {
  Mapping memory = Mapping::anonymous(bytes);
  const int error = read_at(file.descriptor(), memory.data(), bytes, file_pos);
  if (error != 0) throw system_error(error, "can't read " + file.path());
  return memory;
}

struct Homes {
  Mapping a, b;
  IndexHome home(const Mapping& m) const noexcept { return IndexHome(m.data(), kBlock); }
};

Homes read_homes(const SegmentFile& file, std::uint64_t segment_bytes, std::uint64_t block) {
  return {read_blocks(file, index_block_pos(segment_bytes, block, 0), kBlock),
          read_blocks(file, index_block_pos(segment_bytes, block, 1), kBlock)};
}

// The entries of the range that begins at `range`, the one that covers more first.
Candidates read_entries(const SegmentFile& file, const LogIdentity& log, Offset range) {
  const Homes homes = read_homes(file, log.segment_bytes, index_block_of(file.base(), range));
  return candidates(homes.home(homes.a), homes.home(homes.b), log.salt, file.base(), range);
}

// Data records that begin in [from, to), counted in the ring: how far an entry counts beyond `from`.
std::uint64_t records_between(const Partition& p, Offset from, Offset to) noexcept {
  std::uint64_t records = 0;
  const Offset limit = std::min(to, p.control().claims.reserved_end.load(std::memory_order_acquire));
  for (Offset at = from; at < limit;) {
    const RecordHeader& header = *p.header_at(at);
    // acquire: pairs with the commit (W1 in ring_walk.cpp).
    if (header.commit.load(std::memory_order_acquire) != p.mix().word(at)) break;
    const RecordMeta meta = RecordMeta::unpack(header.meta.load(std::memory_order_relaxed));
    const RecordShape shape = shape_of(meta, p.capacity() - (at & p.mask()));
    if (shape.status != ShapeStatus::ok || !still_in_ring(p, at)) break;
    if (meta.kind == RecordKind::data) ++records;
    at += shape.bytes;
  }
  return records;
}

// The bytes of [range, at) from the ring, believed if whole claims lead over them and exactly to `at`, and if they were not
// lapped meanwhile.
bool read_from_ring(const Partition& p, Offset range, Tail& tail) {
  const Offset boundary = boundary_before(p, range);
  if (boundary > range || walk_committed(p, boundary, tail.at).end != tail.at) return false;
  copy_from_ring(tail.before.data(), p.at(range), tail.before.size());
  return still_in_ring(p, range);
}

// The same from the segment, believed if an entry that covers them has their CRC. It has one wherever nothing is damaged: the
// homes of an index see to that, and so the ring, which any writer can spoil, is asked only where the disk is damaged.
bool read_from_segment(const SegmentFile& file, const Candidates& entries, Offset range, Tail& tail) try {
  const Mapping bytes = read_blocks(file, log_pos(file.base(), range), kRangeBytes);
  std::memcpy(tail.before.data(), bytes.data(), tail.before.size());
  for (unsigned i = 0; i < entries.count; ++i) {
    const IndexEntry& entry = entries.entries[i];
    if (entry.bytes >= tail.before.size() && crc32c({bytes.data(), entry.bytes}) == entry.crc) return true;
  }
  return false;
} catch (const Error&) {
  return false;  // a block that can't be read may be mended by writing it anew
}

// Data records before `at`, which is no segment's beginning: from the entry of its range, or of the one before.
std::uint64_t records_before(const Partition& p, const SegmentFile& file, const LogIdentity& log, Offset at,
                             std::uint64_t fallback) {
  const Offset range = range_begin_of(at);
  if (range != at) {
    const Candidates entries = read_entries(file, log, range);
    for (unsigned i = entries.count; i-- > 0;) {
      const IndexEntry& entry = entries.entries[i];
      const Offset end = range + entry.bytes;
      if (end < at) continue;
      const std::uint64_t beyond = records_between(p, at, end);
      if (beyond <= entry.records) return entry.records - beyond;
    }
    return fallback;
  }
  const Candidates before = read_entries(file, log, range - kRangeBytes);
  return before.count > 0 ? before.entries[0].records : fallback;
}

// Makes an entry that ends exactly at tail.at the newest of its range on disk. A dead holder may have written further than it
// told, and an entry that covers that, too: the image goes on without it, so that nothing would prove what was told once
// both homes are written anew; and on an `overwrite` topic a gap may take the place of what the ring has lost meanwhile.
void seal_tail(const SegmentFile& file, const LogIdentity& log, const Tail& tail, Offset durable_end,
               std::uint64_t commit_time_ns, IndexBlock& index) {
  const Offset range = range_begin_of(tail.at);
  IndexEntry entry{};
  entry.range_begin = range;
  entry.bytes = static_cast<std::uint32_t>(tail.before.size());
  entry.crc = crc32c(tail.before);
  entry.boundary = tail.at;
  entry.first_boundary = tail.first_boundary;
  entry.commit_time_ns = commit_time_ns;
  entry.records = tail.records;
  entry.durable_end = durable_end;  // a claim boundary, from which recovery walks on
  index.update(entry);
  const auto home = index.home_to_write();
  SPILLWAY_ASSERT(home.has_value());
  Mapping block = Mapping::anonymous(kBlock);
  std::memcpy(block.data(), index.image().data(), kBlock);
  const std::uint64_t number = (index.first() - file.base()) / kIndexBlockLogBytes;
  index.write_submitted();
  const int error =
      write_at(file.descriptor(), block.data(), kBlock, index_block_pos(log.segment_bytes, number, *home));
  if (error != 0) throw system_error(error, "can't write the index of " + file.path());
  index.write_completed(true);
  index.sync_submitted();
  sync_file(file);
  index.sync_completed(true);
}

// Syncs the segments before that of `at` that may hold what was never synced. False: one is not free yet.
bool sync_earlier(WriterRow& row, Offset durable_end, Offset at) {
  for (Offset base = row.segment_base(durable_end); base < row.segment_base(at); base = row.segment_end(base)) {
    if (!row.exists(base)) continue;  // expired meanwhile, or wholly inside a gap
    const auto file = row.store().adopt(base);
    if (!file) return false;
    sync_file(*file);
  }
  return true;
}

}  // namespace

std::optional<WatermarkCopy> copy_watermarks(const Partition& partition) noexcept {
  const PersisterArea& area = partition.control().persister;
  WatermarkCopy copy;
  // acquire: the smaller ones first, so that each is at most the next (INV-2), and what they promise was done before.
  copy.reclaimable_end = area.reclaimable_end.load(std::memory_order_acquire);
  copy.durable_end = area.durable_end.load(std::memory_order_acquire);
  copy.written_end = area.written_end.load(std::memory_order_acquire);
  const Offset reserved = partition.control().claims.reserved_end.load(std::memory_order_acquire);
  copy.records = area.records_written.load(std::memory_order_relaxed);  // relaxed: for display
  const bool syncs = partition.config().sync != SyncPolicy::none;
  const bool sane = partition.begin() <= copy.durable_end && copy.durable_end <= copy.written_end &&
                    copy.written_end <= reserved && reserved < kOffsetEnd + partition.capacity() &&
                    copy.reclaimable_end <= (syncs ? copy.durable_end : copy.written_end) &&
                    is_aligned(copy.durable_end, kRecordAlign) && is_aligned(copy.written_end, kRecordAlign);
  if (!sane) return std::nullopt;
  return copy;
}

std::optional<Tail> read_tail(const Partition& partition, WriterRow& row, Offset at, const WatermarkCopy& watermarks,
                              std::optional<unsigned> known_home) {
  const LogIdentity& log = row.store().log();
  if (!sync_earlier(row, watermarks.durable_end, at)) return std::nullopt;
  Tail tail;
  tail.at = at;
  tail.records = watermarks.records;
  const Offset base = row.segment_base(at);
  if (at == base) {
    if (at > partition.begin() && row.exists(base - log.segment_bytes)) {
      const SegmentFile before = SegmentFile::open(row.store().directory(), log, base - log.segment_bytes,
                                                   Access::read_only, row.store().io());
      const Candidates entries = read_entries(before, log, base - kRangeBytes);
      if (entries.count > 0) tail.records = entries.entries[0].records;
    }
    if (at == partition.begin()) tail.records = 0;
    return tail;  // its segment is opened or made when there is something to write
  }
  const Offset range = range_begin_of(at);
  tail.before.resize(at - range);
  if (!row.exists(base)) {
    // Somebody removed the log's newest segment. Going on in a new one keeps what is still in the ring; readers of what
    // is missing are told that it is damaged.
    tail.damaged = !tail.before.empty() && !read_from_ring(partition, range, tail);
    return tail;
  }
  auto file = row.store().adopt(base);
  if (!file) return std::nullopt;
  sync_file(*file);
  const std::uint64_t block = index_block_of(base, at);
  const Homes homes = read_homes(*file, log.segment_bytes, block);
  // Of what lies behind `at` nothing counts, although it may be whole: it is written again, and after a sync that
  // failed nobody knows what of it is on disk.
  const bool goes_on_from_written_end =
      partition.config().sync == SyncPolicy::none || partition.config().on_full == OnFull::overwrite;
  IndexBlock index = IndexBlock::load(homes.home(homes.a), homes.home(homes.b), log.salt,
                                      base + block * kIndexBlockLogBytes, at, at, goes_on_from_written_end, known_home);
  if (range != at) {
    const Candidates entries = read_entries(*file, log, range);
    if (entries.count > 0 && entries.entries[0].first_boundary < at) {
      tail.first_boundary = entries.entries[0].first_boundary;
    }
    // Also because on an `overwrite` topic the range may begin inside a gap: the ring may have bytes there, the log has not.
    tail.damaged = !read_from_segment(*file, entries, range, tail) && !read_from_ring(partition, range, tail);
  }
  tail.records = records_before(partition, *file, log, at, watermarks.records);
  if (range != at && !tail.damaged && goes_on_from_written_end) {
    seal_tail(*file, log, tail, watermarks.durable_end, partition.clock().now_ns(), index);
  }
  row.take(std::move(*file)).adopt(index);
  return tail;
}

}  // namespace spillway
