// One of many producers of a partition: one CAS per record or batch, in a total order.
//
// Thread safety: a SharedProducer belongs to one thread; it may be moved to another. Several threads: one each (or an
// AsyncProducer).
#pragma once

#include <memory>

#include "spillway/core/fork.h"
#include "spillway/ipc/producer_session.h"
#include "spillway/ipc/producer_types.h"
#include "spillway/ipc/record_writer.h"
#include "spillway/ipc/space.h"
#include "spillway/ipc/waker.h"

namespace spillway {

class SharedProducer;

// A record's room in the ring, to be filled in place; the other producers go on behind it, but no consumer passes it until
// it is committed or aborted. Destroying it aborts it. The producer must not be used, moved or destroyed meanwhile.
class SharedClaim {
 public:
  SharedClaim() noexcept = default;
  SharedClaim(SharedClaim&& other) noexcept { *this = std::move(other); }
  SharedClaim& operator=(SharedClaim&& other) noexcept;
  ~SharedClaim() { abort(); }

  AppendStatus status() const noexcept { return appended_.status; }
  Blocked blocked() const noexcept { return appended_.blocked; }
  explicit operator bool() const noexcept { return producer_ != nullptr; }
  std::span<std::byte> payload() const noexcept { return payload_; }  // 16-aligned; valid until commit or abort
  Appended commit() noexcept;
  void abort() noexcept;

 private:
  friend class SharedProducer;
  SharedProducer* producer_ = nullptr;
  RecordPlan plan_;
  std::span<std::byte> payload_;
  Appended appended_;
};

class SharedProducer {
 public:
  // Throws Error: busy (an exclusive producer lives), corrupt, no_slot, no_permission. Usually made by
  // Topic::shared_producer().
  SharedProducer(std::shared_ptr<Partition> partition, const ProducerOptions& options);
  ~SharedProducer() { close(); }
  SharedProducer(SharedProducer&&) noexcept = default;
  SharedProducer& operator=(SharedProducer&&) noexcept = default;

  // As in ExclusiveProducer.
  Appended append(std::span<const std::byte> payload) noexcept { return append(payload, RecordOptions{}); }
  Appended append(std::string_view text) noexcept { return append(bytes_of(text)); }
  Appended append(std::span<const std::byte> payload, const RecordOptions& options) noexcept;
  Appended append_batch(std::span<const RecordInput> records) noexcept;
  SharedClaim claim(std::size_t payload_bytes, const RecordOptions& options = {}) noexcept;
  void close() noexcept;

  const std::shared_ptr<Partition>& partition() const noexcept { return partition_; }
  void set_deadline_ns(std::uint64_t ns) noexcept { deadline_ns_ = ns; }

 private:
  friend class SharedClaim;
  // Claims `bytes` in one lap and confirms the note; on success `offset` is where they begin.
  Appended take(std::uint64_t bytes, Offset& offset) noexcept;
  // Whether a claim that ends at `end` is within all limits; waits for it, or says why not.
  Appended admit(Offset end, unsigned& round, Deadline& deadline) noexcept;
  bool try_claim(Offset begin, Offset end) noexcept;
  Appended finish(Offset begin, std::uint64_t bytes) noexcept;
  std::byte* record_at(Offset offset) const noexcept { return partition_->at(offset); }

  std::shared_ptr<Partition> partition_;
  std::unique_ptr<ProducerSession> session_;
  std::unique_ptr<Space> space_;
  std::unique_ptr<Waker> waker_;
  ProducerSlot* slot_ = nullptr;
  std::uint64_t deadline_ns_ = 0;
  Offset limit_ = 0;  // a bound that held when it was worked out, not far away
  ForkMark mark_;
};

}  // namespace spillway
