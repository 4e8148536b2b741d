// spillway describe TOPIC: the topic's configuration, and where its files are. Reads the configuration only.
#include <fmt/format.h>

#include "command.h"
#include "output.h"
#include "spillway/persist/topic_state.h"
#include "topic_json.h"

namespace spillway::command {
namespace {

struct DescribeOptions {
  std::string topic;
  bool json = false;
};

int run_describe(const Context& context, const DescribeOptions& options) {
  const Domain domain(context.domain_options());
  const Topic topic = open_existing(domain, options.topic);
  const PartitionPaths paths = topic.state().paths(0);
  const std::string rings = parent_of(paths.ring), segments = parent_of(paths.data);
  Output output;
  if (options.json) {
    auto json = describe_json(topic.config());
    json["rings"] = rings;
    json["segments"] = topic.config().ephemeral ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(segments);
    output.append(print(json));
  } else {
    output.append(describe_text(topic.config()));
    output.append(fmt::format("{:<14}{}\n", "rings", rings));
    if (!topic.config().ephemeral) output.append(fmt::format("{:<14}{}\n", "segments", segments));
  }
  output.flush();
  output.check();
  return exit_code::kDone;
}

}  // namespace

void add_describe(CLI::App& app, Context& context) {
  CLI::App& command = add_command(app, context, "describe", "a topic's configuration");
  const auto options = std::make_shared<DescribeOptions>();
  add_topic(command, options->topic);
  command.add_flag("--json", options->json, "for scripts; sizes in bytes");
  command.callback(
      [&context, options] { context.run = [&context, options] { return run_describe(context, *options); }; });
}

}  // namespace spillway::command
