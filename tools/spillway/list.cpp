// spillway list: the names of all topics, one a line; with --json their configurations. A topic whose configuration can't
// be read is listed all the same, and the exit says so.
#include <algorithm>

#include "command.h"
#include "output.h"
#include "topic_json.h"

namespace spillway::command {
namespace {

int run_list(const Context& context, bool json) {
  const Domain domain(context.domain_options());
  Output output;
  int code = exit_code::kDone;
  auto topics = nlohmann::ordered_json::array();
  for (const std::string& name : domain.topics()) {
    if (!json) output.append(name + "\n");
    try {
      topics.push_back(describe_json(domain.open(name).config()));
    } catch (const Error& e) {
      note(e.what());
      code = std::max(code, exit_code_of(e.code()));
      topics.push_back({{"topic", name}, {"error", e.what()}});
    }
  }
  if (json) output.append(print({{"topics", topics}}));
  output.flush();
  output.check();
  return code;
}

}  // namespace

void add_list(CLI::App& app, Context& context) {
  CLI::App& command = add_command(app, context, "list", "the names of all topics");
  const auto json = std::make_shared<bool>(false);
  command.add_flag("--json", *json, "with their configurations, as `describe` gives them");
  command.callback([&context, json] { context.run = [&context, json] { return run_list(context, *json); }; });
}

}  // namespace spillway::command
