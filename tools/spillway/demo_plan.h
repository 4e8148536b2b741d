// How the demo is laid out: how much it writes, into how large rings, and when the slow consumer is stopped.
#pragma once

#include <cstdint>

namespace spillway::command::demo {

inline constexpr const char* kTelemetryTopic = "telemetry";
inline constexpr const char* kFirehoseTopic = "firehose";
// The slow consumer stays stopped until the firehose is so many laps of its ring ahead.
inline constexpr std::uint64_t kLapsWanted = 8;

struct Plan {
  unsigned seconds = 20;
  // Neither topic expires anything, because nobody may lose anything: so what is produced is bounded instead.
  std::uint64_t firehose_log_max = 0;  // bytes of log
  std::uint64_t telemetry_log_max = 0;
  std::uint64_t firehose_rate = 0;   // payload bytes per second
  std::uint64_t telemetry_rate = 0;  // log bytes per second
  std::uint64_t firehose_ring = 0;
  std::uint64_t firehose_segment = 0;
  std::uint64_t telemetry_ring = 0;
  std::uint64_t telemetry_segment = 0;

  double stop_at_s() const noexcept { return 0.3 * seconds; }
  double go_on_at_s() const noexcept { return 0.6 * seconds; }
};

// Uses at most a quarter of the free disk and never more than about 2 GiB. Throws Failure (environment) when the disk or
// the tmpfs has less room than the smallest demo takes. `data` and `shm` are named in the message.
Plan make_plan(unsigned seconds, std::uint64_t disk_free, std::uint64_t shm_free, const char* data, const char* shm);

}  // namespace spillway::command::demo
