#include "command.h"

#include <fmt/format.h>

#include <charconv>
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

std::string refuse_empty(const std::string& text) { return text.empty() ? "it can't be empty" : ""; }

void add_directories(CLI::App& command, Context& context) {
  command.add_option("--data", context.data, "directory of the segments ($SPILLWAY_DATA)")
      ->type_name("DIR")
      ->check(refuse_empty);
  command.add_option("--shm", context.shm, "directory of the rings ($SPILLWAY_SHM)")
      ->type_name("DIR")
      ->check(refuse_empty);
}

CLI::App& add_command(CLI::App& app, Context& context, const std::string& name, const std::string& description) {
  CLI::App* command = app.add_subcommand(name, description);
  add_directories(*command, context);
  return *command;
}

Topic open_existing(const Domain& domain, const std::string& topic) {
  try {
    return domain.open(topic);
  } catch (const Error& e) {
    if (e.code() != Code::not_found) throw;
    const DomainOptions& where = domain.options();
    throw Failure(exit_code::kUsage, "there is no topic " + topic + " in " + where.data + " or " + where.shm +
                                         "; `spillway list` names those there are, --data and --shm other directories");
  }
}

void add_topic(CLI::App& command, std::string& topic, bool required) {
  CLI::Option* option = command.add_option("TOPIC", topic, "name of the topic")->type_name("")->check(refuse_empty);
  if (required) option->required();
}

std::optional<std::uint64_t> parse_number(std::string_view text, std::uint64_t most) noexcept {
  std::uint64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size() || number > most) return std::nullopt;
  return number;
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

std::string one_line(std::string_view sentence) {
  std::string line;
  for (const char c : sentence) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      line += c;
    } else {
      line += fmt::format("\\x{:02x}", byte);
    }
  }
  return line;
}

void note(const std::string& sentence) { std::fprintf(stderr, "spillway: %s\n", one_line(sentence).c_str()); }

}  // namespace spillway::command
