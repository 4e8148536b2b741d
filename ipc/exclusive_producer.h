// The one producer of a partition: the fast path. Plain stores, one release store per record, one fence per chunk.
//
// Thread safety: an ExclusiveProducer belongs to one thread; it may be moved to another.
#pragma once

#include <memory>

#include "spillway/core/fork.h"
#include "spillway/ipc/producer_session.h"
#include "spillway/ipc/producer_types.h"
#include "spillway/ipc/record_writer.h"
#include "spillway/ipc/space.h"
#include "spillway/ipc/waker.h"

namespace spillway {

class ExclusiveWriter;

// A record's room in the ring, to be filled in place. Destroying it without commit() aborts it: the room becomes padding.
// The producer must not be used, moved or destroyed while a claim of it is open. Belongs to the producer's thread.
class ExclusiveClaim {
 public:
  ExclusiveClaim() noexcept = default;
  ExclusiveClaim(ExclusiveClaim&& other) noexcept { *this = std::move(other); }
  ExclusiveClaim& operator=(ExclusiveClaim&& other) noexcept;
  ~ExclusiveClaim() { abort(); }

  AppendStatus status() const noexcept { return appended_.status; }
  Blocked blocked() const noexcept { return appended_.blocked; }
  explicit operator bool() const noexcept { return writer_ != nullptr; }
  // 16-aligned; what it holds before it is written is whatever an earlier lap left. Valid until commit or abort.
  std::span<std::byte> payload() const noexcept { return payload_; }
  // Publishes the record. The claim is empty afterwards.
  Appended commit() noexcept;
  void abort() noexcept;

 private:
  friend class ExclusiveWriter;
  ExclusiveWriter* writer_ = nullptr;
  RecordPlan plan_;
  std::span<std::byte> payload_;
  Appended appended_;
};

// The state behind an ExclusiveProducer; does not move. Internal, in the header for the inline fast path.
class ExclusiveWriter final : public ForkListener {
 public:
  ExclusiveWriter(std::shared_ptr<Partition> partition, const ProducerOptions& options);
  ~ExclusiveWriter() override;

  Appended append(std::span<const std::byte> payload) noexcept {
    const std::uint64_t bytes = record_bytes(payload.size());
    const Offset begin = offset_;
    // The chunk never crosses the ring's end; there is none when the producer is closed or forked. Signed, because in a child
    // that was forked in the middle of an append its end lies behind us.
    if (static_cast<std::int64_t>(bytes) > static_cast<std::int64_t>(chunk_end_ - begin)) [[unlikely]] {
      return append_slow(payload, RecordOptions{});
    }
    std::byte* record = records_ + (begin & mask_);
    copy_to_ring(record + kRecordHeaderBytes, payload.data(), payload.size());
    auto& header = *reinterpret_cast<RecordHeader*>(record);
    store_meta(header, {static_cast<std::uint32_t>(payload.size()), 0, RecordKind::data, 0});
    store_commit(header, mix_.word(begin));  // R1 -> W1, A1
    offset_ = begin + bytes;
    waker_.notify();
    return {AppendStatus::ok, Blocked::none, {number_, begin}, begin + bytes};
  }
  Appended append(std::span<const std::byte> payload, const RecordOptions& options) noexcept {
    return append_slow(payload, options);
  }
  Appended append_batch(std::span<const RecordInput> records) noexcept;
  ExclusiveClaim claim(std::size_t payload_bytes, const RecordOptions& options) noexcept;
  Appended commit_claim(const RecordPlan& plan, bool keep) noexcept;
  void close() noexcept;
  Offset offset() const noexcept { return offset_; }
  const std::shared_ptr<Partition>& partition() const noexcept { return session_.partition_pointer(); }
  void set_deadline(std::uint64_t ns) noexcept { deadline_ns_ = ns; }

  void forked_in_child() noexcept override;

 private:
  struct Room {
    AppendStatus status = AppendStatus::ok;
    Blocked blocked = Blocked::none;
  };
  Appended append_slow(std::span<const std::byte> payload, const RecordOptions& options) noexcept;
  // Makes [offset_, offset_ + bytes) ours, in one lap.
  Room make_room(std::uint64_t bytes) noexcept;
  Room reserve(Offset wanted) noexcept;
  void reserve_to(Offset end) noexcept;
  void pad_to(Offset end) noexcept;

  // Read and written by the owning thread only.
  Offset offset_ = 0;     // where the next record begins
  Offset chunk_end_ = 0;  // reserved up to here; offset_ when there is nothing left
  std::byte* records_ = nullptr;
  std::uint64_t mask_ = 0;
  CommitMix mix_;
  std::uint32_t number_ = 0;
  bool closed_ = false;
  bool forked_ = false;
  std::uint64_t claim_max_ = 0;
  std::uint64_t noted_sixteenth_ = UINT64_MAX;
  std::uint64_t chunk_bytes_ = 0;  // grows from one block to a 64th of the ring as the stream goes on
  std::uint64_t deadline_ns_ = 0;
  ProducerSession session_;
  Space space_;
  Waker waker_;
};

class ExclusiveProducer {
 public:
  // Throws Error: busy, corrupt, no_slot, no_permission. Usually made by Topic::exclusive_producer().
  ExclusiveProducer(std::shared_ptr<Partition> partition, const ProducerOptions& options)
      : writer_(std::make_unique<ExclusiveWriter>(std::move(partition), options)) {}

  // Copies `payload` (up to a quarter of the ring) in and publishes it. Waits for room by the topic's on_full policy.
  Appended append(std::span<const std::byte> payload) noexcept { return writer_->append(payload); }
  Appended append(std::string_view text) noexcept { return writer_->append(bytes_of(text)); }
  Appended append(std::span<const std::byte> payload, const RecordOptions& options) noexcept {
    return writer_->append(payload, options);
  }
  // All records become visible together or not at all. Together they take at most a quarter of the ring. An empty batch is
  // ok and does nothing.
  Appended append_batch(std::span<const RecordInput> records) noexcept { return writer_->append_batch(records); }
  // Room for a record, to be written in place. One claim at a time.
  ExclusiveClaim claim(std::size_t payload_bytes, const RecordOptions& options = {}) noexcept {
    return writer_->claim(payload_bytes, options);
  }
  // Gives the partition up: what was reserved and not used becomes padding. Does not wait for the disk (see
  // Topic::close). Also done by the destructor.
  void close() noexcept { writer_->close(); }

  Offset offset() const noexcept { return writer_->offset(); }  // where the next record will begin, at the earliest
  const std::shared_ptr<Partition>& partition() const noexcept { return writer_->partition(); }
  void set_deadline_ns(std::uint64_t ns) noexcept { writer_->set_deadline(ns); }

 private:
  std::unique_ptr<ExclusiveWriter> writer_;
};

}  // namespace spillway
