// A consumer of both topics: checks every record and counts. The live one and the slow one are the same program; what makes
// the slow one slow is that it is stopped from outside.
#include <charconv>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>

#include "command.h"
#include "demo_audit.h"
#include "demo_records.h"
#include "demo_roles.h"

namespace spillway::command::demo {
namespace {

class Reader {
 public:
  explicit Reader(const RoleOptions& options)
      : domain_(options.domain),
        telemetry_(open_telemetry(domain_).consumer({.from = From::earliest, .name = options.name})),
        firehose_(domain_.open(kFirehoseTopic).consumer({.from = From::earliest, .name = options.name})) {}

  void poll() {
    // The firehose is the busy one: it is waited for, a little, and the telemetry looked after meanwhile.
    check(kFirehoseTopic, firehose_.poll(
                              std::chrono::milliseconds(5), [this](const Record& record) { take_chunk(record); },
                              [this](const Gap& gap) { firehose_audit_.take_gap(gap); }));
    check(kTelemetryTopic, telemetry_.untyped().poll([this](const Record& record) { take_sample(record); },
                                                     [this](const Gap& gap) { telemetry_audit_.take_gap(gap); }));
  }

  bool reached(Offset telemetry_end, Offset firehose_end) noexcept {
    return telemetry_.untyped().offset(0) >= telemetry_end && firehose_.offset(0) >= firehose_end;
  }

  std::string line(bool last) {
    nlohmann::json line = {{kTelemetryTopic, counts(telemetry_audit_, telemetry_.untyped())},
                           {kFirehoseTopic, counts(firehose_audit_, firehose_)},
                           {"at_ns", monotonic_ns()}};
    if (last) line["final"] = true;
    return line.dump();
  }

 private:
  static bool replaying(Consumer& consumer) noexcept { return consumer.readers().front().replaying(); }
  static Consumed counts(const Audit& audit, Consumer& consumer) {
    return audit.counts(consumer.offset(0), consumer.ends().front().offset, replaying(consumer));
  }

  void take_sample(const Record& record) {
    Sample sample;
    if (record.payload().size() != sizeof sample) return telemetry_audit_.take_short(record);
    std::memcpy(&sample, record.payload().data(), sizeof sample);
    telemetry_audit_.take(sample.sequence, sample.content_hash(), sample.hash, record, replaying(telemetry_.untyped()));
  }

  void take_chunk(const Record& record) {
    ChunkHeader header;
    if (record.payload().size() < sizeof header) return firehose_audit_.take_short(record);
    std::memcpy(&header, record.payload().data(), sizeof header);
    const std::uint64_t hash = xxh3(record.payload().subspan(sizeof header));
    firehose_audit_.take(header.sequence, hash, header.hash, record, replaying(firehose_));
  }

  static void check(const char* topic, const PollResult& result) {
    switch (result.state) {
      case PollState::corrupt:
      case PollState::unsupported:
      case PollState::failed:
      case PollState::gone: {
        const std::string cause = result.error == 0 ? "" : std::string(": ") + std::strerror(result.error);
        throw Failure(exit_code::kDamage, "can't read topic " + std::string(topic) + ": " +
                                              std::string(spillway::name_of(result.state)) + cause);
      }
      default: return;
    }
  }

  Domain domain_;
  TypedConsumer<Sample> telemetry_;
  Consumer firehose_;
  Audit telemetry_audit_;
  Audit firehose_audit_;
};

// `finish T F`
bool parse_finish(std::string_view order, Offset& telemetry_end, Offset& firehose_end) {
  constexpr std::string_view kFinish = "finish ";
  if (order.substr(0, kFinish.size()) != kFinish) return false;
  const char* const end = order.data() + order.size();
  const auto first = std::from_chars(order.data() + kFinish.size(), end, telemetry_end);
  return first.ec == std::errc() && first.ptr != end &&
         std::from_chars(first.ptr + 1, end, firehose_end).ec == std::errc();
}

}  // namespace

int run_reader(const RoleOptions& options) {
  Reader reader(options);
  Orders orders;
  Every report_due(kReportPeriod);
  Every order_due(10 * kMillisecond);
  bool finishing = false;
  Offset telemetry_end = 0;
  Offset firehose_end = 0;
  while (!finishing || !reader.reached(telemetry_end, firehose_end)) {
    reader.poll();
    if (order_due.due()) {
      if (const auto order = orders.next()) finishing = parse_finish(*order, telemetry_end, firehose_end) || finishing;
    }
    if (report_due.due()) report(reader.line(false));
  }
  report(reader.line(true));
  return exit_code::kDone;
}

}  // namespace spillway::command::demo
