#include "command.h"

#include <cstdio>

#include "record_text.h"
#include "spillway/core/size_text.h"

namespace spillway::command {

DomainOptions Context::domain_options(StandBy stand_by) const { return {data, shm, stand_by}; }

int exit_code_of(Code code) noexcept {
  switch (code) {
    case Code::corrupt: return exit_code::kDamage;
    case Code::invalid_argument:
    case Code::not_found:
    case Code::conflict:
    case Code::busy:
    case Code::no_slot:
    case Code::ring_elsewhere:
    case Code::ring_stale: return exit_code::kUsage;
    case Code::no_space:
    case Code::no_permission:
    case Code::io:
    case Code::unsupported:
    case Code::gone:
    case Code::forked: return exit_code::kEnvironment;
  }
  return exit_code::kEnvironment;
}

CLI::App& add_command(CLI::App& app, Context& context, const std::string& name, const std::string& description) {
  CLI::App* command = app.add_subcommand(name, description);
  command->add_option("--data", context.data, "directory of the segments ($SPILLWAY_DATA)")->type_name("DIR");
  command->add_option("--shm", context.shm, "directory of the rings ($SPILLWAY_SHM)")->type_name("DIR");
  return *command;
}

void add_topic(CLI::App& command, std::string& topic, bool required) {
  CLI::Option* option = command.add_option("TOPIC", topic, "name of the topic")->type_name("");
  if (required) option->required();
}

CLI::Option* add_size(CLI::App& command, const std::string& flag, std::optional<std::uint64_t>& size,
                      const std::string& description) {
  const auto take = [&size, flag](const std::string& text) {
    size = parse_size(text);
    if (!size) throw CLI::ValidationError(flag, "`" + text + "` is not a size; write 65536, 64KiB, 16MiB or 1GiB");
  };
  return command.add_option_function<std::string>(flag, take, description)->type_name("SIZE");
}

CLI::Option* add_separator(CLI::App& command, std::string& separator, const std::string& description) {
  const auto take = [&separator](const std::string& text) {
    const auto parsed = parse_separator(text);
    if (!parsed) throw CLI::ValidationError("--key-separator", "`" + text + "` is not one character (or \\t)");
    separator = *parsed;
  };
  return command.add_option_function<std::string>("--key-separator", take, description)->type_name("C");
}

void note(const std::string& sentence) { std::fprintf(stderr, "spillway: %s\n", sentence.c_str()); }

}  // namespace spillway::command
