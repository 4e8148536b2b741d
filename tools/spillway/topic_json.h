// A topic's configuration as `list` and `describe` show it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "spillway/ipc/topic_config.h"

namespace spillway::command {

// Sizes are bytes; `segment_bytes`, `retain_bytes` and `retain_age_s` are null where there is no segment or no limit.
nlohmann::ordered_json describe_json(const TopicConfig& config);
// The same as aligned lines, `name value`.
std::string describe_text(const TopicConfig& config);

// JSON as the command prints it, with an `indent` of -1 on one line. Bytes that are no UTF-8 are replaced, so that it is
// always JSON.
std::string print(const nlohmann::ordered_json& json, int indent = 2);

}  // namespace spillway::command
