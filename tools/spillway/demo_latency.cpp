#include "demo_latency.h"

#include <boost/histogram/indexed.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

namespace spillway::command::demo {

const char* name_of(Phase phase) noexcept {
  switch (phase) {
    case Phase::all_live: return "all_live";
    case Phase::one_stopped: return "one_stopped";
    case Phase::one_replaying: return "one_replaying";
  }
  return "unknown";
}

void to_json(nlohmann::json& json, const LatencySummary& summary) {
  json = {{"appends", summary.appends},
          {"p50_ns", summary.p50_ns},
          {"p99_ns", summary.p99_ns},
          {"p999_ns", summary.p999_ns},
          {"max_ns", summary.max_ns}};
}

void from_json(const nlohmann::json& json, LatencySummary& summary) {
  json.at("appends").get_to(summary.appends);
  json.at("p50_ns").get_to(summary.p50_ns);
  json.at("p99_ns").get_to(summary.p99_ns);
  json.at("p999_ns").get_to(summary.p999_ns);
  json.at("max_ns").get_to(summary.max_ns);
}

LatencySummary Latency::summary() const {
  LatencySummary summary;
  summary.max_ns = max_ns_;
  double total = 0;
  for (auto&& bin : boost::histogram::indexed(histogram_, boost::histogram::coverage::all)) total += *bin;
  summary.appends = static_cast<std::uint64_t>(total);

  double counted = 0;
  const auto reach = [&](double share, std::uint64_t& percentile, double upper_edge) {
    if (percentile == 0 && total > 0 && counted >= share * total) {
      percentile = std::min(max_ns_, static_cast<std::uint64_t>(std::ceil(std::min(upper_edge, 1e18))));
    }
  };
  for (auto&& bin : boost::histogram::indexed(histogram_, boost::histogram::coverage::all)) {
    counted += *bin;
    reach(0.5, summary.p50_ns, bin.bin().upper());
    reach(0.99, summary.p99_ns, bin.bin().upper());
    reach(0.999, summary.p999_ns, bin.bin().upper());
  }
  return summary;
}

}  // namespace spillway::command::demo
