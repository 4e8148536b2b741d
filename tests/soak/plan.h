// What a soak consists of: the topics, the logs in them ("lanes"), and the processes. All of it follows from the seed, so that
// conductor and workers work it out by themselves and agree.
//
// Thread safety: values.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "spillway/spillway.h"

namespace spillway::soak {

inline constexpr std::size_t kLanesMax = 16;
inline constexpr std::size_t kWorkersMax = 32;

// Random choices; one seed, one row of them.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : engine_(seed) {}
  std::uint64_t below(std::uint64_t end) { return end == 0 ? 0 : engine_() % end; }
  std::uint64_t between(std::uint64_t low, std::uint64_t high) { return low + below(high - low + 1); }
  bool one_in(std::uint64_t n) { return below(n) == 0; }
  // As many of each order of magnitude.
  std::uint64_t any_magnitude(std::uint64_t low, std::uint64_t high);

 private:
  std::mt19937_64 engine_;
};

// Who writes to a lane. `either`: shared and exclusive producers in turn, as they find it free.
enum class Writers : std::uint8_t { shared, exclusive, either };

struct TopicPlan {
  std::string name;
  TopicOptions options;
  bool ephemeral() const { return options.ephemeral.value_or(false); }
  bool overwrites() const { return *options.on_full == OnFull::overwrite; }
};

// One partition of one topic.
struct LanePlan {
  std::size_t topic = 0;
  std::uint32_t partition = 0;
  Writers writers = Writers::shared;
};

enum class Role : std::uint8_t {
  daemon,
  producer,          // shared; persists nothing
  standby_producer,  // shared; takes the persister role when it can
  exclusive_producer,
  spinner,   // live, Wait::spin
  yielder,   // Wait::yield and Wait::back_off
  blocker,   // Wait::block
  wait_set,  // all lanes behind one descriptor
  durable,   // read_up_to durable
  cursor,    // named, durable; goes on where it was
  replayer,  // from earliest to the end, again and again
  gate,      // gating
  observer,  // with no right to write, or to open a lock
};

struct WorkerPlan {
  Role role;
  std::string name;
  bool produces() const {
    return role == Role::producer || role == Role::standby_producer || role == Role::exclusive_producer;
  }
};

struct Plan {
  std::vector<TopicPlan> topics;
  std::vector<LanePlan> lanes;
  std::vector<WorkerPlan> workers;

  const TopicPlan& topic_of(std::size_t lane) const { return topics[lanes[lane].topic]; }
  std::size_t lane_of(const std::string& topic, std::uint32_t partition) const;
  std::string lane_name(std::size_t lane) const;
};

Plan make_plan(std::uint64_t seed);

// Where a soak's files are.
struct Places {
  std::string work;  // holds data/, logs/, stage and history
  std::string shm;   // rings
  std::string data() const { return work + "/data"; }
  std::string logs() const { return work + "/logs"; }
  std::string stage() const { return work + "/stage"; }
  std::string history() const { return work + "/history"; }
  Domain domain(StandBy stand_by) const { return Domain({.data = data(), .shm = shm, .stand_by = stand_by}); }
};

}  // namespace spillway::soak
