// A library to preload: the wall clock of every process that has it leaps by years, back and forth, every few milliseconds, as if
// somebody kept setting the clock of the machine; or it is off by $CLOCK_OFF_BY seconds. Monotonic time is the machine's. Who lets
// the kernel measure a wait by the wall clock is stopped, because that clock can't be made to leap here, and the wait would go
// unnoticed.
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <linux/futex.h>

#include <array>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>

namespace {

constexpr long kFutexWaitv = 449;  // older headers have no name for it
constexpr std::int64_t kDay = 86'400;
// The same for all processes at any instant. Now, an hour off, a second off, fifty years off, and the year 1970 (below).
constexpr std::array<std::int64_t, 8> kLeaps = {
    0, 3600, -3600, 50 * 365 * kDay, -1, -10 * 365 * kDay, 1, -1000 * 365 * kDay};
constexpr std::int64_t kLeapNs = 7'000'000;

int read_machine(clockid_t id, struct timespec* t) noexcept {
  using Call = long (*)(long, ...);
  static const auto call = reinterpret_cast<Call>(::dlsym(RTLD_NEXT, "syscall"));
  return static_cast<int>(call(SYS_clock_gettime, id, t));
}

void leap(struct timespec& t) noexcept {
  if (const char* const off_by = std::getenv("CLOCK_OFF_BY")) {
    t.tv_sec += std::atoll(off_by);
    return;
  }
  struct timespec steady = {};
  read_machine(CLOCK_MONOTONIC, &steady);
  const std::int64_t ns = std::int64_t{steady.tv_sec} * 1'000'000'000 + steady.tv_nsec;
  t.tv_sec += kLeaps[static_cast<std::size_t>(ns / kLeapNs) % kLeaps.size()];
  if (t.tv_sec < 1) t.tv_sec = 1;
}

[[noreturn]] void stop(const char* what) noexcept {
  std::fprintf(stderr, "leaping_clock: %s waits by the wall clock\n", what);
  std::abort();
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t id, struct timespec* t) noexcept {
  const int rc = read_machine(id, t);
  if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) leap(*t);
  return rc;
}
int gettimeofday(struct timeval* t, void*) noexcept {
  struct timespec now = {};
  const int rc = clock_gettime(CLOCK_REALTIME, &now);
  t->tv_sec = now.tv_sec;
  t->tv_usec = now.tv_nsec / 1000;
  return rc;
}
time_t time(time_t* t) noexcept {
  struct timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  if (t != nullptr) *t = now.tv_sec;
  return now.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t*, pthread_mutex_t*, const struct timespec*) { stop("a condition variable"); }
int pthread_mutex_timedlock(pthread_mutex_t*, const struct timespec*) noexcept { stop("a mutex"); }
int sem_timedwait(sem_t*, const struct timespec*) { stop("a semaphore"); }

long syscall(long number, ...) noexcept {
  using Call = long (*)(long, ...);
  static const auto next = reinterpret_cast<Call>(::dlsym(RTLD_NEXT, "syscall"));
  std::array<long, 6> a{};
  va_list list;
  va_start(list, number);
  for (long& argument : a) argument = va_arg(list, long);
  va_end(list);
  if (number == SYS_futex && a[3] != 0 && (a[1] & FUTEX_CLOCK_REALTIME) != 0) stop("a futex");
  if (number == kFutexWaitv && a[3] != 0 && a[4] == CLOCK_REALTIME) stop("a wait for several futexes");
  return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

}  // extern "C"
