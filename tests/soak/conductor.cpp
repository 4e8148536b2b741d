#include "conductor.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>

#include "spillway/core/clock.h"

namespace spillway::soak {
namespace {

constexpr std::uint64_t kMs = 1'000'000;
constexpr std::uint64_t kStuckNs = 60'000 * kMs;
constexpr std::uint64_t kCheckpointNs = 4'000 * kMs;

}  // namespace

Conductor::Conductor(const Places& places, std::uint64_t seed)
    : plan_(make_plan(seed)),
      places_(places),
      dice_(seed),
      stage_(Stage::open(places.stage(), true)),
      history_(places.history(), "conductor"),
      ledger_(plan_),
      auditor_(plan_, places, ledger_),
      watch_(plan_, places),
      crew_(plan_, places, seed, stage_, history_) {}

void Conductor::make_topics() {
  const Domain domain = places_.domain(StandBy::never);
  for (const TopicPlan& topic : plan_.topics) domain.open_or_create(topic.name, topic.options);
}

void Conductor::pass_time() {
  crew_.keep_time();
  watch_.look();
  // sleep-ok: the workers' time, between two looks at them.
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

std::uint64_t Conductor::positions() const {
  std::uint64_t sum = 0;
  for (const Stage::Worker& worker : stage_.workers) {
    for (const auto& position : worker.positions) sum = sum * 31 + position.load(std::memory_order_relaxed);
    sum = sum * 31 + worker.ready.load(std::memory_order_relaxed) + worker.rests.load(std::memory_order_relaxed);
  }
  return sum;
}

std::uint64_t Conductor::progress() {
  watch_.look();
  return (watch_.progress() * 31 + positions()) * 31 + crew_.log_bytes();
}

void Conductor::await(const std::string& what, const std::function<bool()>& done) {
  const std::uint64_t begun_ns = monotonic_ns();
  std::uint64_t seen = progress(), since_ns = begun_ns, looked_ns = begun_ns;
  while (!done()) {
    pass_time();
    if (monotonic_ns() - looked_ns < 100 * kMs) continue;
    looked_ns = monotonic_ns();
    if (const std::uint64_t now = progress(); now != seen) {
      seen = now;
      since_ns = looked_ns;
    } else if (looked_ns - since_ns > kStuckNs) {
      throw Broken("nothing has moved for a minute, waiting until " + what);
    }
    if (looked_ns - begun_ns > 4 * kStuckNs) throw Broken("no end in sight, though things move, waiting until " + what);
  }
  const std::uint64_t waited_ns = monotonic_ns() - begun_ns;
  if (waited_ns > 1000 * kMs) history_.tell("waited " + std::to_string(waited_ns / kMs) + " ms until " + what);
  longest_wait_ns_ = std::max(longest_wait_ns_, waited_ns);
}

bool Conductor::all_ready() const {
  for (std::size_t i = 0; i < crew_.size(); ++i) {
    if (!crew_.ready(i)) return false;
  }
  return true;
}

bool Conductor::all_rest(std::uint32_t round) const {
  for (std::size_t i = 0; i < crew_.size(); ++i) {
    if (stage_.workers[i].rests.load(std::memory_order_acquire) != round) return false;
  }
  return true;
}

// Who has not read everything yet: nobody when it is empty.
std::string Conductor::laggards() const {
  std::string text;
  for (std::size_t i = 0; i < crew_.size(); ++i) {
    for (std::size_t lane = 0; lane < plan_.lanes.size(); ++lane) {
      const std::uint64_t position = stage_.workers[i].positions[lane].load(std::memory_order_acquire);
      if (position >= ledger_.acknowledged_end(lane)) continue;
      text += " " + plan_.workers[i].name + " at " + std::to_string(position) + " of " + plan_.lane_name(lane) + ",";
    }
  }
  return text;
}

void Conductor::audit_all(const std::vector<std::size_t>& lanes, bool with_ring) {
  for (const std::size_t lane : lanes) {
    std::uint64_t polls = 0;
    const std::uint64_t begun_ns = monotonic_ns();
    auditor_.audit(lane, with_ring, [&] {
      if (with_ring && ++polls % 64 == 0) crew_.keep_time();
      if (monotonic_ns() - begun_ns > 2 * kStuckNs)
        throw Broken("an audit of " + plan_.lane_name(lane) + " does not end");
    });
  }
}

void Conductor::checkpoint() {
  history_.tell("checkpoint " + std::to_string(++checkpoints_));
  crew_.wake_all();
  await("everybody works", [&] {
    crew_.wake_all();
    return all_ready();
  });
  stage_.round.store(++round_, std::memory_order_release);
  await("everybody rests", [&] { return all_rest(round_); });
  crew_.collect_producers(ledger_);
  std::uint64_t told_ns = monotonic_ns();
  await("everybody has read everything", [&] {
    const std::string behind = laggards();
    if (!behind.empty() && monotonic_ns() - told_ns > 1000 * kMs) {
      told_ns = monotonic_ns();
      history_.tell("still to come:" + behind);
    }
    return behind.empty();
  });
  std::vector<std::size_t> lanes;
  for (std::size_t lane = 0; lane < plan_.lanes.size(); ++lane) {
    auditor_.mark(lane);
    lanes.push_back(lane);
  }
  crew_.collect_consumers(ledger_);
  audit_all(lanes, true);
  for (std::size_t topic = 0; topic < plan_.topics.size(); ++topic) {
    if (!plan_.topics[topic].ephemeral()) auditor_.verify(topic);
  }
  history_.tell("checkpoint passed");
  stage_.round.store(0, std::memory_order_release);
}

// One random thing to one random worker.
void Conductor::act() {
  const std::size_t worker =
      dice_.one_in(4) ? dice_.below(2) : dice_.below(crew_.size());  // the two that persist, more often
  if (!crew_.running(worker)) return;
  const std::uint64_t what = dice_.below(100);
  const std::uint64_t restart_ns = dice_.any_magnitude(kMs, 700 * kMs);
  if (dice_.one_in(6)) {
    for (std::size_t i = 0; i < crew_.size(); ++i) {
      const bool exposed = stage_.workers[i].exposed.load(std::memory_order_relaxed) != 0;
      if (exposed && crew_.running(i)) return crew_.kill(i, restart_ns);
    }
  }
  if (what < 55) return crew_.stop(worker, dice_.any_magnitude(kMs, 1000 * kMs));
  if (what >= 92) {
    if (!crew_.leaving(worker)) crew_.end(worker, restart_ns);
    return;
  }
  if (what < 62) crew_.stop(worker, 0);
  crew_.kill(worker, restart_ns);
}

void Conductor::lose_everybody(bool in_order) {
  if (in_order) {
    history_.tell("everybody is asked to stop");
    crew_.wake_all();
    await("everybody works", [&] {
      crew_.wake_all();
      return all_ready();
    });
    for (const bool producers : {true, false}) {
      for (std::size_t i = 0; i < crew_.size(); ++i) {
        if (plan_.workers[i].produces() == producers) crew_.end(i, UINT64_MAX / 2);
      }
      await("everybody has stopped", [&] {
        for (std::size_t i = 0; i < crew_.size(); ++i) {
          if (plan_.workers[i].produces() == producers && crew_.alive(i)) return false;
        }
        return true;
      });
    }
  } else {
    history_.tell("everybody is killed");
    crew_.kill_all();
  }
  crew_.collect_producers(ledger_);
  for (std::size_t lane = 0; lane < plan_.lanes.size(); ++lane) auditor_.mark(lane);
  crew_.collect_consumers(ledger_);
}

// Of some topics; nobody is alive.
void Conductor::lose_rings() {
  watch_.forget_rings();
  for (std::size_t topic = 0; topic < plan_.topics.size(); ++topic) {
    if (dice_.one_in(3)) continue;
    const TopicPlan& plan = plan_.topics[topic];
    history_.tell("the rings of " + plan.name + " are lost");
    std::filesystem::remove_all(places_.shm + "/" + plan.name);
    std::vector<std::size_t> lanes;
    for (std::size_t lane = 0; lane < plan_.lanes.size(); ++lane) {
      if (plan_.lanes[lane].topic != topic) continue;
      lanes.push_back(lane);
      if (plan.ephemeral()) {
        ledger_.forget(lane);
      } else {
        ledger_.lose_ring(lane);
      }
    }
    if (plan.ephemeral()) continue;
    audit_all(lanes, false);
    auditor_.verify(topic);
  }
  make_topics();
}

void Conductor::run(std::uint64_t seconds) {
  make_topics();
  for (std::size_t i = 0; i < crew_.size(); ++i) crew_.start(i);
  const std::uint64_t begun_ns = monotonic_ns(), over_ns = begun_ns + seconds * 1000 * kMs;
  std::uint64_t act_ns = begun_ns, checkpoint_ns = begun_ns + kCheckpointNs;
  while (monotonic_ns() < over_ns) {
    pass_time();
    const std::uint64_t now_ns = monotonic_ns();
    if (now_ns >= act_ns) {
      act();
      act_ns = now_ns + dice_.any_magnitude(kMs, 150 * kMs);
    }
    if (now_ns < checkpoint_ns) continue;
    if (dice_.one_in(2)) {
      checkpoint();
    } else {
      lose_everybody(dice_.one_in(5));
      if (!dice_.one_in(3)) lose_rings();
      crew_.wake_all();
    }
    checkpoint_ns = monotonic_ns() + dice_.between(kCheckpointNs / 4, kCheckpointNs);
  }
  checkpoint();
  lose_everybody(true);
  lose_rings();
  for (std::size_t lane = 0; lane < plan_.lanes.size(); ++lane) ledger_.prune(lane, UINT64_MAX);
}

std::string Conductor::counts(std::uint64_t seconds) const {
  const LedgerCounts& told = ledger_.counts();
  const CrewCounts& crew = crew_.counts();
  std::string text =
      "soak: " + std::to_string(seconds) + " s, " + std::to_string(told.acknowledged) + " records acknowledged, " +
      std::to_string(told.durable) + " durable, " + std::to_string(told.refused) + " refused or aborted, " +
      std::to_string(told.unknown) + " of unknown outcome, " + std::to_string(told.delivered) + " delivered; " +
      std::to_string(crew.kills) + " kills, " + std::to_string(crew.stops) + " stops, " + std::to_string(crew.ends) +
      " clean ends, " + std::to_string(told.ring_losses) + " ring losses, " + std::to_string(watch_.take_overs()) +
      " take-overs, " + std::to_string(watch_.laps()) + " laps, " + std::to_string(checkpoints_) +
      " checkpoints, longest wait " + std::to_string(longest_wait_ns_ / kMs) + " ms; gaps:";
  for (const auto& [cause, count] : told.gaps) text += " " + std::to_string(count) + " " + cause;
  return told.gaps.empty() ? text + " none" : text;
}

std::string Conductor::state() const {
  std::string text;
  for (std::size_t lane = 0; lane < plan_.lanes.size(); ++lane) text += auditor_.describe(lane) + "\n";
  return text;
}

}  // namespace spillway::soak
