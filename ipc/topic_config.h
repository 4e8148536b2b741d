// A topic's configuration: what topic.json holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spillway/core/directory.h"

namespace spillway {

// What a producer gets when the ring is full of bytes that may not be overwritten yet.
enum class OnFull : std::uint8_t { block, drop_new, overwrite };
// When the persister syncs what it wrote. On demand (wait_durable) it syncs under every policy.
enum class SyncPolicy : std::uint8_t { none, interval, every_batch };

std::string_view name_of(OnFull value) noexcept;
std::string_view name_of(SyncPolicy value) noexcept;
std::optional<OnFull> parse_on_full(std::string_view text) noexcept;
std::optional<SyncPolicy> parse_sync(std::string_view text) noexcept;

inline constexpr std::uint32_t kPartitionsMax = 1024;
inline constexpr std::size_t kTopicNameMax = 200;

// What a typed topic holds. `bytes` 0: untyped.
struct RecordType {
  std::string schema;
  std::uint32_t bytes = 0;
  std::uint32_t alignment = 0;
  bool operator==(const RecordType&) const = default;
};

struct TopicConfig {
  std::string name;
  std::uint64_t id = 0;  // random; salts the logs
  std::uint32_t partitions = 1;
  std::uint64_t ring_bytes = 0;
  std::uint64_t segment_bytes = 0;
  std::uint64_t retain_bytes = 0;  // of log per partition; 0: without limit
  std::uint32_t retain_age_s = 0;  // how old what is on disk may become; 0: without limit
  OnFull on_full = OnFull::block;
  SyncPolicy sync = SyncPolicy::interval;
  std::uint32_t sync_interval_ms = 100;
  bool wakeups = true;
  bool ephemeral = false;
  Sharing sharing = Sharing::owner;
  RecordType type;

  // The salt of one partition's commit words.
  std::uint64_t salt(std::uint32_t partition) const noexcept;
};

// What a caller asks for when creating; what is not set gets its default, or is not compared with an existing topic.
struct TopicOptions {
  std::optional<std::uint32_t> partitions = std::nullopt;  // 1 .. kPartitionsMax; default 1
  std::optional<std::uint64_t> ring =
      std::nullopt;  // bytes per partition; a power of two from 64 KiB; default: the largest
                     // within 16 MiB / partitions, at least 1 MiB
  std::optional<std::uint64_t> segment =
      std::nullopt;  // bytes; a power-of-two multiple of ring; default max(64 MiB, ring)
  std::optional<std::uint64_t> retain =
      std::nullopt;  // bytes per partition; at least two segments; default: without limit
  std::optional<std::uint32_t> retain_age_s = std::nullopt;      // seconds; default: without limit
  std::optional<OnFull> on_full = std::nullopt;                  // default block
  std::optional<SyncPolicy> sync = std::nullopt;                 // default interval; ephemeral topics: none
  std::optional<std::uint32_t> sync_interval_ms = std::nullopt;  // 1 .. 3,600,000; default 100
  std::optional<bool> wakeups = std::nullopt;                    // default true
  std::optional<bool> ephemeral = std::nullopt;                  // default false
  std::optional<std::string> schema = std::nullopt;              // a typed topic's schema name
  std::optional<Sharing> sharing = std::nullopt;                 // default owner
  std::optional<RecordType> type = std::nullopt;                 // set by the typed calls
};

// Throws Error (invalid_argument) naming what is wrong and what is possible.
void check_topic_name(std::string_view name);
// Defaults filled in, all checked. `id` is random.
TopicConfig make_topic_config(std::string_view name, const TopicOptions& options);
// "ring 64KiB (128KiB was asked for), sync none (interval was asked for)": every option that was given and differs.
std::string differences_of(const TopicConfig& existing, const TopicOptions& wanted);
// Throws Error (conflict) that shows both sides of each of them.
void check_same(const TopicConfig& existing, const TopicOptions& wanted);

std::vector<std::byte> to_json(const TopicConfig& config);
// Checks everything; throws Error (corrupt or unsupported) naming `path`.
TopicConfig topic_config_from_json(std::span<const std::byte> text, const std::string& path);

}  // namespace spillway
