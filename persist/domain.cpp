#include "spillway/persist/domain.h"

#include <pwd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "spillway/core/error.h"
#include "spillway/persist/domain_state.h"
#include "spillway/persist/topic_state.h"

namespace spillway {
namespace {

std::string from_environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

std::string home_directory() {
  std::string home = from_environment("HOME");
  if (!home.empty()) return home;
  if (const struct passwd* entry = ::getpwuid(::geteuid()); entry != nullptr && entry->pw_dir != nullptr) {
    return entry->pw_dir;
  }
  throw Error(Code::invalid_argument,
              "there is no home directory to keep data in; name one with --data or SPILLWAY_DATA");
}

// Absolute, so that a later change of the working directory moves nothing, and without slashes at the end.
std::string tidy(std::string path) {
  if (path.front() != '/') {
    char* here = ::getcwd(nullptr, 0);
    if (here == nullptr) throw system_error(errno, "can't tell the working directory");
    path = std::string(here) + "/" + path;
    std::free(here);
  }
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

// A name that everybody can foresee.
std::string default_shm() { return "/dev/shm/spillway-" + std::to_string(::geteuid()); }

}  // namespace

DomainOptions resolve(DomainOptions options) {
  if (options.data.empty()) options.data = from_environment("SPILLWAY_DATA");
  // systemd gives several directories separated by colons; the first is ours.
  if (options.data.empty())
    options.data = from_environment("STATE_DIRECTORY").substr(0, from_environment("STATE_DIRECTORY").find(':'));
  if (options.data.empty()) options.data = home_directory() + "/.local/share/spillway";
  if (options.shm.empty()) options.shm = from_environment("SPILLWAY_SHM");
  if (options.shm.empty()) options.shm = default_shm();
  options.data = tidy(std::move(options.data));
  options.shm = tidy(std::move(options.shm));
  if (options.data == options.shm) {
    throw Error(Code::invalid_argument, "data and shm can't both be " + options.data + "; name two directories");
  }
  return options;
}

Domain::Domain(DomainOptions options) : state_(std::make_shared<DomainState>(resolve(std::move(options)))) {
  // A stranger's directory in a place all may write to is noticed here rather than at the first topic.
  for (const std::string& directory : {state_->directories().data, state_->directories().shm}) {
    static_cast<void>(check_directory(directory));
  }
  if (state_->directories().shm == default_shm()) check_own_directory(default_shm());
}

Topic Domain::open(const std::string& name) const {
  state_->check_fork();
  return Topic(state_->open(read_topic(state_->directories(), name)));
}

Topic Domain::open_or_create(const std::string& name, const TopicOptions& options) const {
  state_->check_fork();
  return Topic(state_->open(create_topic(state_->directories(), name, options)));
}

std::vector<std::string> Domain::topics() const { return list_topics(state_->directories()); }

Domain::Removal Domain::plan_removal(const std::string& name) const {
  TopicRemoval plan = plan_topic_removal(state_->directories(), read_topic(state_->directories(), name));
  return {std::move(plan.files), plan.log_bytes, std::move(plan.live_users)};
}

void Domain::remove(const std::string& name) const {
  state_->check_fork();
  remove_topic(state_->directories(), read_topic(state_->directories(), name));
  state_->forget(name);
}

const DomainOptions& Domain::options() const noexcept { return state_->options(); }

}  // namespace spillway
