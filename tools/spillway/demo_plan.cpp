#include "demo_plan.h"

#include <algorithm>

#include "command.h"
#include "spillway/core/size_text.h"
#include "spillway/ipc/record_layout.h"

namespace spillway::command::demo {
namespace {

constexpr std::uint64_t kLogMax = 2048 * kMiB;
constexpr std::uint64_t kLogMin = 32 * kMiB;
constexpr std::uint64_t kRateMax = 128 * kMiB;  // per second; more would only show how fast the disk is

// The share of the log that headers and padding take beside the payload, with a margin for pacing that is not exact.
constexpr std::uint64_t payload_of_log(std::uint64_t log_bytes) { return log_bytes / 10 * 8; }

}  // namespace

Plan make_plan(unsigned seconds, std::uint64_t disk_free, std::uint64_t shm_free, const char* data, const char* shm) {
  const std::uint64_t log_max = std::min(kLogMax, disk_free / 4);
  if (log_max < kLogMin) {
    throw Failure(exit_code::kEnvironment, "the demo needs " + format_size(4 * kLogMin) + " free in " + data +
                                               ", which has " + format_size(disk_free) +
                                               "; name a larger disk with --data");
  }
  Plan plan;
  plan.seconds = seconds;
  plan.telemetry_log_max = log_max / 16;
  plan.firehose_log_max = log_max - plan.telemetry_log_max;
  plan.firehose_rate = std::min(kRateMax, payload_of_log(plan.firehose_log_max) / seconds);
  plan.telemetry_rate = payload_of_log(plan.telemetry_log_max) / seconds;
  // While the slow consumer is stopped about a quarter of the log is written: many laps of the ring in any case.
  plan.firehose_ring = log_max >= 256 * kMiB ? 4 * kMiB : 512 * kKiB;
  plan.firehose_segment = 4 * plan.firehose_ring;
  plan.telemetry_ring = 64 * kKiB;
  plan.telemetry_segment = 16 * plan.telemetry_ring;
  // A topic's control and consumers files take some more beside its ring.
  const std::uint64_t shm_needed = plan.firehose_ring + plan.telemetry_ring + 2 * kMiB;
  if (shm_free < shm_needed) {
    throw Failure(exit_code::kEnvironment, "the demo needs " + format_size(shm_needed) + " free in " + shm +
                                               ", which has " + format_size(shm_free) +
                                               "; enlarge it (docker run --shm-size) or name another tmpfs with --shm");
  }
  return plan;
}

}  // namespace spillway::command::demo
