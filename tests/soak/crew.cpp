#include "crew.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "spillway/core/clock.h"
#include "spillway/core/error.h"

namespace spillway::soak {

Crew::Crew(const Plan& plan, const Places& places, std::uint64_t seed, Stage& stage, const History& history)
    : plan_(plan), places_(places), seed_(seed), stage_(stage), history_(history), processes_(plan.workers.size()) {}

Crew::~Crew() { kill_all(); }

std::string Crew::name(std::size_t worker) const {
  return plan_.workers[worker].name + "." + std::to_string(processes_[worker].incarnation) + " (pid " +
         std::to_string(processes_[worker].pid) + ")";
}

void Crew::start(std::size_t worker) {
  Process& process = processes_[worker];
  const std::uint32_t incarnation = process.incarnation + 1;
  Stage::Worker& place = stage_.workers[worker];
  place.ready.store(0, std::memory_order_relaxed);
  place.rests.store(0, std::memory_order_relaxed);
  place.exposed.store(0, std::memory_order_relaxed);
  for (auto& position : place.positions) position.store(kNotReading, std::memory_order_relaxed);
  std::vector<std::string> words = {"soak",
                                    "--worker",
                                    std::to_string(worker),
                                    "--incarnation",
                                    std::to_string(incarnation),
                                    "--seed",
                                    std::to_string(seed_),
                                    "--data",
                                    places_.work,
                                    "--shm",
                                    places_.shm};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) throw system_error(errno, "starting a worker");
  if (pid == 0) {
    ::execv("/proc/self/exe", arguments.data());
    ::_exit(127);
  }
  process = Process{pid, incarnation, false, false, false, 0, 0};
  readers_.emplace_back(EventLog::path(places_, worker, incarnation), worker, incarnation);
  history_.tell("started " + name(worker));
}

void Crew::stop(std::size_t worker, std::uint64_t ns) {
  Process& process = processes_[worker];
  history_.tell("SIGSTOP " + name(worker) + " for " + std::to_string(ns / 1000) + " us");
  ::kill(process.pid, SIGSTOP);
  process.stopped = true;
  process.continue_ns = monotonic_ns() + ns;
  ++counts_.stops;
}

void Crew::continue_now(std::size_t worker) {
  history_.tell("SIGCONT " + name(worker));
  ::kill(processes_[worker].pid, SIGCONT);
  processes_[worker].stopped = false;
}

void Crew::kill(std::size_t worker, std::uint64_t restart_ns) {
  Process& process = processes_[worker];
  history_.tell("SIGKILL " + name(worker) + (process.stopped ? ", stopped" : ""));
  process.killed = true;
  ::kill(process.pid, SIGKILL);
  process.start_ns = monotonic_ns() + restart_ns;
  ++counts_.kills;
}

void Crew::end(std::size_t worker, std::uint64_t restart_ns) {
  Process& process = processes_[worker];
  history_.tell("SIGTERM " + name(worker));
  process.leaving = true;
  ::kill(process.pid, SIGTERM);
  process.start_ns = monotonic_ns() + restart_ns;
  ++counts_.ends;
}

void Crew::reap(std::size_t worker, int status) {
  Process& process = processes_[worker];
  const bool by_us = process.killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  const bool before_its_handler = process.leaving && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM;
  const bool asked =
      before_its_handler || ((process.leaving || process.killed) && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  const std::string how = WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                                              : "exit code " + std::to_string(WEXITSTATUS(status));
  history_.tell("ended " + name(worker) + ", " + how);
  const std::string who = name(worker);
  process.pid = 0;
  process.stopped = process.killed = process.leaving = false;
  if (!by_us && !asked)
    throw Broken(who + " ended with " + how + "; its last line in the history says why, or standard error");
}

void Crew::keep_time() {
  const std::uint64_t now_ns = monotonic_ns();
  for (std::size_t i = 0; i < processes_.size(); ++i) {
    Process& process = processes_[i];
    int status = 0;
    if (process.pid > 0 && ::waitpid(process.pid, &status, WNOHANG) == process.pid) reap(i, status);
    if (process.pid == 0 && now_ns >= process.start_ns) start(i);
    if (process.pid > 0 && process.stopped && now_ns >= process.continue_ns) continue_now(i);
  }
}

void Crew::wake_all() {
  for (std::size_t i = 0; i < processes_.size(); ++i) {
    processes_[i].start_ns = 0;
    if (processes_[i].stopped) continue_now(i);
  }
  keep_time();
}

void Crew::kill_all() {
  for (std::size_t i = 0; i < processes_.size(); ++i) {
    Process& process = processes_[i];
    if (process.pid == 0) continue;
    process.killed = true;
    ::kill(process.pid, SIGKILL);
    ++counts_.kills;
  }
  for (std::size_t i = 0; i < processes_.size(); ++i) {
    Process& process = processes_[i];
    if (process.pid == 0) continue;
    int status = 0;
    while (::waitpid(process.pid, &status, 0) < 0 && errno == EINTR) {
    }
    history_.tell("ended " + name(i));
    const std::uint32_t incarnation = process.incarnation;
    process = Process();
    process.incarnation = incarnation;
  }
}

bool Crew::ready(std::size_t worker) const {
  const Process& process = processes_[worker];
  return process.pid > 0 && !process.leaving && !process.killed &&
         stage_.workers[worker].ready.load(std::memory_order_acquire) == process.incarnation;
}

void Crew::collect(Ledger& ledger, bool producers) {
  std::erase_if(readers_, [&](EventReader& reader) {
    const std::size_t worker = reader.worker();
    if (plan_.workers[worker].produces() != producers) return false;
    const std::vector<Event> events = reader.take();
    if (producers) {
      ledger.take_producer(reader, events);
    } else {
      ledger.take_consumer(reader, events);
    }
    reader.free_taken();
    const Process& process = processes_[worker];
    if (process.pid > 0 && process.incarnation == reader.incarnation()) return false;
    ledger.end_incarnation(worker, reader.incarnation());
    ::unlink(reader.path().c_str());
    return true;
  });
}

void Crew::collect_producers(Ledger& ledger) { collect(ledger, true); }
void Crew::collect_consumers(Ledger& ledger) { collect(ledger, false); }

std::uint64_t Crew::log_bytes() const {
  std::uint64_t sum = 0;
  for (const EventReader& reader : readers_) sum += reader.bytes();
  return sum;
}

}  // namespace spillway::soak
