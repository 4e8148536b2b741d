#include "spillway/persist/ring_look.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "spillway/core/error.h"
#include "spillway/ipc/ring_walk.h"
#include "spillway/persist/lifecycle.h"
#include "spillway/persist/segment_history.h"

namespace spillway {
namespace {

// Whether the ring has these bytes at `at`; they may go on at its beginning.
bool same_in_ring(const Partition& ring, Offset at, std::span<const std::byte> bytes) {
  const std::size_t first = std::min<std::size_t>(bytes.size(), ring.capacity() - (at & ring.mask()));
  return std::memcmp(ring.at(at), bytes.data(), first) == 0 &&
         std::memcmp(ring.records(), bytes.data() + first, bytes.size() - first) == 0;
}

// Whether [at, end) of the ring is padding.
bool padding_in(const Partition& ring, Offset at, Offset end) {
  while (at < end) {
    const RecordHeader& header = *ring.header_at(at);
    // acquire: pairs with the commit (W1 in ring_walk.cpp).
    if (header.commit.load(std::memory_order_acquire) != ring.mix().word(at)) return false;
    const RecordMeta meta = RecordMeta::unpack(header.meta.load(std::memory_order_relaxed));
    const RecordShape shape = shape_of(meta, ring.capacity() - (at & ring.mask()));
    if (shape.status != ShapeStatus::ok || meta.kind != RecordKind::padding) return false;
    at += shape.bytes;
  }
  return at == end;
}

// Whether the log on disk, read at `at`, says of [at, stop) what the ring says: the same bytes, or that it let go of them.
bool same_on_disk(const Partition& ring, const TopicConfig& config, Offset at, Offset stop, const HistoryRead& read) {
  if (read.status == HistoryStatus::data) return same_in_ring(ring, at, read.bytes.first(stop - at));
  if (read.status != HistoryStatus::gap) return false;
  switch (read.cause) {
    case GapCause::none: return padding_in(ring, at, stop);
    case GapCause::expired: return true;
    case GapCause::overwritten: return config.on_full == OnFull::overwrite;
    default: return false;
  }
}

// Whether the segments, as they are now, hold what the ring holds before `end`, by comparing them: its watermarks tell what
// was on disk when it was written, and not what is there after a directory was restored.
bool on_disk(const Partition& ring, const TopicConfig& config, Offset end) {
  if (end <= ring.begin()) return true;
  SegmentHistory history(ring.paths().data, config, ring.number(), nullptr);
  for (Offset at = oldest_boundary(ring, 0); at < end;) {
    const HistoryRead read = history.read(at);
    if (read.end <= at || !same_on_disk(ring, config, at, std::min(read.end, end), read)) return false;
    at = read.end;
  }
  return true;
}

// What is no ring of any version can hold no records; of what has a ring's size it can't be said.
bool may_be_ring(const std::string& path, const TopicConfig& config) {
  Identity id = {};
  struct stat s;
  const FileDescriptor fd = try_open_file(path, O_RDONLY);
  if (!fd || read_at(fd.get(), &id, sizeof id, 0) != 0 || ::fstat(fd.get(), &s) != 0) return true;
  return id.magic == kIdentityMagic || static_cast<std::uint64_t>(s.st_size) == kRingHeaderBytes + config.ring_bytes;
}

void look_at_log(const Partition& ring, const TopicConfig& config, RingLook& look) {
  const PersisterArea& area = ring.control().persister;
  const Walk committed = find_committed_end(ring);
  look.what = open_for_reading(ring.paths(), config, ring.number()) ? RingLook::What::ours : RingLook::What::other;
  if (look.what == RingLook::What::other) {
    // acquire: nobody stores any more. Behind a dead claim, which nobody closes here, others may have been committed.
    const bool behind = ring.control().notices.mode.load(std::memory_order_acquire) == ProducerMode::shared &&
                        ring.control().claims.reserved_end.load(std::memory_order_acquire) > committed.end;
    // Where something is committed there is a boundary to compare from, unless the table is damaged.
    const bool comparable = committed.status == WalkStatus::boundary &&
                            (committed.end == ring.begin() || oldest_boundary(ring, 0) < committed.end);
    look.has_bytes = behind || !comparable || !on_disk(ring, config, committed.end);
    return;
  }
  // Where whoever takes the persister's role goes on. acquire: the smaller one first; nobody stores any more.
  const bool overwrites = config.on_full == OnFull::overwrite;
  const bool from_durable = config.sync != SyncPolicy::none && !overwrites;
  const Offset from = (from_durable ? area.durable_end : area.written_end).load(std::memory_order_acquire);
  look.has_bytes = committed.end > area.durable_end.load(std::memory_order_acquire);
  const bool rest_readable = overwrites || walk_committed(ring, from, kOffsetEnd).status == WalkStatus::boundary;
  const Walk whole = walk_committed(ring, oldest_boundary(ring, 0), kOffsetEnd);
  const bool readable =
      committed.status == WalkStatus::boundary && whole.status == WalkStatus::boundary && rest_readable;
  if (!readable) look.what = RingLook::What::damaged;
  look.differs = !on_disk(ring, config, std::min(from, committed.end));
}

}  // namespace

RingLook look_at_ring(const PartitionPaths& paths, const TopicConfig& config, std::uint32_t number) {
  RingLook look;
  try {
    const auto ring = Partition::attach(paths, config, number, Access::read_only);
    if (config.ephemeral) {
      look.what = RingLook::What::ours;
      look.has_bytes = find_committed_end(*ring).end > ring->begin();
    } else {
      try {
        look_at_log(*ring, config, look);
      } catch (const Error& e) {
        look.what = RingLook::What::unknown;
        look.problem = e.what();
      }
    }
  } catch (const Error& e) {
    look.problem = e.what();
    const bool says_something = e.code() == Code::corrupt || e.code() == Code::unsupported ||
                                e.code() == Code::ring_stale || e.code() == Code::not_found;
    if (says_something) look.what = may_be_ring(paths.ring, config) ? RingLook::What::strange : RingLook::What::no_ring;
  }
  return look;
}

}  // namespace spillway
