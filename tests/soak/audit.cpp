#include "audit.h"

#include "spillway/core/error.h"
#include "spillway/persist/lifecycle.h"
#include "spillway/persist/topic_state.h"
#include "spillway/persist/verify.h"

namespace spillway::soak {

PartitionStat Auditor::look(std::size_t lane) const {
  const Directories where{places_.data(), places_.shm};
  return PartitionObserver(where, read_topic(where, plan_.topic_of(lane).name), plan_.lanes[lane].partition).look();
}

void Auditor::mark(std::size_t lane) const {
  const PartitionStat stat = look(lane);
  ledger_.set_marks(lane, {stat.retained_begin, stat.committed_end});
}

void Auditor::audit(std::size_t lane, bool with_ring, const std::function<void()>& step) const {
  const std::uint32_t partition = plan_.lanes[lane].partition;
  const Domain domain = places_.domain(StandBy::never);
  Consumer consumer = domain.open(plan_.topic_of(lane).name).consumer({.partition = partition, .from = From::earliest});
  ledger_.begin_audit(lane, consumer.offset(partition));
  for (bool done = false; !done;) {
    const PollResult result = consumer.poll(
        [&](const Record& record) {
          const auto id = check(record, lane);
          if (!id) {
            throw Broken(plan_.lane_name(lane) + ": an audit was given a record at " + std::to_string(record.offset()) +
                         " that nobody sent");
          }
          ledger_.audit_record(record.offset(), *id);
        },
        [&](const Gap& gap) {
          if (gap.cause == GapCause::expired) mark(lane);
          ledger_.audit_gap(gap.from, gap.to, gap.cause);
        });
    const bool at_end = result.records == 0 && (result.state == PollState::idle || result.state == PollState::end);
    const bool reading = result.records != 0 || at_end || result.state == PollState::replay ||
                         result.state == PollState::live || result.state == PollState::held_by_dead;
    if (!reading) {
      throw Broken(plan_.lane_name(lane) + ": an audit was told " + std::string(name_of(result.state)) + " at " +
                   std::to_string(consumer.offset(partition)) + ", errno " + std::to_string(result.error));
    }
    done = at_end && (!with_ring || consumer.offset(partition) >= ledger_.acknowledged_end(lane));
    step();
  }
  ledger_.prune(lane, ledger_.end_audit(consumer.offset(partition), with_ring));
}

void Auditor::verify(std::size_t topic) const {
  const std::string& name = plan_.topics[topic].name;
  const Domain domain = places_.domain(StandBy::never);
  const Topic opened = domain.open(name);
  const TopicState& state = opened.state();
  for (std::uint32_t p = 0; p < opened.config().partitions; ++p) {
    const auto ring = open_for_reading(state.paths(p), opened.config(), p);
    const VerifyResult result = verify_partition(state.paths(p).data, opened.config(), p, ring);
    if (result.sound()) continue;
    std::string what = name + "/" + std::to_string(p) + " is damaged:";
    for (const LogDamage& damage : result.damage) {
      what += " [" + std::to_string(damage.from) + ", " + std::to_string(damage.to) + ") " + damage.what + ";";
    }
    for (const std::string& problem : result.problems) what += " " + problem + ";";
    throw Broken(what);
  }
  const auto cursors =
      verify_cursors(cursors_directory(state.domain().directories(), opened.config()), opened.config());
  if (!cursors.empty()) throw Broken(cursors.front());
}

std::string Auditor::describe(std::size_t lane) const try {
  const PartitionStat stat = look(lane);
  std::string text = plan_.lane_name(lane) + ": retained " + std::to_string(stat.retained_begin) + ", durable " +
                     std::to_string(stat.durable_end) + ", written " + std::to_string(stat.written_end) +
                     ", committed " + std::to_string(stat.committed_end) + ", reserved " +
                     std::to_string(stat.reserved_end) + ", reclaimable " + std::to_string(stat.reclaimable_end) +
                     ", horizon " + std::to_string(stat.horizon) + ", ring begins " + std::to_string(stat.begin) +
                     (stat.ring ? "" : " (no ring)") + ", mode " + std::string(name_of(stat.mode)) + ", persister " +
                     (stat.persister.held ? std::to_string(stat.persister.pid) : "nobody") + ", producers";
  for (const ProducerStat& producer : stat.producers) text += " " + std::to_string(producer.pid);
  for (const ConsumerStat& consumer : stat.consumers) {
    text += ", consumer " + std::to_string(consumer.pid) + " at " + std::to_string(consumer.offset);
  }
  if (stat.held) {
    text += ", held at " + std::to_string(stat.held->offset) + " by " + std::to_string(stat.held->pid) + ": " +
            std::string(name_of(stat.held->cause));
  }
  return text;
} catch (const std::exception& e) {
  return plan_.lane_name(lane) + ": " + e.what();
}

void Watch::look() {
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    Lane& lane = lanes_[i];
    if (!lane.ring) {
      try {
        const Directories where{places_.data(), places_.shm};
        const TopicConfig config = read_topic(where, plan_.topic_of(i).name);
        const std::uint32_t number = plan_.lanes[i].partition;
        lane.ring = open_for_reading(PartitionPaths::of(where.shm, where.data, config, number), config, number);
      } catch (const Error&) {
        continue;  // it is just being made
      }
      if (!lane.ring) continue;
      lane.committed_end = lane.ring->begin();
    }
    // relaxed throughout: counts for people.
    const Control& control = lane.ring->control();
    const Offset committed = control.commits.committed_end.load(std::memory_order_relaxed);
    if (committed > lane.committed_end) lane.bytes += committed - lane.committed_end;
    lane.committed_end = std::max(lane.committed_end, committed);
    lane.sum = control.claims.reserved_end.load(std::memory_order_relaxed) + committed +
               control.persister.written_end.load(std::memory_order_relaxed) +
               control.persister.durable_end.load(std::memory_order_relaxed);
    const std::uint32_t pid = control.persister.pid.load(std::memory_order_relaxed);
    const std::uint64_t since_ns = control.persister.since_ns.load(std::memory_order_relaxed);
    if (pid == 0 || (pid == lane.pid && since_ns == lane.since_ns)) continue;
    if (lane.pid != 0) ++take_overs_;
    lane.pid = pid;
    lane.since_ns = since_ns;
  }
}

void Watch::forget_rings() {
  for (Lane& lane : lanes_) lane.ring.reset();
}

std::uint64_t Watch::laps() const noexcept {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < lanes_.size(); ++i) sum += lanes_[i].bytes / *plan_.topic_of(i).options.ring;
  return sum;
}

std::uint64_t Watch::progress() const noexcept {
  std::uint64_t sum = 0;
  for (const Lane& lane : lanes_) sum = sum * 31 + lane.sum;
  return sum;
}

}  // namespace spillway::soak
