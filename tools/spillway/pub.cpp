// spillway pub TOPIC: one record per line (or frame) of standard input, each published as soon as it is read, and
// acknowledged at the level asked before the command ends. SIGINT and SIGTERM end the input; a line without its newline is not a
// record then, and is told.
#include <fmt/format.h>

#include <charconv>

#include "acknowledgements.h"
#include "command.h"
#include "input.h"
#include "patience.h"
#include "record_text.h"
#include "spillway/core/size_text.h"
#include "spillway/persist/producer.h"
#include "spillway/persist/topic_state.h"
#include "stop_signal.h"

namespace spillway::command {
namespace {

struct PubOptions {
  std::string topic;
  std::optional<std::uint32_t> partition;
  bool exclusive = false;
  std::string separator;
  std::optional<AckLevel> ack;
  bool offsets = false;
  bool frames = false;
  bool keys = false;
  double deadline_seconds = 10;
  bool no_persist = false;
};

// So much may wait for its acknowledgement before pub stops to wait for some of it.
constexpr std::uint64_t kPendingMax = 1'000'000;
// How long it waits for input while records wait for the disk, and then for the disk, in turn.
constexpr std::chrono::milliseconds kLookForInput(100), kLookAtDisk(10);

std::uint64_t record_bytes_max(const TopicConfig& config) {
  return std::min<std::uint64_t>(config.ring_bytes / 4, kGiB) - kRecordHeaderBytes;
}

class Publisher {
 public:
  Publisher(const Topic& topic, const PubOptions& options, AckLevel level)
      : topic_(topic),
        options_(options),
        patience_(topic, options.deadline_seconds),
        producer_(topic_.producer(options.exclusive, static_cast<std::uint64_t>(patience_.slice().count()))),
        acks_(topic, level, options.offsets ? &output_ : nullptr),
        bytes_max_(record_bytes_max(topic.config())),
        lines_(options.separator, bytes_max_),
        frames_(options.keys, bytes_max_) {
    // What can't be opened is better said before anything is read. An empty batch opens a partition.
    for (std::uint32_t p = 0; p < topic_.config().partitions; ++p) {
      if (options_.partition.value_or(p) == p) producer_.append_batch_to(p, {});
    }
    if (options_.partition) producer_.append_batch_to(*options_.partition, {});
  }

  int run() {
    const std::optional<Failure> bad_input = pump();
    finish();
    if (bad_input) throw *bad_input;
    output_.check();
    report_losses();
    check_all_printed();
    return exit_code::kDone;
  }

 private:
  std::optional<Failure> pump();
  std::optional<Failure> publish_pending(bool at_end);
  std::optional<Failure> bad_record(const ParseResult& parsed) const;
  std::optional<Failure> wrong_type(const InputRecord& record) const;
  void publish(const InputRecord& record);
  void hold_on(Blocked cause, std::uint32_t partition);
  void make_room_for_pending();
  void wait_for_acknowledgements(std::chrono::nanoseconds timeout);
  void finish();
  void drain();
  bool persisted_elsewhere(const Partition& partition) const;
  void report_losses() const;
  void check_all_printed() const;
  void tell_unfinished() const;
  std::string this_record() const { return fmt::format("{} {}", options_.frames ? "frame" : "line", count_ + 1); }
  [[noreturn]] void no_progress(const char* doing, Blocked cause, std::uint32_t partition);

  Topic topic_;
  const PubOptions& options_;
  Input input_;
  Output output_;
  Patience patience_;
  Producer producer_;
  Acknowledgements acks_;
  std::uint64_t bytes_max_;
  LineParser lines_;
  FrameParser frames_;
  std::uint64_t count_ = 0;  // records published, or refused by the topic
  std::uint32_t next_ = 0;   // of the round robin
};

// Reads until the input ends, a signal comes, or what was read can't be published.
std::optional<Failure> Publisher::pump() {
  for (;;) {
    // Nobody waits for what is printed to nobody; the disk's part is then done in the background until the input ends.
    const bool waiting = !acks_.done(), eager = options_.offsets && waiting;
    const int look_ms = eager ? 0 : waiting ? static_cast<int>(kLookForInput.count()) : -1;
    const Input::Got got = input_.read_more(look_ms, options_.offsets ? STDOUT_FILENO : -1);
    if (got == Input::Got::stopped) {
      tell_unfinished();
      return std::nullopt;
    }
    if (options_.offsets && (!output_.usable() || output_.look_whether_closed())) return std::nullopt;
    if (got == Input::Got::nothing) {
      wait_for_acknowledgements(kLookAtDisk);
    } else if (auto failure = publish_pending(got == Input::Got::end)) {
      return failure;
    }
    acks_.settle();
    output_.flush();
    if (got == Input::Got::end) return std::nullopt;
  }
}

std::optional<Failure> Publisher::publish_pending(bool at_end) {
  for (;;) {
    const ParseResult parsed =
        options_.frames ? frames_.next(input_.pending(), at_end) : lines_.next(input_.pending(), at_end);
    if (parsed.status == Parsed::need_more) return std::nullopt;
    if (parsed.status != Parsed::record) return bad_record(parsed);
    if (auto failure = wrong_type(parsed.record)) return failure;
    publish(parsed.record);
    ++count_;
    input_.consume(parsed.consumed);
  }
}

std::optional<Failure> Publisher::bad_record(const ParseResult& parsed) const {
  const auto refuse = [](const std::string& sentence) { return Failure(exit_code::kUsage, sentence); };
  switch (parsed.status) {
    case Parsed::too_large:
      return refuse(
          fmt::format("{} has {}{} bytes, but a record of topic {} has at most {}: a quarter of its {} ring; use a "
                      "topic with a larger one",
                      this_record(), parsed.consumed == 0 && !options_.frames ? "at least " : "", parsed.bytes,
                      topic_.name(), bytes_max_, format_size(topic_.config().ring_bytes)));
    case Parsed::key_too_large:
      return refuse(fmt::format("the key of {} is too long: a key has at most {} bytes", this_record(), kKeyBytesMax));
    case Parsed::truncated:
      return refuse(
          fmt::format("the input ends inside {}, of which nothing was stored; what came before it was", this_record()));
    case Parsed::record:
    case Parsed::need_more: break;
  }
  return std::nullopt;
}

std::optional<Failure> Publisher::wrong_type(const InputRecord& record) const {
  const RecordType& type = topic_.config().type;
  if (type.bytes == 0 || record.payload.size() == type.bytes) return std::nullopt;
  return Failure(exit_code::kUsage,
                 fmt::format("{} has {} bytes, but topic {} holds records of {} bytes (schema \"{}\")", this_record(),
                             record.payload.size(), topic_.name(), type.bytes, type.schema));
}

void Publisher::publish(const InputRecord& record) {
  RecordOptions record_options;
  std::uint32_t partition = 0;
  if (record.key) record_options.key = bytes_of(*record.key);
  if (options_.partition) {
    partition = *options_.partition;
  } else if (record.key) {
    partition = producer_.partition_of(bytes_of(*record.key));
  } else {
    partition = next_;
    next_ = (next_ + 1) % topic_.config().partitions;
  }
  for (;;) {
    const Appended appended = producer_.append_to(partition, bytes_of(record.payload), record_options);
    switch (appended.status) {
      case AppendStatus::ok:
        patience_.reset();
        acks_.appended(appended);
        if (acks_.pending() > kPendingMax) make_room_for_pending();
        return;
      case AppendStatus::dropped: acks_.dropped(partition); return;
      case AppendStatus::full:
      case AppendStatus::no_horizon: hold_on(appended.blocked, partition); break;
      case AppendStatus::gone:
        throw Failure(exit_code::kEnvironment,
                      fmt::format("the ring of partition {} of topic {} was deleted while records were published; "
                                  "start pub again, which makes a new one",
                                  partition, topic_.name()));
      case AppendStatus::corrupt:
        throw Failure(
            exit_code::kDamage,
            fmt::format("the ring of partition {} of topic {} holds what can't be; stop everything that uses the "
                        "topic and run `spillway clean --yes`",
                        partition, topic_.name()));
      case AppendStatus::too_large:
      case AppendStatus::closed:
      case AppendStatus::forked:
        throw Failure(exit_code::kUsage,
                      fmt::format("{} can't be published: {}", this_record(), name_of(appended.status)));
    }
  }
}

// A producer found no room: whoever waits for acknowledgements gets them meanwhile.
void Publisher::hold_on(Blocked cause, std::uint32_t partition) {
  acks_.settle();
  output_.flush();
  if (patience_.exhausted()) no_progress("appending", cause, partition);
}

void Publisher::make_room_for_pending() {
  while (acks_.pending() > kPendingMax / 2) wait_for_acknowledgements(patience_.slice());
  patience_.reset();
}

// For some of them, and at most for the time-out; gives up once there has been no progress for the deadline.
void Publisher::wait_for_acknowledgements(std::chrono::nanoseconds timeout) {
  acks_.wait(timeout);
  output_.flush();
  if (acks_.done()) return patience_.reset();
  if (!patience_.exhausted()) return;
  const std::uint32_t partition = acks_.waiting_partition().value_or(0);
  no_progress("acknowledging", topic_.blocked(partition), partition);
}

void Publisher::no_progress(const char* doing, Blocked cause, std::uint32_t partition) {
  output_.flush();
  const InTheWay seen = look_in_the_way(topic_.state().domain().directories(), topic_.config(), partition, cause);
  throw Failure(exit_code::kEnvironment, fmt::format("no progress {} for {} s: {}", doing, options_.deadline_seconds,
                                                     explain(cause, topic_.name(), partition, seen)));
}

void Publisher::finish() {
  producer_.close();
  patience_.reset();
  while (!acks_.done()) wait_for_acknowledgements(patience_.slice());
  output_.flush();
  if (!options_.no_persist && !topic_.config().ephemeral) drain();
}

// What was committed goes to disk before we leave. Where another process holds the persister's role that is its promise:
// we wait for it as long as it goes on, because the last writer to leave also trims the horizon, but its rest is not ours.
void Publisher::drain() {
  patience_.reset();
  while (topic_.close(patience_.slice()) != Durable::yes) {
    if (!patience_.exhausted()) continue;
    for (std::uint32_t p = 0; p < topic_.config().partitions; ++p) {
      const auto open = topic_.state().writing_if_open(p);
      if (!open || persisted_elsewhere(*open)) continue;
      no_progress("writing what was committed to disk", topic_.blocked(p), p);
    }
    return;
  }
}

bool Publisher::persisted_elsewhere(const Partition& partition) const {
  if (topic_.state().domain().persister().holds_role(partition)) return false;
  return LockProbe(partition.paths().role_lock()).held(0);
}

// Whoever counts on the offsets must not take those that he has for all: of a reader that left, he knows; of this one he can't.
void Publisher::check_all_printed() const {
  if (!output_.gave_up()) return;
  throw Failure(
      exit_code::kEnvironment,
      fmt::format("not all offsets were printed, because whoever reads standard output took nothing for 5 s after "
                  "the request to stop; all {} records are in topic {}, and `spillway sub --offsets` shows where",
                  count_, topic_.name()));
}

// What stands without its end when the input ends by itself is a record; when we are told to stop it may be half of one.
void Publisher::tell_unfinished() const {
  if (input_.pending().empty()) return;
  note(fmt::format("pub: an unfinished {} of {} bytes was not sent, because the request to stop came before its end",
                   options_.frames ? "frame" : "line", input_.pending().size()));
}

void Publisher::report_losses() const {
  if (acks_.dropped_count() + acks_.lost_count() == 0) return;
  std::string sentence;
  if (acks_.dropped_count() > 0) {
    sentence = fmt::format("{} of {} records were dropped, because the ring of topic {} was full (on-full drop_new)",
                           acks_.dropped_count(), count_, topic_.name());
  }
  if (acks_.lost_count() > 0) {
    sentence += fmt::format("{}{} of {} records of topic {} were lost before they were {} (on-full {}, sync {})",
                            sentence.empty() ? "" : "; ", acks_.lost_count(), count_, topic_.name(),
                            topic_.config().on_full == OnFull::overwrite ? "written" : "synced",
                            name_of(topic_.config().on_full), name_of(topic_.config().sync));
  }
  throw Failure(exit_code::kLoss, sentence + "; a larger --ring or on-full block loses none");
}

void check_options(const PubOptions& options, const TopicConfig& config) {
  const auto refuse = [](const std::string& sentence) { throw Failure(exit_code::kUsage, sentence); };
  if (config.ephemeral && options.ack.value_or(AckLevel::committed) != AckLevel::committed) {
    refuse(fmt::format("topic {} is ephemeral, so nothing of it is ever {}; use --ack committed", config.name,
                       name_of(*options.ack)));
  }
  if (config.on_full == OnFull::overwrite && !options.exclusive) {
    refuse(fmt::format("topic {} overwrites when full, which only an exclusive producer may; add --exclusive",
                       config.name));
  }
  if (options.partition && *options.partition >= config.partitions) {
    refuse(
        fmt::format("topic {} has partitions 0 to {}, not {}", config.name, config.partitions - 1, *options.partition));
  }
}

int run_pub(const Context& context, const PubOptions& options) {
  catch_stop_signals();
  const Domain domain(context.domain_options(options.no_persist ? StandBy::never : StandBy::yes));
  const Topic topic = domain.open(options.topic);
  check_options(options, topic.config());
  const AckLevel level = options.ack.value_or(topic.config().ephemeral ? AckLevel::committed : AckLevel::written);
  return Publisher(topic, options, level).run();
}

double parse_deadline(const std::string& text) {
  double seconds = -1;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, seconds);
  // Asked so that what is no number (nan) is out of the range.
  if (parsed.ec == std::errc() && parsed.ptr == end && seconds >= 0 && seconds <= 1e9) return seconds;
  throw CLI::ValidationError("--deadline", "`" + text + "` is not a number of seconds from 0 to 1000000000");
}

std::optional<AckLevel> parse_ack(const std::string& text) {
  for (const AckLevel level : {AckLevel::committed, AckLevel::written, AckLevel::durable}) {
    if (text == name_of(level)) return level;
  }
  return std::nullopt;
}

}  // namespace

void add_pub(CLI::App& app, Context& context) {
  CLI::App& command = add_command(app, context, "pub", "publish one record per line of standard input");
  const auto options = std::make_shared<PubOptions>();
  add_topic(command, options->topic);
  add_number(command, "--partition", options->partition, "all to this partition (default: by key, else round robin)")
      ->type_name("P");
  command.add_flag("--exclusive", options->exclusive, "be the only producer of each partition: faster");
  CLI::Option* separator = add_separator(command, options->separator, "what precedes the first C of a line is its key");
  command
      .add_option_function<std::string>(
          "--ack",
          [options](const std::string& text) {
            options->ack = parse_ack(text);
            if (!options->ack)
              throw CLI::ValidationError("--ack", "`" + text + "` is none of committed|written|durable");
          },
          "when a record counts as sent (default written; ephemeral: committed)")
      ->type_name("committed|written|durable");
  command.add_flag(
      "--offsets", options->offsets,
      "print `PARTITION OFFSET` of each record once it is acknowledged,\n`PARTITION -` if it was dropped or lost");
  CLI::Option* frames =
      command.add_flag("--frames", options->frames, "read frames: u32 length, payload (little-endian)")
          ->excludes(separator);
  command
      .add_flag("--keys", options->keys,
                "of frames with keys: u32 key length (0xFFFFFFFF: none),\nu32 payload length, key, payload")
      ->needs(frames);
  command
      .add_option_function<std::string>(
          "--deadline", [options](const std::string& text) { options->deadline_seconds = parse_deadline(text); },
          "give up after so long without progress (default 10)")
      ->type_name("SECONDS");
  command.add_flag("--no-persist", options->no_persist, "leave writing to disk to others");
  command.callback([&context, options] { context.run = [&context, options] { return run_pub(context, *options); }; });
}

}  // namespace spillway::command
