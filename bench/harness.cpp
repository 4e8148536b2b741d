#include "harness.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <new>

namespace spillway::bench {

TemporaryDomain::TemporaryDomain() : owner_(::getpid()) {
  const char* tmp = std::getenv("TMPDIR");
  std::string data = std::string(tmp != nullptr ? tmp : "/tmp") + "/spillway-bench-XXXXXX";
  std::string shm = "/dev/shm/spillway-bench-XXXXXX";
  if (::mkdtemp(data.data()) == nullptr || ::mkdtemp(shm.data()) == nullptr) {
    std::perror("can't make a temporary directory");
    std::exit(4);
  }
  data_ = data;
  shm_ = shm;
}

TemporaryDomain::~TemporaryDomain() {
  if (::getpid() != owner_) return;
  std::error_code ignored;
  std::filesystem::remove_all(data_, ignored);
  std::filesystem::remove_all(shm_, ignored);
}

namespace {

// What the program was started with: a process that is pinned already may still send its children elsewhere.
cpu_set_t allowed_at_start() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) CPU_SET(0, &allowed);
  return allowed;
}
const cpu_set_t kAllowed = allowed_at_start();

}  // namespace

void pin_to(unsigned core) {
  cpu_set_t wanted;
  CPU_ZERO(&wanted);
  unsigned skip = core % static_cast<unsigned>(CPU_COUNT(&kAllowed));
  for (unsigned c = 0; c < CPU_SETSIZE; ++c) {
    if (!CPU_ISSET(c, &kAllowed)) continue;
    if (skip-- == 0) {
      CPU_SET(c, &wanted);
      break;
    }
  }
  if (::sched_setaffinity(0, sizeof wanted, &wanted) != 0) {
    std::perror("can't pin to a core");
    std::exit(4);
  }
}

std::byte* new_shared_memory(std::uint64_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("mmap");
    std::exit(4);
  }
  return static_cast<std::byte*>(memory);
}

Board& new_board() { return *new (new_shared_memory(sizeof(Board))) Board{}; }

int start_child(const std::function<int()>& work, unsigned core) {
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // or it would spin on, and spoil every later figure, when the other side fails
  if (core != kAnyCore) pin_to(core);
  int status = 1;
  try {
    status = work();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
  }
  std::fflush(nullptr);
  ::_exit(status);
}

void join_child(int pid, const char* what) {
  int status = 0;
  ::waitpid(pid, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  std::fprintf(stderr, "the %s failed\n", what);
  std::exit(1);
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

std::string spread(const std::vector<double>& values) {
  char text[96];
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  std::snprintf(text, sizeof text, "%.3g (%.3g to %.3g)", median(values), *low, *high);
  return text;
}

std::string middle(std::vector<double> values) {
  char text[96];
  std::sort(values.begin(), values.end());
  std::snprintf(text, sizeof text, "%.3g (%.3g to %.3g)", median(values), values[values.size() / 10],
                values[values.size() * 9 / 10]);
  return text;
}

std::uint64_t number_option(int argc, char** argv, const char* flag, std::uint64_t otherwise) {
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::strcmp(argv[i], flag) == 0) return std::strtoull(argv[i + 1], nullptr, 10);
  }
  return otherwise;
}

bool has_option(int argc, char** argv, const char* flag) {
  return std::any_of(argv + 1, argv + argc, [&](const char* a) { return std::strcmp(a, flag) == 0; });
}

}  // namespace spillway::bench
