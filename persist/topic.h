// A topic as a process has it open, and what it gives out: producers, consumers, waits for the disk.
//
// Thread safety: Topic and TypedTopic are thread-safe and cheap to copy; what they give out belongs to one thread each. In
// the child of a fork all of it answers `forked`, or throws Error (forked): open a Domain anew there.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "spillway/ipc/consumer.h"
#include "spillway/ipc/exclusive_producer.h"
#include "spillway/ipc/shared_producer.h"
#include "spillway/ipc/topic_config.h"
#include "spillway/persist/durable.h"

namespace spillway {

class TopicState;  // persist/topic_state.h
class Producer;
class AsyncProducer;
class WaitSet;

class Topic {
 public:
  const TopicConfig& config() const noexcept;
  const std::string& name() const noexcept { return config().name; }

  // The one producer of a partition. Throws Error: busy (who holds it is named), no_permission, no_space, no_slot,
  // ring_elsewhere, ring_stale, corrupt; not_found for a partition that does not exist; gone when the topic was deleted (an
  // ephemeral one is then made anew) or replaced by another since it was opened here.
  ExclusiveProducer exclusive_producer(const ProducerOptions& options = {}) const;
  // One of many producers of a partition. Throws the same, and invalid_argument on an `overwrite` topic.
  SharedProducer shared_producer(const ProducerOptions& options = {}) const;
  // All partitions behind one handle: by number, by key, or round robin. See producer.h.
  Producer producer(bool exclusive = false, std::uint64_t deadline_ns = 10'000'000'000U) const;
  // Reads what the options say. Creates nothing (but a gating one the ring, if there is none yet, so that it gates from the
  // first record on); without a ring it reads the segments. Throws Error: not_found, invalid_argument (offset beyond the
  // end, cursor with `from`, durable where nothing syncs ...), busy (a cursor's owner is named), conflict (a cursor beyond
  // all that was ever appended: restored without its log, or the other way round), no_permission, no_slot (a gating one
  // only), gone (the topic was replaced by another since it was opened here).
  Consumer consumer(const ConsumerOptions& options = {}) const;

  // Waits until everything before `end` (Appended::end) of a partition is in its segment, or synced. Where this process
  // holds or can take the persister role the work is done on the calling thread; else the holder is asked.
  Durable wait_written(std::uint32_t partition, Offset end, std::chrono::nanoseconds timeout) const;
  Durable wait_durable(std::uint32_t partition, Offset end, std::chrono::nanoseconds timeout) const;
  // The same for one record, by the position append returned.
  Durable wait_durable(Position position, std::chrono::nanoseconds timeout) const {
    return wait_durable(position.partition, position.offset + 1, timeout);
  }
  // The same for everything committed by now in all partitions.
  Durable wait_durable_latest(std::chrono::nanoseconds timeout) const;
  // Why a wait for the disk is not over, or a producer is held up.
  Blocked blocked(std::uint32_t partition) const;

  // A clean stop of what this process does with the topic: everything committed is written and synced, the role is let
  // go, and, if no other writer is left, the horizon is trimmed. Producers of the topic must be closed or destroyed
  // before. Anything but yes: nothing is lost, the ring still has it; close again or let another process write it.
  Durable close(std::chrono::nanoseconds timeout);

  // The state behind the handle; for the layers above (`stat`, the command).
  TopicState& state() const noexcept { return *state_; }
  explicit Topic(std::shared_ptr<TopicState> state) noexcept : state_(std::move(state)) {}

 protected:
  std::shared_ptr<TopicState> state_;
};

// A record of type T's room in the ring: `claim->field = ...; claim.commit();`
template <class T, class Untyped>
class TypedClaim {
 public:
  explicit TypedClaim(Untyped claim) noexcept : claim_(std::move(claim)) {}
  explicit operator bool() const noexcept { return static_cast<bool>(claim_); }
  AppendStatus status() const noexcept { return claim_.status(); }
  T* operator->() const noexcept { return reinterpret_cast<T*>(claim_.payload().data()); }
  T& operator*() const noexcept { return *operator->(); }
  Appended commit() noexcept { return claim_.commit(); }
  void abort() noexcept { claim_.abort(); }

 private:
  Untyped claim_;
};

// A producer of records of type T over one that takes bytes; Untyped is ExclusiveProducer or SharedProducer. Belongs to one
// thread, as that does.
template <class T, class Untyped>
class TypedProducer {
 public:
  TypedProducer(Topic topic, Untyped producer) noexcept : topic_(std::move(topic)), producer_(std::move(producer)) {}
  // Room for a record in the ring itself. The fields hold whatever an earlier lap left: set them all.
  auto claim() noexcept { return TypedClaim<T, decltype(producer_.claim(sizeof(T)))>(producer_.claim(sizeof(T))); }
  Appended append(const T& value) noexcept { return producer_.append(std::as_bytes(std::span(&value, 1))); }
  Appended append(const T& value, const RecordOptions& options) noexcept {
    return producer_.append(std::as_bytes(std::span(&value, 1)), options);
  }
  // As Topic's: until the record append or commit told of is in its segment, or synced.
  Durable wait_written(const Appended& appended, std::chrono::nanoseconds timeout) const {
    return topic_.wait_written(appended.position.partition, appended.end, timeout);
  }
  Durable wait_durable(Position position, std::chrono::nanoseconds timeout) const {
    return topic_.wait_durable(position, timeout);
  }
  void close() noexcept { producer_.close(); }
  Untyped& untyped() noexcept { return producer_; }

 private:
  Topic topic_;
  Untyped producer_;
};
template <class T>
using TypedExclusiveProducer = TypedProducer<T, ExclusiveProducer>;
template <class T>
using TypedSharedProducer = TypedProducer<T, SharedProducer>;

// A topic whose records are all of one trivially copyable type of at most 16-byte alignment.
template <class T>
  requires(std::is_trivially_copyable_v<T> && alignof(T) <= 16)
class TypedTopic {
 public:
  explicit TypedTopic(Topic topic) noexcept : topic_(std::move(topic)) {}
  TypedExclusiveProducer<T> exclusive_producer(const ProducerOptions& options = {}) const {
    return {topic_, topic_.exclusive_producer(options)};
  }
  TypedSharedProducer<T> shared_producer(const ProducerOptions& options = {}) const {
    return {topic_, topic_.shared_producer(options)};
  }
  TypedConsumer<T> consumer(const ConsumerOptions& options = {}) const {
    return TypedConsumer<T>(topic_.consumer(options));
  }
  Durable wait_written(const Appended& appended, std::chrono::nanoseconds timeout) const {
    return topic_.wait_written(appended.position.partition, appended.end, timeout);
  }
  Durable wait_durable(Position position, std::chrono::nanoseconds timeout) const {
    return topic_.wait_durable(position, timeout);
  }
  Durable close(std::chrono::nanoseconds timeout) { return topic_.close(timeout); }
  const TopicConfig& config() const noexcept { return topic_.config(); }
  Topic& untyped() noexcept { return topic_; }

  static RecordType type(std::string schema = {}) {
    return {std::move(schema), static_cast<std::uint32_t>(sizeof(T)), static_cast<std::uint32_t>(alignof(T))};
  }

 private:
  Topic topic_;
};

}  // namespace spillway
