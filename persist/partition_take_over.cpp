// PartitionPersister's coming and going: taking the role, settling, letting go; the horizon; trouble.
//
// ORDER.
//   S2 horizon -> Space::limit(): the promise is on disk before a claim may rely on it
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "spillway/core/error.h"
#include "spillway/ipc/space.h"
#include "spillway/persist/partition_persister.h"

namespace spillway {
namespace {

constexpr std::uint64_t kBackOffNs = 50'000'000;
constexpr std::uint64_t kBackOffMaxNs = 800'000'000;
constexpr std::uint64_t kBusySegmentNs = 2'000'000;  // until it is looked again whether a dead holder's I/O is over
constexpr std::uint64_t kStaleAgainNs = 5'000'000'000;

int errno_of(const Error& error) noexcept { return error.errno_value() != 0 ? error.errno_value() : EBADMSG; }

std::string horizon_path(const Partition& partition) { return partition.paths().data + "/horizon"; }

}  // namespace

std::string_view name_of(PersisterChange value) noexcept {
  switch (value) {
    case PersisterChange::took_role: return "took_role";
    case PersisterChange::handed_over: return "handed_over";
    case PersisterChange::released: return "released";
    case PersisterChange::failed: return "failed";
    case PersisterChange::cleared: return "cleared";
    case PersisterChange::stale: return "stale";
  }
  return "unknown";
}

std::uint64_t horizon_step(const TopicConfig& config) noexcept {
  return std::max<std::uint64_t>(kGiB, 4 * config.segment_bytes);
}

PartitionPersister::PartitionPersister(std::shared_ptr<Partition> partition, const Shared& shared, bool daemon)
    : partition_(std::move(partition)),
      shared_(shared),
      role_(partition_, daemon),
      horizon_file_(HorizonFile::open(horizon_path(*partition_), partition_->config().id, partition_->number(),
                                      partition_->config().sharing)),
      row_(*partition_, *this),
      intake_(*partition_, row_, shared.buffers, *this) {}

bool PartitionPersister::take_role(std::uint64_t now_ns) noexcept {
  if (stage_ != Stage::none) return stage_ != Stage::releasing;
  if (now_ns < horizon_again_ns_ || !role_.try_take(now_ns)) return false;
  try {
    if (!load_horizon()) {
      role_.release();
      horizon_again_ns_ = now_ns + kStaleAgainNs;
      tell(PersisterChange::stale);
      return false;
    }
  } catch (const Error& e) {
    role_.release();
    horizon_again_ns_ = now_ns + kBackOffMaxNs;
    tell(PersisterChange::failed, errno_of(e));
    return false;
  }
  PersisterArea& area = partition_->control().persister;
  // relaxed throughout: for display.
  area.path.store(shared_.queue.path(), std::memory_order_relaxed);
  area.pid.store(static_cast<std::uint32_t>(::getpid()), std::memory_order_relaxed);
  area.daemon.store(role_.daemon() ? 1 : 0, std::memory_order_relaxed);
  area.since_ns.store(wall_ns(), std::memory_order_relaxed);
  syncs_ = area.syncs.load(std::memory_order_relaxed);
  stage_ = Stage::settling;
  handing_over_ = false;
  trouble_ = Trouble::none;
  retry_ns_ = sync_again_ns_ = horizon_again_ns_ = retain_again_ns_ = age_again_ns_ = 0;
  streamed_ns_ = looked_ns_ = backlog_since_ns_ = unsynced_since_ns_ = stuck_since_ns_ = 0;
  want_written_ = want_durable_ = first_wanted_ = 0;
  known_home_.reset();
  write_wished_ = sync_wished_ = true;  // whatever the last holder was asked for
  store_state(PersisterState::working, 0);
  tell(PersisterChange::took_role);
  return true;
}

// False: the ring is not the one that the log goes on in (another lived since, or the data directory was restored).
bool PartitionPersister::load_horizon() {
  const auto slot = horizon_file_.read();
  if (!slot || slot->incarnation != partition_->incarnation() || slot->begin != partition_->begin()) return false;
  // acquire: any value is checked against the same file.
  if (partition_->control().claims.reserved_end.load(std::memory_order_acquire) > slot->horizon) return false;
  horizon_ = HorizonFields::of(*slot);
  return true;
}

// Waits for what a dead holder, or we before a failure, had under way; then finds out where the log stands.
bool PartitionPersister::settle(std::uint64_t now_ns) noexcept try {
  const auto watermarks = copy_watermarks(*partition_);
  if (!watermarks) {
    trouble(Trouble::ring, EBADMSG, now_ns);
    return false;
  }
  const Offset at = ring_keeps_unsynced() ? watermarks->durable_end : watermarks->written_end;
  durable_end_ = watermarks->durable_end;
  settling_end_ = at;
  const SegmentWriter* const writer = row_.find(at);
  if (writer != nullptr) known_home_ = writer->durable_home(at);
  intake_.clear();
  row_.load(horizon_);
  retry_ns_ = now_ns + kBusySegmentNs;
  if (row_.store().busy_segment(at)) return false;
  row_.store().remove_leftovers();
  sync_directory(row_.store().directory());  // a segment's maker may have died before it did
  const std::optional<Tail> tail = read_tail(*partition_, row_, at, *watermarks, known_home_);
  if (!tail) return false;
  retry_ns_ = 0;
  known_home_.reset();
  intake_.start(tail->start());
  written_end_ = at;
  // After a failure of our own it is the next sync that promises what lies before: only then is known_home_ not needed.
  durable_end_ = trouble_ == Trouble::none ? at : watermarks->durable_end;
  if (SegmentWriter* const opened = row_.find(at)) opened->touch();
  reclaimable_end_ = watermarks->reclaimable_end;
  records_ = tail->records;
  newest_base_ = row_.segment_base(at);
  syncs_under_way_ = 0;
  sync_waiting_ = false;
  stage_ = Stage::working;
  well(Trouble::settle);
  publish();
  return true;
} catch (const SyncFailed& e) {
  if (!ring_keeps_unsynced()) lose_unsynced(settling_end_);
  trouble(Trouble::settle, errno_of(e), now_ns);
  return false;
} catch (const Error& e) {
  trouble(Trouble::settle, errno_of(e), now_ns);
  return false;
} catch (...) {
  trouble(Trouble::settle, ENOMEM, now_ns);
  return false;
}

void PartitionPersister::release() noexcept {
  if (stage_ == Stage::none) return;
  stage_ = Stage::releasing;
}

void PartitionPersister::finish_release() noexcept {
  advance();
  intake_.clear();
  row_.close();
  partition_->control().persister.pid.store(0, std::memory_order_relaxed);  // relaxed: for display
  store_state(PersisterState::stopped, 0);
  role_.release();
  stage_ = Stage::none;
  tell(std::exchange(handing_over_, false) ? PersisterChange::handed_over : PersisterChange::released);
}

// Keeps the horizon at least half a step ahead of what was handed out. Only the file and reserved_end count, and that
// only within the file's promise: a word of control that can't be right must not use up the log's offsets.
void PartitionPersister::move_horizon(std::uint64_t now_ns) noexcept {
  if (now_ns < horizon_again_ns_) return;
  auto& horizon = partition_->control().persister.horizon;
  const std::uint64_t step = horizon_step(partition_->config());
  // relaxed: a stale value is a smaller one and moves the horizon a moment later; the horizon only we write.
  const Offset reserved = partition_->control().claims.reserved_end.load(std::memory_order_relaxed);
  if (reserved > horizon_.horizon) {
    trouble(Trouble::ring, EBADMSG, now_ns);
    horizon_again_ns_ = retry_ns_;
    return;
  }
  const bool stored = horizon.load(std::memory_order_relaxed) == horizon_.horizon;
  if (!horizon_.clean && stored && horizon_.horizon >= reserved + step / 2) return;
  HorizonFields fields = horizon_;
  fields.clean = false;
  fields.horizon = align_up(std::max(reserved + step, horizon_.horizon), partition_->config().segment_bytes);
  fields.horizon = std::min(fields.horizon, kOffsetEnd);
  if (!horizon_.clean && stored && fields.horizon == horizon_.horizon) return;  // the log's last offsets
  const int error = horizon_file_.write(fields);
  if (error != 0) {
    trouble(Trouble::horizon, error, now_ns);
    return;
  }
  horizon_ = fields;
  horizon.store(fields.horizon, std::memory_order_release);  // S2
  well(Trouble::horizon);
  tell_progress(*partition_);
}

// Notes what failed and when it is tried again. What can't go on where it stands waits for what is under way and
// settles.
void PartitionPersister::trouble(Trouble what, int error, std::uint64_t now_ns) noexcept {
  back_off_ns_ = what == trouble_ ? std::min(2 * back_off_ns_, kBackOffMaxNs) : kBackOffNs;
  trouble_ = what;
  const std::uint64_t again_ns = now_ns + back_off_ns_;
  const bool breaks = what == Trouble::write || what == Trouble::ring || what == Trouble::settle ||
                      (what == Trouble::sync && ring_keeps_unsynced());
  if (what == Trouble::horizon)
    horizon_again_ns_ = again_ns;
  else if (what == Trouble::sync && !breaks)
    sync_again_ns_ = again_ns;
  else
    retry_ns_ = again_ns;
  if (breaks && stage_ != Stage::releasing) stage_ = Stage::broken;
  const bool full = error == ENOSPC || error == EDQUOT;
  const PersisterState state = full ? PersisterState::no_space : PersisterState::io_error;
  PersisterArea& area = partition_->control().persister;
  // relaxed: only the holder of the role writes them.
  if (area.state.load(std::memory_order_relaxed) == state && area.error.load(std::memory_order_relaxed) == error)
    return;
  store_state(state, error);
  tell(PersisterChange::failed, error);
}

void PartitionPersister::well(Trouble what) noexcept {
  if (trouble_ != what || trouble_ == Trouble::none) return;
  trouble_ = Trouble::none;
  retry_ns_ = 0;
  store_state(PersisterState::working, 0);
  tell(PersisterChange::cleared);
}

void PartitionPersister::store_state(PersisterState state, int error) noexcept {
  PersisterArea& area = partition_->control().persister;
  area.error.store(error, std::memory_order_relaxed);  // relaxed: read for display beside the state
  area.state.store(state, std::memory_order_release);
  tell_progress(*partition_);
}

void PartitionPersister::tell(PersisterChange change, int error) noexcept try {
  shared_.events.push_back({partition_->config().name, partition_->number(), change, error});
} catch (...) {
  // No memory for a line of display.
}

}  // namespace spillway
