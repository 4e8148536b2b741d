// What a demo came to: everything that was counted, what of it does not match, and how it is told.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "demo_audit.h"
#include "demo_latency.h"
#include "demo_plan.h"

namespace spillway::command::demo {

struct ConsumerReport {
  std::string name;
  Consumed telemetry;
  Consumed firehose;
};

struct Report {
  Plan plan;
  double seconds = 0;  // all of it, from the first process to the end of the last
  Produced telemetry;
  Produced firehose;
  std::uint64_t files = 0;  // that the firehose streamed
  std::uint64_t file_bytes = 0;
  std::array<LatencySummary, kPhases.size()> append;  // of the firehose, by Phase
  std::vector<ConsumerReport> consumers;
  std::uint64_t behind_bytes = 0;  // how far the firehose was ahead of the slow consumer when that went on
  double stopped_s = 0;
  double live_again_s = 0;  // from going on to having caught up
};

struct Totals {
  std::uint64_t records = 0;  // produced
  std::uint64_t bytes = 0;
  std::uint64_t replayed = 0;  // records, of all consumers
  std::uint64_t gaps = 0;
  std::uint64_t lost = 0;
  std::uint64_t torn = 0;
};
Totals totals_of(const Report& report);

// Each thing that is not as it must be, as a sentence that names it. Empty: the demo succeeded.
std::vector<std::string> find_mismatches(const Report& report);

// `demo: ok records=N ...`, or `demo: failed ...`.
std::string summary_line(const Report& report);
// Tables for people, without the summary line.
std::string report_text(const Report& report);
nlohmann::json report_json(const Report& report);

}  // namespace spillway::command::demo
