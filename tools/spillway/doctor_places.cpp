// doctor: the two directories, and the topics in them.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "doctor_checks.h"
#include "patience.h"
#include "spillway/core/error.h"
#include "spillway/core/mapping.h"
#include "spillway/core/size_text.h"
#include "spillway/ipc/space.h"
#include "spillway/persist/clean.h"
#include "spillway/persist/domain_state.h"
#include "spillway/persist/segment_store.h"
#include "spillway/persist/topic_stat.h"

namespace spillway::command {
namespace {

constexpr std::uint64_t kShmComfortable = 64 * kMiB;
constexpr std::uint64_t kRoomLow = 17 * kMiB;  // a default topic, and its control files

// The directory itself, or the nearest thing above it that exists: there it would be made.
std::string nearest(std::string path) {
  while (!file_exists(path) && path != "/" && path != ".") path = parent_of(path);
  return path;
}

bool may_use(const std::string& directory) {
  return directory_exists(directory) && ::access(directory.c_str(), R_OK | W_OK | X_OK) == 0;
}

Finding not_usable(Finding finding, const std::string& directory, const char* option) {
  finding.verdict = Verdict::prevents;
  const bool there = directory_exists(directory);
  finding.cause = directory + (there ? " can't be written to by this user" : " is not a directory");
  finding.cure =
      fmt::format("{}, or choose another directory with {}", there ? "change its owner or mode" : "remove it", option);
  return finding;
}

// Whether a file in the directory can be opened with O_DIRECT: an existing segment, or one without a name.
int try_direct(const std::string& directory) {
  const int fd = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
  if (fd < 0) return errno;
  ::close(fd);
  return 0;
}

std::string cure_of(const HeldStat& held, const std::string& topic, int error) {
  switch (held.cause) {
    case Blocked::held_by_dead:
      return "run `spillway persist " + topic + "`, or start any writer: it repairs the claim";
    case Blocked::no_persister: return "run `spillway persist " + topic + "`";
    case Blocked::no_space: return "free some space on the disk; writing goes on by itself then";
    case Blocked::io_error: return cure_of_error(error) + "; writing goes on by itself when it works again";
    case Blocked::damaged: return "run `spillway verify " + topic + "`, and restore the file it names, or move it away";
    default: break;
  }
  if (held.paused) {
    return fmt::format("kill -CONT {}, or end it: {}", held.pid,
                       held.by == HeldStat::By::consumer ? "its gate is void then" : "then another takes over");
  }
  return held.by == HeldStat::By::persister ? "wait, or use a faster disk"
                                            : fmt::format("look what pid {} waits for", held.pid);
}

void check_partition(const TopicConfig& config, const PartitionStat& stat, std::vector<Finding>& findings) {
  const std::string where = fmt::format("partition {} of topic {}", stat.partition, config.name);
  const auto add = [&](std::string found, std::string cause, std::string cure) {
    findings.push_back({"topics", Verdict::advice, std::move(found), std::move(cause), std::move(cure)});
  };
  if (stat.ring_elsewhere) {
    findings.push_back(
        {"topics", Verdict::prevents, where + " has its ring elsewhere, so nobody else can write to it",
         "live processes write to it with a ring that is not in this directory: it was deleted under them "
         "(rm, a tmpfs cleaner, logind's RemoveIPC), or they were started with another --shm directory",
         "stop them, or use their directory"});
  }
  if (stat.held) {
    add(where + " is held up: " + std::string(name_of(stat.held->cause)),
        stat.held->pid == 0 ? std::string(name_of(stat.held->by)) + " unknown"
                            : fmt::format("{} pid {}{}", name_of(stat.held->by), stat.held->pid,
                                          stat.held->paused ? ", which is paused" : ""),
        cure_of(*stat.held, config.name, stat.persister.error));
  }
  if (!config.ephemeral && stat.persister.held && stat.persister.paused && !(stat.held && stat.held->paused)) {
    add(where + " has a paused persister",
        fmt::format("pid {} holds the role and is stopped by a signal or a debugger", stat.persister.pid),
        fmt::format("kill -CONT {0}, or end it: then another takes over", stat.persister.pid));
  }
  for (const ProducerStat& producer : stat.producers) {
    if (!producer.paused || (stat.held && stat.held->pid == producer.pid)) continue;
    add(where + " has a paused producer", fmt::format("pid {} is stopped by a signal or a debugger", producer.pid),
        fmt::format("nothing waits for it now; kill -CONT {} lets it go on", producer.pid));
  }
  if (!config.ephemeral && stat.persister.error != 0) {
    const bool damaged = tells_damage(stat.persister.error);
    add(where + " could not be written", stat.persister.error_text,
        damaged ? "run `spillway verify " + config.name + "`, which names all that is damaged"
                : cure_of_error(stat.persister.error));
  }
}

// Without one of them nobody can tell who lives, and so nobody may write.
void check_locks(const PartitionPaths& paths, const TopicConfig& config, std::uint32_t partition,
                 std::vector<Finding>& findings) {
  for (const std::string& path : paths.all_locks()) {
    struct stat s;
    if (::lstat(path.c_str(), &s) == 0 || errno != ENOENT) continue;
    findings.push_back(
        {"topics", Verdict::prevents, fmt::format("partition {} of topic {} lacks a lock file", partition, config.name),
         path + " is missing, so nobody can tell who lives",
         "stop everything that uses the topic, then make it again, empty and with the mode of those beside it"});
  }
}

// Where a partition's next segment does not fit, its producers stop once the newest one is full. Where retention bounds the
// topic, its oldest segment's file will do.
bool has_room(const PartitionPaths& paths, const TopicConfig& config, std::uint64_t free_bytes) {
  if (free_bytes >= segment_file_bytes(config.segment_bytes)) return true;
  if (config.retain_bytes != 0 && list_segments(paths.data, config.segment_bytes).size() >= 2) return true;
  const std::vector<std::string> names = list_directory(paths.data);
  return std::any_of(names.begin(), names.end(),
                     [](const std::string& name) { return name.starts_with(kSparePrefix); });
}

void check_room(const PartitionPaths& paths, const TopicConfig& config, std::uint32_t partition,
                std::vector<Finding>& findings) {
  const FileSystemRoom room = file_system_room(paths.data);
  if (config.ephemeral || room.total_bytes == 0 || has_room(paths, config, room.free_bytes)) return;
  findings.push_back(
      {"topics", Verdict::prevents,
       fmt::format("partition {} of topic {} has no room for another segment", partition, config.name),
       fmt::format("a segment takes {} of the disk, and {} are free in {}",
                   format_size(segment_file_bytes(config.segment_bytes)), format_size(room.free_bytes), paths.data),
       "free some space on the disk; writing goes on by itself then"});
}

}  // namespace

Finding check_shm(const std::string& shm) {
  const std::string directory = nearest(shm);
  const FileSystemRoom room = file_system_room(directory);
  struct statfs fs = {};
  const bool memory = ::statfs(directory.c_str(), &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
  Finding finding{"rings", Verdict::fine,
                  fmt::format("{}: {}, {} of {} free", shm, memory ? "memory" : "not in memory",
                              format_size(room.free_bytes), format_size(room.total_bytes)),
                  "", ""};
  if (!may_use(directory)) return not_usable(std::move(finding), directory, "--shm");
  if (!memory) {
    finding.verdict = Verdict::advice;
    finding.cause = "rings on a disk's file system are written to the disk by the kernel, again and again";
    finding.cure = "choose a directory on tmpfs, as /dev/shm, with --shm or SPILLWAY_SHM";
  } else if (room.free_bytes < kRoomLow && fs.f_type == TMPFS_MAGIC) {
    finding.verdict = Verdict::prevents;
    finding.cause = "there is no room for another ring of the default size (16MiB)";
    finding.cure = "mount -o remount,size=1G " + directory +
                   "; in a container: --shm-size 1g; or `spillway clean`, or smaller rings";
  } else if (room.total_bytes <= kShmComfortable && fs.f_type == TMPFS_MAGIC) {
    finding.verdict = Verdict::advice;
    finding.cause = "there is room for few rings: 64MiB is what containers get by default";
    finding.cure = "mount -o remount,size=1G " + directory + "; in a container: --shm-size 1g";
  }
  return finding;
}

Finding check_data(const std::string& data) {
  const std::string directory = nearest(data);
  const FileSystemRoom room = file_system_room(directory);
  struct statfs fs = {};
  const bool memory = ::statfs(directory.c_str(), &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
  Finding finding{"segments", Verdict::fine,
                  fmt::format("{}: {} of {} free", data, format_size(room.free_bytes), format_size(room.total_bytes)),
                  "", ""};
  if (!may_use(directory)) return not_usable(std::move(finding), directory, "--data");
  if (memory) {
    finding.verdict = Verdict::advice;
    finding.cause = "segments in memory do not survive a power loss, so `durable` promises nothing";
    finding.cure = "choose a directory on a disk with --data or SPILLWAY_DATA";
  } else if (room.free_bytes < 128 * kMiB) {
    finding.verdict = Verdict::advice;
    finding.cause = "there is hardly room for two segments of the default size (64MiB)";
    finding.cure = "free some space, or bound topics with --retain";
  }
  return finding;
}

Finding check_direct_io(const std::string& data) {
  const std::string directory = nearest(data);
  const int error = try_direct(directory);
  if (error == 0) return {"O_DIRECT", Verdict::fine, "available in " + directory, "", ""};
  return {"O_DIRECT", Verdict::advice, "not available in " + directory + ": " + std::strerror(error),
          "the persister writes through the page cache instead, which is correct and slower",
          "choose a directory on ext4, xfs or btrfs with --data"};
}

std::vector<Finding> check_topics(const Domain& domain) {
  std::vector<Finding> findings;
  const Directories& where = domain.state().directories();
  const std::vector<std::string> names = domain.topics();
  for (const std::string& name : names) {
    try {
      const TopicConfig config = domain.open(name).config();
      for (std::uint32_t p = 0; p < config.partitions; ++p) {
        const PartitionPaths paths = PartitionPaths::of(where.shm, where.data, config, p);
        check_partition(config, PartitionObserver(where, config, p).look(), findings);
        check_locks(paths, config, p, findings);
        check_room(paths, config, p, findings);
      }
    } catch (const Error& e) {
      // What this user may not look at may work for who may.
      const Verdict verdict = e.code() == Code::no_permission ? Verdict::advice : Verdict::prevents;
      findings.push_back(finding_of(e, "topics", verdict, "topic " + name + " can't be used"));
    }
  }
  if (findings.empty())
    findings.push_back({"topics", Verdict::fine, fmt::format("{}, nothing held up", names.size()), "", ""});
  return findings;
}

std::vector<Finding> check_leftovers(const Domain& domain) {
  std::vector<Finding> findings;
  const CleanPlan plan = plan_clean(domain);
  for (const CleanItem& item : plan.items) {
    findings.push_back(
        {"leftovers", Verdict::advice,
         fmt::format("{} of partition {} of topic {}", format_size(item.bytes), item.partition, item.topic), item.why,
         "spillway clean --yes"});
  }
  for (const std::string& sentence : plan.kept) findings.push_back({"leftovers", Verdict::advice, sentence, "", ""});
  if (findings.empty()) findings.push_back({"leftovers", Verdict::fine, "none", "", ""});
  return findings;
}

}  // namespace spillway::command
