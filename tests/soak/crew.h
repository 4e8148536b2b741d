// The worker processes of a soak: started, stopped, continued, killed, and what their logs say, collected.
//
// Only processes that it started itself are ever signalled. They die with the conductor.
// Thread safety: one thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "event_log.h"
#include "ledger.h"
#include "plan.h"
#include "stage.h"

namespace spillway::soak {

struct CrewCounts {
  std::uint64_t kills = 0;
  std::uint64_t stops = 0;
  std::uint64_t ends = 0;  // asked for, with SIGTERM
};

class Crew {
 public:
  Crew(const Plan& plan, const Places& places, std::uint64_t seed, Stage& stage, const History& history);
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  void start(std::size_t worker);
  void stop(std::size_t worker, std::uint64_t ns);  // SIGSTOP; keep_time() continues it
  void kill(std::size_t worker, std::uint64_t restart_ns);
  void end(std::size_t worker, std::uint64_t restart_ns);  // SIGTERM
  // Continues and restarts who is due, and takes note of who has ended. Throws Broken when one ended by itself.
  void keep_time();
  // Everybody runs, or is being started.
  void wake_all();
  void kill_all();  // and waits until they are gone

  bool alive(std::size_t worker) const { return processes_[worker].pid > 0; }
  bool running(std::size_t worker) const { return alive(worker) && !processes_[worker].stopped; }
  bool leaving(std::size_t worker) const { return processes_[worker].leaving; }
  bool ready(std::size_t worker) const;
  std::size_t size() const noexcept { return processes_.size(); }

  // What workers were told since the last time: first all producers, then all consumers. No producer may be in a call.
  void collect_producers(Ledger& ledger);
  void collect_consumers(Ledger& ledger);
  // Something that changes while anybody is told anything.
  std::uint64_t log_bytes() const;
  const CrewCounts& counts() const noexcept { return counts_; }

 private:
  struct Process {
    pid_t pid = 0;  // 0: there is none
    std::uint32_t incarnation = 0;
    bool stopped = false, killed = false, leaving = false;
    std::uint64_t continue_ns = 0, start_ns = 0;
  };
  void reap(std::size_t worker, int status);
  void continue_now(std::size_t worker);
  void collect(Ledger& ledger, bool producers);
  std::string name(std::size_t worker) const;

  const Plan& plan_;
  Places places_;
  std::uint64_t seed_;
  Stage& stage_;
  const History& history_;
  std::vector<Process> processes_;
  std::vector<EventReader> readers_;
  CrewCounts counts_;
};

}  // namespace spillway::soak
