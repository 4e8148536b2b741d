#include "spillway/persist/topic_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "spillway/core/descriptor.h"
#include "spillway/core/disk.h"
#include "spillway/core/error.h"
#include "spillway/core/file_lock.h"
#include "spillway/core/random.h"
#include "spillway/ipc/partition.h"
#include "spillway/persist/lost_config.h"

namespace spillway {
namespace {

constexpr std::size_t kConfigBytesMax = 64 * kKiB;
constexpr std::string_view kConfigName = "/topic.json";
constexpr std::string_view kDeletedPrefix = ".deleted-";  // no topic's name begins with a dot

std::string config_path(const std::string& directory, const std::string& name) {
  return directory + "/" + name + std::string(kConfigName);
}

// Throws Error (no_permission) where it can't be told.
bool has_config(const std::string& directory, const std::string& name) {
  struct stat s;
  if (::lstat(config_path(directory, name).c_str(), &s) == 0) return true;
  if (errno == EACCES) throw system_error(errno, "can't look into " + directory + "/" + name);
  return false;
}

// In a listing: what may not be looked into (lost+found, another's own topic), or can't be a topic's name, is no topic.
bool is_topic(const std::string& directory, const std::string& name) {
  try {
    check_topic_name(name);
    return has_config(directory, name);
  } catch (const Error&) {
    return false;
  }
}

TopicConfig read_config(const std::string& directory, const std::string& name) {
  const std::string path = config_path(directory, name);
  const auto text = read_file(path, kConfigBytesMax);
  if (!text) throw Error(Code::not_found, path + " has just been deleted");
  TopicConfig config = topic_config_from_json(*text, path);
  if (config.name != name) {
    throw Error(Code::corrupt, path + " is the configuration of another topic, " + config.name +
                                   "; directories of topics can't be renamed");
  }
  return config;
}

// Gives the configuration its name unless there is one already. True: ours is the one.
bool publish_config(const std::string& path, const TopicConfig& config) {
  const std::vector<std::byte> text = to_json(config);
  const std::string temporary = path + ".tmp-" + std::to_string(random_u64());
  replace_file(temporary, text, config.sharing);
  const int rc = disk::link(temporary.c_str(), path.c_str());
  const int error = errno;
  disk::unlink(temporary.c_str());
  if (rc == 0) {
    sync_directory(parent_of(path));
    return true;
  }
  if (error == EEXIST) return false;
  throw system_error(error, "can't create " + path);
}

void make_topic_directories(const Directories& where, const TopicConfig& config) {
  if (!config.ephemeral) {
    make_directory(where.data, config.sharing);
    make_directory(where.data + "/" + config.name, config.sharing);
    make_directory(cursors_directory(where, config), config.sharing);
  }
  make_directory(where.shm, config.sharing);
  make_directory(where.shm + "/" + config.name, config.sharing);
  for (std::uint32_t p = 0; p < config.partitions; ++p) {
    const PartitionPaths paths = PartitionPaths::of(where.shm, where.data, config, p);
    Partition::create_locks(paths, config.sharing);
    if (config.ephemeral) continue;
    sync_directory(paths.locks);
    sync_directory(paths.data);
  }
  if (!config.ephemeral) {
    sync_directory(where.data + "/" + config.name);
    sync_directory(where.data);
  }
}

std::string home_of(const Directories& where, const TopicConfig& config) {
  return config.ephemeral ? where.shm : where.data;
}

// Everything below a directory, deepest first, the directory itself last.
void collect(const std::string& path, std::vector<std::string>& files) {
  struct stat s;
  if (::lstat(path.c_str(), &s) != 0) return;
  if (S_ISDIR(s.st_mode)) {
    for (const std::string& name : list_directory(path)) collect(path + "/" + name, files);
  }
  files.push_back(path);
}

// Takes away what a failed creation made, but never a topic that another creator has finished meanwhile: under the new name
// nobody reaches it any more.
void undo_creation(const std::string& path) {
  const std::string aside = parent_of(path) + "/" + std::string(kDeletedPrefix) + std::to_string(random_u64());
  if (disk::rename(path.c_str(), aside.c_str()) != 0) return;
  if (file_exists(aside + "/topic.json")) {
    disk::rename(aside.c_str(), path.c_str());
    return;
  }
  std::vector<std::string> files;
  collect(aside, files);
  for (const std::string& file : files) {
    if (disk::unlink(file.c_str()) != 0) disk::remove_directory(file.c_str());
  }
}

// Where only topic.json was lost, the topic is the one that its log belongs to.
TopicConfig new_config(const Directories& where, const std::string& name, const TopicOptions& options) {
  const auto found = find_log(where.data + "/" + name);
  return found ? config_of_log(*found, name, options) : make_topic_config(name, options);
}

TopicConfig make_topic(const Directories& where, const TopicConfig& wanted) {
  const std::string home = home_of(where, wanted) + "/" + wanted.name;
  const bool ours = !file_exists(home);
  try {
    make_topic_directories(where, wanted);
    if (publish_config(home + "/topic.json", wanted)) {
      if (!has_config(wanted.ephemeral ? where.data : where.shm, wanted.name)) return wanted;
      // One of each kind, made at once: neither stays, rather than that some use the one and some the other.
      remove_file(home + "/topic.json");
      throw Error(Code::conflict, "topic " + wanted.name +
                                      " was being created as an ephemeral and as a persistent one at once; " +
                                      "decide which, and create it again");
    }
  } catch (...) {
    if (ours) undo_creation(home);
    disk::remove_directory((where.shm + "/" + wanted.name).c_str());  // of a persistent topic: empty as yet
    throw;
  }
  return read_topic(where, wanted.name);
}

void name_users(const PartitionPaths& paths, const TopicConfig& config, std::uint32_t number,
                std::vector<std::string>& users) {
  const std::string where = " (partition " + std::to_string(number) + ")";
  std::shared_ptr<Partition> ring;
  try {
    ring = Partition::attach(paths, config, number, Access::read_only);
  } catch (const Error&) {
    // No ring, or not one of ours: locks tell whether anybody is there, only not who.
  }
  if (!file_exists(paths.writers_lock())) return;
  // relaxed throughout: for a message.
  const LockProbe slots(paths.slots_lock()), consumers(paths.consumers_lock()), writers(paths.writers_lock());
  const std::size_t before = users.size();
  for (std::size_t i = 0; ring && i < kProducerSlots; ++i) {
    const ProducerSlot& slot = ring->control().slots[i];
    if (slot.pid.load(std::memory_order_relaxed) == 0 || !slots.held(i)) continue;
    const bool producer = slot.mode.load(std::memory_order_relaxed) != ProducerMode::none;
    users.push_back((producer ? "producer pid " : "persister pid ") +
                    std::to_string(slot.pid.load(std::memory_order_relaxed)) + where);
  }
  const std::uint32_t holder = ring ? ring->control().persister.pid.load(std::memory_order_relaxed) : 0;
  if (holder != 0 && users.size() == before && LockProbe(paths.role_lock()).held(0)) {
    users.push_back("persister pid " + std::to_string(holder) + where);
  }
  for (std::size_t i = 0; i < kConsumerSlots; ++i) {
    if (!consumers.held(i)) continue;
    const ConsumerSlot* slot = ring ? &ring->consumers().slots[i] : nullptr;
    const bool waits = slot == nullptr || slot->state.load(std::memory_order_relaxed) == ConsumerState::none;
    users.push_back((waits ? "a consumer that waits for a ring"
                           : "consumer pid " + std::to_string(slot->pid.load(std::memory_order_relaxed))) +
                    where);
  }
  if (users.size() == before && writers.held(0)) users.push_back("a process that has it open for writing" + where);
}

void name_cursor_owners(const std::string& directory, std::vector<std::string>& users) {
  for (const std::string& name : list_directory(directory)) {
    const FileDescriptor fd = try_open_file(directory + "/" + name, O_RDONLY);
    if (!fd) continue;
    const LockProbe probe(directory + "/" + name);
    if (probe.held(0)) users.push_back("a consumer with the cursor " + name);
  }
}

}  // namespace

std::string cursors_directory(const Directories& where, const TopicConfig& config) {
  return where.data + "/" + config.name + "/cursors";
}

std::string cursors_directory(const PartitionPaths& paths) { return parent_of(paths.data) + "/cursors"; }

void check_same_topic(const PartitionPaths& paths, const TopicConfig& config) {
  const std::string path = parent_of(paths.data) + std::string(kConfigName);
  const auto text = read_file(path, kConfigBytesMax);
  if (text && topic_config_from_json(*text, path).id == config.id) return;
  throw Error(Code::gone, "the topic " + config.name + " was deleted" + (text ? " and made anew" : "") +
                              " since it was opened here (" + path + "); open it again");
}

void check_partition_directory(const PartitionPaths& paths, const TopicConfig& config, std::uint32_t partition) {
  if (config.ephemeral || !list_directory(paths.data).empty()) return;
  throw Error(Code::corrupt, "the directory " + paths.data + " of partition " + std::to_string(partition) +
                                 " of topic " + config.name + (file_exists(paths.data) ? " is empty" : " is missing") +
                                 ", with all that the partition held; put it back from a copy, or delete the topic");
}

bool topic_exists(const Directories& where, const std::string& name) {
  return has_config(where.data, name) || has_config(where.shm, name);
}

TopicConfig read_topic(const Directories& where, const std::string& name) {
  check_topic_name(name);
  // Everything else is reached through these: what a stranger put in their place is noticed here, by name.
  for (const std::string& directory : {where.data, where.shm}) {
    static_cast<void>(check_directory(directory + "/" + name));
  }
  if (has_config(where.data, name)) return read_config(where.data, name);
  if (has_config(where.shm, name)) return read_config(where.shm, name);
  throw Error(Code::not_found, "there is no topic " + name + " in " + where.data + " or " + where.shm +
                                   "; create it with `spillway create " + name + "`, or name other directories");
}

std::vector<std::string> list_topics(const Directories& where) {
  std::vector<std::string> names;
  for (const std::string& directory : {where.data, where.shm}) {
    for (const std::string& name : list_directory(directory)) {
      if (is_topic(directory, name)) names.push_back(name);
    }
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

TopicConfig create_topic(const Directories& where, const std::string& name, const TopicOptions& options) {
  check_topic_name(name);
  // Of one that exists only what was asked for is looked at: defaults that would not go with it don't matter.
  const TopicConfig config =
      topic_exists(where, name) ? read_topic(where, name) : make_topic(where, new_config(where, name, options));
  check_same(config, options);
  return config;
}

void recreate_topic(const Directories& where, const TopicConfig& config) {
  make_topic_directories(where, config);
  publish_config(config_path(home_of(where, config), config.name), config);
}

TopicRemoval plan_topic_removal(const Directories& where, const TopicConfig& config) {
  TopicRemoval removal;
  for (std::uint32_t p = 0; p < config.partitions; ++p) {
    name_users(PartitionPaths::of(where.shm, where.data, config, p), config, p, removal.live_users);
  }
  if (!config.ephemeral) {
    name_cursor_owners(cursors_directory(where, config), removal.live_users);
    collect(where.data + "/" + config.name, removal.files);
  }
  collect(where.shm + "/" + config.name, removal.files);
  for (const std::string& file : removal.files) {
    if (file.ends_with(".log")) removal.log_bytes += config.segment_bytes;
  }
  return removal;
}

void remove_topic(const Directories& where, const TopicConfig& config) {
  const TopicRemoval plan = plan_topic_removal(where, config);
  const auto busy = [&](const std::string& users) {
    return Error(Code::busy, "topic " + config.name + " is in use by " + users + "; stop them first");
  };
  if (!plan.live_users.empty()) {
    std::string users;
    for (const std::string& user : plan.live_users) users += (users.empty() ? "" : ", ") + user;
    throw busy(users);
  }
  // Held until the files are gone: nobody can attach for writing in between.
  std::vector<FileLock> locks;
  for (std::uint32_t p = 0; p < config.partitions; ++p) {
    const PartitionPaths paths = PartitionPaths::of(where.shm, where.data, config, p);
    if (!file_exists(paths.writers_lock())) continue;
    locks.push_back(FileLock::try_lock(paths.writers_lock(), LockMode::exclusive));
    if (!locks.back()) throw busy("a process that has it open for writing");
  }
  // The one that holds the configuration last: up to there it is a topic, without a ring, and behind it is none.
  std::vector<std::string> directories = {where.shm};
  if (!config.ephemeral) directories.push_back(where.data);
  for (std::string& directory : directories) {
    const std::string from = directory + "/" + config.name;
    directory += "/" + std::string(kDeletedPrefix) + std::to_string(random_u64());
    if (disk::rename(from.c_str(), directory.c_str()) != 0 && errno != ENOENT) {
      throw system_error(errno, "can't rename " + from);
    }
  }
  if (!config.ephemeral) sync_directory(where.data);
  for (const std::string& directory : directories) remove_files(files_below(directory));
}

std::vector<std::string> list_deleted(const Directories& where) {
  std::vector<std::string> found;
  for (const std::string& directory : {where.data, where.shm}) {
    for (const std::string& name : list_directory(directory)) {
      if (name.starts_with(kDeletedPrefix)) found.push_back(directory + "/" + name);
    }
  }
  return found;
}

std::vector<std::string> files_below(const std::string& path) {
  std::vector<std::string> files;
  collect(path, files);
  return files;
}

void remove_files(const std::vector<std::string>& files) {
  for (const std::string& file : files) {
    struct stat s;
    if (::lstat(file.c_str(), &s) == 0 && S_ISDIR(s.st_mode)) {
      remove_directory(file);
    } else {
      remove_file(file);
    }
  }
}

}  // namespace spillway
