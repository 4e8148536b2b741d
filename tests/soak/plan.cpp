#include "plan.h"

#include <bit>
#include <stdexcept>

#include "spillway/core/bytes.h"

namespace spillway::soak {
namespace {

TopicPlan persistent(Dice& dice, const std::string& name, OnFull on_full, SyncPolicy sync) {
  TopicOptions options;
  options.ring = (64 * kKiB) << dice.below(3);
  options.segment = *options.ring << dice.below(3);
  options.retain = *options.segment * dice.between(3, 12);
  if (dice.one_in(3)) options.retain_age_s = static_cast<std::uint32_t>(dice.between(1, 5));
  options.on_full = on_full;
  options.sync = sync;
  if (sync == SyncPolicy::interval) options.sync_interval_ms = static_cast<std::uint32_t>(dice.any_magnitude(1, 100));
  options.wakeups = !dice.one_in(4);
  options.sharing = Sharing::group_read;
  return {name, options};
}

TopicPlan ephemeral(Dice& dice, const std::string& name, OnFull on_full) {
  TopicOptions options;
  options.ring = (64 * kKiB) << dice.below(3);
  options.on_full = on_full;
  options.wakeups = !dice.one_in(4);
  options.ephemeral = true;
  options.sharing = Sharing::group_read;
  return {name, options};
}

}  // namespace

std::uint64_t Dice::any_magnitude(std::uint64_t low, std::uint64_t high) {
  const auto first = static_cast<std::uint64_t>(std::bit_width(low));
  const auto last = static_cast<std::uint64_t>(std::bit_width(high));
  const std::uint64_t width = between(first, last);
  const std::uint64_t value =
      width == 0 ? 0 : (std::uint64_t{1} << (width - 1)) + below(std::uint64_t{1} << (width - 1));
  return std::min(std::max(value, low), high);
}

std::size_t Plan::lane_of(const std::string& topic, std::uint32_t partition) const {
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    if (topic_of(i).name == topic && lanes[i].partition == partition) return i;
  }
  throw std::logic_error("no lane " + topic);
}

std::string Plan::lane_name(std::size_t lane) const {
  return topic_of(lane).name + "/" + std::to_string(lanes[lane].partition);
}

Plan make_plan(std::uint64_t seed) {
  Dice dice(seed);
  Plan plan;
  plan.topics.push_back(persistent(dice, "blocking", OnFull::block, SyncPolicy::every_batch));
  plan.topics.back().options.partitions = 2;
  plan.topics.push_back(persistent(dice, "interval", OnFull::block, SyncPolicy::interval));
  plan.topics.push_back(persistent(dice, "dropping", OnFull::drop_new, SyncPolicy::interval));
  plan.topics.push_back(persistent(dice, "overwriting", OnFull::overwrite, SyncPolicy::none));
  plan.topics.push_back(ephemeral(dice, "gated", OnFull::block));
  plan.topics.push_back(ephemeral(dice, "rushing", OnFull::overwrite));
  plan.lanes = {{0, 0, Writers::shared},    {0, 1, Writers::either}, {1, 0, Writers::shared},   {2, 0, Writers::shared},
                {3, 0, Writers::exclusive}, {4, 0, Writers::shared}, {5, 0, Writers::exclusive}};
  plan.workers = {{Role::daemon, "daemon"},
                  {Role::standby_producer, "producer_1"},
                  {Role::producer, "producer_2"},
                  {Role::producer, "producer_3"},
                  {Role::exclusive_producer, "exclusive"},
                  {Role::spinner, "spinner"},
                  {Role::yielder, "yielder"},
                  {Role::blocker, "blocker"},
                  {Role::wait_set, "wait_set"},
                  {Role::durable, "durable"},
                  {Role::cursor, "cursor"},
                  {Role::replayer, "replayer"},
                  {Role::gate, "gate"},
                  {Role::observer, "observer"}};
  return plan;
}

}  // namespace spillway::soak
