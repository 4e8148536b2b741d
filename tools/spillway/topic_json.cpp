#include "topic_json.h"

#include <fmt/format.h>

#include "spillway/core/size_text.h"

namespace spillway::command {

using Json = nlohmann::ordered_json;

Json describe_json(const TopicConfig& config) {
  const auto or_null = [](std::uint64_t number) { return number == 0 ? Json(nullptr) : Json(number); };
  Json json = {
      {"topic", config.name},
      {"partitions", config.partitions},
      {"ephemeral", config.ephemeral},
      {"ring_bytes", config.ring_bytes},
      {"segment_bytes", or_null(config.segment_bytes)},
      {"retain_bytes", or_null(config.retain_bytes)},
      {"retain_age_s", or_null(config.retain_age_s)},
      {"on_full", name_of(config.on_full)},
      {"sync", name_of(config.sync)},
      {"sync_interval_ms", config.sync_interval_ms},
      {"wakeups", config.wakeups},
      {"sharing", config.sharing == Sharing::owner        ? "owner"
                  : config.sharing == Sharing::group_read ? "group_read"
                                                          : "group_write"},
      {"id", fmt::format("{:016x}", config.id)},
      {"type", nullptr},
  };
  if (config.type.bytes != 0 || !config.type.schema.empty()) {
    json["type"] = {{"schema", config.type.schema}, {"bytes", config.type.bytes}, {"alignment", config.type.alignment}};
  }
  return json;
}

std::string describe_text(const TopicConfig& config) {
  std::string text;
  const auto line = [&](std::string_view name, const std::string& value) {
    text += fmt::format("{:<14}{}\n", name, value);
  };
  line("topic", config.name);
  line("kind", config.ephemeral ? "ephemeral: in memory only" : "persistent");
  line("partitions", std::to_string(config.partitions));
  line("ring", format_size(config.ring_bytes) + " per partition");
  if (!config.ephemeral) {
    line("segment", format_size(config.segment_bytes));
    line("retain", config.retain_bytes == 0 ? "without limit" : format_size(config.retain_bytes) + " per partition");
    if (config.retain_age_s != 0) line("retain-age", fmt::format("{} s", config.retain_age_s));
    line("sync",
         std::string(name_of(config.sync)) +
             (config.sync == SyncPolicy::interval ? fmt::format(", every {} ms", config.sync_interval_ms) : ""));
  }
  line("on-full", std::string(name_of(config.on_full)));
  line("wakeups", config.wakeups ? "on" : "off");
  if (config.sharing != Sharing::owner) {
    line("sharing", config.sharing == Sharing::group_read ? "group_read" : "group_write");
  }
  if (config.type.bytes != 0 || !config.type.schema.empty()) {
    line("records", fmt::format("{} bytes aligned to {}, schema \"{}\"", config.type.bytes, config.type.alignment,
                                config.type.schema));
  }
  return text;
}

std::string print(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace spillway::command
