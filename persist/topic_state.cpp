#include "spillway/persist/topic_state.h"

#include <algorithm>

#include "spillway/core/error.h"
#include "spillway/ipc/ring_walk.h"
#include "spillway/persist/clean_stop.h"
#include "spillway/persist/horizon_file.h"
#include "spillway/persist/lifecycle.h"
#include "spillway/persist/segment_history.h"

namespace spillway {
namespace {

// No writer any more, even where a consumer of this process keeps it mapped.
void let_go(std::shared_ptr<Partition>& partition) noexcept {
  partition->writers_lock().unlock();
  partition.reset();
}

}  // namespace

TopicState::TopicState(std::shared_ptr<DomainState> domain, TopicConfig config)
    : domain_(std::move(domain)),
      config_(std::move(config)),
      writing_(config_.partitions),
      reading_(config_.partitions) {}

TopicState::~TopicState() {
  for (const auto& partition : writing_) {
    if (partition) domain_->persister().remove(partition);
  }
}

PartitionPaths TopicState::paths(std::uint32_t partition) const {
  return PartitionPaths::of(domain_->directories().shm, domain_->directories().data, config_, partition);
}

void TopicState::check_partition(std::uint32_t partition) const {
  if (partition < config_.partitions) return;
  throw Error(Code::not_found, "topic " + config_.name + " has partitions 0 to " +
                                   std::to_string(config_.partitions - 1) + ", not " + std::to_string(partition));
}

std::shared_ptr<Partition> TopicState::writing(std::uint32_t number) {
  domain_->check_fork();
  check_partition(number);
  std::lock_guard lock(mutex_);
  std::shared_ptr<Partition>& partition = writing_[number];
  if (partition) partition->look_whether_gone();
  if (partition && partition->gone() && config_.ephemeral) {
    // Deleted under us: the topic is made anew from our own copy of its configuration, unless somebody has done so.
    let_go(partition);
    recreate_topic(domain_->directories(), config_);
  }
  if (!partition) {
    if (!config_.ephemeral) check_same_topic(paths(number), config_);  // one that was deleted has no directory either
    check_partition_directory(paths(number), config_, number);
    partition = open_for_writing(paths(number), config_, number);
    domain_->watch(partition);
    if (!config_.ephemeral) {
      domain_->persister().add(partition, {.daemon = false, .stand_by = domain_->options().stand_by == StandBy::yes});
    }
  }
  return partition;
}

std::shared_ptr<Partition> TopicState::writing_if_open(std::uint32_t number) {
  if (mark_.forked()) return nullptr;
  std::lock_guard lock(mutex_);
  return number < writing_.size() ? writing_[number] : nullptr;
}

std::shared_ptr<Partition> TopicState::reading(std::uint32_t number) {
  domain_->check_fork();
  check_partition(number);
  std::lock_guard lock(mutex_);
  if (writing_[number] && !writing_[number]->gone()) return writing_[number];
  auto partition = reading_[number].lock();
  if (!partition || partition->gone()) {
    partition = open_for_reading(paths(number), config_, number);
    reading_[number] = partition;
    if (partition) domain_->watch(partition);
  }
  return partition;
}

void TopicState::make_ring(std::uint32_t number) {
  if (!reading(number)) open_for_writing(paths(number), config_, number);
}

ReaderSource TopicState::source_behind(std::uint32_t number, std::shared_ptr<Partition> ring) const {
  ReaderSource source;
  source.consumers_lock = paths(number).consumers_lock();
  source.ring = std::move(ring);
  if (!config_.ephemeral) {
    source.history = std::make_unique<SegmentHistory>(paths(number).data, config_, number, source.ring);
  }
  return source;
}

ReaderSource TopicState::source(std::uint32_t number) {
  domain_->check_fork();
  // An ephemeral one that was deleted is waited for.
  const bool there = !config_.ephemeral || topic_exists(domain_->directories(), config_.name);
  if (there) {
    check_same_topic(paths(number), config_);
    check_partition_directory(paths(number), config_, number);
  }
  return source_behind(number, reading(number));
}

Offset TopicState::readable_end_max(PartitionReader& reader) const {
  const auto& ring = reader.ring();
  if (ring) ring->look_whether_gone();  // another may have followed it
  if (ring && !ring->gone()) return find_committed_end(*ring).end;
  const auto slot = HorizonFile::peek(horizon_path(paths(reader.number()).data), config_.id, reader.number());
  return std::max(slot ? slot->horizon : 0, reader.end_now());
}

std::shared_ptr<TopicState> TopicState::as_it_is_now() {
  domain_->check_fork();
  const Directories& where = domain_->directories();
  if (!topic_exists(where, config_.name)) {
    // An ephemeral one may still be made anew, by who has it open.
    if (config_.ephemeral) return shared_from_this();
    throw Error(Code::gone, "the topic " + config_.name + " was deleted");
  }
  const TopicConfig now = read_topic(where, config_.name);
  if (now.id == config_.id) return shared_from_this();
  if (config_.ephemeral && now.ephemeral && now.type == config_.type) return domain_->open(now);
  throw Error(Code::gone, "the topic " + config_.name + " was deleted, and another made; open it again");
}

FindSource TopicState::finder(std::uint32_t number) {
  return [state = shared_from_this(), number]() mutable -> ReaderSource {
    state = state->as_it_is_now();
    // Cheap while there is no ring: without one a history is a recovery.
    auto ring = state->reading(number);
    return ring ? state->source_behind(number, std::move(ring)) : ReaderSource{};
  };
}

Durable TopicState::wait(std::uint32_t number, Offset end, std::chrono::nanoseconds timeout, bool synced) {
  if (mark_.forked()) return Durable::forked;
  if (config_.ephemeral || number >= config_.partitions) return Durable::refused;
  const auto partition = writing_if_open(number);
  if (!partition) return Durable::refused;
  const Deadline deadline = Deadline::after_ns(timeout.count() < 0 ? 0 : static_cast<std::uint64_t>(timeout.count()));
  return synced ? domain_->persister().wait_durable(*partition, end, deadline)
                : domain_->persister().wait_written(*partition, end, deadline);
}

Durable TopicState::close(std::chrono::nanoseconds timeout) {
  if (mark_.forked()) return Durable::forked;
  const Deadline deadline = Deadline::after_ns(timeout.count() < 0 ? 0 : static_cast<std::uint64_t>(timeout.count()));
  std::lock_guard lock(mutex_);
  Durable worst = Durable::yes;
  for (auto& partition : writing_) {
    if (!partition) continue;
    if (!config_.ephemeral) {
      const Durable result = domain_->persister().stop_cleanly(partition, deadline);
      if (result != Durable::yes) {
        worst = result;
        continue;
      }
      seal_if_last(*partition);
    }
    let_go(partition);
  }
  return worst;
}

}  // namespace spillway
