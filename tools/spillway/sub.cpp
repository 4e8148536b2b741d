// spillway sub TOPIC: records to standard output, from history or live. A cursor moves only past records that have been
// written out; a gap is one line on standard error. SIGINT, SIGTERM and a reader that goes away end it, with exit 0.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>

#include "command.h"
#include "output.h"
#include "record_text.h"
#include "spillway/core/clock.h"
#include "stop_signal.h"

namespace spillway::command {
namespace {

struct SubOptions {
  std::string topic;
  ConsumerOptions consumer;
  bool from_given = false;
  std::optional<std::uint64_t> count;
  bool until_end = false;
  bool report_gaps = false;
  OutputFormat format;
};

constexpr std::chrono::milliseconds kLookAround(100);  // how often an idle sub looks for signals and a closed pipe
constexpr std::chrono::milliseconds kNearTheEnd(1);    // under --until-end what is missing is about to be there
constexpr std::uint64_t kAckEveryNs = 100'000'000;

class Subscriber {
 public:
  Subscriber(const Topic& topic, const SubOptions& options)
      : topic_(topic), options_(options), consumer_(topic.consumer(options.consumer)) {
    if (options_.until_end) {
      ends_.assign(topic.config().partitions, 0);
      for (const Position& end : consumer_.ends()) ends_[end.partition] = end.offset;
    }
  }

  int run();

 private:
  PollResult poll(bool caught_up);
  Flow take(const Record& record);
  Flow take(const Gap& gap);
  bool past_end(std::uint32_t partition, Offset offset);
  bool finished();
  void acknowledge();
  void write_out(bool caught_up);
  void leave();
  void check(const PollResult& result);
  void report(const Gap& gap) const;

  Topic topic_;
  const SubOptions& options_;
  Output output_;
  Consumer consumer_;
  std::vector<Offset> ends_;   // --until-end: where each partition ended when we began
  std::vector<bool> overrun_;  // partitions of which something behind that end was delivered, and left out
  std::uint64_t delivered_ = 0;
  bool unacknowledged_ = false;  // something was delivered since the last ack
  std::uint64_t acknowledged_ns_ = 0;
  std::string before_;
};

Flow Subscriber::take(const Record& record) {
  if (past_end(record.partition(), record.offset())) return Flow::go_on;
  OutputRecord out{record.partition(), record.offset(), record.text(), std::nullopt};
  if (record.has_key()) out.key = record.key_text();
  before_.clear();
  format_before(options_.format, out, before_);
  ++delivered_;
  unacknowledged_ = true;
  const bool written =
      output_.append(before_) && output_.append(out.payload) && output_.append(format_after(options_.format));
  if (!written || stop_requested()) return Flow::stop;
  return options_.count && delivered_ >= *options_.count ? Flow::stop : Flow::go_on;
}

Flow Subscriber::take(const Gap& gap) {
  if (past_end(gap.partition, gap.from)) return Flow::go_on;
  unacknowledged_ = true;
  output_.flush();
  report(gap);
  return output_.usable() ? Flow::go_on : Flow::stop;
}

// What was added since we began is not ours under --until-end. It is delivered all the same, while other partitions are
// still behind; leave() puts the cursor back before it.
bool Subscriber::past_end(std::uint32_t partition, Offset offset) {
  if (!options_.until_end || offset < ends_[partition]) return false;
  overrun_.resize(ends_.size());
  overrun_[partition] = true;
  return true;
}

void Subscriber::report(const Gap& gap) const {
  std::fprintf(stderr, "gap partition=%u from=%llu to=%llu bytes=%llu cause=%s\n", gap.partition,
               static_cast<unsigned long long>(gap.from), static_cast<unsigned long long>(gap.to),
               static_cast<unsigned long long>(gap.to - gap.from), std::string(name_of(gap.cause)).c_str());
}

// Waits for more only when what came before has been written out.
PollResult Subscriber::poll(bool caught_up) {
  const auto on_record = [this](const Record& record) { return take(record); };
  const auto on_gap = [this](const Gap& gap) { return take(gap); };
  const std::chrono::milliseconds look = options_.until_end ? kNearTheEnd : kLookAround;
  const std::chrono::milliseconds timeout = caught_up ? look : std::chrono::milliseconds(0);
  if (options_.report_gaps) return consumer_.poll(timeout, on_record, on_gap);
  return consumer_.poll(timeout, on_record);
}

bool Subscriber::finished() {
  if (options_.count && delivered_ >= *options_.count) return true;
  if (!options_.until_end) return false;
  for (const PartitionReader& reader : consumer_.readers()) {
    if (reader.offset() < ends_[reader.number()]) return false;
  }
  return true;
}

// Everything delivered has been written out: the cursor moves past it.
void Subscriber::acknowledge() {
  if (options_.consumer.cursor.empty() || !unacknowledged_) return;
  for (std::uint32_t p = 0; p < overrun_.size(); ++p) {
    if (overrun_[p]) consumer_.seek(p, ends_[p]);
    overrun_[p] = false;
  }
  const int error = consumer_.ack();
  acknowledged_ns_ = monotonic_ns();
  unacknowledged_ = error != 0;
  if (error == 0) return;
  throw Failure(exit_code::kEnvironment,
                fmt::format("the cursor {} of topic {} can't be stored: {}; it is where it was, so nothing is lost",
                            options_.consumer.cursor, topic_.name(), std::strerror(error)));
}

// Written out at the latest when caught up; acknowledged then, but not so often that the disk has more to do with cursors
// than with records.
void Subscriber::write_out(bool caught_up) {
  const bool ack_due =
      !options_.consumer.cursor.empty() && unacknowledged_ && monotonic_ns() - acknowledged_ns_ >= kAckEveryNs;
  if (!caught_up && !ack_due) return;
  if (output_.flush() && ack_due) acknowledge();
}

void Subscriber::leave() {
  output_.flush();
  if (output_.all_written()) acknowledge();
  output_.check();
}

void Subscriber::check(const PollResult& result) {
  const std::string topic = "topic " + topic_.name();
  const auto readers = consumer_.readers();
  switch (result.state) {
    case PollState::corrupt:
      throw Failure(exit_code::kDamage, topic + " holds committed bytes that can't be a record; `spillway verify " +
                                            topic_.name() + "` says what of it is damaged on disk");
    case PollState::unsupported:
      throw Failure(exit_code::kEnvironment, topic + " holds records of a newer version of Spillway; use that version");
    case PollState::failed:
      throw Failure(exit_code::kEnvironment,
                    fmt::format("{} can't be read from disk: {}; `spillway doctor` may say why", topic,
                                std::strerror(result.error)));
    case PollState::gone:
      if (options_.until_end) {
        throw Failure(exit_code::kEnvironment, "the files of " + topic +
                                                   " were deleted before its end was reached; "
                                                   "whoever writes to it next makes new ones");
      }
      if (std::any_of(readers.begin(), readers.end(), [](const PartitionReader& r) { return r.topic_gone(); })) {
        throw Failure(exit_code::kEnvironment,
                      topic + " was deleted while it was read; if it was made anew, start sub again to read that");
      }
      return;
    default: return;
  }
}

int Subscriber::run() {
  bool caught_up = true;
  while (!finished() && !stop_requested()) {
    const PollResult result = poll(caught_up);
    if (!output_.usable()) break;
    if (result.state == PollState::gap && !past_end(result.gap.partition, result.gap.from)) {
      leave();
      report(result.gap);
      return exit_code::kLoss;
    }
    caught_up = result.records < options_.consumer.records_max;
    write_out(caught_up);
    if (result.records == 0 && output_.look_whether_closed()) break;
    check(result);
    if (result.state == PollState::end && result.records == 0) {
      if (options_.until_end) break;
      consumer_.wait(kLookAround);  // for a writer to make a ring
    }
  }
  leave();
  return exit_code::kDone;
}

// `--from`: earliest, latest or an offset.
void set_from(const std::string& text, SubOptions& options) {
  options.from_given = true;
  if (text == "earliest" || text == "latest") {
    options.consumer.from = text == "latest" ? From::latest : From::earliest;
    return;
  }
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, options.consumer.offset);
  if (parsed.ec != std::errc() || parsed.ptr != end) {
    throw CLI::ValidationError("--from", "`" + text + "` is none of earliest|latest|OFFSET");
  }
  options.consumer.from = From::offset;
}

int run_sub(const Context& context, SubOptions options) {
  catch_stop_signals();
  const Domain domain(context.domain_options(StandBy::never));
  const Topic topic = domain.open(options.topic);
  // A cursor covers all partitions; naming the only one changes nothing.
  const bool only_one = topic.config().partitions == 1 && options.consumer.partition.value_or(1) == 0;
  if (!options.consumer.cursor.empty() && only_one) options.consumer.partition.reset();
  return Subscriber(topic, options).run();
}

template <class Value>
CLI::Option* add_either(CLI::App& command, const std::string& flag, Value& value, std::pair<const char*, Value> first,
                        std::pair<const char*, Value> second, const std::string& description) {
  const std::string choices = std::string(first.first) + "|" + second.first;
  const auto take = [&value, first, second, flag, choices](const std::string& text) {
    if (text != first.first && text != second.first) {
      throw CLI::ValidationError(flag, "`" + text + "` is none of " + choices);
    }
    value = text == first.first ? first.second : second.second;
  };
  return command.add_option_function<std::string>(flag, take, description)->type_name(choices);
}

}  // namespace

void add_sub(CLI::App& app, Context& context) {
  CLI::App& command = add_command(app, context, "sub", "records to standard output, one a line");
  const auto options = std::make_shared<SubOptions>();
  add_topic(command, options->topic);
  ConsumerOptions& consumer = options->consumer;
  add_number(command, "--partition", consumer.partition, "of this partition only (default: all)")->type_name("P");
  const auto take_from = [options](const std::string& text) { set_from(text, *options); };
  CLI::Option* from = command.add_option_function<std::string>("--from", take_from, "where to begin (default latest)")
                          ->type_name("earliest|latest|OFFSET");
  command
      .add_option("--cursor", consumer.cursor,
                  "go on where the last sub with this cursor stopped; a new one begins\nat earliest")
      ->type_name("NAME")
      ->check([](const std::string& name) { return name.empty() ? "a cursor's name can't be empty" : ""; })
      ->excludes(from);
  add_number(command, "--count", options->count, "stop after so many records");
  command.add_flag("--until-end", options->until_end, "stop at what is the end when the command starts");
  command.add_flag("--offsets", options->format.offsets,
                   "`PARTITION OFFSET<TAB>` before each line; u32, u64 before each frame");
  CLI::Option* separator = add_separator(command, options->format.separator, "`KEY C` before each line that has a key");
  CLI::Option* frames =
      command.add_flag("--frames", options->format.frames, "write frames: u32 length, payload (little-endian)")
          ->excludes(separator);
  command
      .add_flag("--keys", options->format.keys,
                "with keys: u32 key length (0xFFFFFFFF: none), u32 payload length,\nkey, payload")
      ->needs(frames);
  add_either<ReadUpTo>(command, "--read-up-to", consumer.read_up_to, {"committed", ReadUpTo::committed},
                       {"durable", ReadUpTo::durable}, "durable: nothing that a power loss could take back");
  add_either<bool>(command, "--on-gap", options->report_gaps, {"stop", false}, {"report", true},
                   "what to do where records are missing (default stop, exit 3)");
  command.add_flag(
      "--gating", consumer.gating,
      "hold producers up rather than be lapped (ephemeral topics that block);\nmakes the ring if there is none yet");
  command.callback([&context, options] { context.run = [&context, options] { return run_sub(context, *options); }; });
}

}  // namespace spillway::command
