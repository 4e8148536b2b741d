// Topics as `stat` shows them: JSON for scripts, a table for people. Rates come from two looks.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "spillway/persist/topic_stat.h"

namespace spillway::command {

// One partition, looked at twice (`before` may be missing: no rates), or why it can't be looked at.
struct PartitionView {
  std::uint32_t partition = 0;
  std::optional<PartitionStat> before;
  std::optional<PartitionStat> now;
  std::string problem;
};
struct TopicView {
  TopicConfig config;
  std::string problem;  // the configuration can't be read; config.name is all there is
  std::vector<PartitionView> partitions;
};

// {"topics": [{"topic", "ephemeral", "on_full", "sync", "partitions": [...]}]}, and of each partition:
//   partition, ring (false: none, the watermarks are what is on disk), locks_known (false: no right to look who lives),
//   capacity, incarnation, begin
//   retained_begin, durable_end, written_end, committed_end, reserved_end, horizon (offsets; null where the topic has none)
//   reclaimable_end, dropped (records), gap_count, mode (none|exclusive|shared, of the last writers)
//   rates: committed, written, durable (bytes per second, null without two looks)
//   persister: held, state (none|working|stopped|no_space|io_error), path (none|io_uring|pwrite), pid, daemon, paused,
//     asked_for, error (errno), error_text, since_ns, syncs, records_written; null on an ephemeral topic
//   producers: slot, pid, mode, since_ns, blocked (times it waited for room), paused
//   consumers: slot, pid, name, state (live|replay|waiting), offset, lag_bytes, gate, since_ns, paused
//   held: by (producer|persister|consumer), cause, offset, pid, paused; null when nobody holds the log up
//   problem: a sentence, if the partition could not be looked at; then nothing else but `partition` is there
nlohmann::ordered_json to_json(const std::vector<TopicView>& topics);
std::string to_text(const std::vector<TopicView>& topics);

}  // namespace spillway::command
