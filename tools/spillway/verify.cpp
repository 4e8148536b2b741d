// spillway verify TOPIC: walks every segment of every partition: headers, CRCs, commit words. Exit 0 when all is sound, 1
// with a line for each damaged range. A torn end beyond durable_end is not damage. Needs no ring (one that can't be used is
// told and left out), creates nothing.
#include <fmt/format.h>

#include "command.h"
#include "output.h"
#include "spillway/core/size_text.h"
#include "spillway/persist/topic_state.h"
#include "spillway/persist/verify.h"
#include "topic_json.h"

namespace spillway::command {
namespace {

struct VerifyOptions {
  std::string topic;
  bool json = false;
};

struct PartitionReport {
  std::uint32_t partition = 0;
  VerifyResult result;
};

// The partition's ring, if there is a sound one: then only what has been written is verified.
std::shared_ptr<const Partition> ring_of(const TopicState& state, std::uint32_t partition) {
  const PartitionPaths paths = state.paths(partition);
  if (!file_exists(paths.ring)) return nullptr;
  try {
    return Partition::attach(paths, state.config(), partition, Access::read_only);
  } catch (const Error& e) {
    if (e.code() == Code::no_permission) throw;
    if (e.code() != Code::not_found) note(fmt::format("verify: the ring is left out: {}", e.what()));
    return nullptr;
  }
}

PartitionReport verify_one(const TopicState& state, std::uint32_t partition) {
  check_partition_directory(state.paths(partition), state.config(), partition);
  return {partition,
          verify_partition(state.paths(partition).data, state.config(), partition, ring_of(state, partition))};
}

// What the exit is for; what it is exactly has been said line by line.
std::string summary(const std::string& topic, std::size_t damaged, std::size_t problems) {
  std::string text;
  if (damaged > 0) {
    text = fmt::format(
        "topic {} is damaged in {} places, named above; consumers get a gap `damaged` there, what is around it can be "
        "read; restore the files named from a copy, if there is one",
        topic, damaged);
  }
  if (problems > 0) {
    text += fmt::format("{}of topic {} {} files beside its records can't be used; each is named above with what to do",
                        damaged > 0 ? "; " : "", topic, problems);
  }
  return text;
}

nlohmann::ordered_json to_json(const PartitionReport& report) {
  const VerifyResult& result = report.result;
  nlohmann::ordered_json json = {{"partition", report.partition}, {"begin", result.begin},     {"end", result.end},
                                 {"segments", result.segments},   {"records", result.records}, {"bytes", result.bytes},
                                 {"ranges", result.ranges},       {"gaps", result.gaps}};
  json["damage"] = nlohmann::ordered_json::array();
  for (const LogDamage& damage : result.damage) {
    json["damage"].push_back({{"segment", segment_name(damage.segment)},
                              {"from", damage.from},
                              {"to", damage.to},
                              {"bytes", damage.to - damage.from},
                              {"cause", damage.what}});
  }
  json["problems"] = result.problems;
  return json;
}

std::string to_text(const PartitionReport& report) {
  const VerifyResult& result = report.result;
  std::string text = fmt::format("partition {}: {} records, {} in {} segments, offsets {} to {}, {} gaps: {}\n",
                                 report.partition, result.records, format_size(result.bytes), result.segments,
                                 result.begin, result.end, result.gaps, result.sound() ? "sound" : "damaged");
  for (const LogDamage& damage : result.damage) {
    text += fmt::format("damaged partition={} from={} to={} bytes={} segment={} cause={}\n", report.partition,
                        damage.from, damage.to, damage.to - damage.from, segment_name(damage.segment), damage.what);
  }
  for (const std::string& problem : result.problems) {
    text += fmt::format("problem partition={} {}\n", report.partition, problem);
  }
  return text;
}

int run_verify(const Context& context, const VerifyOptions& options) {
  const Domain domain(context.domain_options(StandBy::never));
  const Topic topic = open_existing(domain, options.topic);
  const TopicState& state = topic.state();
  if (topic.config().ephemeral) {
    throw Failure(exit_code::kUsage, "topic " + topic.name() + " is ephemeral: it has no segments to verify");
  }
  Output output;
  std::size_t damaged = 0, problems = 0;
  nlohmann::ordered_json json = {
      {"topic", topic.name()}, {"sound", true}, {"partitions", nlohmann::ordered_json::array()}};
  for (std::uint32_t p = 0; p < topic.config().partitions; ++p) {
    const PartitionReport report = verify_one(state, p);
    damaged += report.result.damage.size();
    problems += report.result.problems.size();
    if (options.json) {
      json["partitions"].push_back(to_json(report));
    } else {
      output.append(to_text(report));
      output.flush();
    }
  }
  const auto cursors = verify_cursors(cursors_directory(state.domain().directories(), topic.config()), topic.config());
  problems += cursors.size();
  if (options.json) {
    json["cursors"] = cursors;
    json["sound"] = damaged + problems == 0;
    output.append(print(json));
  } else {
    for (const std::string& problem : cursors) output.append("problem " + problem + "\n");
  }
  output.flush();
  output.check();
  if (damaged + problems == 0) return exit_code::kDone;
  throw Failure(exit_code::kDamage, summary(topic.name(), damaged, problems));
}

}  // namespace

void add_verify(CLI::App& app, Context& context) {
  CLI::App& command = add_command(app, context, "verify", "check every byte of a topic on disk");
  const auto options = std::make_shared<VerifyOptions>();
  add_topic(command, options->topic);
  command.add_flag("--json", options->json, "for scripts: every damaged range with its bounds and cause");
  command.callback(
      [&context, options] { context.run = [&context, options] { return run_verify(context, *options); }; });
}

}  // namespace spillway::command
