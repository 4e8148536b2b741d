// What pub has appended and not yet acknowledged: one queue per partition, in the order of the input.
//
// A record is settled once its topic's log has it at the level asked for: printed then, if `output` is given, as
// `PARTITION OFFSET`, or `PARTITION -` when it was dropped or lost. Where neither printing nor losses need each record, only
// the newest end of a partition is kept.
// Thread safety: one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "output.h"
#include "spillway/persist/topic.h"

namespace spillway::command {

enum class AckLevel : std::uint8_t { committed, written, durable };
std::string_view name_of(AckLevel level) noexcept;

class Acknowledgements {
 public:
  // `output` null: nothing is printed. It must outlive this.
  Acknowledgements(const Topic& topic, AckLevel level, Output* output);

  void appended(const Appended& appended);
  void dropped(std::uint32_t partition);

  // Settles what has reached its level; never waits for the disk.
  void settle();
  // Waits up to `timeout` for the partition that comes first among those that wait, then settles. Does the disk's work on
  // this thread where it can.
  void wait(std::chrono::nanoseconds timeout);

  bool done() const noexcept { return pending_ == 0; }
  std::uint64_t pending() const noexcept { return pending_; }  // records (or, where only ends are kept, partitions)
  std::uint64_t dropped_count() const noexcept { return dropped_; }
  std::uint64_t lost_count() const noexcept { return lost_; }  // overwritten, or lost by a failed sync
  std::optional<std::uint32_t> waiting_partition() const noexcept;

 private:
  static constexpr Offset kDropped = UINT64_MAX;
  struct Pending {
    Offset offset = 0;  // kDropped: none
    Offset end = 0;
  };
  struct Lane {
    std::uint32_t partition = 0;
    std::deque<Pending> pending;
  };

  Offset reached(std::uint32_t partition) const;
  void settle_lane(Lane& lane, Offset reached_end, bool ask_each);
  void finish(Lane& lane, bool lost);
  Durable ask(std::uint32_t partition, Offset end, std::chrono::nanoseconds timeout) const;
  static Offset newest_end(const Lane& lane);
  void print(std::uint32_t partition, Offset offset);

  Topic topic_;
  AckLevel level_;
  Output* output_;
  bool may_lose_;  // a record that was appended may still be lost
  bool keep_each_;
  std::vector<Lane> lanes_;
  std::uint64_t pending_ = 0;
  std::uint64_t dropped_ = 0;
  std::uint64_t lost_ = 0;
};

}  // namespace spillway::command
