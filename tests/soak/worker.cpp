#include "worker.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "spillway/core/clock.h"
#include "spillway/core/error.h"

namespace spillway::soak {
namespace {

std::atomic<bool> stop_asked{false};

std::string name_in_history(const WorkerArguments& arguments, const Plan& plan) {
  return plan.workers[arguments.worker].name + "." + std::to_string(arguments.incarnation);
}

}  // namespace

Worker::Worker(const WorkerArguments& arguments)
    : arguments_(arguments),
      plan_(make_plan(arguments.seed)),
      stage_(Stage::open(arguments.places.stage(), false)),
      self_(stage_.workers[arguments.worker]),
      history_(arguments.places.history(), name_in_history(arguments, plan_)),
      log_(EventLog::path(arguments.places, arguments.worker, arguments.incarnation)),
      dice_(arguments.seed * 1'000'003 + arguments.worker * 65'537 + arguments.incarnation) {}

bool Worker::stopping() const noexcept { return stop_asked.load(std::memory_order_relaxed); }  // a signal's flag

void Worker::fault(const std::string& what) const noexcept {
  history_.tell("FAULT " + what);
  std::_Exit(kFault);
}

void Worker::linger() noexcept {
  self_.exposed.store(1, std::memory_order_relaxed);  // relaxed: a hint of whom to kill
  idle(*this, dice_.any_magnitude(1000, 30'000'000));
  self_.exposed.store(0, std::memory_order_relaxed);
}

void idle(const Worker& worker, std::uint64_t ns) noexcept {
  const Deadline end = Deadline::after_ns(ns);
  while (!end.passed() && !worker.stopping() && worker.round() == 0) {
    // sleep-ok: being slow, or late, is what this worker is to be.
    std::this_thread::sleep_for(std::chrono::nanoseconds(std::min<std::uint64_t>(end.left_ns(), 2'000'000)));
  }
}

void die_with_conductor() noexcept { ::prctl(PR_SET_PDEATHSIG, SIGKILL); }

int run_worker(const WorkerArguments& arguments) {
  die_with_conductor();
  struct sigaction action = {};
  action.sa_handler = [](int) { stop_asked.store(true, std::memory_order_relaxed); };
  ::sigaction(SIGTERM, &action, nullptr);
  Worker worker(arguments);
  try {
    if (worker.role() == Role::daemon) {
      run_daemon(worker);
    } else if (worker.plan().workers[arguments.worker].produces()) {
      run_producer(worker);
    } else {
      run_consumer(worker);
    }
  } catch (const std::exception& e) {
    worker.fault(e.what());
  }
  return 0;
}

}  // namespace spillway::soak
