// Any number of consumers behind one descriptor for epoll, poll or asio.
//
// Thread safety: add, remove and rearm belong to one thread (the event loop's); the descriptor may be watched anywhere.
#pragma once

#include <memory>
#include <vector>

#include "spillway/ipc/consumer.h"

namespace spillway {

// The descriptor turns readable when one of the consumers may have something to poll. The loop then: polls every consumer
// until it is idle, calls clear(), and waits for the descriptor again. A consumer that is not idle when clear() is called
// makes it readable anew at once, so nothing is missed; who clears first and polls then misses nothing either, and is woken
// twice.
class WaitSet {
 public:
  WaitSet();  // throws Error when there are no descriptors or threads left
  ~WaitSet();
  WaitSet(const WaitSet&) = delete;
  WaitSet& operator=(const WaitSet&) = delete;

  // The consumer must stay where it is, and be polled from the loop's thread only, until it is removed.
  void add(Consumer& consumer);
  void remove(Consumer& consumer);
  // An eventfd, close-on-exec and non-blocking; owned by the WaitSet.
  int descriptor() const noexcept;
  // Takes the readiness back, unless there is something to poll by now. To be called after polling.
  void clear();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace spillway
