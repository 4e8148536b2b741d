#include "spillway/persist/clean.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <functional>
#include <thread>

#include "spillway/core/clock.h"
#include "spillway/core/disk.h"
#include "spillway/core/error.h"
#include "spillway/core/random.h"
#include "spillway/core/size_text.h"
#include "spillway/ipc/ring_walk.h"
#include "spillway/persist/domain_state.h"
#include "spillway/persist/ring_look.h"
#include "spillway/persist/segment_store.h"
#include "spillway/persist/topic_files.h"
#include "spillway/persist/topic_stat.h"
#include "spillway/persist/topic_state.h"

namespace spillway {
namespace {

constexpr std::string_view kAside = ".aside-";
constexpr std::uint64_t kLetGoNs = 1'000'000'000;
constexpr std::uint64_t kPersistSliceNs = 100'000'000;

std::uint64_t bytes_of_files(const std::vector<std::string>& files) {
  std::uint64_t bytes = 0;
  for (const std::string& file : files) {
    struct stat s;
    if (::lstat(file.c_str(), &s) == 0) bytes += static_cast<std::uint64_t>(s.st_blocks) * 512;
  }
  return bytes;
}

std::vector<std::string> ring_files(const PartitionPaths& paths) {
  std::vector<std::string> files;
  for (const std::string& file : {paths.ring, paths.control, paths.consumers}) {
    if (file_exists(file)) files.push_back(file);
  }
  return files;
}

// Files that were being made for this partition: "<path>.tmp-<number>" beside the ring, "making-<base>" beside the segments.
std::vector<std::string> unfinished_files(const PartitionPaths& paths, bool ephemeral) {
  std::vector<std::string> files;
  const std::string shm = parent_of(paths.ring);
  for (const std::string& name : list_directory(shm)) {
    const std::string path = shm + "/" + name;
    for (const std::string& of : {paths.ring, paths.control, paths.consumers}) {
      if (path.starts_with(of + ".tmp-")) files.push_back(path);
    }
  }
  if (ephemeral) return files;
  for (const std::string& name : list_directory(paths.data)) {
    if (name.starts_with(kMakingPrefix)) files.push_back(paths.data + "/" + name);
  }
  return files;
}

bool writers_live(const PartitionPaths& paths) { return LockProbe(paths.writers_lock()).held(0); }

// Live consumers hold a slot's lock; who has none only maps the ring, and keeps it mapped.
bool consumers_live(const PartitionPaths& paths) {
  const LockProbe locks(paths.consumers_lock());
  for (std::size_t i = 0; i < kConsumerSlots; ++i) {
    if (locks.held(i)) return true;
  }
  return false;
}

struct RingPlan {
  CleanAction action;
  std::string why;
};

// Nothing: it stays.
std::optional<RingPlan> plan_ring(const RingLook& look, const TopicConfig& config) {
  switch (look.what) {
    case RingLook::What::unknown: return std::nullopt;
    case RingLook::What::no_ring: return RingPlan{CleanAction::remove, look.problem};
    case RingLook::What::strange: return RingPlan{CleanAction::set_aside, look.problem};
    case RingLook::What::ours:
      if (config.ephemeral) {
        if (look.has_bytes) return std::nullopt;
        return RingPlan{CleanAction::remove, "nobody uses it, and it is empty"};
      }
      return RingPlan{CleanAction::persist_and_remove, look.has_bytes
                                                           ? "nobody uses it; what it holds is written to disk first"
                                                           : "nobody uses it; all it holds is on disk"};
    case RingLook::What::damaged:
      return RingPlan{CleanAction::set_aside,
                      "it is damaged, so not all that was committed can be read; what can be is written to disk first"};
    case RingLook::What::other: break;
  }
  if (!look.has_bytes) return RingPlan{CleanAction::remove, "the log went on without it, and all it holds is on disk"};
  return RingPlan{CleanAction::set_aside,
                  "the log went on without it, or its data directory was restored; it holds bytes "
                  "that the segments don't"};
}

class Planner {
 public:
  explicit Planner(const Domain& domain) : where_(domain.state().directories()) {}

  CleanPlan plan() {
    const std::vector<std::string> topics = list_topics(where_);
    for (const std::string& name : topics) {
      try {
        plan_topic(read_topic(where_, name));
      } catch (const Error& e) {
        keep(e.what());
      }
    }
    for (const std::string& directory : list_deleted(where_)) {
      auto files = files_below(directory);
      const std::uint64_t bytes = bytes_of_files(files);
      plan_.items.push_back({CleanAction::remove, directory.substr(directory.rfind('/') + 1), 0, std::move(files),
                             bytes, "its deletion was interrupted"});
    }
    for (const std::string& name : list_directory(where_.shm)) {
      if (name.front() == '.' || !is_stray(where_.shm, name)) continue;
      keep(where_.shm + "/" + name + " belongs to no topic in " + where_.data +
           "; it may be one of another data directory, or one whose creation or deletion was interrupted: remove it "
           "yourself "
           "if you know that nobody uses it");
    }
    for (const std::string& name : list_directory(where_.data)) {
      if (name.front() == '.' || !is_stray(where_.data, name)) continue;
      keep(where_.data + "/" + name +
           " has no topic.json: its creation or deletion was interrupted, or the file was lost; "
           "create the topic again with the same settings, or remove the directory");
    }
    return std::move(plan_);
  }

 private:
  // A directory of no topic. One that may not be looked into (lost+found) is none of our business.
  bool is_stray(const std::string& directory, const std::string& name) const {
    try {
      return !topic_exists(where_, name) && directory_exists(directory + "/" + name);
    } catch (const Error&) {
      return false;
    }
  }
  void keep(std::string sentence) { plan_.kept.push_back(std::move(sentence)); }

  void plan_topic(const TopicConfig& config) {
    for (std::uint32_t p = 0; p < config.partitions; ++p) {
      const PartitionPaths paths = PartitionPaths::of(where_.shm, where_.data, config, p);
      try {
        if (file_exists(paths.writers_lock()) && !writers_live(paths)) plan_partition(config, paths, p);
      } catch (const Error& e) {
        keep(e.what());
      }
    }
  }

  void add(CleanAction action, const TopicConfig& config, std::uint32_t partition, std::vector<std::string> files,
           std::string why) {
    const std::uint64_t bytes = bytes_of_files(files);
    plan_.items.push_back({action, config.name, partition, std::move(files), bytes, std::move(why)});
  }

  void plan_partition(const TopicConfig& config, const PartitionPaths& paths, std::uint32_t number) {
    if (auto files = unfinished_files(paths, config.ephemeral); !files.empty()) {
      add(CleanAction::remove, config, number, std::move(files), "a process died while making them");
    }
    keep_aside(paths);
    const std::vector<std::string> files = ring_files(paths);
    if (files.empty()) return;
    if (!file_exists(paths.ring)) {
      return add(CleanAction::remove, config, number, files, "their ring was never made, or was deleted");
    }
    if (consumers_live(paths)) return keep(paths.ring + " has no writer, but live consumers; stop them first");
    const RingLook look = look_at_ring(paths, config, number);
    if (auto plan = plan_ring(look, config)) return add(plan->action, config, number, files, std::move(plan->why));
    if (!config.ephemeral || look.what == RingLook::What::unknown) {
      return keep(paths.ring + " stays, because it can't be told what it holds: " + look.problem);
    }
    keep(paths.ring + " holds records of an ephemeral topic, which are nowhere else; `spillway delete " + config.name +
         " --yes` removes them");
  }

  void keep_aside(const PartitionPaths& paths) {
    for (const std::string& name : list_directory(parent_of(paths.ring))) {
      const std::string path = parent_of(paths.ring) + "/" + name;
      if (path.starts_with(paths.ring + std::string(kAside))) {
        keep(path + " was set aside; remove it when you don't need what it holds");
      }
    }
  }

  Directories where_;
  CleanPlan plan_;
};

// A slow or full disk may yet take it. What is damaged stays so however long one waits. False: not done.
bool wait_unless_damaged(std::chrono::nanoseconds timeout, const std::function<bool(std::chrono::nanoseconds)>& done,
                         const std::function<Blocked()>& blocked) {
  const Deadline deadline = Deadline::after_ns(static_cast<std::uint64_t>(std::max<std::int64_t>(timeout.count(), 0)));
  do {
    if (done(std::chrono::nanoseconds(std::min(kPersistSliceNs, deadline.left_ns())))) return true;
  } while (!deadline.passed() && blocked() != Blocked::damaged);
  return false;
}

std::string not_persisted(const std::string& what, TopicState& topic, std::uint32_t partition) {
  const auto open = topic.writing_if_open(partition);
  const Blocked cause = open ? persister_blocked(*open) : Blocked::none;
  const int error =
      open ? open->control().persister.error.load(std::memory_order_relaxed) : 0;  // relaxed: for a message
  return what + " could not be written to disk, so it stays, and nothing is lost: " +
         (cause == Blocked::damaged ? persister_error_text(topic.paths(partition), topic.config(), partition, error)
                                    : std::string(name_of(cause)));
}

// Writes what a ring holds to disk and lets go of it. Returns what is in the way.
std::optional<std::string> persist(const Domain& domain, const CleanItem& item, std::chrono::nanoseconds timeout) {
  Topic topic = domain.open(item.topic);
  {
    // Being a producer for a moment settles what the dead ones left open.
    ExclusiveProducer producer = topic.exclusive_producer({.partition = item.partition});
    producer.close();
  }
  const bool done = wait_unless_damaged(
      timeout, [&](std::chrono::nanoseconds slice) { return topic.close(slice) == Durable::yes; },
      [&] { return topic.blocked(item.partition); });
  if (done) return std::nullopt;
  return not_persisted("what it holds", topic.state(), item.partition);
}

// Writes what can be read of a damaged ring to disk. Not as a producer, who would have to settle what can't be. Returns what is
// in the way.
std::optional<std::string> persist_readable(const Domain& domain, const CleanItem& item, const TopicConfig& config,
                                            std::chrono::nanoseconds timeout) {
  const auto topic = domain.state().open(config);
  const auto ring = topic->writing(item.partition);
  // acquire: only a place to walk from.
  const Offset durable = ring->control().persister.durable_end.load(std::memory_order_acquire);
  const Offset readable = walk_committed(*ring, durable, kOffsetEnd).end;
  const bool done = wait_unless_damaged(
      timeout,
      [&](std::chrono::nanoseconds slice) {
        return topic->wait(item.partition, readable, slice, true) != Durable::timed_out;
      },
      [&] { return persister_blocked(*ring); });
  if (done) return std::nullopt;
  return not_persisted("what can be read of it", *topic, item.partition);
}

// The writers' lock alone; our own persister may take a moment to let go.
FileLock lock_alone(const PartitionPaths& paths) {
  const Deadline deadline = Deadline::after_ns(kLetGoNs);
  for (;;) {
    FileLock lock = FileLock::try_lock(paths.writers_lock(), LockMode::exclusive);
    if (lock || deadline.passed()) return lock;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

std::optional<std::string> set_aside(const std::vector<std::string>& files) {
  const std::string suffix = std::string(kAside) + std::to_string(random_u64());
  for (const std::string& file : files) {
    if (disk::rename(file.c_str(), (file + suffix).c_str()) != 0 && errno != ENOENT) {
      throw system_error(errno, "can't rename " + file);
    }
  }
  return std::nullopt;
}

// With the writers' lock held: nothing if the files are still what the plan took them for, else what is in the way.
std::optional<std::string> why_not_now(const CleanItem& item, const PartitionPaths& paths, const TopicConfig& config) {
  const std::string changed = "it has changed by now";
  const auto has = [&](const std::string& file) {
    return std::find(item.files.begin(), item.files.end(), file) != item.files.end();
  };
  if (has(paths.ring)) {
    if (!file_exists(paths.ring)) return changed;
    const RingLook look = look_at_ring(paths, config, item.partition);
    const auto plan = plan_ring(look, config);
    if (!plan || plan->action != item.action) return changed;
    if (item.action != CleanAction::persist_and_remove) return std::nullopt;
    if (look.has_bytes) return changed;
    if (!look.differs) return std::nullopt;
    return "its segments don't hold all that it holds and that was on disk once, so it stays; `spillway verify " +
           item.topic + "` names what is damaged there";
  }
  const bool ring_made = (has(paths.control) || has(paths.consumers)) && file_exists(paths.ring);
  return ring_made ? std::optional(changed) : std::nullopt;
}

}  // namespace

std::string_view name_of(CleanAction value) noexcept {
  switch (value) {
    case CleanAction::persist_and_remove: return "persist and remove";
    case CleanAction::remove: return "remove";
    case CleanAction::set_aside: return "set aside";
  }
  return "unknown";
}

CleanPlan plan_clean(const Domain& domain) { return Planner(domain).plan(); }

std::optional<std::string> apply_clean(const Domain& domain, const CleanItem& item, std::chrono::nanoseconds timeout) {
  const Directories& where = domain.state().directories();
  if (item.topic.starts_with('.')) {
    remove_files(item.files);
    return std::nullopt;
  }
  const TopicConfig config = read_topic(where, item.topic);
  const PartitionPaths paths = PartitionPaths::of(where.shm, where.data, config, item.partition);
  if (item.action == CleanAction::persist_and_remove) {
    if (auto why_not = persist(domain, item, timeout)) return why_not;
  }
  const bool damaged = item.action == CleanAction::set_aside &&
                       look_at_ring(paths, config, item.partition).what == RingLook::What::damaged;
  if (damaged) {
    if (auto why_not = persist_readable(domain, item, config, timeout)) return why_not;
  }
  // Until the lock is released nobody can attach for writing, and no ring can be made.
  const FileLock lock = lock_alone(paths);
  if (!lock || consumers_live(paths)) return "somebody uses it by now";
  if (auto why_not = why_not_now(item, paths, config)) return why_not;
  if (item.action == CleanAction::set_aside) return set_aside(item.files);
  for (const std::string& file : item.files) remove_file(file);
  return std::nullopt;
}

}  // namespace spillway
