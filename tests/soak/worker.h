// What every worker process of a soak has: its plan, its log of what it was told, its place on the stage, its end.
//
// A worker ends with 0 when SIGTERM asked for it, and with kFault, after a line in the history, when it saw a promise broken.
// Thread safety: one thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "event_log.h"
#include "plan.h"
#include "stage.h"

namespace spillway::soak {

inline constexpr int kFault = 3;

struct WorkerArguments {
  Places places;
  std::uint64_t seed = 0;
  std::size_t worker = 0;
  std::uint32_t incarnation = 0;
};

class Worker {
 public:
  explicit Worker(const WorkerArguments& arguments);

  const Plan& plan() const noexcept { return plan_; }
  const Places& places() const noexcept { return arguments_.places; }
  Role role() const noexcept { return plan_.workers[arguments_.worker].role; }
  std::size_t number() const noexcept { return arguments_.worker; }
  std::uint32_t incarnation() const noexcept { return arguments_.incarnation; }
  EventLog& log() noexcept { return log_; }
  Dice& dice() noexcept { return dice_; }

  bool stopping() const noexcept;
  // Not 0: start nothing new, and say so with rest_in(), until it is 0 again.
  std::uint32_t round() const noexcept { return stage_.round.load(std::memory_order_acquire); }
  void rest_in(std::uint32_t round) noexcept { self_.rests.store(round, std::memory_order_release); }
  void ready() noexcept { self_.ready.store(incarnation(), std::memory_order_release); }
  void show_position(std::size_t lane, std::uint64_t offset) noexcept {
    self_.positions[lane].store(offset, std::memory_order_release);
  }
  // Does nothing for a while at a moment at which to die is worth a test; the conductor is told.
  void linger() noexcept;
  void tell(const std::string& line) const noexcept { history_.tell(line); }
  // A promise was broken: ends the process.
  [[noreturn]] void fault(const std::string& what) const noexcept;

 private:
  WorkerArguments arguments_;
  Plan plan_;
  Stage& stage_;
  Stage::Worker& self_;
  History history_;
  EventLog log_;
  Dice dice_;
};

// Does nothing for a while; in short pieces that end when the worker is asked to stop or to rest.
void idle(const Worker& worker, std::uint64_t ns) noexcept;

// Asked for again after a change of user, which the kernel takes for a reason to forget it.
void die_with_conductor() noexcept;

void run_daemon(Worker& worker);
void run_producer(Worker& worker);
void run_consumer(Worker& worker);

// The whole of a worker process; returns its exit code.
int run_worker(const WorkerArguments& arguments);

}  // namespace spillway::soak
