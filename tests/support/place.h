// A domain of its own for one test: a data directory on the disk, a ring directory on tmpfs, both removed at the end.
#pragma once

#include <string>

#include "spillway/persist/domain.h"

namespace spillway::test {

class Place {
 public:
  Place();
  ~Place();
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  DomainOptions options(StandBy stand_by = StandBy::yes) const { return {data_, shm_, stand_by}; }
  Domain domain(StandBy stand_by = StandBy::yes) const { return Domain(options(stand_by)); }
  const std::string& data() const { return data_; }
  const std::string& shm() const { return shm_; }
  // What a reboot does to the rings. Nobody may be alive.
  void lose_rings() const;

 private:
  std::string data_, shm_;
  int owner_;
};

// Runs `work` in a child made by fork, which ends with its value (a thrown exception: 99). Returns the pid.
template <class Work>
int in_child(Work&& work);
// Waits for a child: its exit value, or 1000 + the signal that killed it.
int result_of(int pid);
int kill_and_wait(int pid);  // SIGKILL

namespace detail {
int fork_child();
[[noreturn]] void end_child(int value);
void say(const char* what);
}  // namespace detail

template <class Work>
int in_child(Work&& work) {
  const int pid = detail::fork_child();
  if (pid != 0) return pid;
  int value = 99;
  try {
    value = work();
  } catch (const std::exception& e) {
    detail::say(e.what());
  }
  detail::end_child(value);
}

// A pipe's worth of agreement between processes: one byte per step, so nobody sleeps to be sure.
class Signal {
 public:
  Signal();
  ~Signal();
  Signal(const Signal&) = delete;
  Signal& operator=(const Signal&) = delete;
  void raise() const;
  void await() const;

 private:
  int ends_[2];
};

}  // namespace spillway::test
