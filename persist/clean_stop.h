// The last step of a clean stop: when the last writer leaves and everything is on disk, the horizon is trimmed to the
// log's end, so that the next ring goes on there without a gap.
//
// Thread safety: stateless.
#pragma once

#include "spillway/ipc/partition.h"

namespace spillway {

// To be called after Persister::stop_cleanly(), with no producer of this process left on the partition. True: sealed.
// False: others are attached, a claim is not settled, or not everything is durable; then nothing has changed, and
// nothing is lost: whoever comes next goes on in the ring, or recovers. The writers' lock is left in its exclusive
// form when sealed (the partition is about to be closed), else in its shared form.
bool seal_if_last(Partition& partition) noexcept;

}  // namespace spillway
