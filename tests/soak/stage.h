// What conductor and workers tell each other while they live: a page of shared memory.
//
// Thread safety: thread-safe; each field names its writer.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "plan.h"

namespace spillway::soak {

inline constexpr std::uint64_t kNotReading = UINT64_MAX;

struct Stage {
  struct Worker {
    std::atomic<std::uint32_t> ready;  // the worker: its incarnation, once it has opened what it wants
    std::atomic<std::uint32_t> rests;  // the worker: the round in which it starts nothing new
    std::atomic<std::uint32_t>
        exposed;  // the worker: 1 while it holds a claim, or has not written down what it was told
    // The worker: how far it has read, the least of its streams; kNotReading where it has none.
    std::array<std::atomic<std::uint64_t>, kLanesMax> positions;
  };
  std::atomic<std::uint32_t> round;  // the conductor: not 0: a round of rest
  std::array<Worker, kWorkersMax> workers;

  static Stage& open(const std::string& path, bool create);  // mapped until the process ends; throws
};

// A line of what happened, with the time, for who has to find out; lines of all processes stand in order.
class History {
 public:
  History(const std::string& path, std::string who);
  void tell(const std::string& line) const noexcept;

 private:
  int fd_;
  std::string who_;
};

}  // namespace spillway::soak
