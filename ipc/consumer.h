// Reading a topic: any of its partitions, live or from history, without the handler noticing which.
//
// Thread safety: a Consumer belongs to one thread; it may be moved to another.
#pragma once

#include <chrono>
#include <concepts>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "spillway/ipc/partition_reader.h"
#include "spillway/ipc/producer_types.h"
#include "spillway/ipc/sleeper.h"

namespace spillway {

enum class From : std::uint8_t { earliest, latest, offset };
// How a poll with a time-out waits. A spinning one answers fastest and takes a core; a blocked one costs nothing.
enum class Wait : std::uint8_t { spin, yield, back_off, block };

struct ConsumerOptions {
  std::optional<std::uint32_t> partition = std::nullopt;  // default: all
  From from = From::latest;
  Offset offset = 0;        // with From::offset and one partition: the first record at or after it
  std::string cursor = {};  // a durable place of that name; excludes `from`, begins at earliest when new
  ReadUpTo read_up_to = ReadUpTo::committed;
  Wait wait = Wait::block;
  bool gating = false;             // ephemeral `block` topics: hold producers up rather than be lapped
  std::size_t records_max = 4096;  // a poll delivers at most so many
  std::string name = {};           // shown by `stat`; the cursor's name by default
};

// Where a cursor keeps its offsets. The one implementation is persist/cursor_file.h.
class CursorStore {
 public:
  virtual ~CursorStore() = default;
  // The stored offset, or nothing when the cursor is new for the partition.
  virtual std::optional<Offset> offset(std::uint32_t partition) const noexcept = 0;
  // Stores one offset per partition, durably; never goes backward. Returns 0 or an errno.
  virtual int commit(std::span<const Offset> offsets) noexcept = 0;
};

// A record handler takes `const Record&` and returns nothing or Flow. A gap handler takes `const Gap&`, likewise.
template <class H>
concept RecordHandler = std::invocable<H&, const Record&>;
template <class H>
concept InPlaceHandler = std::invocable<H&, const InPlaceRecord&>;
template <class H>
concept GapHandler = std::invocable<H&, const Gap&>;

class Consumer {
 public:
  // Usually made by Topic::consumer(). `readers` stand where they are to begin. `cursor` may be null; `positions` has one
  // reader for each of the topic's partitions then. Throws Error (no_slot, no_permission) where it is to gate and can't.
  Consumer(std::vector<PartitionReader> readers, std::unique_ptr<CursorStore> cursor, const ConsumerOptions& options);
  Consumer(Consumer&&) noexcept = default;
  Consumer& operator=(Consumer&&) noexcept = default;

  // Delivers what there is, up to records_max records, and returns. A handler that throws has not consumed its record; the
  // exception passes through. Without a gap handler a gap ends the poll.
  template <RecordHandler H>
  PollResult poll(H&& handler) {
    return poll_once<Record>(handler, NoGapHandler{});
  }
  template <RecordHandler H, GapHandler G>
  PollResult poll(H&& handler, G&& gap_handler) {
    return poll_once<Record>(handler, gap_handler);
  }
  // The same, but waits up to `timeout` for the first record (or gap), in the way the options say; also at the end of a log
  // without a ring, for a writer to come.
  template <RecordHandler H>
  PollResult poll(std::chrono::nanoseconds timeout, H&& handler) {
    return poll_waiting<Record>(timeout, handler, NoGapHandler{});
  }
  template <RecordHandler H, GapHandler G>
  PollResult poll(std::chrono::nanoseconds timeout, H&& handler, G&& gap_handler) {
    return poll_waiting<Record>(timeout, handler, gap_handler);
  }

  // The same four without the copy: handlers take `const InPlaceRecord&`, and what they read counts only if its
  // still_valid() says so afterwards. For large records of which little is looked at; small ones are copied in no time.
  template <InPlaceHandler H>
  PollResult poll_in_place(H&& handler) {
    return poll_once<InPlaceRecord>(handler, NoGapHandler{});
  }
  template <InPlaceHandler H, GapHandler G>
  PollResult poll_in_place(H&& handler, G&& gap_handler) {
    return poll_once<InPlaceRecord>(handler, gap_handler);
  }
  template <InPlaceHandler H>
  PollResult poll_in_place(std::chrono::nanoseconds timeout, H&& handler) {
    return poll_waiting<InPlaceRecord>(timeout, handler, NoGapHandler{});
  }
  template <InPlaceHandler H, GapHandler G>
  PollResult poll_in_place(std::chrono::nanoseconds timeout, H&& handler, G&& gap_handler) {
    return poll_waiting<InPlaceRecord>(timeout, handler, gap_handler);
  }

  // Makes everything delivered so far the cursor's durable place (a gap that ended a poll is not passed until the next
  // one). Costs a write and a sync. Returns 0, or an errno: the place is then where it was. EINVAL: no cursor.
  int ack() noexcept;

  // The next offset wanted from a partition; for one that is not read: 0.
  Offset offset(std::uint32_t partition) const noexcept;
  // The end of each partition read, as of now: {partition, committed or durable end}.
  std::vector<Position> ends();
  // Goes elsewhere. False: beyond the end, or not a partition of this consumer.
  bool seek(std::uint32_t partition, Offset offset);
  void seek_earliest();
  void seek_latest();

  // Sleeps until there may be something to poll, or the time is over; for callers with a loop of their own.
  void wait(std::chrono::nanoseconds timeout) noexcept;
  // True when a poll would find something right away, or when only a poll can tell.
  bool ready() noexcept;
  std::span<PartitionReader> readers() noexcept { return readers_; }

 private:
  struct NoGapHandler {};

  template <class R, class H, class G>
  PollResult poll_once(H& handler, G&& gap_handler) {
    if (mark_.forked()) return {0, PollState::forked, {}, 0};
    if (pause_due_) pause();
    const auto deliver = [&](const R& record) -> Flow {
      if constexpr (std::is_same_v<std::invoke_result_t<H&, const R&>, Flow>) {
        return handler(record);
      } else {
        handler(record);
        return Flow::go_on;
      }
    };
    PollResult result;
    const std::size_t count = readers_.size();
    for (std::size_t i = 0; i < count; ++i) {
      PartitionReader& reader = readers_[count == 1 ? 0 : (next_ + i) % count];
      if (!poll_reader<R>(reader, deliver, gap_handler, result)) break;
    }
    if (count > 1) next_ = (next_ + 1) % count;
    caught_up(result);
    return result;
  }

  // False: the poll ends here.
  template <class R, class D, class G>
  bool poll_reader(PartitionReader& reader, const D& deliver, G& gap_handler, PollResult& result) {
    if (reader.gap_told()) reader.skip_gap();
    for (;;) {
      ReadStop stop;
      if constexpr (std::is_same_v<R, InPlaceRecord>)
        stop = reader.read_in_place(deliver, records_max_, result.records);
      else
        stop = reader.read(deliver, records_max_, result.records);
      reader.publish();
      if (stop == ReadStop::gap) {
        if constexpr (!std::is_same_v<std::remove_cvref_t<G>, NoGapHandler>) {
          const Gap gap = reader.gap();
          Flow flow = Flow::go_on;
          if constexpr (std::is_same_v<std::invoke_result_t<G&, const Gap&>, Flow>) {
            flow = gap_handler(gap);
          } else {
            gap_handler(gap);
          }
          reader.skip_gap();
          if (flow == Flow::stop) {
            result.state = PollState::stopped;
            return false;
          }
          continue;
        } else {
          result.state = PollState::gap;
          result.gap = reader.gap();
          reader.note_gap_told();
          return false;
        }
      }
      return note_stop(reader, stop, result);
    }
  }

  template <class R, class H, class G>
  PollResult poll_waiting(std::chrono::nanoseconds timeout, H& handler, G&& gap_handler) {
    PollResult result = poll_once<R>(handler, gap_handler);
    if (!keeps_waiting(result)) return result;
    const Deadline deadline = Deadline::after_ns(timeout.count() < 0 ? 0 : static_cast<std::uint64_t>(timeout.count()));
    for (unsigned round = 0; keeps_waiting(result) && !deadline.passed(); ++round) {
      wait_once(deadline, round);
      result = poll_once<R>(handler, gap_handler);
    }
    if (result.records == 0 && result.state == PollState::idle) look_who_holds(result);
    return result;
  }

  static bool keeps_waiting(const PollResult& result) noexcept {
    return result.records == 0 && (result.state == PollState::idle || result.state == PollState::replay ||
                                   result.state == PollState::end || result.state == PollState::gone);
  }
  bool note_stop(const PartitionReader& reader, ReadStop stop, PollResult& result) noexcept;
  void caught_up(const PollResult& result) noexcept {
    pause_due_ = result.records >= kStream && result.records < records_max_;
  }
  void pause() noexcept;
  void wait_once(Deadline deadline, unsigned round) noexcept;
  void look_who_holds(PollResult& result) noexcept;

  static constexpr std::size_t kStream = 4;  // so many records in one poll make a stream

  std::vector<PartitionReader> readers_;
  std::unique_ptr<CursorStore> cursor_;
  std::size_t records_max_;
  std::size_t next_ = 0;
  Wait wait_;
  bool pause_due_ = false;  // it has just caught up with a stream: looking again at once would fight over the line
  Sleeper sleeper_;
  ForkMark mark_;
};

// What comes with a typed record.
struct RecordInfo {
  Offset offset = 0;
  std::uint32_t partition = 0;
};

// A consumer of records that are all of one trivially copyable type.
template <class T>
  requires std::is_trivially_copyable_v<T>
class TypedConsumer {
 public:
  explicit TypedConsumer(Consumer consumer) : consumer_(std::move(consumer)) {}

  // Handlers take `const T&` or `const T&, const RecordInfo&`, and return nothing or Flow. A record of another size (it
  // could only come from a writer that ignored the type) ends the poll with PollState::corrupt.
  template <class H>
  PollResult poll(H&& handler) {
    bool bad = false;
    const PollResult result = consumer_.poll(adapt(handler, bad));
    return checked(result, bad);
  }
  template <class H, GapHandler G>
  PollResult poll(H&& handler, G&& gap_handler) {
    bool bad = false;
    const PollResult result = consumer_.poll(adapt(handler, bad), gap_handler);
    return checked(result, bad);
  }
  template <class H>
  PollResult poll(std::chrono::nanoseconds timeout, H&& handler) {
    bool bad = false;
    const PollResult result = consumer_.poll(timeout, adapt(handler, bad));
    return checked(result, bad);
  }
  template <class H, GapHandler G>
  PollResult poll(std::chrono::nanoseconds timeout, H&& handler, G&& gap_handler) {
    bool bad = false;
    const PollResult result = consumer_.poll(timeout, adapt(handler, bad), gap_handler);
    return checked(result, bad);
  }
  int ack() noexcept { return consumer_.ack(); }
  Consumer& untyped() noexcept { return consumer_; }

 private:
  template <class H>
  static auto adapt(H& handler, bool& bad) {
    return [&handler, &bad](const Record& record) -> Flow {
      if (record.payload().size() != sizeof(T)) {
        bad = true;
        return Flow::stop;
      }
      T value;
      std::memcpy(static_cast<void*>(&value), record.payload().data(), sizeof(T));
      const auto call = [&]() -> decltype(auto) {
        if constexpr (std::invocable<H&, const T&, const RecordInfo&>) {
          return handler(static_cast<const T&>(value), RecordInfo{record.offset(), record.partition()});
        } else {
          return handler(static_cast<const T&>(value));
        }
      };
      if constexpr (std::is_same_v<decltype(call()), Flow>) {
        return call();
      } else {
        call();
        return Flow::go_on;
      }
    };
  }
  static PollResult checked(PollResult result, bool bad) noexcept {
    if (bad) {
      result.state = PollState::corrupt;
      --result.records;
    }
    return result;
  }

  Consumer consumer_;
};

}  // namespace spillway
