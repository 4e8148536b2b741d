// Walks everything a partition has on disk: headers, missing segments, the CRC of every range, the commit word of
// every record, the horizon. Works with no ring, creates nothing, takes no locks.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "spillway/ipc/partition.h"
#include "spillway/ipc/topic_config.h"
#include "spillway/persist/recovery.h"

namespace spillway {

struct VerifyResult {
  std::uint64_t segments = 0;
  std::uint64_t records = 0;  // data records
  std::uint64_t bytes = 0;    // of log that was read as records
  std::uint64_t ranges = 0;   // CRCs compared
  std::uint64_t gaps = 0;     // expired, overwritten, crash: told, and no damage
  Offset begin = 0;
  Offset end = 0;
  std::vector<LogDamage> damage;      // ascending by `from`
  std::vector<std::string> problems;  // of what holds no log: a sentence each, naming file, cause and cure

  bool sound() const noexcept { return damage.empty() && problems.empty(); }
};

// `directory` is PartitionPaths::data. With a ring (`partition` not null) what was written when it began is
// verified; else all that recovery finds: a torn end behind that is no damage. Throws Error only for what keeps it
// from looking at all.
VerifyResult verify_partition(const std::string& directory, const TopicConfig& config, std::uint32_t partition_number,
                              std::shared_ptr<const Partition> partition);

// A sentence for each cursor of the topic that can't be used.
std::vector<std::string> verify_cursors(const std::string& cursors_directory, const TopicConfig& config);

}  // namespace spillway
