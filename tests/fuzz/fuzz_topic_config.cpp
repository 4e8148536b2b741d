// topic.json, as whoever opens a topic reads it.
//
// Asserted: the only exception is an Error that says corrupt or unsupported; what is accepted is written and read back
// as the same configuration, is accepted by make_topic_config() as a caller's wish, and fits itself.
#include <nlohmann/json.hpp>

#include "fuzz_support.h"
#include "spillway/core/checksum.h"
#include "spillway/core/error.h"
#include "spillway/ipc/topic_config.h"

using namespace spillway;
using namespace spillway_fuzz;

namespace {

// The same text with a checksum that holds, if it is an object at all.
std::string mended(std::string_view text) {
  nlohmann::json j = nlohmann::json::parse(text, nullptr, false);
  if (!j.is_object()) return std::string(text);
  try {
    j.erase("checksum");
    const std::string body = j.dump();
    j["checksum"] = xxh3(std::as_bytes(std::span(body)));
    return j.dump();
  } catch (const nlohmann::json::exception&) {  // bytes that are no UTF-8: it can't be written either
    return std::string(text);
  }
}

TopicOptions options_of(const TopicConfig& c) {
  TopicOptions options;
  options.partitions = c.partitions;
  options.ring = c.ring_bytes;
  if (!c.ephemeral) options.segment = c.segment_bytes;
  options.retain = c.retain_bytes;
  options.retain_age_s = c.retain_age_s;
  options.on_full = c.on_full;
  options.sync = c.sync;
  options.sync_interval_ms = c.sync_interval_ms;
  options.wakeups = c.wakeups;
  options.ephemeral = c.ephemeral;
  options.sharing = c.sharing;
  options.type = c.type;
  return options;
}

void check_accepted(const TopicConfig& config) {
  const std::vector<std::byte> written = to_json(config);
  const TopicConfig again = topic_config_from_json(written, "again");
  SPILLWAY_ASSERT(to_json(again) == written);
  SPILLWAY_ASSERT(again.name == config.name && again.id == config.id && again.type == config.type);
  SPILLWAY_ASSERT(again.salt(0) == config.salt(0));
  const TopicOptions options = options_of(config);
  TopicConfig made = make_topic_config(config.name, options);
  made.id = config.id;
  made.segment_bytes = config.segment_bytes;  // an ephemeral topic's says nothing
  SPILLWAY_ASSERT(to_json(made) == written);
  check_same(config, options);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  Source source({data, bytes});
  const bool mend = (source.byte() & 1) != 0;  // so that a text with a zero in front is taken as it is
  const std::string_view text = source.text(bytes);
  const std::string taken = mend ? mended(text) : std::string(text);
  std::optional<TopicConfig> config;
  try {
    config = topic_config_from_json(std::as_bytes(std::span(taken)), "topic.json");
  } catch (const Error& error) {
    SPILLWAY_ASSERT(error.code() == Code::corrupt || error.code() == Code::unsupported);
    return 0;
  }
  check_accepted(*config);
  return 0;
}
