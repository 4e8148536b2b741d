#include "spillway/core/futex.h"

#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <ctime>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

namespace spillway {
namespace {

struct timespec to_timespec(std::uint64_t ns) noexcept {
  struct timespec t;
  t.tv_sec = static_cast<time_t>(ns / 1'000'000'000U);
  t.tv_nsec = static_cast<long>(ns % 1'000'000'000U);
  return t;
}

constexpr std::uint64_t kLongestNs = 3'600'000'000'000U;  // an hour stands for ever; the caller looks again

// The kernel's struct futex_waitv, which Debian 12's headers have but older ones lack.
struct WaitvEntry {
  std::uint64_t value;
  std::uint64_t address;
  std::uint32_t flags;
  std::uint32_t reserved;
};
constexpr std::uint32_t kWaitv32 = 2;  // FUTEX_32: 32-bit, shared between processes

}  // namespace

void futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected, Deadline deadline) noexcept {
  const struct timespec timeout = to_timespec(std::min(deadline.left_ns(), kLongestNs));
  ::syscall(SYS_futex, &word, FUTEX_WAIT, expected, &timeout, nullptr, 0);
}

void futex_wake_all(const std::atomic<std::uint32_t>& word) noexcept {
  ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void futex_wait_any(std::span<const FutexWatch> watches, Deadline deadline) noexcept {
  const std::uint64_t left_ns = std::min(deadline.left_ns(), kLongestNs);
  if (watches.empty()) {
    const struct timespec t = to_timespec(left_ns);
    ::nanosleep(&t, nullptr);
    return;
  }
  if (watches.size() == 1) return futex_wait(*watches[0].word, watches[0].expected, deadline);
  if (!has_futex_wait_any()) {
    return futex_wait(*watches[0].word, watches[0].expected,
                      Deadline::after_ns(std::min<std::uint64_t>(left_ns, 1'000'000)));
  }
  std::array<WaitvEntry, kFutexWatchMax> entries;
  const std::size_t count = std::min(watches.size(), kFutexWatchMax);
  for (std::size_t i = 0; i < count; ++i) {
    entries[i] = {watches[i].expected, reinterpret_cast<std::uintptr_t>(watches[i].word), kWaitv32, 0};
  }
  const struct timespec until = to_timespec(monotonic_ns() + left_ns);
  ::syscall(SYS_futex_waitv, entries.data(), static_cast<unsigned>(count), 0U, &until, CLOCK_MONOTONIC);
}

bool has_futex_wait_any() noexcept {
  static const bool has = [] {
    return ::syscall(SYS_futex_waitv, nullptr, 0U, 0U, nullptr, 0) != 0 && errno != ENOSYS && errno != EPERM;
  }();
  return has;
}

bool membarrier_register() noexcept {
  return ::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

bool membarrier_everyone() noexcept { return ::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0; }

}  // namespace spillway
