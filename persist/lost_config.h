// A persistent topic that has lost its topic.json: what its horizons and segment headers still say of it.
//
// The id salts every commit word, so a log can only be read with the id that it was written with. What is found here lets the
// topic be created again as the one it was.
// Thread safety: stateless. Only looks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "spillway/ipc/topic_config.h"

namespace spillway {

struct FoundLog {
  std::uint64_t id = 0;
  std::uint32_t partitions = 0;                // up to the last one that has a directory
  std::optional<std::uint64_t> ring_bytes;     // known where there is a segment
  std::optional<std::uint64_t> segment_bytes;  // likewise
  std::string source;                          // the first file that said so
};

// What is in `directory` (<data>/<topic>); nothing when no file there belongs to a log. What is damaged says nothing. Throws
// Error (conflict) when two files disagree: both are named.
std::optional<FoundLog> find_log(const std::string& directory);

// The configuration with which a topic of this log is created again; what was not asked for and is known is the log's. Throws
// Error (conflict), with both sides, where something else was asked for.
TopicConfig config_of_log(const FoundLog& found, const std::string& name, const TopicOptions& options);

}  // namespace spillway
