#include "demo_roles.h"

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "command.h"

namespace spillway::command::demo {

int run_role(const RoleOptions& options) {
  if (options.role == "telemetry") return run_telemetry(options);
  if (options.role == "firehose") return run_firehose(options);
  if (options.role == "reader") return run_reader(options);
  throw Failure(exit_code::kUsage, "the demo has no role `" + options.role + "`");
}

std::optional<std::string> Orders::next() {
  if (input_.pending().find('\n') == std::string_view::npos) {
    const Input::Got got = input_.read_more(0);
    if (got == Input::Got::end) throw Failure(exit_code::kEnvironment, "the process that directs the demo has gone");
  }
  const std::string_view pending = input_.pending();
  const std::size_t end = pending.find('\n');
  if (end == std::string_view::npos) return std::nullopt;
  std::string line(pending.substr(0, end));
  input_.consume(end + 1);
  return line;
}

void rest(std::uint64_t ns) noexcept { std::this_thread::sleep_for(std::chrono::nanoseconds(ns)); }

void report(const std::string& line) {
  const std::string text = line + "\n";
  std::string_view left = text;
  while (!left.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, left.data(), left.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      throw Failure(exit_code::kEnvironment,
                    std::string("can't report to the process that directs the demo: ") + std::strerror(errno));
    }
    left.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace spillway::command::demo
