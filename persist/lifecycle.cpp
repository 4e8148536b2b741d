#include "spillway/persist/lifecycle.h"

#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "spillway/core/clock.h"
#include "spillway/core/error.h"
#include "spillway/core/random.h"
#include "spillway/persist/horizon_file.h"
#include "spillway/persist/partition_persister.h"
#include "spillway/persist/recovery.h"
#include "spillway/persist/segment_age.h"
#include "spillway/persist/segment_store.h"
#include "spillway/persist/topic_files.h"

namespace spillway {
namespace {

constexpr std::uint64_t kElsewhereNs = 1'000'000'000;  // how long others may be on the way to making the ring
constexpr std::uint64_t kRecoveryNs = 60'000'000'000;  // ... another's recovery, or a dead one's I/O, may take

std::string horizon_path(const PartitionPaths& paths) { return paths.data + "/horizon"; }

void nap(std::uint64_t least_us) {
  // Racers that see each other draw apart.
  std::this_thread::sleep_for(std::chrono::microseconds(least_us + random_u64() % (2 * least_us)));
}

std::shared_ptr<Partition> attach_if_there(const PartitionPaths& paths, const TopicConfig& config,
                                           std::uint32_t partition, Access access) {
  try {
    return Partition::attach(paths, config, partition, access);
  } catch (const Error& e) {
    if (e.code() != Code::not_found) throw;
    return nullptr;
  }
}

enum class Match : std::uint8_t { ours, other_incarnation, past_horizon };

// Whether the log goes on in this ring, by what is recorded beside it.
Match match(const Partition& ring, const TopicConfig& config) {
  if (config.ephemeral) return Match::ours;
  // acquire: loaded before the horizon is read, which only grows while the ring lives and is on disk before it is used.
  const Offset reserved = ring.control().claims.reserved_end.load(std::memory_order_acquire);
  const auto slot = HorizonFile::peek(horizon_path(ring.paths()), config.id, ring.number());
  if (!slot) {
    check_same_topic(ring.paths(), config);  // being deleted: `gone` is the better word
    throw Error(Code::corrupt, "the horizon file " + horizon_path(ring.paths()) + " is missing, although the ring " +
                                   ring.paths().ring +
                                   " was made with one; restore it from a backup, or delete the topic");
  }
  if (slot->incarnation != ring.incarnation() || slot->begin != ring.begin()) return Match::other_incarnation;
  return reserved <= slot->horizon ? Match::ours : Match::past_horizon;
}

Error stale(const PartitionPaths& paths, Match match) {
  const char* const why = match == Match::past_horizon
                              ? " has handed out offsets past the horizon in its data directory, so that was restored"
                              : " is not the ring in which the log went on: another lived since, or its data directory "
                                "was restored";
  return Error(Code::ring_stale, paths.ring + why + " (" + paths.data +
                                     "); `spillway clean` shows what it holds, `spillway clean --yes` removes it");
}

Error elsewhere(const PartitionPaths& paths) {
  return Error(Code::ring_elsewhere,
               "live processes use " + paths.data + " with a ring that is not " + paths.ring +
                   ": it was deleted under them (rm, a tmpfs cleaner, logind's RemoveIPC), or they were started with "
                   "another --shm directory; stop them, or use theirs");
}

// Nobody is attached: dead processes' writes may still be under way, and would change what recovery reads.
void wait_for_quiet(const SegmentStore& store, Offset from) {
  const Deadline deadline = Deadline::after_ns(kRecoveryNs);
  while (const auto base = store.busy_segment(from)) {
    if (deadline.passed()) {
      throw Error(Code::busy, "I/O of a process that died is still under way in the segment at offset " +
                                  std::to_string(*base) + " of " + store.directory() +
                                  "; wait until the disk answers, then try again");
    }
    nap(1000);
  }
}

// What the new ring begins with: the log's end is found, made durable and sealed, in this order (recovery.h).
Partition::Birth recover_and_seal(const PartitionPaths& paths, const TopicConfig& config, std::uint32_t partition) {
  const LogIdentity log = LogIdentity::of(config, partition);
  SegmentStore store(paths.data, log, config.sharing, FileIo::direct);
  const auto slot = HorizonFile::peek(horizon_path(paths), config.id, partition);
  wait_for_quiet(store, slot ? slot->begin : 0);
  const RecoveredLog recovered = recover(paths.data, log);
  check_sealable(paths.data, recovered);
  int error = sync_recovered(paths.data, log, recovered);
  if (error != 0) throw system_error(error, "can't sync the recovered log in " + paths.data);
  HorizonFields fields = seal_fields(recovered, config.segment_bytes, random_u64(), horizon_step(config));
  if (fields.horizon > kOffsetEnd) {
    throw Error(Code::unsupported, "the log in " + paths.data + " has used up its offsets; create another topic");
  }
  const LogTime time = time_of_log(paths.data, log, recovered.end);
  // By the horizon as it is these are dead; the one about to be written could not tell them from the log any more.
  store.remove(recovered.dead);
  HorizonFile horizon = HorizonFile::open(horizon_path(paths), config.id, partition, config.sharing);
  error = horizon.write(fields);
  if (error != 0) throw system_error(error, "can't write the horizon file " + horizon_path(paths));
  store.remove(dead_segments(store.list(), horizon.read(), config.segment_bytes));
  const bool empty = recovered.begin >= recovered.end;
  return {fields.incarnation, fields.begin,   empty ? fields.begin : recovered.begin,
          fields.horizon,     time.newest_ns, time.wall_ahead_ns};
}

// With the writers' lock in its exclusive form.
void make_ring(const PartitionPaths& paths, const TopicConfig& config, std::uint32_t partition) {
  const Partition::Birth birth =
      config.ephemeral ? Partition::Birth{random_u64(), 0, 0, UINT64_MAX} : recover_and_seal(paths, config, partition);
  Partition::create_files(paths, config, partition, birth);
}

}  // namespace

std::shared_ptr<Partition> open_for_writing(const PartitionPaths& paths, const TopicConfig& config,
                                            std::uint32_t partition) {
  const Deadline recovery = Deadline::after_ns(kRecoveryNs);
  std::optional<Deadline> others;  // once others were seen with a ring that is not here
  for (;;) {
    FileLock lock = FileLock::try_lock(paths.writers_lock(), LockMode::shared);
    if (!lock) {
      // Somebody recovers, makes the ring or stops cleanly.
      if (recovery.passed()) {
        throw Error(Code::busy, "another process has been recovering or closing " + paths.data +
                                    " for a minute; `spillway doctor` names who is paused");
      }
      nap(500);
      continue;
    }
    check_same_topic(paths, config);
    // With the shared form held nobody makes a ring, so what is here now stays.
    std::shared_ptr<Partition> ring = attach_if_there(paths, config, partition, Access::read_write);
    const Match found = ring ? match(*ring, config) : Match::other_incarnation;
    if (ring && found == Match::ours) {
      ring->keep_writers_lock(std::move(lock));
      return ring;
    }
    // Given back before the exclusive form is tried: two that convert would stand in each other's way.
    lock.unlock();
    lock = FileLock::try_lock(paths.writers_lock(), LockMode::exclusive);
    if (!lock) {
      if (!others) others = Deadline::after_ns(kElsewhereNs);
      if (others->passed()) throw elsewhere(paths);
      nap(1000);
      continue;
    }
    // Alone. Somebody may have made the ring, cleaned up, or deleted the topic in between.
    check_same_topic(paths, config);
    if (attach_if_there(paths, config, partition, Access::read_only)) {
      if (ring) throw stale(paths, found);
      continue;
    }
    make_ring(paths, config, partition);
    ring = Partition::attach(paths, config, partition, Access::read_write);
    lock.try_convert(LockMode::shared);
    ring->keep_writers_lock(std::move(lock));
    return ring;
  }
}

std::shared_ptr<Partition> open_for_reading(const PartitionPaths& paths, const TopicConfig& config,
                                            std::uint32_t partition) {
  std::shared_ptr<Partition> ring;
  try {
    ring = attach_if_there(paths, config, partition, Access::read_only);
  } catch (const Error& e) {
    // Files of two incarnations: a ring is being made, or never was.
    if (e.code() != Code::ring_stale || config.ephemeral) throw;
    return nullptr;
  }
  if (!ring || match(*ring, config) != Match::ours) return nullptr;
  return ring;
}

}  // namespace spillway
