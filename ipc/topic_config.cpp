#include "spillway/ipc/topic_config.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <nlohmann/json.hpp>

#include "spillway/core/bytes.h"
#include "spillway/core/checksum.h"
#include "spillway/core/error.h"
#include "spillway/core/random.h"
#include "spillway/core/size_text.h"
#include "spillway/ipc/ring_layout.h"

namespace spillway {
namespace {

using nlohmann::json;

constexpr std::uint32_t kConfigVersion = 1;
constexpr std::uint64_t kDefaultRingTotal = 16 * kMiB;
constexpr std::uint64_t kDefaultRingMin = kMiB;
constexpr std::uint64_t kDefaultSegment = 64 * kMiB;
constexpr std::uint64_t kSegmentMax = std::uint64_t{1} << 36;  // the disk format's
constexpr std::uint32_t kSyncIntervalMsMax = 3'600'000;

[[noreturn]] void refuse(const std::string& sentence) { throw Error(Code::invalid_argument, sentence); }

// json would convert a fraction, a negative number or one that is too large without a word, or without a defined result.
template <class Number>
Number number_at(const json& j, const char* key) {
  const json& value = j.at(key);
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::numeric_limits<Number>::max()) {
    refuse(std::string(key) + " is no whole number from 0 to " + std::to_string(std::numeric_limits<Number>::max()));
  }
  return static_cast<Number>(value.get<std::uint64_t>());
}

std::string_view name_of(Sharing value) noexcept {
  return value == Sharing::owner ? "owner" : value == Sharing::group_read ? "group_read" : "group_write";
}
std::optional<Sharing> parse_sharing(std::string_view text) noexcept {
  for (const Sharing s : {Sharing::owner, Sharing::group_read, Sharing::group_write}) {
    if (text == name_of(s)) return s;
  }
  return std::nullopt;
}

// Everything that must hold between the fields, whoever set them.
void check_config(const TopicConfig& c) {
  check_topic_name(c.name);
  if (c.partitions < 1 || c.partitions > kPartitionsMax) {
    refuse("partitions must be 1 to " + std::to_string(kPartitionsMax) + ", not " + std::to_string(c.partitions));
  }
  if (!std::has_single_bit(c.ring_bytes) || c.ring_bytes < kRingBytesMin || c.ring_bytes > kRingBytesMax) {
    refuse("the ring must be a power of two from " + format_size(kRingBytesMin) + " to " + format_size(kRingBytesMax) +
           ", not " + format_size(c.ring_bytes));
  }
  if (!c.ephemeral &&
      (!std::has_single_bit(c.segment_bytes) || c.segment_bytes < c.ring_bytes || c.segment_bytes > kSegmentMax)) {
    refuse("the segment must be a power-of-two multiple of the ring (" + format_size(c.ring_bytes) + ") and at most " +
           format_size(kSegmentMax) + ", not " + format_size(c.segment_bytes));
  }
  if (c.retain_bytes != 0 && c.retain_bytes < 2 * c.segment_bytes) {
    refuse("retain must be at least two segments (" + format_size(2 * c.segment_bytes) + "), not " +
           format_size(c.retain_bytes));
  }
  if (c.ephemeral && c.retain_bytes != 0) refuse("an ephemeral topic keeps nothing on disk, so it can't retain");
  if (c.ephemeral && c.retain_age_s != 0) refuse("an ephemeral topic keeps nothing on disk, so nothing there can age");
  if (c.ephemeral && c.sync != SyncPolicy::none) refuse("an ephemeral topic is on no disk, so sync can only be none");
  if (c.sync_interval_ms < 1 || c.sync_interval_ms > kSyncIntervalMsMax) {
    refuse("the sync interval must be 1 to " + std::to_string(kSyncIntervalMsMax) + " ms, not " +
           std::to_string(c.sync_interval_ms));
  }
  if (c.type.bytes != 0 && (!std::has_single_bit(c.type.alignment) || c.type.alignment > 16)) {
    refuse("a type's alignment must be 1, 2, 4, 8 or 16, not " + std::to_string(c.type.alignment));
  }
  if (c.type.schema.size() > 1024) refuse("a schema name has at most 1024 bytes");
  try {
    static_cast<void>(json(c.type.schema).dump());
  } catch (const json::exception&) {
    refuse("a schema name must be UTF-8 text");
  }
}

}  // namespace

std::string_view name_of(OnFull value) noexcept {
  return value == OnFull::block ? "block" : value == OnFull::drop_new ? "drop_new" : "overwrite";
}
std::string_view name_of(SyncPolicy value) noexcept {
  return value == SyncPolicy::none ? "none" : value == SyncPolicy::interval ? "interval" : "every_batch";
}
std::optional<OnFull> parse_on_full(std::string_view text) noexcept {
  for (const OnFull v : {OnFull::block, OnFull::drop_new, OnFull::overwrite}) {
    if (text == name_of(v)) return v;
  }
  return std::nullopt;
}
std::optional<SyncPolicy> parse_sync(std::string_view text) noexcept {
  for (const SyncPolicy v : {SyncPolicy::none, SyncPolicy::interval, SyncPolicy::every_batch}) {
    if (text == name_of(v)) return v;
  }
  return std::nullopt;
}

std::uint64_t TopicConfig::salt(std::uint32_t partition) const noexcept {
  const std::array<std::uint64_t, 2> seed = {id, partition};
  return xxh3(std::as_bytes(std::span(seed)));
}

void check_topic_name(std::string_view name) {
  if (name.empty()) refuse("a name can't be empty; give one of letters, digits, '.', '_' and '-'");
  if (name.size() > kTopicNameMax) {
    refuse("a name has at most " + std::to_string(kTopicNameMax) + " bytes, not " + std::to_string(name.size()));
  }
  if (name.front() == '.') refuse("a name can't begin with a dot: " + std::string(name));
  for (const char c : name) {
    const bool fine =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    if (!fine) refuse("a name is made of letters, digits, '.', '_' and '-' only: " + std::string(name));
  }
}

TopicConfig make_topic_config(std::string_view name, const TopicOptions& options) {
  TopicConfig c;
  c.name = name;
  c.id = random_u64();
  c.partitions = options.partitions.value_or(1);
  if (c.partitions == 0) refuse("a topic has at least one partition");
  const std::uint64_t share = std::max(kDefaultRingTotal / c.partitions, kDefaultRingMin);
  c.ring_bytes = options.ring.value_or(std::bit_floor(share));
  c.ephemeral = options.ephemeral.value_or(false);
  if (c.ephemeral && options.segment) refuse("an ephemeral topic has no segments");
  c.segment_bytes = c.ephemeral ? 0 : options.segment.value_or(std::max(kDefaultSegment, c.ring_bytes));
  c.retain_bytes = options.retain.value_or(0);
  c.retain_age_s = options.retain_age_s.value_or(0);
  c.on_full = options.on_full.value_or(OnFull::block);
  c.sync = options.sync.value_or(c.ephemeral ? SyncPolicy::none : SyncPolicy::interval);
  c.sync_interval_ms = options.sync_interval_ms.value_or(100);
  c.wakeups = options.wakeups.value_or(true);
  c.sharing = options.sharing.value_or(Sharing::owner);
  if (options.type) c.type = *options.type;
  if (options.schema) c.type.schema = *options.schema;
  check_config(c);
  return c;
}

std::string differences_of(const TopicConfig& existing, const TopicOptions& wanted) {
  std::string differences;
  const auto differ = [&](const std::string& what, const std::string& has, const std::string& asked) {
    differences += (differences.empty() ? "" : ", ") + what + " " + has + " (" + asked + " was asked for)";
  };
  const auto number = [&](const char* what, auto has, const auto& asked) {
    if (asked && *asked != has) differ(what, std::to_string(has), std::to_string(*asked));
  };
  const auto size = [&](const char* what, std::uint64_t has, const std::optional<std::uint64_t>& asked) {
    if (!asked || *asked == has) return;
    const std::string has_text = format_size(has), asked_text = format_size(*asked);
    if (has_text != asked_text) return differ(what, has_text, asked_text);
    differ(what, std::to_string(has) + " bytes", std::to_string(*asked) + " bytes");  // rounded, they look the same
  };
  const auto onoff = [&](const char* what, bool has, const std::optional<bool>& asked) {
    if (asked && *asked != has) differ(what, has ? "on" : "off", *asked ? "on" : "off");
  };
  number("partitions", existing.partitions, wanted.partitions);
  size("ring", existing.ring_bytes, wanted.ring);
  size("segment", existing.segment_bytes, wanted.segment);
  size("retain", existing.retain_bytes, wanted.retain);
  number("retain-age", existing.retain_age_s, wanted.retain_age_s);
  number("sync-interval-ms", existing.sync_interval_ms, wanted.sync_interval_ms);
  onoff("wakeups", existing.wakeups, wanted.wakeups);
  onoff("ephemeral", existing.ephemeral, wanted.ephemeral);
  if (wanted.on_full && *wanted.on_full != existing.on_full) {
    differ("on-full", std::string(name_of(existing.on_full)), std::string(name_of(*wanted.on_full)));
  }
  if (wanted.sync && *wanted.sync != existing.sync) {
    differ("sync", std::string(name_of(existing.sync)), std::string(name_of(*wanted.sync)));
  }
  if (wanted.sharing && *wanted.sharing != existing.sharing) {
    differ("sharing", std::string(name_of(existing.sharing)), std::string(name_of(*wanted.sharing)));
  }
  if (wanted.schema && *wanted.schema != existing.type.schema) {
    differ("schema", '"' + existing.type.schema + '"', '"' + *wanted.schema + '"');
  }
  if (wanted.type && (wanted.type->bytes != existing.type.bytes || wanted.type->alignment != existing.type.alignment)) {
    const auto text = [](const RecordType& t) {
      return t.bytes == 0 ? std::string("no type")
                          : std::to_string(t.bytes) + " bytes aligned to " + std::to_string(t.alignment);
    };
    differ("records of", text(existing.type), text(*wanted.type));
  }
  return differences;
}

void check_same(const TopicConfig& existing, const TopicOptions& wanted) {
  const std::string differences = differences_of(existing, wanted);
  if (differences.empty()) return;
  throw Error(Code::conflict, "topic " + existing.name + " exists with " + differences +
                                  "; use it as it is, or create one of another name");
}

std::vector<std::byte> to_json(const TopicConfig& c) {
  json j = {
      {"spillway_topic", kConfigVersion},
      {"name", c.name},
      {"id", c.id},
      {"partitions", c.partitions},
      {"ring", c.ring_bytes},
      {"segment", c.segment_bytes},
      {"retain", c.retain_bytes},
      {"retain_age_s", c.retain_age_s},
      {"on_full", name_of(c.on_full)},
      {"sync", name_of(c.sync)},
      {"sync_interval_ms", c.sync_interval_ms},
      {"wakeups", c.wakeups},
      {"ephemeral", c.ephemeral},
      {"sharing", name_of(c.sharing)},
      {"type", {{"schema", c.type.schema}, {"bytes", c.type.bytes}, {"alignment", c.type.alignment}}},
  };
  // The checksum tells a flipped digit from a decision: a silently changed id would make the whole log unreadable.
  const std::string body = j.dump();
  j["checksum"] = xxh3(std::as_bytes(std::span(body)));
  const std::string text = j.dump(2) + "\n";
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

TopicConfig topic_config_from_json(std::span<const std::byte> text, const std::string& path) {
  const auto corrupt = [&](const std::string& why) {
    return Error(Code::corrupt, path + " is damaged (" + why + "); restore it from a copy");
  };
  try {
    const auto* chars = reinterpret_cast<const char*>(text.data());
    json j = json::parse(chars, chars + text.size());
    if (!j.is_object() || !j.contains("spillway_topic")) throw corrupt("it is not a topic's configuration");
    // The checksum comes first where there is one: a flipped version is damage.
    const bool other_version = number_at<std::uint64_t>(j, "spillway_topic") != kConfigVersion;
    const Error unsupported(Code::unsupported, path + " was written by another version of Spillway; use that version");
    if (other_version && !j.contains("checksum")) throw unsupported;
    const auto checksum = number_at<std::uint64_t>(j, "checksum");
    j.erase("checksum");
    const std::string body = j.dump();
    if (xxh3(std::as_bytes(std::span(body))) != checksum) throw corrupt("its checksum does not match");
    if (other_version) throw unsupported;
    TopicConfig c;
    c.name = j.at("name").get<std::string>();
    c.id = number_at<std::uint64_t>(j, "id");
    c.partitions = number_at<std::uint32_t>(j, "partitions");
    c.ring_bytes = number_at<std::uint64_t>(j, "ring");
    c.segment_bytes = number_at<std::uint64_t>(j, "segment");
    c.retain_bytes = number_at<std::uint64_t>(j, "retain");
    // A file that was written before there was such a limit has none.
    if (j.contains("retain_age_s")) c.retain_age_s = number_at<std::uint32_t>(j, "retain_age_s");
    const auto on_full = parse_on_full(j.at("on_full").get<std::string>());
    const auto sync = parse_sync(j.at("sync").get<std::string>());
    const auto sharing = parse_sharing(j.at("sharing").get<std::string>());
    if (!on_full || !sync || !sharing) throw corrupt("a setting has a value that does not exist");
    c.on_full = *on_full;
    c.sync = *sync;
    c.sharing = *sharing;
    c.sync_interval_ms = number_at<std::uint32_t>(j, "sync_interval_ms");
    c.wakeups = j.at("wakeups").get<bool>();
    c.ephemeral = j.at("ephemeral").get<bool>();
    c.type.schema = j.at("type").at("schema").get<std::string>();
    c.type.bytes = number_at<std::uint32_t>(j.at("type"), "bytes");
    c.type.alignment = number_at<std::uint32_t>(j.at("type"), "alignment");
    check_config(c);
    return c;
  } catch (const json::exception& e) {
    std::string what = e.what();
    std::replace(what.begin(), what.end(), ';', ',');  // behind one a reader looks for the cure
    throw corrupt(what);
  } catch (const Error& e) {
    if (e.code() == Code::invalid_argument) throw corrupt(e.what());
    throw;
  }
}

}  // namespace spillway
