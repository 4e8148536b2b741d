#include "spillway/ipc/consumer.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>

#include "spillway/core/error.h"

namespace spillway {
namespace {

constexpr std::uint32_t kStreamPauseNs = 1'200;

// Who relies on a gate must not find out by a gap that there never was one.
[[noreturn]] void refuse_to_gate(const PartitionReader& reader) {
  const std::string where = "partition " + std::to_string(reader.number());
  if (reader.ring() && reader.ring()->can_announce()) {
    throw Error(Code::no_slot,
                "all " + std::to_string(kConsumerSlots) + " consumer slots of " + where +
                    " are taken, so nobody else can gate there; stop a consumer, or read without gating");
  }
  throw Error(Code::no_permission, "a gating consumer needs the right to write beside the ring of " + where +
                                       ", which this one does not have; ask for it, or read without gating");
}

}  // namespace

std::string_view name_of(GapCause cause) noexcept {
  switch (cause) {
    case GapCause::none: return "none";
    case GapCause::overwritten: return "overwritten";
    case GapCause::expired: return "expired";
    case GapCause::crash: return "crash";
    case GapCause::damaged: return "damaged";
  }
  return "unknown";
}

std::string_view name_of(PollState state) noexcept {
  switch (state) {
    case PollState::live: return "live";
    case PollState::replay: return "replay";
    case PollState::idle: return "idle";
    case PollState::gap: return "gap";
    case PollState::stopped: return "stopped";
    case PollState::end: return "end";
    case PollState::held_by_dead: return "held_by_dead";
    case PollState::gone: return "gone";
    case PollState::corrupt: return "corrupt";
    case PollState::unsupported: return "unsupported";
    case PollState::failed: return "failed";
    case PollState::forked: return "forked";
  }
  return "unknown";
}

Consumer::Consumer(std::vector<PartitionReader> readers, std::unique_ptr<CursorStore> cursor,
                   const ConsumerOptions& options)
    : readers_(std::move(readers)),
      cursor_(std::move(cursor)),
      records_max_(std::max<std::size_t>(options.records_max, 1)),
      wait_(options.wait) {
  for (PartitionReader& reader : readers_) {
    const bool registered = reader.register_slot(options.name.empty() ? options.cursor : options.name, options.gating);
    if (options.gating && !registered) refuse_to_gate(reader);
  }
}

bool Consumer::note_stop(const PartitionReader& reader, ReadStop stop, PollResult& result) noexcept {
  const auto set = [&](PollState state) { result.state = state; };
  const PollState reading = reader.replaying() ? PollState::replay : PollState::live;
  switch (stop) {
    case ReadStop::caught_up:
      if (result.records > 0) set(reading);
      return true;
    case ReadStop::waiting: set(PollState::replay); return true;
    case ReadStop::full: set(reading); return false;
    case ReadStop::stopped: set(PollState::stopped); return false;
    // One partition's end is not the others': it is told when nothing else is.
    case ReadStop::end:
      if (result.records == 0 && result.state == PollState::idle) set(PollState::end);
      return true;
    case ReadStop::gone:
      if (result.records == 0) set(PollState::gone);
      return true;
    case ReadStop::corrupt: set(PollState::corrupt); return false;
    case ReadStop::unsupported: set(PollState::unsupported); return false;
    case ReadStop::failed:
      set(PollState::failed);
      result.error = reader.error();
      return false;
    case ReadStop::lapped:
    case ReadStop::gap: return true;  // handled before
  }
  return true;
}

void Consumer::pause() noexcept {
  pause_due_ = false;
  pause_about(kStreamPauseNs);
}

void Consumer::wait_once(Deadline deadline, unsigned round) noexcept {
  switch (wait_) {
    case Wait::spin: cpu_relax(); return;
    case Wait::yield: ::sched_yield(); return;
    case Wait::back_off: {
      if (round < 100) return cpu_relax();
      if (round < 200) {
        ::sched_yield();
        return;
      }
      const std::uint64_t ns = std::min<std::uint64_t>(1'000'000, 1'000ULL << std::min(round - 200, 10U));
      return futex_wait_any({}, Deadline::after_ns(std::min(ns, deadline.left_ns())));
    }
    case Wait::block:
      // A moment of looking catches what arrives while it would still be falling asleep.
      if (round < 50) return pause_about(200);
      return sleeper_.sleep(readers_, deadline);
  }
}

void Consumer::look_who_holds(PollResult& result) noexcept {
  for (const PartitionReader& reader : readers_) {
    if (reader.held_by_dead()) result.state = PollState::held_by_dead;
  }
}

void Consumer::wait(std::chrono::nanoseconds timeout) noexcept {
  const Deadline deadline = Deadline::after_ns(timeout.count() < 0 ? 0 : static_cast<std::uint64_t>(timeout.count()));
  for (unsigned round = 0; !ready() && !deadline.passed(); ++round) wait_once(deadline, round);
}

bool Consumer::ready() noexcept {
  return std::any_of(readers_.begin(), readers_.end(), [](PartitionReader& r) { return r.ready(); });
}

int Consumer::ack() noexcept {
  if (!cursor_) return EINVAL;
  std::vector<Offset> offsets(readers_.size());
  for (const PartitionReader& reader : readers_) {
    // With a gap next it may be any offset, and a cursor is kept on the records' grid.
    if (reader.number() < offsets.size()) offsets[reader.number()] = align_down(reader.offset(), kRecordAlign);
  }
  return cursor_->commit(offsets);
}

Offset Consumer::offset(std::uint32_t partition) const noexcept {
  for (const PartitionReader& reader : readers_) {
    if (reader.number() == partition) return reader.offset();
  }
  return 0;
}

std::vector<Position> Consumer::ends() {
  std::vector<Position> ends;
  for (PartitionReader& reader : readers_) ends.push_back({reader.number(), reader.end_now()});
  return ends;
}

bool Consumer::seek(std::uint32_t partition, Offset offset) {
  for (PartitionReader& reader : readers_) {
    if (reader.number() == partition) return reader.start_at(offset);
  }
  return false;
}
void Consumer::seek_earliest() {
  for (PartitionReader& reader : readers_) reader.start_earliest();
}
void Consumer::seek_latest() {
  for (PartitionReader& reader : readers_) reader.start_latest();
}

}  // namespace spillway
