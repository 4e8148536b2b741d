// Time, and doing nothing for a very short one.
#pragma once

#include <cstdint>
#include <string>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace spillway {

std::uint64_t monotonic_ns() noexcept;  // since boot, never steps; the same in every process
std::uint64_t wall_ns() noexcept;       // since the Unix epoch; steps when somebody sets the clock
// Since boot, time asleep included; never steps, and is the same in every process of the host: where a time namespace
// moves it, that was `uptime_shift_ns()`, which costs the reading of a file and is 0 elsewhere.
std::uint64_t uptime_ns(std::int64_t shift_ns) noexcept;
std::int64_t uptime_shift_ns();
void skip_uptime(std::uint64_t ns) noexcept;  // for tests: this process's uptime is so much more from now on
std::string boot_id();                        // tells one boot from the next; empty where /proc is not mounted

inline void cpu_relax() noexcept {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");  // `yield` is a no-op on most ARM cores
#endif
}

// Spins without touching memory for about `ns` nanoseconds; good to a factor of two.
void pause_about(std::uint32_t ns) noexcept;

// A point in monotonic time by which something must have happened. `never` is the far future.
class Deadline {
 public:
  static Deadline never() noexcept { return Deadline(UINT64_MAX); }
  static Deadline now() noexcept { return Deadline(0); }
  static Deadline after_ns(std::uint64_t ns) noexcept {
    const std::uint64_t start = monotonic_ns();
    return Deadline(ns > UINT64_MAX - start ? UINT64_MAX : start + ns);
  }
  bool passed() const noexcept { return at_ns_ != UINT64_MAX && (at_ns_ == 0 || monotonic_ns() >= at_ns_); }
  std::uint64_t left_ns() const noexcept {
    if (at_ns_ == UINT64_MAX) return UINT64_MAX;
    const std::uint64_t now_ns = monotonic_ns();
    return now_ns >= at_ns_ ? 0 : at_ns_ - now_ns;
  }

 private:
  explicit Deadline(std::uint64_t at_ns) noexcept : at_ns_(at_ns) {}
  std::uint64_t at_ns_;
};

}  // namespace spillway
