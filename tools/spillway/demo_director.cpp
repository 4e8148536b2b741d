#include "demo_director.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "command.h"
#include "demo_records.h"
#include "demo_roles.h"
#include "spillway/core/clock.h"
#include "spillway/core/size_text.h"
#include "spillway/persist/topic_state.h"
#include "stop_signal.h"

namespace spillway::command::demo {
namespace {

constexpr std::uint64_t kPatienceNs = 60'000 * kMillisecond;  // without any progress

double seconds_between(std::uint64_t from_ns, std::uint64_t to_ns) {
  return static_cast<double>(to_ns - from_ns) / 1e9;
}

template <class Seen>
double per_second(const Seen& seen, std::uint64_t now, std::uint64_t shown) {
  if (seen.at_ns <= seen.shown_at_ns || now < shown) return 0;
  return static_cast<double>(now - shown) / seconds_between(seen.shown_at_ns, seen.at_ns);
}

double mib(double bytes) { return bytes / (1024.0 * 1024.0); }
double mib(std::uint64_t bytes) { return mib(static_cast<double>(bytes)); }

TopicOptions topic_options(std::uint64_t ring, std::uint64_t segment) {
  TopicOptions options;
  options.ring = ring;
  options.segment = segment;
  return options;
}

TopicOptions telemetry_options(const Plan& plan) {
  TopicOptions options = topic_options(plan.telemetry_ring, plan.telemetry_segment);
  options.schema = "spillway.demo.sample.v1";
  options.type = TypedTopic<Sample>::type(*options.schema);
  return options;
}

}  // namespace

Director::Director(const Directories& directories, const Plan& plan, Output* table)
    : directories_(directories),
      plan_(plan),
      table_(table),
      domain_({directories.data(), directories.shm(), StandBy::never}),
      telemetry_topic_(domain_.open_or_create(kTelemetryTopic, telemetry_options(plan))),
      firehose_topic_(
          domain_.open_or_create(kFirehoseTopic, topic_options(plan.firehose_ring, plan.firehose_segment))) {}

Director::~Director() = default;

Report Director::run() {
  begin_ns_ = monotonic_ns();
  progress_ns_ = begin_ns_;
  start_persister();
  start_clients();
  direct([&] {
    return telemetry_seen_.at_ns != 0 && firehose_seen_.at_ns != 0 && live_seen_.at_ns != 0 && slow_seen_.at_ns != 0;
  });
  show_header();
  direct([&] { return elapsed_s() >= plan_.stop_at_s(); });
  stop_slow();
  // On a machine too busy to write so much in time the consumer stays stopped for longer.
  const double latest_s = 3 * plan_.seconds + 60;
  direct([&] {
    const bool far_enough = slow_behind() >= kLapsWanted * plan_.firehose_ring || elapsed_s() >= latest_s;
    return elapsed_s() >= plan_.go_on_at_s() && far_enough;
  });
  let_slow_go_on();
  // It must also be seen to read live again, with the firehose still running.
  const double end_s = std::max<double>(plan_.seconds, elapsed_s() + 0.2 * plan_.seconds);
  direct([&] { return elapsed_s() >= end_s; });
  finish();
  stop_persister();
  report_.plan = plan_;
  report_.seconds = elapsed_s();
  return report_;
}

void Director::start_persister() {
  persister_ = std::make_unique<Process>(
      "persister", std::vector<std::string>{"persist", "--data", directories_.data(), "--shm", directories_.shm()});
  bool ready = false;
  direct([&] {
    for (const std::string& line : persister_->take_lines()) ready = ready || line == "ready";
    return ready;
  });
}

void Director::start_clients() {
  const auto start = [&](const char* name, const char* role, const std::vector<std::string>& more) {
    std::vector<std::string> words = {"demo",  "--role",          role, "--name", name, "--data", directories_.data(),
                                      "--shm", directories_.shm()};
    words.insert(words.end(), more.begin(), more.end());
    return std::make_unique<Process>(name, words);
  };
  live_ = start("live", "reader", {});
  slow_ = start("slow", "reader", {});
  telemetry_ =
      start("telemetry", "telemetry",
            {"--rate", std::to_string(plan_.telemetry_rate), "--log-max", std::to_string(plan_.telemetry_log_max)});
  firehose_ =
      start("firehose", "firehose",
            {"--rate", std::to_string(plan_.firehose_rate), "--log-max", std::to_string(plan_.firehose_log_max)});
}

void Director::stop_slow() {
  slow_->signal(SIGSTOP);
  slow_stopped_ = true;
  stopped_ns_ = monotonic_ns();
  enter(Phase::one_stopped);
}

void Director::let_slow_go_on() {
  report_.behind_bytes = slow_behind();
  went_on_ns_ = monotonic_ns();
  report_.stopped_s = seconds_between(stopped_ns_, went_on_ns_);
  slow_stopped_ = false;
  slow_->signal(SIGCONT);
  enter(Phase::one_replaying);
}

void Director::finish() {
  telemetry_->send("stop");
  firehose_->send("stop");
  direct([&] { return telemetry_seen_.final && firehose_seen_.final; });
  const std::string ends = fmt::format("finish {} {}", telemetry_seen_.counts.end, firehose_seen_.counts.end);
  live_->send(ends);
  slow_->send(ends);
  direct([&] { return live_seen_.final && slow_seen_.final; });
  if (!caught_up_) report_.live_again_s = seconds_between(went_on_ns_, monotonic_ns());
  report_.telemetry = telemetry_seen_.counts;
  report_.firehose = firehose_seen_.counts;
  report_.consumers = {{"live", live_seen_.counts.telemetry, live_seen_.counts.firehose},
                       {"slow", slow_seen_.counts.telemetry, slow_seen_.counts.firehose}};
}

// A clean stop: the daemon has written and synced everything before it ends.
void Director::stop_persister() {
  persister_->signal(SIGTERM);
  direct([&] { return persister_->ended().has_value(); });
  if (!persister_->succeeded()) {
    throw Failure(exit_code::kEnvironment, "the demo's persister did not end cleanly: " + *persister_->ended());
  }
}

template <class Done>
void Director::direct(Done&& done) {
  while (!done()) {
    if (stop_requested()) throw Failure(exit_code::kEnvironment, "interrupted; everything it made has been removed");
    if (table_ != nullptr && table_->look_whether_closed()) throw TableClosed();
    wait_for_reports();
    take_reports();
    look_at_disk();
    check_progress();
    note_caught_up();
    if (table_begun_ && elapsed_s() >= static_cast<double>(rows_ + 1)) show_row();
  }
}

void Director::wait_for_reports() {
  std::array<struct pollfd, 6> watched = {};
  nfds_t count = 0;
  watched[count++] = {stop_descriptor(), POLLIN, 0};
  for (Process* process : {persister_.get(), telemetry_.get(), firehose_.get(), live_.get(), slow_.get()}) {
    // One that has ended would be readable for ever.
    if (process != nullptr && !process->ended()) watched[count++] = {process->descriptor(), POLLIN, 0};
  }
  ::poll(watched.data(), count, 50);  // interrupted or not: everything is looked at anyway
}

void Director::take_reports() {
  if (telemetry_) take_report(*telemetry_, telemetry_seen_, false);
  if (firehose_) take_report(*firehose_, firehose_seen_, true);
  if (live_) take_report(*live_, live_seen_);
  if (slow_) take_report(*slow_, slow_seen_);
  if (persister_) {
    // Its lines are for people and logs. It ends when it is told to, which is when the readers have ended.
    if (firehose_) persister_->take_lines();
    check_alive(*persister_, live_seen_.final && slow_seen_.final);
  }
}

void Director::take_report(Process& process, Seen<Produced>& seen, bool firehose) {
  const bool ended = process.ended().has_value();  // before the lines are taken: then they are all there are
  for (const std::string& line : process.take_lines()) {
    const nlohmann::json json = nlohmann::json::parse(line);
    json.get_to(seen.counts);
    seen.at_ns = json.at("at_ns").get<std::uint64_t>();
    seen.final = json.contains("final");
    if (!firehose) continue;
    report_.files = json.at("files").get<std::uint64_t>();
    report_.file_bytes = json.at("file_bytes").get<std::uint64_t>();
    for (const Phase phase : kPhases) {
      if (seen.final) json.at("append").at(name_of(phase)).get_to(report_.append[static_cast<std::size_t>(phase)]);
    }
  }
  if (ended) check_alive(process, seen.final);
}

void Director::take_report(Process& process, Seen<Reading>& seen) {
  const bool ended = process.ended().has_value();
  for (const std::string& line : process.take_lines()) {
    const nlohmann::json json = nlohmann::json::parse(line);
    json.at(kTelemetryTopic).get_to(seen.counts.telemetry);
    json.at(kFirehoseTopic).get_to(seen.counts.firehose);
    seen.at_ns = json.at("at_ns").get<std::uint64_t>();
    seen.final = json.contains("final");
  }
  if (ended) check_alive(process, seen.final);
}

void Director::check_alive(Process& process, bool may_have_ended) {
  if (process.ended() && !may_have_ended) {
    throw Failure(exit_code::kEnvironment, "the demo's process `" + process.name() + "` ended early: " +
                                               *process.ended() + "; if it could, it has said why above");
  }
}

void Director::look_at_disk() {
  if (!firehose_ring_ && firehose_seen_.at_ns != 0) firehose_ring_ = firehose_topic_.state().source(0).ring;
  if (!firehose_ring_) return;
  // acquire: the directory says what is written, and nothing is read on the strength of it.
  disk_seen_.counts.written = firehose_ring_->control().persister.written_end.load(std::memory_order_acquire);
  disk_seen_.at_ns = monotonic_ns();
}

void Director::check_progress() {
  const std::uint64_t now = monotonic_ns();
  const std::uint64_t progress = telemetry_seen_.counts.records + firehose_seen_.counts.records +
                                 live_seen_.counts.firehose.offset + slow_seen_.counts.firehose.offset +
                                 live_seen_.counts.telemetry.offset + slow_seen_.counts.telemetry.offset +
                                 disk_seen_.counts.written;
  if (progress != progress_) {
    progress_ = progress;
    progress_ns_ = now;
  } else if (now - progress_ns_ > kPatienceNs) {
    throw Failure(
        exit_code::kEnvironment,
        fmt::format("nothing has moved for {} s: the firehose is at offset {}, written up to {}, live is at {}, "
                    "slow at {}; `spillway doctor` may know why",
                    kPatienceNs / (1'000 * kMillisecond), firehose_seen_.counts.end, disk_seen_.counts.written,
                    live_seen_.counts.firehose.offset, slow_seen_.counts.firehose.offset));
  }
}

void Director::note_caught_up() {
  if (caught_up_ || went_on_ns_ == 0 || slow_seen_.at_ns <= went_on_ns_) return;
  const Reading& slow = slow_seen_.counts;
  if (slow.firehose.replaying || slow.telemetry.replaying || slow.firehose.behind > plan_.firehose_ring) return;
  caught_up_ = true;
  report_.live_again_s = seconds_between(went_on_ns_, slow_seen_.at_ns);
  enter(Phase::all_live);
}

void Director::enter(Phase phase) { firehose_->send("phase " + std::to_string(static_cast<int>(phase))); }

void Director::show_header() {
  show(fmt::format(
      "demo: telemetry of this host, and {} files of this machine ({}) at up to {:.0f} MiB/s for {} s, through rings\n"
      "of {} and {}, at most {} on disk in {}\n\n",
      report_.files, format_size(report_.file_bytes), mib(plan_.firehose_rate), plan_.seconds,
      format_size(plan_.telemetry_ring), format_size(plan_.firehose_ring),
      format_size(plan_.firehose_log_max + plan_.telemetry_log_max), directories_.data()));
  show(fmt::format("{:>6} |{:^19} |{:^10} |{:^16} |{:^22} |{:^30}\n", "", "firehose", "telemetry", "persister",
                   "live consumer", "slow consumer"));
  show(fmt::format("{:>6} |{:>7}{:>12} |{:>10} |{:>7}{:>9} |{:>7}{:>8}{:>7} |{:>7}{:>8}{:>7}{:>8}\n", "s", "MiB/s",
                   "records/s", "records/s", "MiB/s", "to go", "MiB/s", "behind", "reads", "MiB/s", "behind", "laps",
                   "reads"));
  begin_ns_ = monotonic_ns();
  table_begun_ = true;
  mark_shown();
}

// Rates are since the last row; amounts, to go and behind, are in MiB of log.
void Director::show_row() {
  rows_ = static_cast<std::uint64_t>(elapsed_s());
  const auto rate = [](const auto& seen, auto&& field) {
    return per_second(seen, field(seen.counts), field(seen.shown));
  };
  const auto produced_bytes = [](const Produced& p) { return p.bytes; };
  const auto produced_records = [](const Produced& p) { return p.records; };
  const auto read_bytes = [](const Reading& r) { return r.telemetry.bytes + r.firehose.bytes; };
  const auto replayed = [](const Reading& r) { return r.telemetry.replayed_records + r.firehose.replayed_records; };
  const auto reads = [&](const Seen<Reading>& seen) {
    return replayed(seen.counts) > replayed(seen.shown) ? "replay" : "live";
  };
  const std::uint64_t end = firehose_seen_.counts.end;
  const std::uint64_t to_go = end > disk_seen_.counts.written ? end - disk_seen_.counts.written : 0;
  show(fmt::format(
      "{:>6.1f} |{:>7.1f}{:>12.0f} |{:>10.0f} |{:>7.1f}{:>9.1f} |{:>7.1f}{:>8.1f}{:>7} "
      "|{:>7.1f}{:>8.1f}{:>7.1f}{:>8}\n",
      elapsed_s(), mib(rate(firehose_seen_, produced_bytes)), rate(firehose_seen_, produced_records),
      rate(telemetry_seen_, produced_records), mib(rate(disk_seen_, [](const Disk& d) { return d.written; })),
      mib(to_go), mib(rate(live_seen_, read_bytes)), mib(live_seen_.counts.firehose.behind), reads(live_seen_),
      mib(rate(slow_seen_, read_bytes)), mib(slow_behind()),
      static_cast<double>(slow_behind()) / static_cast<double>(plan_.firehose_ring),
      slow_stopped_ ? "stopped" : reads(slow_seen_)));
  mark_shown();
}

void Director::mark_shown() {
  const auto mark = [](auto& seen) {
    seen.shown = seen.counts;
    seen.shown_at_ns = seen.at_ns;
  };
  mark(telemetry_seen_);
  mark(firehose_seen_);
  mark(live_seen_);
  mark(slow_seen_);
  mark(disk_seen_);
}

void Director::show(const std::string& text) {
  if (table_ == nullptr) return;
  table_->append(text);
  table_->flush();
  table_->check();
}

double Director::elapsed_s() const noexcept { return seconds_between(begin_ns_, monotonic_ns()); }

// By its own account while it runs. While it is stopped, by where it was last: its report may be some 100 ms older than that
// of the firehose, which is why it does not do for a consumer that runs.
std::uint64_t Director::slow_behind() const noexcept {
  const Consumed& slow = slow_seen_.counts.firehose;
  if (!slow_stopped_) return slow.behind;
  const std::uint64_t end = firehose_seen_.counts.end;
  return end > slow.offset ? end - slow.offset : 0;
}

}  // namespace spillway::command::demo
