#include "support/place.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <thread>
#include <vector>

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

namespace {

pid_t fork_once() {
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) throw std::runtime_error("can't fork");
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(98);
  }
  return pid;
}

#if defined(__SANITIZE_ADDRESS__)

// The sanitizer of g++ 12 lets a process fork while another thread holds one of its allocator's locks, and the child then
// waits for that for ever. A new thread has nothing in store, so it takes each of them.
void take_allocator_locks() {
  std::thread([] {
    for (std::size_t bytes = 16; bytes <= 256 * 1024; bytes += std::max<std::size_t>(16, bytes / 16)) {
      std::vector<char> taken(bytes);
      static_cast<void>(*const_cast<volatile char*>(taken.data()));
    }
  }).join();
}

// Forks again until a child is born that can allocate.
pid_t fork_sound() {
  for (int tries = 0; tries < 100; ++tries) {
    int ends[2];
    if (::pipe(ends) != 0) throw std::runtime_error("can't make a pipe");
    const pid_t pid = fork_once();
    if (pid == 0) {
      take_allocator_locks();
      if (::write(ends[1], "x", 1) != 1) ::_exit(97);
      ::close(ends[0]);
      ::close(ends[1]);
      return 0;
    }
    ::close(ends[1]);
    pollfd sound = {ends[0], POLLIN, 0};
    char c = 0;
    const bool is_sound = ::poll(&sound, 1, 10'000) == 1 && ::read(ends[0], &c, 1) == 1;
    ::close(ends[0]);
    if (is_sound) return pid;
    kill_and_wait(pid);
  }
  throw std::runtime_error("no child can allocate");
}

#else

pid_t fork_sound() { return fork_once(); }

#endif

}  // namespace

int detail::fork_child() {
  std::fflush(nullptr);
  return fork_sound();
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
