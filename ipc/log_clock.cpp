#include "spillway/ipc/log_clock.h"

#include <algorithm>

#include "spillway/core/clock.h"

namespace spillway {

LogClock LogClock::born_now(std::uint64_t newest_ns, std::uint64_t wall_ahead_ns) {
  const std::int64_t shift_ns = uptime_shift_ns();
  const std::uint64_t wall = wall_ns();
  return {std::min(std::max(wall - std::min(wall, wall_ahead_ns), newest_ns), kBornNsMax), uptime_ns(shift_ns),
          shift_ns};
}

LogClock::LogClock(const Identity& checked) : LogClock(checked.born_ns, checked.born_uptime_ns, uptime_shift_ns()) {}

std::uint64_t LogClock::now_ns() const noexcept {
  const std::uint64_t uptime = uptime_ns(uptime_shift_ns_);
  return born_ns_ + (uptime - std::min(uptime, born_uptime_ns_));
}

}  // namespace spillway
