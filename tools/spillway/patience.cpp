#include "patience.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "spillway/core/clock.h"
#include "spillway/core/error.h"
#include "spillway/persist/topic_stat.h"
#include "spillway/persist/topic_state.h"

namespace spillway::command {
namespace {

constexpr std::uint64_t kSliceNs = 100'000'000;

std::string name_of_process(std::uint32_t pid, bool paused) {
  return "pid " + std::to_string(pid) + (paused ? ", which is paused" : "");
}

// Somebody waits, so who has to make room is in the way even where a smaller record would still fit.
std::string holder_of(const PartitionStat& stat, Blocked cause) {
  if (stat.held && stat.held->pid != 0) return name_of_process(stat.held->pid, stat.held->paused);
  if (cause == Blocked::disk_behind && stat.persister.held && stat.persister.pid != 0) {
    return name_of_process(stat.persister.pid, stat.persister.paused);
  }
  const ConsumerStat* nearest = nullptr;
  for (const ConsumerStat& consumer : stat.consumers) {
    if (consumer.gate && (nearest == nullptr || *consumer.gate < *nearest->gate)) nearest = &consumer;
  }
  return cause == Blocked::gated && nearest != nullptr ? name_of_process(nearest->pid, nearest->paused) : "";
}

}  // namespace

Patience::Patience(const Topic& topic, double deadline_seconds)
    : topic_(topic), deadline_ns_(static_cast<std::uint64_t>(deadline_seconds * 1e9)) {}

std::uint64_t Patience::sum_of_watermarks() const {
  std::uint64_t sum = 0;
  for (std::uint32_t p = 0; p < topic_.config().partitions; ++p) {
    const auto partition = topic_.state().writing_if_open(p);
    if (!partition) continue;
    const Control& control = partition->control();
    // relaxed: only whether anything has moved since the last time.
    constexpr auto kRelaxed = std::memory_order_relaxed;
    sum += control.claims.reserved_end.load(kRelaxed) + control.commits.committed_end.load(kRelaxed) +
           control.persister.written_end.load(kRelaxed) + control.persister.durable_end.load(kRelaxed);
    if (!topic_.config().ephemeral) sum += control.persister.horizon.load(kRelaxed);
  }
  return sum;
}

bool Patience::exhausted() {
  const std::uint64_t now_ns = monotonic_ns();
  const std::uint64_t sum = sum_of_watermarks();
  if (!waiting_ || sum != seen_) {
    waiting_ = true;
    seen_ = sum;
    since_ns_ = now_ns;
  }
  return now_ns - since_ns_ >= deadline_ns_;
}

std::chrono::nanoseconds Patience::slice() const noexcept {
  return std::chrono::nanoseconds(static_cast<std::int64_t>(std::min(kSliceNs, deadline_ns_)));
}

InTheWay look_in_the_way(const Directories& where, const TopicConfig& config, std::uint32_t partition, Blocked cause) {
  InTheWay seen;
  try {
    PartitionObserver observer(where, config, partition);
    const PartitionStat stat = observer.look();
    seen.holder = holder_of(stat, cause);
    seen.error = stat.persister.error;
    seen.error_text = stat.persister.error_text;
  } catch (const Error& e) {
    seen.error_text = e.what();  // a partition that can't be looked at can't be written either
  }
  return seen;
}

std::string cure_of_error(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT: return "free some space on the disk";
    case EFBIG:
      return "raise the limit of file sizes of the process that writes it (ulimit -f, or LimitFSIZE in its unit)";
    default: return "see the kernel's log about the disk";
  }
}

std::string explain(Blocked cause, const std::string& topic, std::uint32_t partition, const InTheWay& seen) {
  const std::string where = fmt::format("partition {} of topic {}", partition, topic);
  const std::string by = seen.holder.empty() ? "" : " (" + seen.holder + ")";
  const std::string error = seen.error_text.empty() ? "" : " (" + seen.error_text + ")";
  switch (cause) {
    case Blocked::none:
      return where + " does not go on, for a cause that can't be seen; `spillway stat` shows its state";
    case Blocked::disk_behind:
      return where + ": whoever writes it to disk" + by +
             " does not get on; continue that process, or wait for a slow disk";
    case Blocked::no_persister:
      return where + ": nobody writes it to disk; run `spillway persist`, or leave out --no-persist";
    case Blocked::no_space:
      return where + ": the disk that holds its segments is full; free some space, or bound the topic with --retain";
    case Blocked::io_error: return where + ": its segments can't be written" + error + "; " + cure_of_error(seen.error);
    case Blocked::damaged:
      return where + ": " + (seen.error_text.empty() ? "what it has to go on from is damaged" : seen.error_text) +
             "; `spillway verify " + topic + "` names all that is damaged on disk";
    case Blocked::no_horizon:
      return where + ": its horizon file can't be moved on; `spillway stat` shows why, `spillway doctor` what to do";
    case Blocked::held_by_dead:
      return where + ": a dead producer's claim waits for repair; a persister repairs it (`spillway persist`)";
    case Blocked::held_by_live: return where + ": a live process" + by + " holds it up; continue or stop that process";
    case Blocked::gated:
      return where + ": a gating consumer" + by + " has not read what would be overwritten; continue or stop it";
  }
  return where + " does not go on";
}

}  // namespace spillway::command
