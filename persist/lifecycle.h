// Opening one partition: attaching to its ring, or, when there is none and nobody lives who could have one,
// recovering the log from its segments and making a new ring.
//
// Thread safety: stateless; safe to race with other threads and processes.
#pragma once

#include <cstdint>
#include <memory>

#include "spillway/ipc/partition.h"

namespace spillway {

// For writing. The writers' lock is kept in the Partition, in its shared form. Throws Error:
//   ring_elsewhere  live processes use this data directory with a ring that is not here (deleted, or elsewhere)
//   ring_stale      a ring is here, but the log has gone on without it, or its data directory was restored
//   gone            the topic was deleted, or deleted and made anew, since `config` was read
//   busy            somebody is recovering the log, or a dead process' I/O is still under way, for too long
//   corrupt, unsupported, no_space, no_permission, io   as the sentence says
std::shared_ptr<Partition> open_for_writing(const PartitionPaths& paths, const TopicConfig& config,
                                            std::uint32_t partition);

// For reading; creates and locks nothing. Null when there is no ring, or one that the log has gone on without: then
// there is only history. Throws Error: corrupt, unsupported, no_permission, io.
std::shared_ptr<Partition> open_for_reading(const PartitionPaths& paths, const TopicConfig& config,
                                            std::uint32_t partition);

}  // namespace spillway
