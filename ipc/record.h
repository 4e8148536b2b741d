// What a consumer's handler is given.
#pragma once

#include <cstring>
#include <optional>
#include <span>
#include <string_view>

#include "spillway/ipc/record_layout.h"

namespace spillway {

// One record. Its spans point into the reader's private copy and are valid until the handler returns.
class Record {
 public:
  // Takes apart a data record's body (what follows the header), `meta.length` bytes long and already a private copy. False:
  // its extension is not what its flags say.
  static bool parse(const std::byte* body, RecordMeta meta, Offset offset, std::uint32_t partition,
                    Record& into) noexcept {
    std::size_t extension_bytes = 0;
    if ((meta.flags & flag::kHasExtension) != 0) {
      if (meta.length < 8U + meta.key_bytes) return false;
      std::memcpy(&into.bitmap_, body, sizeof into.bitmap_);
      extension_bytes = extension::bytes_of(into.bitmap_);
      if ((into.bitmap_ & ~extension::kKnown) != 0 || into.bitmap_ == 0) return false;
      if (extension_bytes + meta.key_bytes > meta.length) return false;
      into.body_ = body;
    } else {
      into.bitmap_ = 0;
    }
    const std::size_t payload = meta.length - extension_bytes - meta.key_bytes;
    into.payload_ = {body + extension_bytes, payload};
    into.key_ = {body + extension_bytes + payload, meta.key_bytes};
    into.offset_ = offset;
    into.partition_ = partition;
    into.flags_ = meta.flags;
    return true;
  }

  std::span<const std::byte> payload() const noexcept { return payload_; }
  std::string_view text() const noexcept { return {reinterpret_cast<const char*>(payload_.data()), payload_.size()}; }
  bool has_key() const noexcept { return (flags_ & flag::kHasKey) != 0; }
  std::span<const std::byte> key() const noexcept { return key_; }
  std::string_view key_text() const noexcept { return {reinterpret_cast<const char*>(key_.data()), key_.size()}; }
  bool tombstone() const noexcept { return (flags_ & flag::kTombstone) != 0; }
  bool more_in_batch() const noexcept { return (flags_ & flag::kMoreInBatch) != 0; }
  Offset offset() const noexcept { return offset_; }
  std::uint32_t partition() const noexcept { return partition_; }

  std::optional<std::uint64_t> event_time_ns() const noexcept { return word(extension::kEventTime); }
  std::optional<std::uint64_t> send_time_ns() const noexcept { return word(extension::kSendTime); }
  std::optional<std::uint64_t> commit_time_ns() const noexcept { return word(extension::kCommitTime); }
  std::optional<std::uint64_t> sequence() const noexcept { return word(extension::kSequence); }
  std::optional<std::uint32_t> tag() const noexcept {
    if ((bitmap_ & extension::kTag) == 0) return std::nullopt;
    std::uint32_t tag = 0;
    std::memcpy(&tag, body_ + 4, sizeof tag);
    return tag;
  }

 private:
  std::optional<std::uint64_t> word(std::uint32_t bit) const noexcept {
    if ((bitmap_ & bit) == 0) return std::nullopt;
    std::uint64_t value = 0;
    const auto before = static_cast<std::size_t>(std::popcount(bitmap_ & (bit - 1)));
    std::memcpy(&value, body_ + 8 + 8 * before, sizeof value);
    return value;
  }

  std::span<const std::byte> payload_;
  std::span<const std::byte> key_;
  const std::byte* body_ = nullptr;
  Offset offset_ = 0;
  std::uint32_t bitmap_ = 0;
  std::uint32_t partition_ = 0;
  std::uint8_t flags_ = 0;
};

// Offsets [from, to) of a partition that this reader can't have.
struct Gap {
  std::uint32_t partition = 0;
  Offset from = 0;
  Offset to = 0;
  GapCause cause = GapCause::none;
};
std::string_view name_of(GapCause cause) noexcept;

// What a handler may answer; one that returns nothing goes on.
enum class Flow : std::uint8_t { go_on, stop };

enum class PollState : std::uint8_t {
  live,          // reading the ring
  replay,        // reading segments
  idle,          // nothing new
  gap,           // a gap stands next and there is no gap handler: `gap` has it, and the next poll goes on behind it
  stopped,       // the handler said stop
  end,           // no ring lives (after a reboot, say) and the recovered end was reached; polling on waits for a writer
  held_by_dead,  // a dead producer's claim stands next, until somebody repairs it
  gone,          // the topic's files were deleted; polling on waits for a writer to make them anew
  corrupt,       // the bytes at this offset can't be a record, though they are committed
  unsupported,   // a record kind or flag of a newer version
  failed,        // the disk can't be read; `error` is the errno, and polling again tries again
  forked,        // this handle belongs to the parent process
};
std::string_view name_of(PollState state) noexcept;

struct PollResult {
  std::size_t records = 0;  // delivered by this poll
  PollState state = PollState::idle;
  Gap gap;        // with state gap
  int error = 0;  // with state failed
};

}  // namespace spillway
