// A producer of all partitions of a topic: by number, by key, or round robin.
//
// Thread safety: belongs to one thread; it may be moved to another. Partitions are opened when first used.
#pragma once

#include "spillway/persist/topic.h"

namespace spillway {

class Producer {
 public:
  // `exclusive`: the only producer of each partition it uses; else one of many. Usually made by Topic::producer().
  Producer(Topic topic, bool exclusive, std::uint64_t deadline_ns);

  // With a key: to the key's partition (XXH3 of the key, seed 0, modulo the number of partitions). Without: round robin.
  // On an ephemeral topic whose files were deleted the topic is made anew, once, before `gone` is answered. A partition
  // that can't be opened throws Error, on its first record only.
  Appended append(std::span<const std::byte> payload) { return append(payload, RecordOptions{}); }
  Appended append(std::string_view text) { return append(bytes_of(text), RecordOptions{}); }
  Appended append(std::span<const std::byte> payload, const RecordOptions& options);
  // To a partition of the caller's choice. Throws Error (not_found) for one that does not exist.
  Appended append_to(std::uint32_t partition, std::span<const std::byte> payload, const RecordOptions& options = {});
  Appended append_batch_to(std::uint32_t partition, std::span<const RecordInput> records);
  std::uint32_t partition_of(std::span<const std::byte> key) const noexcept;

  Durable wait_written(const Appended& appended, std::chrono::nanoseconds timeout) const {
    return topic_.wait_written(appended.position.partition, appended.end, timeout);
  }
  Durable wait_durable(Position position, std::chrono::nanoseconds timeout) const {
    return topic_.wait_durable(position, timeout);
  }
  void close() noexcept;
  void set_deadline_ns(std::uint64_t ns) noexcept;
  Topic& topic() noexcept { return topic_; }

 private:
  using Slot = std::variant<std::monostate, ExclusiveProducer, SharedProducer>;
  Slot& open(std::uint32_t partition);
  template <class Append>
  Appended with(std::uint32_t partition, Append&& append);

  Topic topic_;
  bool exclusive_;
  std::uint64_t deadline_ns_;
  std::uint32_t next_ = 0;
  std::vector<Slot> slots_;
};

}  // namespace spillway
