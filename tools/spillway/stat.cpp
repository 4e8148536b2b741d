// spillway stat [TOPIC]: who writes and reads a topic, how far, how fast, and who holds it up. Only looks: creates, locks and
// wakes nothing. Exit 0, or 1 when a topic can't be looked at because it is damaged.
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>

#include "command.h"
#include "output.h"
#include "spillway/persist/domain_state.h"
#include "stat_view.h"
#include "stop_signal.h"
#include "topic_json.h"

namespace spillway::command {
namespace {

struct StatOptions {
  std::string topic;
  bool json = false;
  bool watch = false;
};

constexpr int kRateMs = 250;    // between the two looks of a single report
constexpr int kWatchMs = 1000;  // between two reports

// What is watched of one topic.
class TopicObserver {
 public:
  TopicObserver(const Directories& where, const TopicConfig& config) : config_(config) {
    for (std::uint32_t p = 0; p < config.partitions; ++p) {
      observers_.emplace_back(where, config, p);
      views_.push_back({p, std::nullopt, std::nullopt, {}});
    }
  }
  const TopicConfig& config() const noexcept { return config_; }
  int worst() const noexcept { return worst_; }

  TopicView look() {
    worst_ = exit_code::kDone;
    for (std::size_t i = 0; i < observers_.size(); ++i) {
      PartitionView& view = views_[i];
      view.before = std::exchange(view.now, std::nullopt);
      try {
        view.now = observers_[i].look();
      } catch (const Error& e) {
        view.problem = e.what();
        worst_ = std::max(worst_, exit_code_of(e.code()));
      }
    }
    return {config_, {}, views_};
  }

 private:
  TopicConfig config_;
  std::vector<PartitionObserver> observers_;
  std::vector<PartitionView> views_;
  int worst_ = exit_code::kDone;
};

class Stat {
 public:
  Stat(const Domain& domain, const StatOptions& options) : domain_(domain), options_(options) {}

  // Looks at every topic asked for; with none named also at new ones.
  std::vector<TopicView> look() {
    worst_ = exit_code::kDone;
    const auto names = options_.topic.empty() ? domain_.topics() : std::vector<std::string>{options_.topic};
    std::erase_if(observers_, [&](const TopicObserver& observer) {
      return std::find(names.begin(), names.end(), observer.config().name) == names.end();
    });
    std::vector<TopicView> views;
    for (const std::string& name : names) views.push_back(look_at(name));
    return views;
  }
  int worst() const noexcept { return worst_; }

 private:
  TopicView look_at(const std::string& name) {
    try {
      const TopicConfig config = (options_.topic.empty() ? domain_.open(name) : open_existing(domain_, name)).config();
      auto found = std::find_if(observers_.begin(), observers_.end(),
                                [&](const TopicObserver& observer) { return observer.config().name == name; });
      if (found != observers_.end() && found->config().id != config.id) {
        observers_.erase(found);  // deleted and made anew
        found = observers_.end();
      }
      if (found == observers_.end()) {
        observers_.emplace_back(domain_.state().directories(), config);
        found = std::prev(observers_.end());
      }
      TopicView view = found->look();
      worst_ = std::max(worst_, found->worst());
      return view;
    } catch (const Error& e) {
      if (!options_.topic.empty()) throw;
      worst_ = std::max(worst_, exit_code_of(e.code()));
      TopicView view;
      view.config.name = name;
      view.problem = e.what();
      return view;
    }
  }

  const Domain& domain_;
  const StatOptions& options_;
  std::vector<TopicObserver> observers_;
  int worst_ = exit_code::kDone;
};

// False: a signal came, or the reader of the output went away.
bool pause_for(int ms, const Output& output) {
  struct pollfd watched[2] = {{stop_descriptor(), POLLIN, 0}, {output.usable() ? STDOUT_FILENO : -1, 0, 0}};
  return ::poll(watched, 2, ms) == 0 && !stop_requested();
}

int run_stat(const Context& context, const StatOptions& options) {
  catch_stop_signals();
  const Domain domain(context.domain_options(StandBy::never));
  Stat stat(domain, options);
  Output output;
  const bool redraw = options.watch && !options.json && ::isatty(STDOUT_FILENO) == 1;
  stat.look();
  for (bool go_on = pause_for(kRateMs, output) || !options.watch; go_on; go_on = pause_for(kWatchMs, output)) {
    const std::vector<TopicView> views = stat.look();
    if (redraw) output.append("\x1b[H\x1b[2J");
    output.append(options.json ? print(to_json(views), options.watch ? -1 : 2) : to_text(views));
    output.flush();
    output.check();
    if (!options.watch || !output.usable()) break;
  }
  if (stat.worst() == exit_code::kDone || options.watch) return exit_code::kDone;
  throw Failure(stat.worst(), "not everything could be looked at; what could not says why above");
}

}  // namespace

void add_stat(CLI::App& app, Context& context) {
  CLI::App& command = add_command(app, context, "stat", "who writes and reads, how far and how fast");
  const auto options = std::make_shared<StatOptions>();
  add_topic(command, options->topic, false);
  command.add_flag("--json", options->json, "for scripts, as below; with --watch one line a second");
  command.add_flag("--watch", options->watch, "again each second until a signal");
  command.footer(
      "JSON: {\"topics\": [...]}; of each topic: topic, ephemeral, on_full, sync and partitions [...], or topic\n"
      "and problem (a sentence) where it can't be looked at.\n"
      "Of each partition: partition, ring (false: none; the watermarks are what is on disk), ring_elsewhere\n"
      "(true: none here, but live writers have one), locks_known (false: no right to look who lives), capacity,\n"
      "incarnation, begin; the watermarks retained_begin, durable_end, written_end, committed_end, reserved_end,\n"
      "horizon and reclaimable_end (offsets in bytes, null where an ephemeral topic has none); kept_bytes (of\n"
      "the log, without gaps between segments); dropped (records), gap_count, mode; rates {committed, written,\n"
      "durable} (bytes per second; null without two looks at one ring, the last two on an ephemeral topic too);\n"
      "persister {held, state, path, pid, daemon, paused, asked_for, error, error_text, since_ns, syncs,\n"
      "records_written} (null on an ephemeral topic); producers [{slot, pid, mode, since_ns, blocked, paused}];\n"
      "consumers [{slot, pid, name, state, offset, lag_bytes, gate, since_ns, paused}]; held {by, cause,\n"
      "offset, pid, paused} or null; problem (a sentence) in the place of all that where a partition can't be\n"
      "looked at.");
  command.callback([&context, options] { context.run = [&context, options] { return run_stat(context, *options); }; });
}

}  // namespace spillway::command
