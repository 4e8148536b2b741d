// How long appends took: a histogram with logarithmic bins, so that 30 ns and 30 ms are told equally well apart.
#pragma once

#include <algorithm>
#include <array>
#include <boost/histogram/axis/regular.hpp>
#include <boost/histogram/make_histogram.hpp>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>

namespace spillway::command::demo {

// What the consumers were doing meanwhile.
enum class Phase : std::uint8_t { all_live, one_stopped, one_replaying };
inline constexpr std::array<Phase, 3> kPhases = {Phase::all_live, Phase::one_stopped, Phase::one_replaying};
const char* name_of(Phase phase) noexcept;

struct LatencySummary {
  std::uint64_t appends = 0;
  std::uint64_t p50_ns = 0;  // percentiles are upper edges of bins 2 % wide
  std::uint64_t p99_ns = 0;
  std::uint64_t p999_ns = 0;
  std::uint64_t max_ns = 0;  // exact
};
void to_json(nlohmann::json& json, const LatencySummary& summary);
void from_json(const nlohmann::json& json, LatencySummary& summary);

class Latency {
 public:
  void add(std::uint64_t ns) {
    histogram_(static_cast<double>(ns));
    max_ns_ = std::max(max_ns_, ns);
  }
  LatencySummary summary() const;

 private:
  using LogAxis = boost::histogram::axis::regular<double, boost::histogram::axis::transform::log>;
  static constexpr unsigned kBins = 1200;  // from 1 ns to 100 s
  decltype(boost::histogram::make_histogram(LogAxis())) histogram_ =
      boost::histogram::make_histogram(LogAxis(kBins, 1.0, 1e11));
  std::uint64_t max_ns_ = 0;
};

}  // namespace spillway::command::demo
