// The spillway command. Each subcommand is a file of its own; here is only what they have in common: arguments are parsed,
// one of them runs, and whatever it throws becomes one sentence on standard error and an exit code.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <new>
#include <sstream>

#include "command.h"
#include "output.h"
#include "stop_signal.h"

namespace spillway::command {
namespace {

// A descriptor that we are started without would be given to the next file that is opened, and what is meant for standard
// output would be written into it: a ring, say. So all three are taken; using one that was closed is then an error.
void hold_standard_descriptors() {
  const auto hold = [](int fd, int flags) {
    if (::fcntl(fd, F_GETFD) >= 0 || errno != EBADF) return;
    const int opened = ::open("/dev/null", flags);  // the lowest free number, which is fd
    if (opened > fd) ::close(opened);
  };
  hold(STDIN_FILENO, O_WRONLY);
  hold(STDOUT_FILENO, O_RDONLY);
  hold(STDERR_FILENO, O_RDONLY);
}

// Who writes to a topic has eight files of it open, so a thousand topics do not go into the 1,024 that a login gives. It gives so
// few for the sake of select(), which nothing here uses.
void raise_descriptor_limit() {
  struct rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

int fail(const CLI::App& app, int code, const std::string& sentence) {
  const auto chosen = app.get_subcommands();
  const std::string name = chosen.empty() ? "" : " " + chosen.front()->get_name();
  std::fprintf(stderr, "spillway%s: %s\n", name.c_str(), one_line(sentence).c_str());
  return code;
}

std::string what_is_wrong(const CLI::App& app, const CLI::ParseError& e) {
  const auto chosen = app.get_subcommands();
  if (!chosen.empty()) return std::string(e.what()) + "; see `spillway " + chosen.front()->get_name() + " --help`";
  const auto unknown = app.remaining();
  std::string what = e.what();
  if (!unknown.empty())
    what = "`" + unknown.front() + (unknown.front().front() == '-' ? "` is no option" : "` is no subcommand");
  return what + "; see `spillway --help`";
}

int show(const std::string& text) {
  Output output;
  output.append(text);
  output.flush();
  output.check();
  return exit_code::kDone;
}

int parse_and_run(CLI::App& app, Context& context, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() != static_cast<int>(CLI::ExitCodes::Success)) {
      return fail(app, exit_code::kUsage, what_is_wrong(app, e));
    }
    std::ostringstream text;  // of --help or --version
    app.exit(e, text, text);
    context.run = [text = text.str()] { return show(text); };
  }
  try {
    return context.run();
  } catch (const Failure& e) {
    return fail(app, e.code(), e.what());
  } catch (const Error& e) {
    return fail(app, exit_code_of(e.code()), e.what());
  } catch (const std::bad_alloc&) {
    return fail(app, exit_code::kEnvironment, "not enough memory; give the process more, or use smaller sizes");
  } catch (const std::exception& e) {
    return fail(app, exit_code::kEnvironment, std::string("can't go on: ") + e.what());
  }
}

int run_command(int argc, char** argv) {
  CLI::App app("Spillway: a shared-memory log with durable segments.", "spillway");
  app.set_version_flag("--version", "spillway " SPILLWAY_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 done, 1 damage found, 2 bad usage or impossible request, 3 data loss reported, 4 environment (no\n"
      "space, no permission, no progress within the deadline). Sizes are written 64KiB, 16MiB, 1GiB.");
  Context context;
  add_directories(app, context);
  add_create(app, context);
  add_list(app, context);
  add_describe(app, context);
  add_delete(app, context);
  add_pub(app, context);
  add_sub(app, context);
  add_persist(app, context);
  add_stat(app, context);
  add_verify(app, context);
  add_doctor(app, context);
  add_clean(app, context);
  add_demo(app, context);
  return parse_and_run(app, context, argc, argv);
}

}  // namespace
}  // namespace spillway::command

int main(int argc, char** argv) {
  spillway::command::hold_standard_descriptors();
  spillway::command::raise_descriptor_limit();
  spillway::command::ignore_closed_pipes();
  spillway::command::ignore_file_size_limit();
  return spillway::command::run_command(argc, argv);
}
