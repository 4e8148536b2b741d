// spillway create TOPIC: makes a topic, or checks that one that exists has every option that was given. Idempotent; of an
// existing topic only what was asked for is compared, and differences end in exit 2 with both sides of each shown.
#include <sys/stat.h>

#include "command.h"
#include "spillway/core/size_text.h"

namespace spillway::command {
namespace {

struct CreateOptions {
  std::string topic;
  TopicOptions wanted;
};

template <class Value>
void add_choice(CLI::App& command, const std::string& flag, std::optional<Value>& value,
                std::optional<Value> (*parse)(std::string_view) noexcept, const std::string& choices,
                const std::string& description) {
  const auto take = [&value, parse, flag, choices](const std::string& text) {
    value = parse(text);
    if (!value) throw CLI::ValidationError(flag, "`" + text + "` is none of " + choices);
  };
  command.add_option_function<std::string>(flag, take, description)->type_name(choices);
}

std::optional<bool> parse_on_off(std::string_view text) noexcept {
  if (text == "on") return true;
  if (text == "off") return false;
  return std::nullopt;
}

std::optional<Sharing> parse_share(std::string_view text) noexcept {
  if (text == "owner") return Sharing::owner;
  if (text == "group_read") return Sharing::group_read;
  if (text == "group_write") return Sharing::group_write;
  return std::nullopt;
}

// A domain's directories are made with its first topic, as that is shared; another topic's wider sharing ends at them.
void note_closed_directories(const DomainOptions& domain, const TopicConfig& config) {
  if (config.sharing == Sharing::owner) return;
  for (const std::string& directory : {domain.data, domain.shm}) {
    struct stat s;
    if (::stat(directory.c_str(), &s) != 0 || (s.st_mode & (S_IRGRP | S_IXGRP)) == (S_IRGRP | S_IXGRP)) continue;
    note("the group can't get at topic " + config.name + ", because " + directory + " is closed to it; chmod g+rx " +
         directory);
  }
}

int run_create(const Context& context, const CreateOptions& options) {
  const Domain domain(context.domain_options());
  const TopicConfig config = domain.open_or_create(options.topic, options.wanted).config();
  if (!config.ephemeral && config.retain_bytes == 0 && config.retain_age_s == 0) {
    note("topic " + config.name +
         " keeps every record until it is deleted; --retain SIZE bounds what it takes of the disk");
  }
  note_closed_directories(domain.options(), config);
  return exit_code::kDone;
}

}  // namespace

void add_create(CLI::App& app, Context& context) {
  CLI::App& command = add_command(app, context, "create", "make a topic; does nothing when it is there already");
  const auto options = std::make_shared<CreateOptions>();
  add_topic(command, options->topic);
  TopicOptions& wanted = options->wanted;
  add_number(command, "--partitions", wanted.partitions, "how many logs the topic has (default 1)");
  add_size(
      command, "--ring", wanted.ring,
      "memory of each partition, a power of two from 64KiB\n(default: the largest within 16MiB / N, at least 1MiB)");
  add_size(command, "--segment", wanted.segment, "size of a segment file (default: the larger of 64MiB and the ring)");
  add_size(command, "--retain", wanted.retain, "most that a partition keeps on disk (default: without limit)");
  add_number(command, "--retain-age", wanted.retain_age_s,
             "seconds after which what is on disk goes, a segment at a time;\na cursor that still needs it holds it "
             "(default: without limit)")
      ->type_name("SECONDS");
  add_choice(command, "--on-full", wanted.on_full, &parse_on_full, "block|drop_new|overwrite",
             "what happens when the disk is a ring behind (default block)");
  add_choice(command, "--sync", wanted.sync, &parse_sync, "none|interval|every_batch",
             "when what was written is synced (default interval)");
  add_number(command, "--sync-interval-ms", wanted.sync_interval_ms, "of --sync interval (default 100)");
  add_choice(command, "--wakeups", wanted.wakeups, &parse_on_off, "on|off",
             "whether producers wake sleeping consumers (default on)");
  command.add_flag_callback(
      "--ephemeral", [&wanted] { wanted.ephemeral = true; }, "in memory only: nothing is written to disk");
  add_choice(command, "--sharing", wanted.sharing, &parse_share, "owner|group_read|group_write",
             "who else may use the files (default owner)");
  command.callback(
      [&context, options] { context.run = [&context, options] { return run_create(context, *options); }; });
}

}  // namespace spillway::command
