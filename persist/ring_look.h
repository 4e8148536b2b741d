// What is in a ring that nobody writes to, and whether it is anywhere else: what `clean` decides by.
//
// Looks only: creates, locks and changes nothing. The caller has seen that no writer lives; who must be sure holds the writers'
// lock in its exclusive form. Thread safety: stateless.
#pragma once

#include <cstdint>
#include <string>

#include "spillway/ipc/partition.h"

namespace spillway {

struct RingLook {
  enum class What : std::uint8_t {
    unknown,  // can't be told now
    no_ring,  // a file that is none, of whatever version
    strange,  // may be one, but can't be attached to: another version's, or damaged
    ours,     // the log goes on in it
    damaged,  // ... but not all of it can be read
    other,    // the log went on without it
  };
  What what = What::unknown;
  bool has_bytes = false;  // committed ones that no segment holds, or that can't be excluded
  bool differs = false;    // ours: the segments don't hold what it says that they do
  std::string problem;     // unknown, no_ring, strange: why
};

// Of a persistent topic's ring what lies in it is compared with the segments, byte by byte.
RingLook look_at_ring(const PartitionPaths& paths, const TopicConfig& config, std::uint32_t number);

}  // namespace spillway
