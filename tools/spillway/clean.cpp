// spillway clean --yes: removes what dead processes left. Never what a live one uses, never committed bytes that no segment
// holds: those are written to disk first. Without --yes it shows what it would do (exit 2 if there is anything).
#include "spillway/persist/clean.h"

#include <fmt/format.h>

#include "command.h"
#include "output.h"
#include "spillway/core/size_text.h"

namespace spillway::command {
namespace {

constexpr std::chrono::seconds kPersistTimeout(60);

void show(const CleanPlan& plan, Output& output) {
  for (const CleanItem& item : plan.items) {
    output.append(fmt::format("{} {} of partition {} of topic {}: {}\n", name_of(item.action), format_size(item.bytes),
                              item.partition, item.topic, item.why));
    for (const std::string& file : item.files) output.append("  " + file + "\n");
  }
  for (const std::string& sentence : plan.kept) output.append("keep: " + sentence + "\n");
  output.flush();
  output.check();
}

int apply(const Domain& domain, const CleanPlan& plan) {
  int worst = exit_code::kDone;
  for (const CleanItem& item : plan.items) {
    const std::string what = fmt::format("the files of partition {} of topic {}", item.partition, item.topic);
    try {
      if (const auto why_not = apply_clean(domain, item, kPersistTimeout)) {
        note("clean: left alone " + what + ": " + *why_not);
        worst = exit_code::kEnvironment;
      }
    } catch (const Error& e) {
      note("clean: left alone " + what + ": " + e.what());
      worst = std::max(worst, exit_code_of(e.code()));
    }
  }
  return worst;
}

int run_clean(const Context& context, bool yes) {
  const Domain domain(context.domain_options());
  const CleanPlan plan = plan_clean(domain);
  Output output;
  show(plan, output);
  if (plan.items.empty()) return exit_code::kDone;
  if (!yes) {
    throw Failure(exit_code::kUsage,
                  fmt::format("nothing was removed: {} items would go; add --yes to remove them", plan.items.size()));
  }
  return apply(domain, plan);
}

}  // namespace

void add_clean(CLI::App& app, Context& context) {
  CLI::App& command = add_command(app, context, "clean", "remove what dead processes left");
  const auto yes = std::make_shared<bool>(false);
  command.add_flag("--yes", *yes, "really; without it the plan is shown");
  command.callback([&context, yes] { context.run = [&context, yes] { return run_clean(context, *yes); }; });
}

}  // namespace spillway::command
