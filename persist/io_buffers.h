// The persister's I/O memory: large buffers for log bytes, blocks for index writes. Mappings of their own,
// page-aligned, and pinned where the kernel allows it.
//
// Memory that was taken and not given back when the pool is destroyed is left where it is for ever: a write may still
// be under way from it, and nothing else may ever lie there. Thread safety: one thread at a time (the persister's
// mutex).
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "spillway/core/bytes.h"
#include "spillway/core/mapping.h"
#include "spillway/persist/io_queue.h"
#include "spillway/persist/segment_format.h"

namespace spillway {

class IoBuffers {
 public:
  static constexpr std::size_t kLargeBytes = 256 * kKiB;
  static constexpr std::size_t kLargeMax = 48;  // six partitions at full speed
  static constexpr std::size_t kBlocksMax = 256;

  // `queue` outlives the pool.
  explicit IoBuffers(IoQueue& queue) noexcept : queue_(queue) {}
  ~IoBuffers();
  IoBuffers(const IoBuffers&) = delete;
  IoBuffers& operator=(const IoBuffers&) = delete;

  // kLargeBytes, or kBlock, of memory with whatever it last held; nullptr when all are taken or there is no memory.
  std::byte* take_large() noexcept;
  std::byte* take_block() noexcept;
  // Only with no operation under way in it.
  void give_back_large(std::byte* memory) noexcept;
  void give_back_block(std::byte* memory) noexcept;
  // Unmaps free large buffers until `count` of them are left.
  void keep(std::size_t count) noexcept;

  // Where bytes are looked at on their way into a large buffer. Nothing stays in it.
  std::span<std::byte, kRangeBytes> stage() noexcept { return stage_; }

  std::size_t large_count() const noexcept { return large_.size(); }

 private:
  struct Large {
    Mapping mapping;
    bool taken = false;
  };
  IoQueue& queue_;
  std::vector<Large> large_;
  Mapping blocks_;
  std::vector<std::byte*> free_blocks_;
  alignas(64) std::array<std::byte, kRangeBytes> stage_;
};

}  // namespace spillway
