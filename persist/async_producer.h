// Many threads of one process in front of one exclusive producer: the call copies the record into a lock-free queue and
// returns; a thread of the AsyncProducer appends them, in bulk.
//
// Thread safety: append() and flush() from any thread. A queue of this kind keeps the order of each thread's records, not
// one between threads.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "spillway/persist/topic.h"

namespace spillway {

struct AsyncProducerOptions {
  std::uint32_t partition = 0;
  std::size_t queued_bytes_max = 64 * kMiB;     // of records waiting; append answers `full` beyond it
  std::uint64_t deadline_ns = 10'000'000'000U;  // how long a record waits for room in the ring before it is refused
};

class AsyncProducer {
 public:
  // Throws what Topic::exclusive_producer() throws.
  AsyncProducer(const Topic& topic, const AsyncProducerOptions& options = {});
  // Appends what is queued and stops the thread. The first record that finds no room for as long as the options say is
  // refused, and all behind it with it.
  ~AsyncProducer();
  AsyncProducer(const AsyncProducer&) = delete;
  AsyncProducer& operator=(const AsyncProducer&) = delete;

  // Never waits. ok: queued. full: too much is queued already. too_large, forked, gone: as in a producer.
  AppendStatus append(std::span<const std::byte> payload) noexcept;
  AppendStatus append(std::string_view text) noexcept { return append(bytes_of(text)); }
  // Waits until everything this thread queued before is in the ring, or was refused. False: not within `timeout` (or there
  // is no memory to find out).
  bool flush(std::chrono::nanoseconds timeout) noexcept;

  struct Counts {
    std::uint64_t queued = 0;    // accepted by append()
    std::uint64_t appended = 0;  // committed to the ring
    std::uint64_t refused = 0;   // by the ring: dropped, full after the deadline, gone
  };
  Counts counts() const noexcept;
  // Why the last refused record was refused.
  AppendStatus last_refusal() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace spillway
