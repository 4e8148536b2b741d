#include "support/place.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace spillway::test {

Place::Place() : owner_(::getpid()) {
  const char* tmp = std::getenv("TMPDIR");
  data_ = std::string(tmp != nullptr ? tmp : "/tmp") + "/spillway-test-XXXXXX";
  shm_ = "/dev/shm/spillway-test-XXXXXX";
  if (::mkdtemp(data_.data()) == nullptr || ::mkdtemp(shm_.data()) == nullptr) {
    throw std::runtime_error("can't make the test's directories");
  }
}

Place::~Place() {
  if (::getpid() != owner_) return;
  std::error_code ignored;
  std::filesystem::remove_all(data_, ignored);
  std::filesystem::remove_all(shm_, ignored);
}

void Place::lose_rings() const {
  for (const auto& entry : std::filesystem::directory_iterator(shm_)) std::filesystem::remove_all(entry.path());
}

int detail::fork_child() {
  std::fflush(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) throw std::runtime_error("can't fork");
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(98);
  }
  return pid;
}

void detail::end_child(int value) {
  std::fflush(nullptr);
  ::_exit(value);
}

void detail::say(const char* what) { std::fprintf(stderr, "child: %s\n", what); }

int result_of(int pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

int kill_and_wait(int pid) {
  ::kill(pid, SIGKILL);
  return result_of(pid);
}

Signal::Signal() {
  if (::pipe(ends_) != 0) throw std::runtime_error("can't make a pipe");
}
Signal::~Signal() {
  ::close(ends_[0]);
  ::close(ends_[1]);
}
void Signal::raise() const {
  if (::write(ends_[1], "x", 1) != 1) std::abort();
}
void Signal::await() const {
  char c = 0;
  while (::read(ends_[0], &c, 1) < 0 && errno == EINTR) {
  }
}

}  // namespace spillway::test
