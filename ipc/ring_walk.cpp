// ORDER. Every acquire here reads a commit word; its pair is the release store of the same word by the producer (R1 in
// exclusive_producer.cpp, R4 in shared_producer.cpp) or a repairer (R7 in repair.cpp): meta is then that record's.
//   W1 commit          <- R1, R4, R7
//   W2 reserved_end    <- the release fence after each store of reserved_end: whoever copied a byte of the new lap sees
//                         reserved_end past it (still_in_ring)
//   W3 committed_end   <- R2, R8: everything before it is committed
#include "spillway/ipc/ring_walk.h"

#include <algorithm>

namespace spillway {
namespace {

// False: control is damaged, and reading at this offset would leave the ring.
bool can_be_boundary(const Partition& p, Offset offset) noexcept {
  return p.begin() <= offset && offset <= kOffsetEnd && is_aligned(offset, kRecordAlign);
}

}  // namespace

bool committed_word_missing(const Partition& p, Offset at) noexcept {
  const Offset committed = p.control().commits.committed_end.load(std::memory_order_acquire);  // W3
  if (committed <= at) return false;
  // acquire: loaded later, so at least what the true committed_end is; one past it was damaged and proves nothing.
  if (committed > p.control().claims.reserved_end.load(std::memory_order_acquire)) return false;
  // A word that was stored meanwhile is seen now: W3 has read a committed_end past it.
  const bool missing = p.header_at(at)->commit.load(std::memory_order_acquire) != p.mix().word(at);  // W1
  return missing && still_in_ring(p, at);                                                            // W2
}

Walk walk_committed(const Partition& p, Offset from, Offset limit) noexcept {
  const std::uint64_t capacity = p.capacity();
  Offset claim = from;  // the end so far
  Offset at = from;     // the record looked at
  std::uint64_t records = 0, in_claim = 0;
  if (!is_aligned(from, kRecordAlign))
    return {WalkStatus::corrupt, from, 0};  // a damaged watermark: nothing is read there
  // acquire: no record is looked for past what was handed out; also bounds a walk over hostile bytes.
  limit = std::min(limit, p.control().claims.reserved_end.load(std::memory_order_acquire));
  while (at < limit) {
    const RecordHeader& header = *p.header_at(at);
    if (header.commit.load(std::memory_order_acquire) != p.mix().word(at)) {   // W1
      if (!still_in_ring(p, at)) return {WalkStatus::lapped, claim, records};  // W2
      return {committed_word_missing(p, at) ? WalkStatus::corrupt : WalkStatus::boundary, claim, records};
    }
    // relaxed: ordered by W1; if the lap passed over it, still_in_ring says so before it is believed.
    const RecordMeta meta = RecordMeta::unpack(header.meta.load(std::memory_order_relaxed));
    const RecordShape shape = shape_of(meta, capacity - (at & p.mask()));
    if (!still_in_ring(p, at)) return {WalkStatus::lapped, claim, records};  // W2
    if (shape.status != ShapeStatus::ok) {
      return {shape.status == ShapeStatus::corrupt ? WalkStatus::corrupt : WalkStatus::unsupported, claim, records};
    }
    at += shape.bytes;
    if (meta.kind == RecordKind::data) ++in_claim;
    if ((meta.flags & flag::kMoreInBatch) != 0) continue;
    if (at > limit) break;
    claim = at;
    records += in_claim;
    in_claim = 0;
  }
  return {WalkStatus::boundary, claim, records};
}

Walk find_committed_end(const Partition& p) noexcept {
  for (;;) {
    const Offset floor = p.control().commits.committed_end.load(std::memory_order_acquire);  // W3
    if (!can_be_boundary(p, floor)) return {WalkStatus::corrupt, p.begin(), 0};              // nothing is read there
    const Walk walk = walk_committed(p, floor, kOffsetEnd);
    if (walk.status != WalkStatus::lapped) return walk;
    // Lapped: the floor has moved on since, by the invariants; if it has not, control is damaged and the floor is all
    // that can be said.
    if (p.control().commits.committed_end.load(std::memory_order_acquire) == floor) return walk;  // W3
  }
}

namespace {

// The boundaries in control's table that lie in the ring with `margin` to spare; calls `take` for each.
template <class Take>
void each_boundary(const Partition& p, std::uint64_t margin, Take&& take) noexcept {
  const Offset committed = p.control().commits.committed_end.load(std::memory_order_acquire);  // W3
  for (const auto& entry : p.control().boundaries) {
    // acquire: pairs with the producer's release store of the boundary, so that a load of reserved_end that follows is
    // not older than the claim that made it.
    const Offset b = entry.load(std::memory_order_acquire);
    if (!can_be_boundary(p, b) || b > committed) continue;
    if (p.control().claims.reserved_end.load(std::memory_order_acquire) + margin > b + p.capacity()) continue;
    take(b);
  }
}

}  // namespace

Offset oldest_boundary(const Partition& p, std::uint64_t margin) noexcept {
  Offset oldest = p.control().commits.committed_end.load(std::memory_order_acquire);  // W3
  if (!can_be_boundary(p, oldest)) return p.begin();
  each_boundary(p, margin, [&](Offset b) { oldest = std::min(oldest, b); });
  return oldest;
}

Offset boundary_before(const Partition& p, Offset offset) noexcept {
  Offset best = 0;
  bool found = false;
  each_boundary(p, 0, [&](Offset b) {
    if (b <= offset && (!found || b > best)) {
      best = b;
      found = true;
    }
  });
  return found ? best : oldest_boundary(p, 0);
}

}  // namespace spillway
