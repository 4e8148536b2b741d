// The processes of the demo, other than the one that directs them and the persister, which is a plain `spillway persist`.
//
// Each obeys lines on its standard input and reports lines of JSON on its standard output, several times a second:
//   to a producer   `phase N`        the consumers' state changed (demo_latency.h)
//                   `stop`           produce no more: the last report, with "final", follows, and the process ends
//   to a reader     `finish T F`     read up to offset T of the telemetry and F of the firehose: likewise
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "input.h"
#include "spillway/core/clock.h"
#include "spillway/persist/domain.h"

namespace spillway::command::demo {

struct RoleOptions {
  DomainOptions domain;
  std::string role;  // telemetry, firehose or reader
  std::string name;  // of a reader: live or slow
  std::uint64_t bytes_per_second = 0;
  std::uint64_t log_bytes_max = 0;
};

// Runs the role until it was told to end. Returns the exit code; throws Error and Failure.
int run_role(const RoleOptions& options);

int run_telemetry(const RoleOptions& options);
int run_firehose(const RoleOptions& options);
int run_reader(const RoleOptions& options);

// What the director says.
class Orders {
 public:
  // The next line, or nothing while there is none. Throws Failure when the director has gone.
  std::optional<std::string> next();

 private:
  Input input_;
};

// True once every `period_ns`.
class Every {
 public:
  explicit Every(std::uint64_t period_ns) noexcept : period_ns_(period_ns) {}
  bool due() noexcept {
    const std::uint64_t now = monotonic_ns();
    if (now < next_ns_) return false;
    next_ns_ = now + period_ns_;
    return true;
  }

 private:
  std::uint64_t period_ns_;
  std::uint64_t next_ns_ = 0;
};

inline constexpr std::uint64_t kMillisecond = 1'000'000;
inline constexpr std::uint64_t kReportPeriod = 100 * kMillisecond;
inline constexpr std::uint64_t kTick = kMillisecond;  // how often producers look at the time

// Sleeps for about `ns`.
void rest(std::uint64_t ns) noexcept;
// Writes a line to the director. Throws Failure when it has gone.
void report(const std::string& line);

}  // namespace spillway::command::demo
