// What litmus tests are made of: two sides that run beside each other, or meet for one step each.
//
// Thread safety: a Meeting belongs to two threads.
#pragma once

#include <atomic>
#include <thread>

namespace spillway_test::litmus {

// Runs `producer` and `observer` side by side; the observer is called until the producer is done, and once more.
template <class Producer, class Observer>
void side_by_side(Producer&& producer, Observer&& observer) {
  std::atomic<bool> done{false};
  std::thread thread([&] {
    producer();
    done.store(true, std::memory_order_release);
  });
  while (!done.load(std::memory_order_acquire)) observer();
  thread.join();
  observer();
}

// Two threads meet, each takes its one step, and both results are looked at.
class Meeting {
 public:
  void wait(int round) noexcept {
    arrived_.fetch_add(1, std::memory_order_acq_rel);
    for (unsigned spins = 0; arrived_.load(std::memory_order_acquire) < 2 * (round + 1); ++spins) {
      if (spins > 200) std::this_thread::yield();
    }
  }

 private:
  std::atomic<int> arrived_{0};
};

}  // namespace spillway_test::litmus
