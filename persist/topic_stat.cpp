// ORDER. Nothing here decides anything: all loads are for display, relaxed but where a smaller watermark must be loaded
// before a larger one (control_layout.h, INV-2); those are acquire, and pair with the release store of the same watermark.
#include "spillway/persist/topic_stat.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

#include "spillway/core/clock.h"
#include "spillway/core/error.h"
#include "spillway/ipc/ring_walk.h"
#include "spillway/ipc/space.h"
#include "spillway/persist/lifecycle.h"
#include "spillway/persist/recovery.h"
#include "spillway/persist/segment_row.h"
#include "spillway/persist/segment_store.h"

namespace spillway {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr auto kAcquire = std::memory_order_acquire;
constexpr std::uint32_t kHeldLookAgainNs = 1'000'000;
constexpr unsigned kElsewhereLooks = 20;
constexpr int kElsewhereLookMs = 5;
constexpr std::size_t kNewestSegments = 16;  // more than a persister ever has open

// The lock files of a partition, or nothing for who may not open them.
struct Locks {
  std::optional<LockProbe> slots, consumers, role;
  bool known = false;

  explicit Locks(const PartitionPaths& paths) {
    try {
      slots.emplace(paths.slots_lock());
      consumers.emplace(paths.consumers_lock());
      role.emplace(paths.role_lock());
      known = true;
    } catch (const Error&) {
      // An observer.
    }
  }
  bool producer_lives(std::size_t slot) const { return !known || slots->held(slot); }
  bool consumer_lives(std::size_t slot) const { return !known || consumers->held(slot); }
};

std::vector<ProducerStat> look_at_producers(const Control& control, const Locks& locks) {
  std::vector<ProducerStat> found;
  for (std::size_t i = 0; i < kProducerSlots; ++i) {
    const ProducerSlot& slot = control.slots[i];
    const ProducerMode mode = slot.mode.load(kRelaxed);
    if ((mode != ProducerMode::exclusive && mode != ProducerMode::shared) || !locks.producer_lives(i)) continue;
    ProducerStat stat;
    stat.slot = i;
    stat.pid = slot.pid.load(kRelaxed);
    stat.mode = mode;
    stat.since_ns = slot.since_ns.load(kRelaxed);
    stat.blocked = slot.blocked.load(kRelaxed);
    stat.paused = locks.known && process_paused(stat.pid);
    found.push_back(stat);
  }
  return found;
}

std::vector<ConsumerStat> look_at_consumers(const Consumers& consumers, const Locks& locks, Offset committed_end) {
  std::vector<ConsumerStat> found;
  for (std::size_t i = 0; i < kConsumerSlots; ++i) {
    const ConsumerSlot& slot = consumers.slots[i];
    const ConsumerState state = slot.state.load(kRelaxed);
    if (state == ConsumerState::none || !locks.consumer_lives(i)) continue;
    ConsumerStat stat;
    stat.slot = i;
    stat.state = state;
    stat.pid = slot.pid.load(kRelaxed);
    for (const auto& character : slot.name) {
      const char c = character.load(kRelaxed);
      if (c == '\0') break;
      stat.name.push_back(c);
    }
    stat.offset = slot.offset.load(kRelaxed);
    stat.lag_bytes = committed_end > stat.offset ? committed_end - stat.offset : 0;
    const Offset gate = slot.gate.load(kRelaxed);
    if (gate != kNoGate) stat.gate = gate;
    stat.since_ns = slot.since_ns.load(kRelaxed);
    stat.paused = locks.known && process_paused(stat.pid);
    found.push_back(std::move(stat));
  }
  return found;
}

PersisterStat look_at_persister(const Partition& p, const Locks& locks) {
  const PersisterArea& area = p.control().persister;
  PersisterStat stat;
  stat.held = locks.known ? locks.role->held(0) : area.pid.load(kRelaxed) != 0;
  stat.state = area.state.load(kRelaxed);
  stat.path = area.path.load(kRelaxed);
  stat.pid = area.pid.load(kRelaxed);
  stat.daemon = area.daemon.load(kRelaxed) != 0;
  stat.paused = stat.held && locks.known && process_paused(stat.pid);
  const std::uint32_t request = area.request.load(kRelaxed);
  stat.asked_for = request > 0 && request <= kProducerSlots && locks.known && locks.slots->held(request - 1);
  stat.error = area.error.load(kRelaxed);
  if (stat.error != 0) stat.error_text = persister_error_text(p.paths(), p.config(), p.number(), stat.error);
  stat.since_ns = area.since_ns.load(kRelaxed);
  stat.syncs = area.syncs.load(kRelaxed);
  stat.records_written = area.records_written.load(kRelaxed);
  return stat;
}

// The claim at `committed_end`, in shared mode: whose note covers it, and whether that one lives. An exclusive producer
// reserves ahead of what it writes, and holds nobody up.
std::optional<HeldStat> look_for_claim(const Partition& partition, const Locks& locks, Offset committed_end) {
  const Control& control = partition.control();
  if (control.notices.mode.load(kRelaxed) != ProducerMode::shared) return std::nullopt;
  if (control.claims.reserved_end.load(kAcquire) <= committed_end) return std::nullopt;
  // A claim is open for a moment between any two instructions; only one that stays is news.
  pause_about(kHeldLookAgainNs);
  if (find_committed_end(partition).end != committed_end) return std::nullopt;
  HeldStat held;
  held.offset = committed_end;
  held.cause = locks.known ? Blocked::held_by_dead : Blocked::held_by_live;
  for (std::size_t i = 0; i < kProducerSlots; ++i) {
    const ProducerSlot& slot = control.slots[i];
    const std::uint64_t start_state = slot.start_state.load(kAcquire);
    const Offset start = start_state & ~kNoteStateMask;
    if ((start_state & kNoteStateMask) == 0 || start > committed_end || slot.end.load(kRelaxed) <= committed_end)
      continue;
    held.pid = slot.pid.load(kRelaxed);
    if (locks.known && !locks.producer_lives(i)) continue;
    held.cause = Blocked::held_by_live;
    held.paused = locks.known && process_paused(held.pid);
    break;
  }
  return held;
}

// Who goes on may be slow, so it holds somebody up for certain only where next to nothing is left. Who is paused makes no room,
// so it is in the way of the largest claim already: a quarter of the ring, and up to as much padding at the ring's end.
bool is_full(const PartitionStat& stat, Offset needed_from, bool paused) {
  const std::uint64_t room = paused ? stat.capacity / 2 : stat.capacity / 16;
  return stat.reserved_end > needed_from && stat.reserved_end - needed_from >= stat.capacity - room;
}

// A ring that is full, or nearly so: who has to make room.
std::optional<HeldStat> look_for_full_ring(const PartitionStat& stat, const TopicConfig& config) {
  HeldStat held;
  if (config.ephemeral) {
    held.by = HeldStat::By::consumer;
    held.cause = Blocked::gated;
    for (const ConsumerStat& consumer : stat.consumers) {
      if (!consumer.gate || !is_full(stat, *consumer.gate, consumer.paused)) continue;
      held.offset = *consumer.gate;
      held.pid = consumer.pid;
      held.paused = consumer.paused;
      return held;
    }
    return std::nullopt;
  }
  const bool paused = stat.persister.held && stat.persister.paused;
  if (config.on_full == OnFull::overwrite || !is_full(stat, stat.reclaimable_end, paused)) return std::nullopt;
  held.by = HeldStat::By::persister;
  held.offset = stat.reclaimable_end;
  held.pid = stat.persister.held ? stat.persister.pid : 0;
  held.paused = stat.persister.paused;
  held.cause = !stat.persister.held ? Blocked::no_persister : trouble_of(stat.persister.state, stat.persister.error);
  if (held.cause == Blocked::none) held.cause = Blocked::disk_behind;
  return held;
}

// The horizon, or a header of the newest segments: what a persister reads before it goes on. Empty: all of it is sound.
std::string damage_in_the_way(const std::string& directory, const LogIdentity& log) {
  HorizonFile::peek(horizon_path(directory), log.topic_id, log.partition);  // throws what is wrong
  const std::vector<Offset> bases = list_segments(directory, log.segment_bytes);
  const std::size_t looked_at = std::min(bases.size(), kNewestSegments);
  for (std::size_t i = bases.size(); i-- > bases.size() - looked_at;) {
    const auto read = read_segment_header(directory, log, bases[i]);
    if (!read || (read->status == HeaderStatus::ok && read->error == 0)) continue;
    const std::string path = directory + "/" + segment_name(bases[i]);
    if (read->error == 0) return header_problem(read->status, path);
    return "the header of " + path + " can't be read (" + std::strerror(read->error) + "); see the kernel's log";
  }
  return {};
}

// Bytes of [from, to) that were never in any file: between two rings after a crash, and where whole segments lie inside what
// was overwritten. A header is read where a segment does not follow the one before, and nowhere else.
std::uint64_t gap_bytes(const std::string& directory, const LogIdentity& log, Offset from, Offset to) {
  SegmentRow row(directory, log);
  const std::vector<Offset> bases(row.bases().begin(), row.bases().end());  // asking for a place may list them again
  const Offset ring_begin = row.horizon() ? row.horizon()->begin : 0;
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < bases.size(); ++i) {
    // Behind the newest one lies what the ring has not written yet, or the gap before a ring that has written nothing.
    const Offset next = std::min(i + 1 < bases.size() ? bases[i + 1] : std::max(ring_begin, bases[i]), to);
    if (next <= std::max(from, bases[i] + log.segment_bytes)) continue;
    const Offset begin = std::max(from, bases[i]);
    const SegmentRow::Place place = row.place(begin, next);
    bytes += next - (place.what == SegmentRow::Place::What::data ? place.end : begin);
  }
  return bytes;
}

// The same of what a look has found, as far as this user may read the directory.
std::uint64_t kept_bytes(const PartitionStat& stat, const PartitionPaths& paths, const TopicConfig& config) {
  const Offset begin = std::min(stat.retained_begin, stat.committed_end);
  const std::uint64_t bytes = stat.committed_end - begin;
  if (config.ephemeral) return bytes;
  try {
    const LogIdentity log = LogIdentity::of(config, stat.partition);
    return bytes - std::min(bytes, gap_bytes(paths.data, log, begin, stat.committed_end));
  } catch (const Error&) {
    return bytes;
  }
}

}  // namespace

std::string_view name_of(ProducerMode value) noexcept {
  switch (value) {
    case ProducerMode::none: return "none";
    case ProducerMode::exclusive: return "exclusive";
    case ProducerMode::shared: return "shared";
  }
  return "unknown";
}
std::string_view name_of(ConsumerState value) noexcept {
  switch (value) {
    case ConsumerState::none: return "none";
    case ConsumerState::live: return "live";
    case ConsumerState::replay: return "replay";
    case ConsumerState::waiting: return "waiting";
  }
  return "unknown";
}
std::string_view name_of(PersisterState value) noexcept {
  switch (value) {
    case PersisterState::none: return "none";
    case PersisterState::working: return "working";
    case PersisterState::stopped: return "stopped";
    case PersisterState::no_space: return "no_space";
    case PersisterState::io_error: return "io_error";
  }
  return "unknown";
}
std::string_view name_of(IoPath value) noexcept {
  switch (value) {
    case IoPath::none: return "none";
    case IoPath::uring: return "io_uring";
    case IoPath::pwrite: return "pwrite";
  }
  return "unknown";
}
std::string_view name_of(HeldStat::By value) noexcept {
  switch (value) {
    case HeldStat::By::producer: return "producer";
    case HeldStat::By::persister: return "persister";
    case HeldStat::By::consumer: return "consumer";
  }
  return "unknown";
}

std::string persister_error_text(const PartitionPaths& paths, const TopicConfig& config, std::uint32_t partition,
                                 int error) {
  if (!tells_damage(error)) return std::strerror(error);
  try {
    check_partition_directory(paths, config, partition);
    const std::string damage = damage_in_the_way(paths.data, LogIdentity::of(config, partition));
    if (!damage.empty()) return damage;
  } catch (const Error& e) {
    return e.what();
  }
  return std::string(error == EBADMSG ? "its ring or its files hold what can't be" : std::strerror(error)) +
         "; `spillway verify " + config.name +
         "` names the file, and if it names none, stop everything that uses the topic and run `spillway clean --yes`";
}

bool process_paused(std::uint32_t pid) noexcept {
  char path[32];
  std::snprintf(path, sizeof path, "/proc/%u/stat", pid);
  char text[512];
  std::FILE* file = pid == 0 ? nullptr : std::fopen(path, "re");
  if (file == nullptr) return false;
  const std::size_t bytes = std::fread(text, 1, sizeof text - 1, file);
  std::fclose(file);
  text[bytes] = '\0';
  // pid (name, which may hold anything) state ...
  const char* after_name = std::strrchr(text, ')');
  if (after_name == nullptr || after_name[1] != ' ') return false;
  return after_name[2] == 'T' || after_name[2] == 't';
}

PartitionObserver::PartitionObserver(const Directories& where, const TopicConfig& config, std::uint32_t partition)
    : config_(config), number_(partition), paths_(PartitionPaths::of(where.shm, where.data, config, partition)) {}

PartitionStat PartitionObserver::look() {
  if (ring_) {
    ring_->look_whether_gone();
    if (ring_->gone()) ring_.reset();
  }
  check_partition_directory(paths_, config_, number_);
  if (!ring_) ring_ = open_for_reading(paths_, config_, number_);
  return ring_ ? look_at_ring() : look_at_disk();
}

PartitionStat PartitionObserver::look_at_ring() const {
  const Control& control = ring_->control();
  const Locks locks(paths_);
  PartitionStat stat;
  stat.partition = number_;
  stat.ring = true;
  stat.locks_known = locks.known;
  stat.capacity = ring_->capacity();
  stat.incarnation = ring_->incarnation();
  stat.begin = ring_->begin();
  stat.retained_begin = control.persister.retained_begin.load(kAcquire);
  stat.durable_end = control.persister.durable_end.load(kAcquire);
  stat.written_end = control.persister.written_end.load(kAcquire);
  stat.reclaimable_end = control.persister.reclaimable_end.load(kAcquire);
  stat.committed_end = find_committed_end(*ring_).end;
  stat.reserved_end = control.claims.reserved_end.load(kAcquire);
  stat.horizon = control.persister.horizon.load(kRelaxed);
  if (config_.ephemeral) {
    stat.retained_begin = oldest_boundary(*ring_, 0);
    stat.durable_end = stat.written_end = stat.reclaimable_end = stat.begin;
  }
  stat.kept_bytes = kept_bytes(stat, paths_, config_);
  stat.dropped = control.notices.dropped.load(kRelaxed);
  stat.gap_count = control.persister.gap_count.load(kRelaxed);
  stat.mode = control.notices.mode.load(kRelaxed);
  stat.persister = look_at_persister(*ring_, locks);
  stat.producers = look_at_producers(control, locks);
  stat.consumers = look_at_consumers(ring_->consumers(), locks, stat.committed_end);
  stat.taken_ns = monotonic_ns();
  stat.held = look_for_claim(*ring_, locks, stat.committed_end);
  if (!stat.held) stat.held = look_for_full_ring(stat, config_);
  return stat;
}

// Who opens for writing holds the writers' lock for a moment before there is a ring, too, and in its exclusive form while it
// makes one. So it is looked for some time.
bool PartitionObserver::ring_elsewhere() const {
  try {
    const LockProbe writers(paths_.writers_lock());
    for (unsigned i = 0; i < kElsewhereLooks; ++i) {
      if (!writers.held(0) || writers.held(0, LockMode::shared)) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(kElsewhereLookMs));
      if (open_for_reading(paths_, config_, number_)) return false;
    }
    return true;
  } catch (const Error&) {
    return false;  // an observer can't ask
  }
}

PartitionStat PartitionObserver::look_at_disk() const {
  PartitionStat stat;
  stat.partition = number_;
  stat.ring_elsewhere = ring_elsewhere();
  stat.capacity = config_.ring_bytes;
  stat.taken_ns = monotonic_ns();
  if (config_.ephemeral) return stat;
  const RecoveredLog log = recover(paths_.data, LogIdentity::of(config_, number_));
  stat.retained_begin = log.begin;
  stat.durable_end = log.synced_end;
  stat.written_end = stat.committed_end = stat.reserved_end = log.end;
  stat.reclaimable_end = log.end;
  stat.horizon = std::max(log.horizon, log.end);
  stat.kept_bytes = kept_bytes(stat, paths_, config_);
  return stat;
}

}  // namespace spillway
