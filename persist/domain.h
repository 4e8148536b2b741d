// Where topics live: a directory for rings and one for segments, and the persister of this process.
//
// Thread safety: Domain is thread-safe. Handles made from it keep what they need alive: they may outlive it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "spillway/persist/topic.h"

namespace spillway {

class DomainState;  // persist/domain_state.h

// Whether this process takes the persister role of the partitions it writes to.
enum class StandBy : std::uint8_t { yes, never };

struct DomainOptions {
  std::string data = {};  // default: $SPILLWAY_DATA, else $STATE_DIRECTORY, else ~/.local/share/spillway
  std::string shm = {};   // default: $SPILLWAY_SHM, else /dev/shm/spillway-<uid>
  StandBy stand_by = StandBy::yes;
};

// The directories `options` mean, with the defaults filled in. Throws Error when there is no default (no home).
DomainOptions resolve(DomainOptions options);

class Domain {
 public:
  // Creates nothing on disk until a topic is created. Throws Error (no_permission) when a directory belongs to a stranger.
  explicit Domain(DomainOptions options = {});

  // An existing topic. Throws Error: not_found, corrupt, no_permission.
  Topic open(const std::string& name) const;
  // Creates the topic, or opens one that exists already and has every option that was given; Error (conflict) shows both
  // sides otherwise. Idempotent, and safe to race.
  Topic open_or_create(const std::string& name, const TopicOptions& options = {}) const;

  // Typed: size, alignment and `options.schema` are kept in topic.json; a mismatch is Error (conflict), both sides named.
  template <class T>
  TypedTopic<T> open_or_create(const std::string& name, TopicOptions options = {}) const {
    options.type = TypedTopic<T>::type(options.schema.value_or(std::string()));
    return TypedTopic<T>(open_or_create(name, options));
  }
  template <class T>
  TypedTopic<T> open(const std::string& name, const std::string& schema = {}) const {
    Topic topic = open(name);
    TopicOptions wanted;
    wanted.type = TypedTopic<T>::type(schema);
    if (!schema.empty()) wanted.schema = schema;
    check_same(topic.config(), wanted);
    return TypedTopic<T>(std::move(topic));
  }

  // Names of all topics, sorted.
  std::vector<std::string> topics() const;
  // Everything a removal would delete, for showing first.
  struct Removal {
    std::vector<std::string> files;
    std::uint64_t log_bytes = 0;
    std::vector<std::string> live_users;  // "producer pid 12 (partition 0)": not empty, and nothing will be deleted
  };
  Removal plan_removal(const std::string& name) const;
  // Deletes the topic with all its records. Throws Error: not_found; busy, naming the live users.
  void remove(const std::string& name) const;

  const DomainOptions& options() const noexcept;
  DomainState& state() const noexcept { return *state_; }

 private:
  std::shared_ptr<DomainState> state_;
};

}  // namespace spillway
