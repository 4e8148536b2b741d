// What producers take and answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "spillway/core/clock.h"
#include "spillway/ipc/record_layout.h"

namespace spillway {

struct Position {
  std::uint32_t partition = 0;
  Offset offset = 0;
  bool operator==(const Position&) const = default;
};

enum class AppendStatus : std::uint8_t {
  ok,
  full,        // no room within the deadline; `blocked` says why. Nothing was appended: try again
  dropped,     // drop_new: no room, so the record was refused (and counted)
  too_large,   // larger than a quarter of the ring, or a key of more than 65,535 bytes
  no_horizon,  // overwrite: the horizon can't be moved on disk (`blocked` says why)
  gone,        // the ring's files were deleted
  corrupt,     // shared memory holds what can't be: the ring can't be written to any more
  closed,      // close() was called (a moved-from handle may only be assigned to or destroyed)
  forked,      // this handle belongs to the parent process
};

// Why a producer can't go on, or a wait for the disk is not over.
enum class Blocked : std::uint8_t {
  none,
  disk_behind,   // the persister works, but the disk is slower than the producers
  no_persister,  // nobody holds the persister role
  no_space,      // the disk is full
  io_error,      // the disk fails
  damaged,       // a file or the ring that the persister has to go on from is damaged
  no_horizon,    // the horizon has not been moved yet
  held_by_dead,  // a dead producer's claim waits for repair
  held_by_live,  // a live producer (paused, perhaps) has not committed its claim
  gated,         // a gating consumer still needs the bytes
};

std::string_view name_of(AppendStatus status) noexcept;
std::string_view name_of(Blocked cause) noexcept;

struct Appended {
  AppendStatus status = AppendStatus::ok;
  Blocked blocked = Blocked::none;
  Position position;  // of the first record; valid when ok
  Offset end = 0;     // where the claim ends: it is on disk once written_end or durable_end has reached this
  explicit operator bool() const noexcept { return status == AppendStatus::ok; }
};

// What a record may carry besides its payload. Spans and views are read during the call only.
struct RecordOptions {
  std::optional<std::span<const std::byte>> key = std::nullopt;  // at most 65,535 bytes; an empty key is a key
  bool tombstone = false;
  std::optional<std::uint64_t> event_time_ns = std::nullopt;  // ns since the Unix epoch
  std::optional<std::uint64_t> send_time_ns = std::nullopt;
  bool commit_time = false;                              // stamp the record with the wall clock when it is committed
  std::optional<std::uint64_t> sequence = std::nullopt;  // the caller's own
  std::optional<std::uint32_t> tag = std::nullopt;       // the caller's own

  static RecordOptions keyed(std::string_view key_text) noexcept {
    RecordOptions options;
    options.key = std::as_bytes(std::span(key_text));
    return options;
  }
};

// One record of a batch.
struct RecordInput {
  std::span<const std::byte> payload;
  RecordOptions options = {};
};

inline std::span<const std::byte> bytes_of(std::string_view text) noexcept { return std::as_bytes(std::span(text)); }

struct ProducerOptions {
  std::uint32_t partition = 0;
  // How long append and claim wait for room on a `block` topic before they answer `full`. UINT64_MAX: for ever.
  std::uint64_t deadline_ns = 10'000'000'000U;
};

}  // namespace spillway
