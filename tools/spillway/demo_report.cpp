#include "demo_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "spillway/core/size_text.h"

namespace spillway::command::demo {
namespace {

struct Row {
  const std::string& consumer;
  const char* topic;
  const Consumed& consumed;
  const Produced& produced;

  std::uint64_t lost() const noexcept {
    return produced.records > consumed.records ? produced.records - consumed.records : 0;
  }
  bool matches() const noexcept {
    return consumed.records == produced.records && consumed.bytes == produced.bytes &&
           consumed.checksum == produced.checksum;
  }
};

std::vector<Row> rows_of(const Report& report) {
  std::vector<Row> rows;
  for (const ConsumerReport& consumer : report.consumers) {
    rows.push_back({consumer.name, kTelemetryTopic, consumer.telemetry, report.telemetry});
    rows.push_back({consumer.name, kFirehoseTopic, consumer.firehose, report.firehose});
  }
  return rows;
}

double laps_behind(const Report& report) {
  return static_cast<double>(report.behind_bytes) / static_cast<double>(report.plan.firehose_ring);
}

// 950 ns, 12.3 us, 4.56 ms
std::string duration(std::uint64_t ns) {
  const auto value = static_cast<double>(ns);
  if (ns < 1'000) return fmt::format("{} ns", ns);
  if (ns < 1'000'000) return fmt::format("{:.1f} us", value / 1e3);
  if (ns < 1'000'000'000) return fmt::format("{:.2f} ms", value / 1e6);
  return fmt::format("{:.2f} s", value / 1e9);
}

std::string phase_text(Phase phase) {
  switch (phase) {
    case Phase::all_live: return "every consumer live";
    case Phase::one_stopped: return "slow consumer stopped";
    case Phase::one_replaying: return "slow consumer replaying";
  }
  return "unknown";
}

void check_row(const Row& row, std::vector<std::string>& mismatches) {
  const std::string who = "consumer " + row.consumer + ", topic " + row.topic + ": ";
  const Consumed& got = row.consumed;
  if (row.lost() > 0)
    mismatches.push_back(who + fmt::format("{} of {} records lost", row.lost(), row.produced.records));
  if (got.records > row.produced.records) {
    mismatches.push_back(who + fmt::format("{} records where {} were produced", got.records, row.produced.records));
  }
  if (got.gaps > 0) mismatches.push_back(who + fmt::format("{} gaps", got.gaps));
  if (got.torn > 0) mismatches.push_back(who + fmt::format("{} records torn", got.torn));
  if (got.out_of_order > 0) mismatches.push_back(who + fmt::format("{} records out of order", got.out_of_order));
  if (got.checksum != row.produced.checksum) {
    mismatches.push_back(
        who + fmt::format("checksum {:016x} where {:016x} was produced", got.checksum, row.produced.checksum));
  }
  if (!got.first_fault.empty()) mismatches.push_back(who + got.first_fault);
}

}  // namespace

Totals totals_of(const Report& report) {
  Totals totals;
  totals.records = report.telemetry.records + report.firehose.records;
  totals.bytes = report.telemetry.bytes + report.firehose.bytes;
  for (const Row& row : rows_of(report)) {
    totals.replayed += row.consumed.replayed_records;
    totals.gaps += row.consumed.gaps;
    totals.lost += row.lost();
    totals.torn += row.consumed.torn;
  }
  return totals;
}

std::vector<std::string> find_mismatches(const Report& report) {
  std::vector<std::string> mismatches;
  for (const Row& row : rows_of(report)) check_row(row, mismatches);
  if (report.telemetry.records == 0) mismatches.emplace_back("no telemetry was produced");
  if (report.firehose.records == 0) mismatches.emplace_back("the firehose produced nothing");
  // The scene: without it the rest would prove little.
  if (report.behind_bytes < kLapsWanted * report.plan.firehose_ring) {
    mismatches.push_back(fmt::format("the slow consumer was only {:.1f} laps behind when it went on, instead of {}",
                                     laps_behind(report), kLapsWanted));
  }
  if (totals_of(report).replayed == 0) mismatches.emplace_back("nothing was replayed from segments");
  return mismatches;
}

std::string summary_line(const Report& report) {
  const Totals totals = totals_of(report);
  return fmt::format("demo: {} records={} bytes={} replayed={} gaps={} lost={} torn={}",
                     find_mismatches(report).empty() ? "ok" : "failed", totals.records, totals.bytes, totals.replayed,
                     totals.gaps, totals.lost, totals.torn);
}

std::string report_text(const Report& report) {
  std::string text = fmt::format("\nProduced\n{:<12}{:>12}{:>16}   {}\n", "topic", "records", "bytes", "checksum");
  const auto add_produced = [&](const char* topic, const Produced& produced) {
    text += fmt::format("{:<12}{:>12}{:>16}   {:016x}\n", topic, produced.records, produced.bytes, produced.checksum);
  };
  add_produced(kTelemetryTopic, report.telemetry);
  add_produced(kFirehoseTopic, report.firehose);

  text += fmt::format("\nConsumed\n{:<10}{:<12}{:>12}{:>16}{:>18}{:>6}{:>6}{:>6}   {}\n", "consumer", "topic",
                      "records", "bytes", "of them replayed", "gaps", "lost", "torn", "checksum");
  for (const Row& row : rows_of(report)) {
    const Consumed& got = row.consumed;
    text += fmt::format("{:<10}{:<12}{:>12}{:>16}{:>18}{:>6}{:>6}{:>6}   {:016x} {}\n", row.consumer, row.topic,
                        got.records, got.bytes, got.replayed_records, got.gaps, row.lost(), got.torn, got.checksum,
                        row.matches() ? "same" : "DIFFERENT");
  }

  text += fmt::format("\nTime of an append to the firehose\n{:<26}{:>12}{:>11}{:>11}{:>11}{:>11}\n", "while", "appends",
                      "p50", "p99", "p99.9", "max");
  for (const Phase phase : kPhases) {
    const LatencySummary& append = report.append[static_cast<std::size_t>(phase)];
    if (append.appends == 0) continue;
    text += fmt::format("{:<26}{:>12}{:>11}{:>11}{:>11}{:>11}\n", phase_text(phase), append.appends,
                        duration(append.p50_ns), duration(append.p99_ns), duration(append.p999_ns),
                        duration(append.max_ns));
  }

  std::uint64_t replayed_records = 0;
  std::uint64_t replayed_bytes = 0;
  for (const Row& row : rows_of(report)) {
    replayed_records += row.consumed.replayed_records;
    replayed_bytes += row.consumed.replayed_bytes;
  }
  text += fmt::format(
      "\nThe slow consumer was stopped for {:.1f} s and was {} behind, {:.1f} laps of the ring, when it went on.\n"
      "It had caught up {:.1f} s later. Replayed from segments, by all consumers: {} records, {}.\n",
      report.stopped_s, format_size(report.behind_bytes), laps_behind(report), report.live_again_s, replayed_records,
      format_size(replayed_bytes));
  return text;
}

nlohmann::json report_json(const Report& report) {
  const Totals totals = totals_of(report);
  const std::vector<std::string> mismatches = find_mismatches(report);
  nlohmann::json json = {{"ok", mismatches.empty()},    {"mismatches", mismatches},  {"summary", summary_line(report)},
                         {"seconds", report.seconds},   {"records", totals.records}, {"bytes", totals.bytes},
                         {"replayed", totals.replayed}, {"gaps", totals.gaps},       {"lost", totals.lost},
                         {"torn", totals.torn}};
  json["produced"] = {{kTelemetryTopic, report.telemetry}, {kFirehoseTopic, report.firehose}};
  json["firehose"] = {{"files", report.files},
                      {"file_bytes", report.file_bytes},
                      {"ring_bytes", report.plan.firehose_ring},
                      {"bytes_per_second_max", report.plan.firehose_rate}};
  for (const Row& row : rows_of(report)) {
    nlohmann::json consumed = row.consumed;
    consumed["lost"] = row.lost();
    consumed["matches"] = row.matches();
    json["consumed"][row.consumer][row.topic] = std::move(consumed);
  }
  for (const Phase phase : kPhases) json["append"][name_of(phase)] = report.append[static_cast<std::size_t>(phase)];
  json["slow"] = {{"stopped_s", report.stopped_s},
                  {"behind_bytes", report.behind_bytes},
                  {"laps_behind", laps_behind(report)},
                  {"live_again_s", report.live_again_s}};
  return json;
}

}  // namespace spillway::command::demo
