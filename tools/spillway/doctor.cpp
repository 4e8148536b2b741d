// spillway doctor: what of this machine, these directories and these topics is not as it should be, each with its cause and
// its cure. Exit 4 only if something prevents running. Changes nothing.
#include <fmt/format.h>

#include "command.h"
#include "doctor_checks.h"
#include "output.h"
#include "topic_json.h"

namespace spillway::command {
namespace {

std::string to_text(const Finding& finding) {
  std::string text = fmt::format("{:<9} {:<11} {}\n", name_of(finding.verdict), finding.check, finding.found);
  if (!finding.cause.empty()) text += fmt::format("{:22}cause: {}\n", "", finding.cause);
  if (!finding.cure.empty()) text += fmt::format("{:22}cure:  {}\n", "", finding.cure);
  return text;
}

std::vector<Finding> examine(const Context& context) {
  const DomainOptions places = resolve(context.domain_options());
  std::vector<Finding> findings = {
      check_kernel(),   check_shm(places.shm), check_data(places.data), check_direct_io(places.data),
      check_io_uring(), check_memlock(),       check_wakeups(),         check_remove_ipc(places.shm)};
  const auto add = [&](std::vector<Finding> more) {
    findings.insert(findings.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  };
  try {
    const Domain domain(places);
    add(check_topics(domain));
    add(check_leftovers(domain));
  } catch (const Error& e) {
    add({finding_of(e, "topics", Verdict::prevents, "can't be looked at")});
  }
  return findings;
}

int run_doctor(const Context& context, bool json) {
  const std::vector<Finding> findings = examine(context);
  Output output;
  auto list = nlohmann::ordered_json::array();
  std::string prevented;
  for (const Finding& finding : findings) {
    if (finding.verdict == Verdict::prevents)
      prevented += (prevented.empty() ? "" : "; ") + finding.check + ": " + finding.cause;
    if (!json) output.append(to_text(finding));
    list.push_back({{"check", finding.check},
                    {"verdict", name_of(finding.verdict)},
                    {"found", finding.found},
                    {"cause", finding.cause},
                    {"cure", finding.cure}});
  }
  if (json) output.append(print({{"checks", list}}));
  output.flush();
  output.check();
  if (prevented.empty()) return exit_code::kDone;
  throw Failure(exit_code::kEnvironment, "Spillway can't run like this: " + prevented + "; the cures are given above");
}

}  // namespace

Finding finding_of(const Error& error, std::string check, Verdict verdict, std::string found) {
  const std::string sentence = error.what();
  const std::size_t end = sentence.find("; ");
  return {std::move(check), verdict, std::move(found), sentence.substr(0, end),
          end == std::string::npos ? "mend what the cause names, or choose other directories with --data and --shm"
                                   : sentence.substr(end + 2)};
}

void add_doctor(CLI::App& app, Context& context) {
  CLI::App& command = add_command(app, context, "doctor", "what is amiss here, why, and what to do about it");
  const auto json = std::make_shared<bool>(false);
  command.add_flag("--json", *json, "for scripts: {\"checks\": [{check, verdict, found, cause, cure}]}");
  command.callback([&context, json] { context.run = [&context, json] { return run_doctor(context, *json); }; });
}

}  // namespace spillway::command
