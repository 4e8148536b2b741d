#include "spillway/ipc/partition.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "spillway/core/checksum.h"
#include "spillway/core/disk.h"
#include "spillway/core/error.h"
#include "spillway/core/random.h"
#include "spillway/core/size_text.h"

namespace spillway {
namespace {

// What must agree between two builds that map one file: every size and offset the layouts fix.
std::uint64_t layout_fingerprint() noexcept {
  const std::array<std::uint64_t, 19> facts = {sizeof(Identity),
                                               sizeof(Control),
                                               sizeof(Consumers),
                                               sizeof(ProducerSlot),
                                               sizeof(ConsumerSlot),
                                               sizeof(PersisterArea),
                                               sizeof(RecordHeader),
                                               offsetof(Control, claims),
                                               offsetof(Control, commits),
                                               offsetof(Control, notices),
                                               offsetof(Control, persister),
                                               offsetof(Control, boundaries),
                                               offsetof(Control, gaps),
                                               offsetof(Control, lost),
                                               offsetof(Control, slots),
                                               offsetof(Consumers, wake),
                                               offsetof(Consumers, slots),
                                               kRingHeaderBytes,
                                               kMemoryVersion};
  return xxh3(std::as_bytes(std::span(facts)));
}

std::uint64_t checksum_of(const Identity& id) noexcept {
  return xxh3(std::as_bytes(std::span(&id, 1)).first(offsetof(Identity, checksum)));
}

Identity make_identity(MappedFile file, const TopicConfig& config, std::uint32_t partition,
                       const Partition::Birth& birth, const LogClock& clock) noexcept {
  Identity id = {kIdentityMagic,
                 layout_fingerprint(),
                 kMemoryVersion,
                 file,
                 partition,
                 config.ephemeral ? 1U : 0U,
                 config.id,
                 birth.incarnation,
                 config.salt(partition),
                 config.ring_bytes,
                 birth.begin,
                 clock.born_ns(),
                 clock.born_uptime_ns(),
                 0};
  id.checksum = checksum_of(id);
  return id;
}

// Checks a copy of a mapped file's identity; throws Error.
void check_identity(const Identity& id, MappedFile file, const TopicConfig& config, std::uint32_t partition,
                    const std::string& path) {
  const auto bad = [&](Code code, const std::string& why) {
    return Error(code, path + " " + why + "; stop everything that uses the topic and run `spillway clean --yes`");
  };
  if (id.magic != kIdentityMagic) throw bad(Code::corrupt, "is not a Spillway file");
  if (id.version != kMemoryVersion || id.fingerprint != layout_fingerprint()) {
    throw bad(Code::unsupported, "has the memory layout of another version of Spillway");
  }
  if (id.checksum != checksum_of(id)) throw bad(Code::corrupt, "is damaged: its identity's checksum does not match");
  if (id.file != file || id.partition != partition) throw bad(Code::corrupt, "stands in the place of another file");
  if (id.topic_id != config.id || id.salt != config.salt(partition)) {
    throw bad(Code::ring_stale, "belongs to another topic of the same name");
  }
  if (id.capacity != config.ring_bytes || id.ephemeral != (config.ephemeral ? 1U : 0U) ||
      (id.begin & (id.capacity - 1)) != 0 || id.begin >= kOffsetEnd) {
    throw bad(Code::corrupt, "does not agree with the topic's configuration");
  }
  if (id.born_ns > kBornNsMax) throw bad(Code::corrupt, "was made at a time that can't be");
}

// A new file with all its blocks, under a temporary name until it gets its own; one that never does goes with this object,
// so that who tries again on a full file system does not fill it with the remains of each attempt.
class NewFile {
 public:
  NewFile(const std::string& path, Sharing sharing)
      : path_(path),
        temporary_(path + ".tmp-" + std::to_string(random_u64())),
        fd_(open_file(temporary_, O_RDWR | O_CREAT | O_EXCL, file_mode(sharing))) {
    if (sharing != Sharing::owner)
      ::fchmod(fd_.get(), file_mode(sharing));  // the umask may have taken the group's bits
  }
  ~NewFile() {
    if (!named_) disk::unlink(temporary_.c_str());
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  // Throws Error (no_space). Returns the file's bytes.
  std::byte* fill(std::uint64_t bytes, const Identity& id) {
    allocate_file(fd_.get(), bytes, path_);
    mapping_ = Mapping::of_file(fd_.get(), bytes, Access::read_write, path_);
    points::at();
    std::memcpy(mapping_.data(), &id, sizeof id);
    return mapping_.data();
  }
  void give_name() {
    if (disk::rename(temporary_.c_str(), path_.c_str()) != 0) {
      throw system_error(errno, "can't rename " + temporary_ + " to " + path_);
    }
    named_ = true;
  }

 private:
  std::string path_, temporary_;
  FileDescriptor fd_;
  Mapping mapping_;
  bool named_ = false;
};

struct OpenedFile {
  FileDescriptor fd;
  Mapping mapping;
  Identity identity;
};

OpenedFile open_checked(const std::string& path, std::uint64_t bytes, Access access, MappedFile file,
                        const TopicConfig& config, std::uint32_t partition) {
  OpenedFile opened;
  opened.fd = open_file(path, access == Access::read_only ? O_RDONLY : O_RDWR);
  const std::uint64_t has = file_bytes(opened.fd.get(), path);
  if (has < sizeof(Identity)) throw Error(Code::corrupt, path + " is too short to be a Spillway file; remove it");
  // Looked at before mapping: the file of another layout has another size, and deserves the better message.
  const int error = read_at(opened.fd.get(), &opened.identity, sizeof opened.identity, 0);
  if (error != 0) throw system_error(error, "can't read " + path);
  check_identity(opened.identity, file, config, partition, path);
  struct stat s;
  if (::fstat(opened.fd.get(), &s) != 0) throw system_error(errno, "can't examine " + path);
  // A sparse file would be a SIGBUS when tmpfs is full.
  if (has != bytes || static_cast<std::uint64_t>(s.st_blocks) * 512 < bytes) {
    throw Error(Code::corrupt, path + " is " + format_size(has) + " instead of " + format_size(bytes) +
                                   " or has holes; stop everything that uses the topic and run `spillway clean --yes`");
  }
  opened.mapping = Mapping::of_file(opened.fd.get(), bytes, access, path);
  return opened;
}

}  // namespace

PartitionPaths PartitionPaths::of(const std::string& shm_directory, const std::string& data_directory,
                                  const TopicConfig& config, std::uint32_t partition) {
  const std::string number = std::to_string(partition);
  const std::string shm = shm_directory + "/" + config.name;
  PartitionPaths p;
  p.ring = shm + "/" + number + ".ring";
  p.control = shm + "/" + number + ".control";
  p.consumers = shm + "/" + number + ".consumers";
  p.data = (config.ephemeral ? shm : data_directory + "/" + config.name) + "/" + number;
  p.locks = p.data + "/lock";
  return p;
}

std::vector<std::string> PartitionPaths::all_locks() const {
  return {writers_lock(), mode_lock(), slots_lock(), role_lock(), repair_lock(), consumers_lock()};
}

void Partition::create_locks(const PartitionPaths& paths, Sharing sharing) {
  make_directory(paths.locks, sharing);
  // Observers with group_read can't open them: who has no right to write has no business holding a lock.
  const mode_t mode = sharing == Sharing::group_write ? 0660 : 0600;
  for (const std::string& path : paths.all_locks()) {
    if (file_exists(path)) continue;
    const FileDescriptor fd = open_file(path, O_RDWR | O_CREAT, mode);
    if (sharing == Sharing::group_write) ::fchmod(fd.get(), mode);
  }
}

void Partition::create_files(const PartitionPaths& paths, const TopicConfig& config, std::uint32_t partition,
                             const Birth& birth) {
  SPILLWAY_ASSERT((birth.begin & (config.ring_bytes - 1)) == 0);
  make_directory(parent_of(paths.ring), config.sharing);
  const LogClock clock = LogClock::born_now(birth.newest_ns, birth.wall_ahead_ns);
  const auto identity = [&](MappedFile file) { return make_identity(file, config, partition, birth, clock); };
  NewFile control(paths.control, config.sharing), consumers(paths.consumers, config.sharing),
      ring(paths.ring, config.sharing);
  auto& c = *reinterpret_cast<Control*>(control.fill(sizeof(Control), identity(MappedFile::control)));
  // relaxed throughout: nobody else sees the file before it is renamed, and then by way of the kernel.
  constexpr auto kRelaxed = std::memory_order_relaxed;
  c.claims.reserved_end.store(birth.begin, kRelaxed);
  c.commits.committed_end.store(birth.begin, kRelaxed);
  c.persister.retained_begin.store(birth.retained_begin, kRelaxed);
  c.persister.durable_end.store(birth.begin, kRelaxed);
  c.persister.written_end.store(birth.begin, kRelaxed);
  c.persister.reclaimable_end.store(birth.begin, kRelaxed);
  c.persister.horizon.store(birth.horizon, kRelaxed);
  for (auto& boundary : c.boundaries) boundary.store(birth.begin, kRelaxed);

  auto& w = *reinterpret_cast<Consumers*>(consumers.fill(sizeof(Consumers), identity(MappedFile::consumers)));
  for (auto& slot : w.slots) slot.gate.store(kNoGate, kRelaxed);

  ring.fill(kRingHeaderBytes + config.ring_bytes, identity(MappedFile::ring));
  control.give_name();
  consumers.give_name();
  ring.give_name();
}

std::shared_ptr<Partition> Partition::attach(const PartitionPaths& paths, const TopicConfig& config,
                                             std::uint32_t partition, Access access) {
  OpenedFile ring =
      open_checked(paths.ring, kRingHeaderBytes + config.ring_bytes, access, MappedFile::ring, config, partition);
  OpenedFile control = open_checked(paths.control, sizeof(Control), access, MappedFile::control, config, partition);
  bool can_announce = true;
  OpenedFile consumers;
  try {
    consumers =
        open_checked(paths.consumers, sizeof(Consumers), Access::read_write, MappedFile::consumers, config, partition);
  } catch (const Error& e) {
    if (access == Access::read_write || e.code() != Code::no_permission) throw;
    can_announce = false;
    consumers =
        open_checked(paths.consumers, sizeof(Consumers), Access::read_only, MappedFile::consumers, config, partition);
  }
  if (ring.identity.incarnation != control.identity.incarnation ||
      ring.identity.incarnation != consumers.identity.incarnation || ring.identity.begin != control.identity.begin) {
    throw Error(Code::ring_stale, paths.ring + " and " + paths.control +
                                      " are of different incarnations: somebody died while creating them or a file was"
                                      " replaced; stop everything that uses the topic and run `spillway clean --yes`");
  }
  std::shared_ptr<Partition> p(new Partition(LogClock(ring.identity)));
  p->config_ = config;
  p->paths_ = paths;
  p->number_ = partition;
  p->access_ = access;
  p->incarnation_ = ring.identity.incarnation;
  p->begin_ = ring.identity.begin;
  p->capacity_ = config.ring_bytes;
  p->mask_ = config.ring_bytes - 1;
  p->mix_ = CommitMix(ring.identity.salt);
  p->records_ = ring.mapping.data() + kRingHeaderBytes;
  p->control_ = reinterpret_cast<Control*>(control.mapping.data());
  p->consumers_ = reinterpret_cast<Consumers*>(consumers.mapping.data());
  p->can_announce_ = can_announce;
  p->ring_file_ = std::move(ring.fd);
  p->control_file_ = std::move(control.fd);
  p->consumers_file_ = std::move(consumers.fd);
  p->ring_mapping_ = std::move(ring.mapping);
  p->control_mapping_ = std::move(control.mapping);
  p->consumers_mapping_ = std::move(consumers.mapping);
  return p;
}

Partition::~Partition() = default;

void Partition::look_whether_gone() noexcept {
  // relaxed: see gone().
  if (is_unlinked(ring_file_.get()) || is_unlinked(control_file_.get())) gone_.store(true, std::memory_order_relaxed);
}

void Partition::set_space_listener(std::shared_ptr<SpaceListener> listener) noexcept {
  std::lock_guard lock(listener_mutex_);
  listener_ = std::move(listener);
}
std::shared_ptr<SpaceListener> Partition::space_listener() const noexcept {
  std::lock_guard lock(listener_mutex_);
  return listener_;
}

}  // namespace spillway
