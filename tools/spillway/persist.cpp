// spillway persist [TOPIC ...]: writes topics to disk, all of them and new ones too when none is named. Prints `ready` once
// it holds its roles (systemd is told), then a line for each change of state, `TOPIC PARTITION CHANGE`; until SIGTERM or SIGINT,
// which stop it cleanly. A reader of the lines that goes away does not stop it.
#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <cstring>

#include "command.h"
#include "output.h"
#include "patience.h"
#include "service_notice.h"
#include "spillway/core/clock.h"
#include "spillway/ipc/ring_walk.h"
#include "spillway/persist/clean_stop.h"
#include "spillway/persist/domain_state.h"
#include "spillway/persist/lifecycle.h"
#include "spillway/persist/topic_stat.h"
#include "stop_signal.h"

namespace spillway::command {
namespace {

constexpr std::uint64_t kRescanNs = 1'000'000'000;
constexpr std::uint64_t kStuckNs = 10'000'000'000;  // without any progress: the clean stop has failed
constexpr std::uint64_t kStopSliceNs = 500'000'000;
constexpr std::uint64_t kSayWhoHoldsNs = 2'000'000'000;

// What the persister tells, on its way from its thread to ours.
class EventQueue {
 public:
  void push(const PersisterEvent& event) {
    std::lock_guard lock(mutex_);
    events_.push_back(event);
  }
  std::vector<PersisterEvent> take() {
    std::lock_guard lock(mutex_);
    return std::exchange(events_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<PersisterEvent> events_;
};

struct Charge {
  TopicConfig config;
  std::shared_ptr<Partition> partition;
  bool told_who_holds = false;
};

class Daemon {
 public:
  Daemon(const Directories& where, std::vector<std::string> names)
      : where_(where), names_(std::move(names)), persister_(options()) {}

  int run();

 private:
  void serve();
  PersisterOptions options() {
    PersisterOptions options;
    options.on_event = [this](const PersisterEvent& event) { events_.push(event); };
    return options;
  }
  void rescan(bool first);
  void adopt(const std::string& name, bool first);
  void adopt_partition(const TopicConfig& config, std::uint32_t number);
  void drop_gone();
  bool holds_all() const;
  void say_who_holds();
  std::string error_text(const PersisterEvent& event) const;
  void tell(const PersisterEvent& event);
  void tell_events();
  void get_ready();
  void tell_problem(const std::string& place, const std::string& problem);
  void line(const std::string& text);
  void stop_all();
  bool stop_one(const Charge& charge);

  Directories where_;
  std::vector<std::string> names_;
  EventQueue events_;
  Persister persister_;
  std::vector<Charge> charges_;
  std::map<std::string, std::string> problems_;  // by place, as told last
  Output output_;
  bool ready_ = false;
  std::vector<PersisterEvent> before_ready_;
  std::uint64_t started_ns_ = monotonic_ns();
};

void Daemon::line(const std::string& text) {
  output_.append(text + "\n");
  output_.flush();
}

// Each problem once, and again when it changes; not every second.
void Daemon::tell_problem(const std::string& place, const std::string& problem) {
  if (std::exchange(problems_[place], problem) != problem) note("persist: " + problem);
}

void Daemon::rescan(bool first) {
  drop_gone();
  std::vector<std::string> names = names_;
  try {
    if (names.empty()) names = list_topics(where_);
    problems_.erase(where_.data);
  } catch (const Error& e) {
    if (first) throw;
    tell_problem(where_.data, e.what());
  }
  for (const std::string& name : names) adopt(name, first);
}

void Daemon::adopt(const std::string& name, bool first) {
  try {
    const TopicConfig config = read_topic(where_, name);
    if (config.ephemeral) {
      if (names_.empty()) return;
      throw Error(Code::invalid_argument, "topic " + name + " is ephemeral: there is nothing to write to disk");
    }
    for (std::uint32_t p = 0; p < config.partitions; ++p) adopt_partition(config, p);
    problems_.erase(name);
  } catch (const Error& e) {
    // A topic that was named must be there; of all topics the others are served.
    if (first && !names_.empty()) throw;
    tell_problem(name, e.what());
  }
}

void Daemon::adopt_partition(const TopicConfig& config, std::uint32_t number) {
  const bool known = std::any_of(charges_.begin(), charges_.end(), [&](const Charge& charge) {
    return charge.config.id == config.id && charge.partition->number() == number;
  });
  if (known) return;
  const PartitionPaths paths = PartitionPaths::of(where_.shm, where_.data, config, number);
  check_partition_directory(paths, config, number);
  auto partition = open_for_writing(paths, config, number);
  persister_.add(partition, {.daemon = true, .stand_by = true});
  charges_.push_back({config, std::move(partition)});
}

// Rings that were deleted under us: what they hold is written, then they are let go of, so that a new one can be made.
void Daemon::drop_gone() {
  std::erase_if(charges_, [this](Charge& charge) {
    charge.partition->look_whether_gone();
    if (!charge.partition->gone()) return false;
    line(fmt::format("{} {} ring_deleted", charge.config.name, charge.partition->number()));
    if (persister_.stop_cleanly(charge.partition, Deadline::after_ns(kStopSliceNs)) != Durable::yes) return false;
    seal_if_last(*charge.partition);
    return true;
  });
}

bool Daemon::holds_all() const {
  return std::all_of(charges_.begin(), charges_.end(),
                     [this](const Charge& charge) { return persister_.holds_role(*charge.partition); });
}

// Another holder lets go within a moment, unless it is a daemon too, or paused.
void Daemon::say_who_holds() {
  if (ready_ || monotonic_ns() - started_ns_ < kSayWhoHoldsNs) return;
  for (Charge& charge : charges_) {
    if (charge.told_who_holds || persister_.holds_role(*charge.partition)) continue;
    const std::uint32_t pid = charge.partition->control().persister.pid.load(std::memory_order_relaxed);  // display
    if (pid == 0) continue;  // nobody: our own thread has not come to it yet
    charge.told_who_holds = true;
    note(fmt::format("persist: pid {}{} holds the role of partition {} of topic {}; waiting for it", pid,
                     process_paused(pid) ? ", which is paused," : "", charge.partition->number(), charge.config.name));
  }
}

std::string Daemon::error_text(const PersisterEvent& event) const {
  for (const Charge& charge : charges_) {
    if (charge.config.name != event.topic || charge.partition->number() != event.partition) continue;
    return persister_error_text(charge.partition->paths(), charge.config, event.partition, event.error);
  }
  return std::strerror(event.error);
}

void Daemon::tell(const PersisterEvent& event) {
  const std::string cause = event.error == 0 ? "" : ": " + error_text(event);
  line(fmt::format("{} {} {}{}", event.topic, event.partition, name_of(event.change), cause));
}

// `ready` is the first line; what happens before waits for it, but failures, which may be why it does not come.
void Daemon::tell_events() {
  for (const PersisterEvent& event : events_.take()) {
    if (ready_) {
      tell(event);
    } else if (event.error != 0) {
      note(
          fmt::format("persist: {} {} {}: {}", event.topic, event.partition, name_of(event.change), error_text(event)));
    } else {
      before_ready_.push_back(event);
    }
  }
}

void Daemon::get_ready() {
  if (ready_ || !holds_all()) return;
  ready_ = true;
  line("ready");
  notify_service_manager("READY=1");
  for (const PersisterEvent& event : std::exchange(before_ready_, {})) tell(event);
}

bool Daemon::stop_one(const Charge& charge) {
  const auto progress = [&] {
    const PersisterArea& area = charge.partition->control().persister;
    // relaxed: whether anything has moved.
    return area.written_end.load(std::memory_order_relaxed) + area.durable_end.load(std::memory_order_relaxed);
  };
  std::uint64_t seen = progress(), since_ns = monotonic_ns();
  while (persister_.stop_cleanly(charge.partition, Deadline::after_ns(kStopSliceNs)) != Durable::yes) {
    tell_events();
    if (progress() != seen) {
      seen = progress();
      since_ns = monotonic_ns();
    } else if (monotonic_ns() - since_ns > kStuckNs) {
      const std::uint32_t number = charge.partition->number();
      const Blocked cause = persister_blocked(*charge.partition);
      note("persist: " +
           explain(cause, charge.config.name, number, look_in_the_way(where_, charge.config, number, cause)) +
           "; what is not written stays in the ring " + charge.partition->paths().ring);
      return false;
    }
  }
  seal_if_last(*charge.partition);
  return true;
}

void Daemon::stop_all() {
  notify_service_manager("STOPPING=1");
  std::size_t stuck = 0;
  for (const Charge& charge : charges_) {
    if (!stop_one(charge)) ++stuck;
  }
  tell_events();
  if (stuck == 0) return;
  throw Failure(
      exit_code::kEnvironment,
      fmt::format("{} of {} partitions could not be stopped cleanly; the causes are named above, and the next "
                  "writer goes on where this one stopped",
                  stuck, charges_.size()));
}

void Daemon::serve() {
  rescan(true);
  for (std::uint64_t scanned_ns = monotonic_ns(); !stop_requested();) {
    tell_events();
    get_ready();
    say_who_holds();
    struct pollfd stop = {stop_descriptor(), POLLIN, 0};
    ::poll(&stop, 1, ready_ ? 100 : 5);
    if (monotonic_ns() - scanned_ns < kRescanNs) continue;
    rescan(false);
    scanned_ns = monotonic_ns();
  }
}

int Daemon::run() {
  try {
    serve();
  } catch (...) {
    stop_all();
    throw;
  }
  stop_all();
  return exit_code::kDone;
}

int run_persist(const Context& context, const std::vector<std::string>& topics) {
  catch_stop_signals();
  const Domain domain(context.domain_options());
  return Daemon(domain.state().directories(), topics).run();
}

}  // namespace

void add_persist(CLI::App& app, Context& context) {
  CLI::App& command = add_command(app, context, "persist", "write topics to disk until SIGTERM or SIGINT");
  const auto topics = std::make_shared<std::vector<std::string>>();
  command.add_option("TOPIC", *topics, "names of topics (default: all, new ones too)")
      ->type_name("")
      ->check(refuse_empty);
  command.callback([&context, topics] { context.run = [&context, topics] { return run_persist(context, *topics); }; });
}

}  // namespace spillway::command
