// spillway demo [--seconds N] [--json]
//
// Runs the main job on real input, in real processes, in directories of its own that it removes: two producers, a persister,
// a consumer that stays live and one that is stopped until it is many laps behind and then replays from disk.
// Exit 0 only if every consumer got exactly what was produced: the last line is then `demo: ok ...`.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "command.h"
#include "demo_director.h"
#include "demo_directories.h"
#include "demo_plan.h"
#include "demo_report.h"
#include "demo_roles.h"
#include "output.h"
#include "stop_signal.h"

namespace spillway::command {
namespace {

struct DemoOptions {
  std::optional<std::uint32_t> seconds;
  bool json = false;
  demo::RoleOptions role;  // of the processes that the demo itself starts
};

int verdict(const demo::Report& report) {
  const std::vector<std::string> mismatches = demo::find_mismatches(report);
  if (mismatches.empty()) return exit_code::kDone;
  const demo::Totals totals = demo::totals_of(report);
  const bool loss = totals.gaps > 0 || totals.lost > 0;
  throw Failure(loss ? exit_code::kLoss : exit_code::kDamage, fmt::format("{}", fmt::join(mismatches, "; ")));
}

int run_demo(const Context& context, const DemoOptions& options) {
  catch_stop_signals();
  const demo::Directories directories(context);
  const demo::Plan plan = demo::make_plan(options.seconds.value_or(20), directories.disk_free(), directories.shm_free(),
                                          directories.data().c_str(), directories.shm().c_str());
  Output output;
  const demo::Report report = demo::Director(directories, plan, options.json ? nullptr : &output).run();
  if (options.json) {
    output.append(demo::report_json(report).dump() + "\n");
  } else {
    output.append(demo::report_text(report) + "\n" + demo::summary_line(report) + "\n");
  }
  output.flush();
  output.check();
  return verdict(report);
}

// What the demo's own processes are told; nobody else's business.
void add_hidden(CLI::App& command, demo::RoleOptions& role) {
  command.add_option("--role", role.role)->group("");
  command.add_option("--name", role.name)->group("");
  command.add_option("--rate", role.bytes_per_second)->group("");
  command.add_option("--log-max", role.log_bytes_max)->group("");
}

}  // namespace

void add_demo(CLI::App& app, Context& context) {
  CLI::App& command = add_command(app, context, "demo", "run the main job on real input, and check every byte of it");
  const auto options = std::make_shared<DemoOptions>();
  add_number(command, "--seconds", options->seconds, "how long to produce (default 20)")
      ->check(CLI::Range(3U, 86'400U));
  command.add_flag("--json", options->json, "print one JSON object at the end, and no table");
  add_hidden(command, options->role);
  command.footer(
      "It works in directories of its own below --data and --shm (by default below $TMPDIR or /var/tmp, and "
      "/dev/shm),\n"
      "uses at most a quarter of the free disk and 2 GiB of it, and removes what it made.");
  command.callback([&context, options] {
    context.run = [&context, options] {
      if (options->role.role.empty()) {
        try {
          return run_demo(context, *options);
        } catch (const demo::TableClosed&) {
          return exit_code::kDone;
        }
      }
      options->role.domain = context.domain_options(StandBy::never);
      return demo::run_role(options->role);
    };
  });
}

}  // namespace spillway::command
