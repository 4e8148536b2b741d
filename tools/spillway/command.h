// What the subcommands share: how one registers, where topics live, and what an exit code means.
//
// A subcommand is one file with one function `add_<name>`. It adds its CLI::App and sets a callback, which puts what is to
// be run into `Context::run`: parsing has no effects, and every effect has a Context.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>

#include "spillway/core/error.h"
#include "spillway/persist/domain.h"

namespace spillway::command {

// Standard output carries data only; each of these but done has told standard error why.
namespace exit_code {
inline constexpr int kDone = 0;
inline constexpr int kDamage = 1;       // damage found
inline constexpr int kUsage = 2;        // bad usage, or a request that can't be met
inline constexpr int kLoss = 3;         // records were lost, and it was reported which
inline constexpr int kEnvironment = 4;  // no space, no permission, no progress within the deadline
}  // namespace exit_code

struct Context {
  std::string data;  // empty: the default, see spillway::resolve()
  std::string shm;
  std::function<int()> run;  // of the subcommand that was named

  DomainOptions domain_options(StandBy stand_by = StandBy::yes) const;
};

// Ends the command: `sentence` names the thing, the cause and the cure.
class Failure : public std::runtime_error {
 public:
  Failure(int code, const std::string& sentence) : std::runtime_error(sentence), code_(code) {}
  int code() const noexcept { return code_; }

 private:
  int code_;
};

// Which exit code an Error of the library means.
int exit_code_of(Code code) noexcept;

// --data and --shm.
void add_directories(CLI::App& command, Context& context);
// A subcommand with these, which may stand before it as well.
CLI::App& add_command(CLI::App& app, Context& context, const std::string& name, const std::string& description);
// A topic that must be there already. Throws Failure (usage) that names those that are there as the cure, rather than to make it.
Topic open_existing(const Domain& domain, const std::string& topic);
// Its positional TOPIC.
void add_topic(CLI::App& command, std::string& topic, bool required = true);
// For Option::check: what is wrong with a name that must not be empty.
std::string refuse_empty(const std::string& text);
// Decimal digits and nothing else, of a number that is not larger than `most`.
std::optional<std::uint64_t> parse_number(std::string_view text, std::uint64_t most) noexcept;
// An option that takes such a number.
template <class Number>
CLI::Option* add_number(CLI::App& command, const std::string& flag, std::optional<Number>& number,
                        const std::string& description) {
  const auto take = [&number, flag](const std::string& text) {
    constexpr std::uint64_t kMost = std::numeric_limits<Number>::max();
    const auto parsed = parse_number(text, kMost);
    if (!parsed) {
      throw CLI::ValidationError(flag, "`" + text + "` is not a whole number from 0 to " + std::to_string(kMost));
    }
    number = static_cast<Number>(*parsed);
  };
  return command.add_option_function<std::string>(flag, take, description)->type_name("N");
}
// An option that takes a size, as `16MiB`.
CLI::Option* add_size(CLI::App& command, const std::string& flag, std::optional<std::uint64_t>& size,
                      const std::string& description);
// `--key-separator C`, of lines.
CLI::Option* add_separator(CLI::App& command, std::string& separator, const std::string& description);

// The sentence with its control characters escaped: names in it may hold any.
std::string one_line(std::string_view sentence);
// Tells standard error something that is not a failure.
void note(const std::string& sentence);

void add_create(CLI::App& app, Context& context);
void add_list(CLI::App& app, Context& context);
void add_describe(CLI::App& app, Context& context);
void add_delete(CLI::App& app, Context& context);
void add_pub(CLI::App& app, Context& context);
void add_sub(CLI::App& app, Context& context);
void add_persist(CLI::App& app, Context& context);
void add_stat(CLI::App& app, Context& context);
void add_verify(CLI::App& app, Context& context);
void add_doctor(CLI::App& app, Context& context);
void add_clean(CLI::App& app, Context& context);
void add_demo(CLI::App& app, Context& context);

}  // namespace spillway::command
