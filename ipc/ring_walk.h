// Walking over records in a ring that may be overwritten meanwhile. Used by whoever needs the true end of the committed
// records: `latest`, `--until-end`, the persister, `stat`, repair and take-over.
//
// Thread safety: reads shared memory only; any thread.
#pragma once

#include "spillway/ipc/partition.h"

namespace spillway {

enum class WalkStatus {
  boundary,  // the walk ended at `end`: nothing is committed there yet, or `limit` was reached
  lapped,    // `from` or something on the way is no longer in the ring
  corrupt,   // at `end` a header that can't be right, or none although committed_end is past it, and still in the ring
  unsupported,  // a kind or flag of a newer version at `end`
};

struct Walk {
  WalkStatus status;
  Offset end;             // a claim boundary: everything in [from, end) is committed
  std::uint64_t records;  // data records passed
};

// Walks over whole claims from the claim boundary `from`, as far as they are committed, at most to `limit` (a claim that
// would end behind it is not passed) and to reserved_end.
Walk walk_committed(const Partition& partition, Offset from, Offset limit) noexcept;

// The true committed end: walks on from control's committed_end (or from ring begin). When lapped on the way it starts
// over from the newer floor. With `status` corrupt the floor it got to.
Walk find_committed_end(const Partition& partition) noexcept;

// True while the bytes at `offset` can still be trusted, that is not yet part of a newer claim: to be asked, as here with
// an acquire fence before the load, after they were copied.
inline bool still_in_ring(const Partition& partition, Offset offset) noexcept {
  std::atomic_thread_fence(std::memory_order_acquire);
  // relaxed: ordered by the fence; pairs with the release fence after every store of reserved_end (see claims).
  return partition.control().claims.reserved_end.load(std::memory_order_relaxed) - offset <= partition.capacity();
}

// Whether the ring has lost what it must hold: committed_end is past `at`, a claim boundary, whose bytes no newer claim has
// taken, and there is no commit word for it. Only damage does that.
bool committed_word_missing(const Partition& partition, Offset at) noexcept;

// The oldest claim boundary in control's table that is still in the ring with at least `margin` bytes to spare, and at or
// after ring begin; committed_end when there is none.
Offset oldest_boundary(const Partition& partition, std::uint64_t margin) noexcept;

// The newest boundary in the table at or before `offset` that is still in the ring, or oldest_boundary().
Offset boundary_before(const Partition& partition, Offset offset) noexcept;

}  // namespace spillway
