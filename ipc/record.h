// What a consumer's handler is given.
#pragma once

#include <atomic>
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

// What a handler of poll_in_place() is given: a record whose spans point into the ring itself while reading live. Nothing is
// copied, and nothing keeps the producer from overwriting it while the handler looks: what was read counts only if
// still_valid() says so afterwards. Lengths were checked on copies, so spans never leave the ring, whatever stands in it.
class InPlaceRecord : public Record {
 public:
  // False: a producer may have begun to overwrite the record, and what was read of it since is worth nothing. It is not
  // delivered again; a gap or the next records follow. Ask after the last use. A replayed record, whose bytes are the reader's own, is
  // always valid.
  bool still_valid() const noexcept {
    if (reserved_end_ == nullptr) return true;
    std::atomic_thread_fence(std::memory_order_acquire);  // A2 <- R3, C1, as in still_in_ring()
    return reserved_end_->load(std::memory_order_relaxed) - offset() <= ring_bytes_;
  }

 private:
  friend class PartitionReader;
  const std::atomic<std::uint64_t>* reserved_end_ = nullptr;
  std::uint64_t ring_bytes_ = 0;
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
