#include "spillway/core/clock.h"

#include <atomic>
#include <ctime>
#include <fstream>

namespace spillway {
namespace {

std::uint64_t read_clock(clockid_t id) noexcept {
  struct timespec t;
  ::clock_gettime(id, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(t.tv_nsec);
}

// How many cpu_relax() make a microsecond: 6 to 150 depending on the processor. The fastest of three tries, because a
// try that was interrupted says too few.
std::uint32_t measure_relax_per_us() noexcept {
  std::uint64_t best = UINT64_MAX;
  for (int i = 0; i < 3; ++i) {
    const std::uint64_t start = monotonic_ns();
    for (int k = 0; k < 200; ++k) cpu_relax();
    const std::uint64_t took = monotonic_ns() - start;
    if (took < best) best = took;
  }
  if (best == 0) best = 1;
  const std::uint64_t per_us = 200'000 / best;
  return per_us == 0 ? 1U : static_cast<std::uint32_t>(per_us);
}

std::atomic<std::uint64_t> skipped_ns{0};

}  // namespace

std::uint64_t monotonic_ns() noexcept { return read_clock(CLOCK_MONOTONIC); }
std::uint64_t wall_ns() noexcept { return read_clock(CLOCK_REALTIME); }

std::uint64_t uptime_ns(std::int64_t shift_ns) noexcept {
  // relaxed: stands alone.
  return read_clock(CLOCK_BOOTTIME) - static_cast<std::uint64_t>(shift_ns) + skipped_ns.load(std::memory_order_relaxed);
}

std::int64_t uptime_shift_ns() {
  std::ifstream in("/proc/self/timens_offsets");  // no such file: no time namespaces, or no /proc
  std::string clock;
  for (std::int64_t seconds = 0, ns = 0; in >> clock >> seconds >> ns;) {
    if (clock == "boottime") return seconds * 1'000'000'000 + ns;
  }
  return 0;
}

void skip_uptime(std::uint64_t ns) noexcept {
  skipped_ns.fetch_add(ns, std::memory_order_relaxed);  // relaxed: see uptime_ns()
}

std::string boot_id() {
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(in, id);
  return id;
}

void pause_about(std::uint32_t ns) noexcept {
  static const std::uint32_t relax_per_us = measure_relax_per_us();
  const std::uint32_t count = ns * relax_per_us / 1000 + 1;
  for (std::uint32_t i = 0; i < count; ++i) cpu_relax();
}

}  // namespace spillway
