// The producer of the topic `telemetry`: samples this host as fast as is decent, as typed records.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "command.h"
#include "demo_audit.h"
#include "demo_host.h"
#include "demo_roles.h"

namespace spillway::command::demo {
namespace {

class Telemetry {
 public:
  explicit Telemetry(const RoleOptions& options)
      : options_(options), domain_(options.domain), producer_(open_telemetry(domain_).exclusive_producer()) {}

  // One pass over the host. Returns how many bytes of log it took.
  std::uint64_t pass() {
    const Offset before = produced_.end;
    sample_host([&](Sample& sample) { return append(sample); });
    return produced_.end - before;
  }

  std::string line(bool last) {
    nlohmann::json line = produced_;
    line["at_ns"] = monotonic_ns();
    if (last) line["final"] = true;
    return line.dump();
  }

 private:
  bool append(Sample& sample) {
    if (produced_.end >= options_.log_bytes_max) return false;
    sample.sequence = produced_.records;
    sample.hash = sample.content_hash();
    const Appended appended = producer_.append(sample);
    if (!appended) {
      throw Failure(exit_code::kEnvironment,
                    "telemetry can't be appended: " + std::string(spillway::name_of(appended.status)) + " (" +
                        std::string(spillway::name_of(appended.blocked)) + ")");
    }
    ++produced_.records;
    produced_.bytes += sizeof sample;
    produced_.end = appended.end;
    checksum_.add(sample.hash, sizeof sample);
    produced_.checksum = checksum_.value();
    return true;
  }

  const RoleOptions& options_;
  Domain domain_;
  TypedExclusiveProducer<Sample> producer_;
  Produced produced_;
  StreamChecksum checksum_;
};

}  // namespace

int run_telemetry(const RoleOptions& options) {
  Telemetry telemetry(options);
  Orders orders;
  Every report_due(kReportPeriod);
  std::uint64_t next_pass_ns = 0;
  for (;;) {
    const std::uint64_t begin = monotonic_ns();
    if (begin >= next_pass_ns) {
      const std::uint64_t bytes = telemetry.pass();
      // Fifty passes a second at most, a tenth of a core at most, and the plan's share of the disk at most.
      const std::uint64_t took = monotonic_ns() - begin;
      const double for_disk = static_cast<double>(bytes) / static_cast<double>(options.bytes_per_second) * 1e9;
      next_pass_ns = begin + std::max({20 * kMillisecond, 10 * took, static_cast<std::uint64_t>(for_disk)});
    }
    if (orders.next() == "stop") break;
    if (report_due.due()) report(telemetry.line(false));
    rest(5 * kMillisecond);
  }
  report(telemetry.line(true));
  return exit_code::kDone;
}

}  // namespace spillway::command::demo
