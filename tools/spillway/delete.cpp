// spillway delete TOPIC --yes: deletes a topic with all its records. Without --yes it shows what would go (exit 2), and a
// topic that somebody uses is never deleted: the users are named (exit 2).
#include <fmt/format.h>

#include "command.h"
#include "output.h"
#include "spillway/core/size_text.h"

namespace spillway::command {
namespace {

struct DeleteOptions {
  std::string topic;
  bool yes = false;
};

int run_delete(const Context& context, const DeleteOptions& options) {
  const Domain domain(context.domain_options());
  open_existing(domain, options.topic);
  const Domain::Removal plan = domain.plan_removal(options.topic);
  if (!plan.live_users.empty()) {
    throw Failure(exit_code::kUsage, fmt::format("topic {} is in use by {}; stop them first", options.topic,
                                                 fmt::join(plan.live_users, ", ")));
  }
  if (options.yes) {
    domain.remove(options.topic);
    return exit_code::kDone;
  }
  Output output;
  for (const std::string& file : plan.files) output.append(file + "\n");
  output.flush();
  output.check();
  throw Failure(
      exit_code::kUsage,
      fmt::format("nothing was deleted: topic {} has {} files, {} of segments among them; add --yes to delete them",
                  options.topic, plan.files.size(), format_size(plan.log_bytes)));
}

}  // namespace

void add_delete(CLI::App& app, Context& context) {
  CLI::App& command = add_command(app, context, "delete", "delete a topic with all its records");
  const auto options = std::make_shared<DeleteOptions>();
  add_topic(command, options->topic);
  command.add_flag("--yes", options->yes, "really; without it the files that would go are shown");
  command.callback(
      [&context, options] { context.run = [&context, options] { return run_delete(context, *options); }; });
}

}  // namespace spillway::command
