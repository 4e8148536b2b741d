// How long to wait for others: until nothing has moved for the whole deadline.
//
// Thread safety: one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "spillway/persist/topic.h"
#include "spillway/persist/topic_files.h"

namespace spillway::command {

class Patience {
 public:
  Patience(const Topic& topic, double deadline_seconds);

  // What was waited for has come: the deadline begins anew. Costs nothing; the clock is read when waiting.
  void reset() noexcept { waiting_ = false; }
  // Called while waiting: true when no watermark of the topic has moved for the deadline.
  bool exhausted();
  // The next piece of waiting: short enough to notice signals, never longer than the deadline.
  std::chrono::nanoseconds slice() const noexcept;

 private:
  std::uint64_t sum_of_watermarks() const;

  Topic topic_;
  std::uint64_t deadline_ns_;
  std::uint64_t since_ns_ = 0;
  std::uint64_t seen_ = 0;
  bool waiting_ = false;
};

// What a look at the partition says of the cause, as far as it can be said.
struct InTheWay {
  std::string holder;      // "pid 12, which is paused", of whoever holds it up
  int error = 0;           // errno of its persister
  std::string error_text;  // and what that means
};
InTheWay look_in_the_way(const Directories& where, const TopicConfig& config, std::uint32_t partition, Blocked cause);
// The cause that a producer or a wait for the disk gave, and the cure.
std::string explain(Blocked cause, const std::string& topic, std::uint32_t partition, const InTheWay& seen = {});
// What to do about a write that failed with this errno.
std::string cure_of_error(int error);

}  // namespace spillway::command
