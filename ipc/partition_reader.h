// One consumer's place in one partition: live in the ring, or replaying from history, without a seam.
//
// Thread safety: belongs to one thread. Internal: users have Consumer.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>

#include "spillway/ipc/history.h"
#include "spillway/ipc/partition.h"
#include "spillway/ipc/record.h"
#include "spillway/ipc/ring_walk.h"

namespace spillway {

enum class ReadUpTo : std::uint8_t { committed, durable };

// What a reader reads from; either may be missing, not both for ever.
struct ReaderSource {
  std::shared_ptr<Partition> ring;
  std::unique_ptr<History> history;
  std::string consumers_lock = {};  // where a reader without a ring shows that it waits for one; empty: nowhere
};
// Looks again for a ring, after there was none or the one there was is gone. An empty source, or an Error: not yet. Throws
// Error (gone) when there will be none, because the topic was deleted.
using FindSource = std::function<ReaderSource()>;

enum class ReadStop : std::uint8_t {
  caught_up,
  full,
  stopped,
  lapped,
  gap,
  waiting,
  end,
  gone,
  corrupt,
  unsupported,
  failed
};

class PartitionReader {
 public:
  PartitionReader(std::uint32_t number, ReaderSource source, FindSource find, ReadUpTo read_up_to);
  ~PartitionReader();
  PartitionReader(PartitionReader&&) noexcept;

  // Where to start. Each may be called again at any time (seek).
  void start_earliest();
  void start_latest();
  // The first record that begins at or after `offset`. False: it lies beyond the end of the log.
  bool start_at(Offset offset);
  // An offset that was a record's boundary when it was stored (a cursor).
  void start_at_boundary(Offset offset) noexcept;

  std::uint32_t number() const noexcept { return number_; }
  Offset offset() const noexcept { return offset_; }  // the next record's; with a gap pending, the gap's begin
  bool replaying() const noexcept { return replaying_; }
  bool ended() const noexcept { return !ring_; }
  bool topic_gone() const noexcept { return topic_gone_; }  // deleted, or made anew: nothing will come any more
  const std::shared_ptr<Partition>& ring() const noexcept { return ring_; }
  // The committed (or durable) end as it is now: where `--until-end` stops.
  Offset end_now();
  // The oldest offset that can be read now.
  Offset begin_now();

  const Gap& gap() const noexcept { return gap_; }  // after ReadStop::gap; `from` is offset()
  int error() const noexcept { return error_; }     // after ReadStop::failed
  // After a gap was reported: goes on behind it.
  void skip_gap() noexcept;
  bool gap_pending() const noexcept { return gap_pending_; }
  // For a consumer without a gap handler: the pending gap was returned, and the next poll goes on behind it.
  void note_gap_told() noexcept { gap_told_ = gap_pending_; }
  bool gap_told() const noexcept { return gap_told_; }

  // Anything to read, or to find out, right now? Used before sleeping; loads shared memory only. While replaying only a
  // read can tell: yes, unless one has just said that there is nothing.
  bool ready() noexcept;
  // Something is committed at offset() (live readers; one that reads up to durable may have to wait for it still).
  bool committed_here() const noexcept;
  bool reads_durable() const noexcept { return read_up_to_ == ReadUpTo::durable; }
  // True when what it waits for is the claim of a dead shared producer.
  bool held_by_dead() const noexcept;

  // Registers with the ring's consumers file so that `stat` can show it and gates count. Best effort: an observer, or one
  // for whom no slot is free, reads all the same. Without a ring only a slot's lock is held, so that nobody deletes the
  // topic under it. False: not registered.
  bool register_slot(std::string_view name, bool gating);
  bool registered() const noexcept { return slot_ != nullptr; }
  void publish() noexcept;  // its offset, for `stat` and gates

  // Delivers up to `most` records to `deliver(const Record&) -> Flow`; adds to `count` those that were consumed.
  template <class Deliver>
  ReadStop read(Deliver&& deliver, std::size_t most, std::size_t& count) {
    return read_as<Record>(deliver, most, count);
  }
  // The same with `deliver(const InPlaceRecord&) -> Flow`: nothing is copied.
  template <class Deliver>
  ReadStop read_in_place(Deliver&& deliver, std::size_t most, std::size_t& count) {
    return read_as<InPlaceRecord>(deliver, most, count);
  }

 private:
  template <class R, class Deliver>
  ReadStop read_as(Deliver& deliver, std::size_t most, std::size_t& count) {
    while (true) {
      if (gap_pending_) return ReadStop::gap;
      const ReadStop stop = replaying_ ? read_history<R>(deliver, most, count) : read_live<R>(deliver, most, count);
      if (stop != ReadStop::lapped) return stop;
      if (count >= most) return ReadStop::full;
      if (!change_state()) return ReadStop::gap;
    }
  }

  template <class R, class Deliver>
  ReadStop read_live(Deliver& deliver, std::size_t most, std::size_t& count) {
    while (count < most) {
      if (offset_ >= limit_ && !raise_limit()) return nothing_there();
      const Offset at = offset_;
      RecordHeader& header = *reinterpret_cast<RecordHeader*>(records_ + (at & mask_));
      if (header.commit.load(std::memory_order_acquire) != mix_.word(at)) return nothing_there();  // A1 <- R1, R4, R7
      // relaxed: ordered by A1; a lap that passed meanwhile is noticed below, before anything is believed.
      const RecordMeta meta = RecordMeta::unpack(header.meta.load(std::memory_order_relaxed));
      const RecordShape shape = shape_of(meta, mask_ + 1 - (at & mask_));
      const std::byte* const body = reinterpret_cast<const std::byte*>(&header) + kRecordHeaderBytes;
      R record;
      bool parsed = true;
      if (shape.status == ShapeStatus::ok && meta.kind == RecordKind::data) {
        if constexpr (std::is_same_v<R, InPlaceRecord>) {
          parsed = meta.length > scratch_bytes_ || Record::parse(body, meta, at, number_, record);
          record.reserved_end_ = reserved_end_;
          record.ring_bytes_ = mask_ + 1;
        } else {
          copy_from_ring(scratch_, body, meta.length <= scratch_bytes_ ? meta.length : scratch_bytes_);
        }
      }
      std::atomic_thread_fence(std::memory_order_acquire);  // A2 <- R3, C1, as in still_in_ring()
      if (reserved_end_->load(std::memory_order_relaxed) - at > mask_ + 1) return ReadStop::lapped;
      if (shape.status != ShapeStatus::ok || meta.length > scratch_bytes_) [[unlikely]] {
        if (shape.status == ShapeStatus::unsupported) return ReadStop::unsupported;
        if (meta.kind == RecordKind::data || shape.status != ShapeStatus::ok) return ring_damaged();
      }
      if (meta.kind == RecordKind::data) {
        if constexpr (!std::is_same_v<R, InPlaceRecord>) parsed = Record::parse(scratch_, meta, at, number_, record);
        if (!parsed) return ring_damaged();
        const Flow flow = deliver(static_cast<const R&>(record));
        ++count;
        offset_ = at + shape.bytes;
        if (flow == Flow::stop) return ReadStop::stopped;
      } else {
        offset_ = at + shape.bytes;
      }
    }
    return ReadStop::full;
  }

  template <class R, class Deliver>
  ReadStop read_history(Deliver& deliver, std::size_t most, std::size_t& count) {
    while (count < most) {
      if (span_.empty()) {
        const ReadStop stop = next_span();
        if (stop != ReadStop::full) return stop;
      }
      // Checked by the history: whole records, their words right.
      if (span_.size() < kRecordHeaderBytes) return ReadStop::corrupt;
      const auto& header = *reinterpret_cast<const RecordHeader*>(span_.data());
      const RecordMeta meta = RecordMeta::unpack(header.meta.load(std::memory_order_relaxed));  // private memory
      const RecordShape shape = shape_of(meta, span_.size());
      if (shape.status != ShapeStatus::ok) return ReadStop::corrupt;
      if (meta.kind == RecordKind::data) {
        if (offset_ >= limit_ && !raise_limit()) return not_durable();
        R record;
        if (!Record::parse(span_.data() + kRecordHeaderBytes, meta, offset_, number_, record)) return ReadStop::corrupt;
        const Flow flow = deliver(static_cast<const R&>(record));
        ++count;
        step_span(shape.bytes);
        if (flow == Flow::stop) return ReadStop::stopped;
      } else {
        step_span(shape.bytes);
      }
    }
    return ReadStop::full;
  }

  void step_span(std::uint64_t bytes) noexcept {
    span_ = span_.subspan(static_cast<std::size_t>(bytes));
    offset_ += bytes;
  }
  void bind(ReaderSource source);
  bool raise_limit() noexcept;
  ReadStop nothing_there() noexcept;
  ReadStop ring_damaged() noexcept;
  bool ring_may_have() const noexcept;
  ReadStop not_durable() noexcept;
  void set_gap(Offset to, Offset resume, GapCause cause) noexcept;
  ReadStop next_span() noexcept;
  bool change_state() noexcept;
  bool look_for_source() noexcept;
  void enter(Offset offset) noexcept;
  void walk_to_record(Offset wanted) noexcept;

  struct Slot;

  // The owning thread's alone; the first line is what the live loop reads.
  std::byte* records_ = nullptr;
  const std::atomic<std::uint64_t>* reserved_end_ = nullptr;
  std::uint64_t mask_ = 0;
  CommitMix mix_;
  Offset offset_ = 0;
  Offset limit_ = 0;  // deliver only what begins before; UINT64_MAX for committed
  std::byte* scratch_ = nullptr;
  std::size_t scratch_bytes_ = 0;
  std::shared_ptr<Partition> ring_;
  std::uint32_t number_ = 0;
  bool replaying_ = false;
  bool gap_pending_ = false;
  bool gap_told_ = false;
  ReadUpTo read_up_to_;
  int error_ = 0;
  Gap gap_;
  Offset resume_ = 0;  // where reading goes on behind gap_; its end, but for a log that began anew before it
  std::span<const std::byte> span_;  // of history_, from offset_ on
  std::unique_ptr<History> history_;
  std::unique_ptr<std::byte[]> scratch_memory_;
  FindSource find_;
  std::uint32_t looks_ = 0;    // that found nothing
  Offset distrusted_end_ = 0;  // the ring is damaged before it: read from history
  std::uint64_t looked_ns_ = 0;
  std::uint64_t nothing_ns_ = 0;  // when history last had nothing; 0: it has, or was not asked
  std::string slot_name_;         // to register with the ring that follows this one
  bool gating_ = false;
  bool wants_slot_ = false;
  bool topic_gone_ = false;
  std::string consumers_lock_;
  std::unique_ptr<Slot> slot_;
};

}  // namespace spillway
