#include "acknowledgements.h"

#include <charconv>

#include "spillway/persist/topic_state.h"

namespace spillway::command {

std::string_view name_of(AckLevel level) noexcept {
  return level == AckLevel::committed ? "committed" : level == AckLevel::written ? "written" : "durable";
}

Acknowledgements::Acknowledgements(const Topic& topic, AckLevel level, Output* output)
    : topic_(topic),
      level_(level),
      output_(output),
      may_lose_(level != AckLevel::committed &&
                (topic.config().on_full == OnFull::overwrite ||
                 (level == AckLevel::durable && topic.config().sync == SyncPolicy::none))),
      keep_each_(output != nullptr || may_lose_),
      lanes_(topic.config().partitions) {
  for (std::uint32_t p = 0; p < lanes_.size(); ++p) lanes_[p].partition = p;
}

void Acknowledgements::appended(const Appended& appended) {
  Lane& lane = lanes_[appended.position.partition];
  if (level_ == AckLevel::committed && lane.pending.empty()) return print(lane.partition, appended.position.offset);
  if (!keep_each_ && !lane.pending.empty()) {
    lane.pending.back().end = appended.end;
    return;
  }
  lane.pending.push_back({appended.position.offset, appended.end});
  ++pending_;
}

void Acknowledgements::dropped(std::uint32_t partition) {
  ++dropped_;
  Lane& lane = lanes_[partition];
  if (!keep_each_ || lane.pending.empty()) return print(partition, kDropped);
  lane.pending.push_back({kDropped, 0});
  ++pending_;
}

void Acknowledgements::print(std::uint32_t partition, Offset offset) {
  if (output_ == nullptr) return;
  char line[48];  // two numbers, a space and a newline
  char* at = std::to_chars(line, line + 16, partition).ptr;
  *at++ = ' ';
  if (offset == kDropped) {
    *at++ = '-';
  } else {
    at = std::to_chars(at, at + 24, offset).ptr;
  }
  *at++ = '\n';
  output_->append({line, static_cast<std::size_t>(at - line)});
}

// How far the partition's log has come at our level. Everything that ends before is settled: on disk, or lost.
Offset Acknowledgements::reached(std::uint32_t partition) const {
  const auto open = topic_.state().writing_if_open(partition);
  if (!open) return 0;
  const PersisterArea& area = open->control().persister;
  // acquire: pairs with the persister's release stores; a gap it noted before moving the watermark is then seen by ask().
  return level_ == AckLevel::written ? area.written_end.load(std::memory_order_acquire)
                                     : area.durable_end.load(std::memory_order_acquire);
}

Durable Acknowledgements::ask(std::uint32_t partition, Offset end, std::chrono::nanoseconds timeout) const {
  return level_ == AckLevel::written ? topic_.wait_written(partition, end, timeout)
                                     : topic_.wait_durable(partition, end, timeout);
}

void Acknowledgements::finish(Lane& lane, bool lost) {
  const Pending record = lane.pending.front();
  if (lost) ++lost_;
  print(lane.partition, lost ? kDropped : record.offset);
  lane.pending.pop_front();
  --pending_;
}

// What ends at or before `reached_end`; each record is asked for by itself where one may be lost (`ask_each`).
void Acknowledgements::settle_lane(Lane& lane, Offset reached_end, bool ask_each) {
  while (!lane.pending.empty()) {
    const Pending record = lane.pending.front();
    Durable result = Durable::yes;
    if (record.offset != kDropped) {
      if (record.end > reached_end) return;
      if (ask_each) result = ask(lane.partition, record.end, std::chrono::nanoseconds(0));
    }
    if (result != Durable::yes && result != Durable::lost) return;  // it can't be told yet
    finish(lane, result == Durable::lost);
  }
}

Offset Acknowledgements::newest_end(const Lane& lane) {
  for (auto record = lane.pending.rbegin(); record != lane.pending.rend(); ++record) {
    if (record->offset != kDropped) return record->end;
  }
  return 0;
}

void Acknowledgements::settle() {
  if (pending_ == 0) return;
  for (Lane& lane : lanes_) {
    if (!lane.pending.empty()) settle_lane(lane, reached(lane.partition), may_lose_);
  }
}

std::optional<std::uint32_t> Acknowledgements::waiting_partition() const noexcept {
  for (const Lane& lane : lanes_) {
    if (!lane.pending.empty()) return lane.partition;
  }
  return std::nullopt;
}

void Acknowledgements::wait(std::chrono::nanoseconds timeout) {
  const auto partition = waiting_partition();
  if (!partition) return;
  Lane& lane = lanes_[*partition];
  const Offset end = newest_end(lane);
  if (ask(*partition, end, timeout) == Durable::lost) {
    // No watermark may ever pass what is lost.
    return settle_lane(lane, kOffsetEnd, true);
  }
  settle();
}

}  // namespace spillway::command
