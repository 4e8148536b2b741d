#include "spillway/persist/producer.h"

#include "spillway/core/checksum.h"
#include "spillway/core/error.h"

namespace spillway {

Producer::Producer(Topic topic, bool exclusive, std::uint64_t deadline_ns)
    : topic_(std::move(topic)), exclusive_(exclusive), deadline_ns_(deadline_ns), slots_(topic_.config().partitions) {}

Producer::Slot& Producer::open(std::uint32_t partition) {
  if (partition >= slots_.size()) {
    throw Error(Code::not_found, "topic " + topic_.name() + " has partitions 0 to " +
                                     std::to_string(slots_.size() - 1) + ", not " + std::to_string(partition));
  }
  Slot& slot = slots_[partition];
  if (std::holds_alternative<std::monostate>(slot)) {
    if (exclusive_) {
      slot.emplace<ExclusiveProducer>(topic_.exclusive_producer({partition, deadline_ns_}));
    } else {
      slot.emplace<SharedProducer>(topic_.shared_producer({partition, deadline_ns_}));
    }
  }
  return slot;
}

template <class Append>
Appended Producer::with(std::uint32_t partition, Append&& append) {
  for (bool again = topic_.config().ephemeral;; again = false) {
    Slot& slot = open(partition);
    const Appended appended =
        exclusive_ ? append(std::get<ExclusiveProducer>(slot)) : append(std::get<SharedProducer>(slot));
    if (appended.status != AppendStatus::gone || !again) return appended;
    slot.emplace<std::monostate>();  // opening it makes the topic's files anew
  }
}

Appended Producer::append(std::span<const std::byte> payload, const RecordOptions& options) {
  const auto count = static_cast<std::uint32_t>(slots_.size());
  std::uint32_t partition = 0;
  if (options.key) {
    partition = partition_of(*options.key);
  } else if (count > 1) {
    partition = next_;
    next_ = (next_ + 1) % count;
  }
  return append_to(partition, payload, options);
}

Appended Producer::append_to(std::uint32_t partition, std::span<const std::byte> payload,
                             const RecordOptions& options) {
  return with(partition, [&](auto& producer) { return producer.append(payload, options); });
}

Appended Producer::append_batch_to(std::uint32_t partition, std::span<const RecordInput> records) {
  return with(partition, [&](auto& producer) { return producer.append_batch(records); });
}

std::uint32_t Producer::partition_of(std::span<const std::byte> key) const noexcept {
  return static_cast<std::uint32_t>(xxh3(key) % slots_.size());
}

void Producer::close() noexcept {
  for (Slot& slot : slots_) {
    if (auto* exclusive = std::get_if<ExclusiveProducer>(&slot)) exclusive->close();
    if (auto* shared = std::get_if<SharedProducer>(&slot)) shared->close();
  }
}

void Producer::set_deadline_ns(std::uint64_t ns) noexcept {
  deadline_ns_ = ns;
  for (Slot& slot : slots_) {
    if (auto* exclusive = std::get_if<ExclusiveProducer>(&slot)) exclusive->set_deadline_ns(ns);
    if (auto* shared = std::get_if<SharedProducer>(&slot)) shared->set_deadline_ns(ns);
  }
}

}  // namespace spillway
