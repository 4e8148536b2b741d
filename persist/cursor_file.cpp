#include "spillway/persist/cursor_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "spillway/core/checksum.h"
#include "spillway/core/clock.h"
#include "spillway/core/disk.h"
#include "spillway/core/error.h"
#include "spillway/core/file_lock.h"
#include "spillway/core/random.h"
#include "spillway/persist/segment_file.h"

namespace spillway {
namespace {

constexpr unsigned kOpenAttemptsMax = 100;

std::uint64_t slot_pos(unsigned slot) noexcept { return slot * kCursorSlotBytes; }

// Lays a slot and its offsets out at the beginning of `block`, zeros behind, with its checksum.
void lay_out(std::span<std::byte> block, CursorSlot slot, std::span<const Offset> offsets) noexcept {
  std::fill(block.begin(), block.end(), std::byte{0});
  slot.checksum = 0;
  std::memcpy(block.data(), &slot, sizeof slot);
  std::memcpy(block.data() + sizeof slot, offsets.data(), offsets.size_bytes());
  slot.checksum = xxh3(block.first(sizeof slot + offsets.size_bytes()));
  std::memcpy(block.data(), &slot, sizeof slot);
}

std::uint64_t bytes_of(std::size_t partitions) noexcept {
  return align_up(sizeof(CursorSlot) + partitions * sizeof(Offset), kBlock);
}

struct SlotCopy {
  CursorSlot slot{};
  std::vector<Offset> offsets;
};

// The slot in `bytes` if its checksum holds. `bytes` is a copy.
std::optional<SlotCopy> parse_slot(std::span<std::byte> bytes) {
  SlotCopy copy;
  std::memcpy(&copy.slot, bytes.data(), sizeof copy.slot);
  if (copy.slot.magic != kCursorMagic) return std::nullopt;
  if (copy.slot.partitions < 1 || copy.slot.partitions > kPartitionsMax) return std::nullopt;
  CursorSlot unsealed = copy.slot;
  unsealed.checksum = 0;
  std::memcpy(bytes.data(), &unsealed, sizeof unsealed);
  copy.offsets.resize(copy.slot.partitions);
  const std::size_t offset_bytes = copy.offsets.size() * sizeof(Offset);
  if (xxh3(bytes.first(sizeof copy.slot + offset_bytes)) != copy.slot.checksum) return std::nullopt;
  std::memcpy(copy.offsets.data(), bytes.data() + sizeof copy.slot, offset_bytes);
  return copy;
}

// Sequences wrap: the slot that is written next is later than the one that was read, whatever that said.
bool later(const CursorSlot& a, const CursorSlot& b) noexcept {
  return static_cast<std::int64_t>(a.sequence - b.sequence) > 0;
}

struct Chosen {
  SlotCopy copy;
  unsigned place = 0;
};

Chosen choose(int fd, const std::string& path, std::uint32_t partitions, std::uint64_t topic_id) {
  std::vector<std::byte> bytes(2 * kCursorSlotBytes);
  const FileRead got = read_some(fd, bytes.data(), bytes.size(), 0);
  if (got.error != 0) throw system_error(got.error, "can't read the cursor " + path);
  std::optional<Chosen> chosen;
  for (unsigned place = 0; place < 2; ++place) {
    auto copy = parse_slot(std::span(bytes).subspan(slot_pos(place), kCursorSlotBytes));
    if (copy && (!chosen || later(copy->slot, chosen->copy.slot))) chosen = Chosen{std::move(*copy), place};
  }
  const std::string cure = "; delete it to begin again at the earliest record";
  if (!chosen) throw Error(Code::corrupt, "the cursor " + path + " is damaged: neither of its slots is valid" + cure);
  const CursorSlot& slot = chosen->copy.slot;
  if (slot.version != kCursorVersion) {
    throw Error(Code::unsupported, "the cursor " + path + " has version " + std::to_string(slot.version) +
                                       ", this build reads version " + std::to_string(kCursorVersion) +
                                       "; use the release that wrote it");
  }
  if (slot.topic_id != topic_id || slot.partitions != partitions) {
    throw Error(Code::conflict, "the cursor " + path + " belongs to another topic than this one (" +
                                    std::to_string(slot.partitions) + " partitions; this one has " +
                                    std::to_string(partitions) + ")" + cure);
  }
  for (const Offset offset : chosen->copy.offsets) {
    if (offset == kNoCursorOffset || (is_aligned(offset, kRecordAlign) && offset <= kOffsetEnd)) continue;
    throw Error(Code::corrupt,
                "the cursor " + path + " holds an offset that can't be, " + std::to_string(offset) + cure);
  }
  return std::move(*chosen);
}

std::uint64_t checksum_of(const CursorOwner& owner) noexcept {
  return xxh3(std::as_bytes(std::span(&owner, 1)).first(offsetof(CursorOwner, checksum)));
}

std::optional<CursorOwner> read_owner(int fd) noexcept {
  CursorOwner owner;
  const FileRead got = read_some(fd, &owner, sizeof owner, kCursorOwnerPos);
  if (got.bytes != sizeof owner || owner.magic != kCursorOwnerMagic || owner.checksum != checksum_of(owner)) {
    return std::nullopt;
  }
  return owner;
}

Error busy(int fd, const std::string& path) {
  const std::optional<CursorOwner> owner = read_owner(fd);
  return Error(Code::busy,
               "the cursor " + path + " is in use" +
                   (owner ? " by process " + std::to_string(owner->pid) : std::string(" by another consumer")) +
                   "; a cursor has one owner at a time: stop that one, or choose another name");
}

// Puts a whole, synced file in place, unless somebody else was faster.
void create_cursor(const std::string& directory, const std::string& path, std::uint32_t partitions,
                   std::uint64_t topic_id, Sharing sharing) {
  make_directory(directory, sharing);
  const std::string temporary = directory + "/.making-" + std::to_string(random_u64());
  std::vector<std::byte> bytes(kCursorFileBytes);
  const std::vector<Offset> offsets(partitions, kNoCursorOffset);
  lay_out(std::span(bytes).first(kCursorSlotBytes),
          {kCursorMagic, kCursorVersion, partitions, topic_id, 1, wall_ns(), 0}, offsets);
  int error = 0;
  {
    const FileDescriptor fd = open_file(temporary, O_RDWR | O_CREAT | O_EXCL, file_mode(sharing));
    if (sharing != Sharing::owner) ::fchmod(fd.get(), file_mode(sharing));  // the umask may have taken the group's bits
    error = write_at(fd.get(), bytes.data(), bytes.size(), 0);
    if (error == 0 && disk::sync(fd.get()) != 0) error = errno;
  }
  if (error == 0 && disk::link(temporary.c_str(), path.c_str()) != 0 && errno != EEXIST) error = errno;
  disk::unlink(temporary.c_str());
  if (error != 0) throw system_error(error, "can't create the cursor " + path);
}

}  // namespace

void check_cursor_name(std::string_view name) {
  try {
    check_topic_name(name);
  } catch (const Error& error) {
    throw Error(error.code(), "a cursor is named by the rules for topics: " + std::string(error.what()));
  }
}

std::unique_ptr<CursorFile> CursorFile::open(const std::string& directory, const std::string& name,
                                             std::uint32_t partitions, std::uint64_t topic_id, Sharing sharing) {
  check_cursor_name(name);
  SPILLWAY_ASSERT(partitions >= 1 && partitions <= kPartitionsMax);
  std::unique_ptr<CursorFile> cursor(new CursorFile);
  cursor->path_ = directory + "/" + name;
  cursor->topic_id_ = topic_id;
  for (unsigned attempt = 0;; ++attempt) {
    cursor->fd_ = try_open_file(cursor->path_, O_RDWR);
    if (!cursor->fd_ && errno == ENOENT && attempt < kOpenAttemptsMax) {
      create_cursor(directory, cursor->path_, partitions, topic_id, sharing);
      continue;
    }
    if (!cursor->fd_) throw system_error(errno, "can't open the cursor " + cursor->path_);
    if (!FileLock::try_lock_description(cursor->fd_.get(), LockMode::exclusive)) {
      throw busy(cursor->fd_.get(), cursor->path_);
    }
    if (!is_unlinked(cursor->fd_.get())) break;  // else it was deleted between open and lock
  }
  sync_directory(directory);  // also for one that was there: its maker may have died, or failed, before it did
  Chosen chosen = choose(cursor->fd_.get(), cursor->path_, partitions, topic_id);
  cursor->sequence_ = chosen.copy.slot.sequence;
  cursor->slot_ = chosen.place;
  cursor->offsets_ = std::move(chosen.copy.offsets);
  cursor->wanted_ = cursor->offsets_;
  cursor->buffer_.resize(bytes_of(partitions));
  CursorOwner owner{kCursorOwnerMagic, static_cast<std::uint64_t>(::getpid()), wall_ns(), 0};
  owner.checksum = checksum_of(owner);
  const int error = write_at(cursor->fd_.get(), &owner, sizeof owner, kCursorOwnerPos);
  if (error != 0) throw system_error(error, "can't write the cursor " + cursor->path_);
  return cursor;
}

std::optional<Offset> CursorFile::offset(std::uint32_t partition) const noexcept {
  if (partition >= offsets_.size() || offsets_[partition] == kNoCursorOffset) return std::nullopt;
  return offsets_[partition];
}

int CursorFile::write_slot(unsigned slot, std::uint64_t sequence, std::span<const Offset> offsets) noexcept {
  lay_out(buffer_,
          {kCursorMagic, kCursorVersion, static_cast<std::uint32_t>(offsets.size()), topic_id_, sequence, wall_ns(), 0},
          offsets);
  const int error = write_at(fd_.get(), buffer_.data(), buffer_.size(), slot_pos(slot));
  if (error != 0) return error;
  return disk::sync_data(fd_.get()) == 0 ? 0 : errno;
}

int CursorFile::commit(std::span<const Offset> offsets) noexcept {
  if (offsets.size() != offsets_.size()) return EINVAL;
  if (!fd_) return EBADF;  // a forked child
  bool moved = false;
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    const bool forward = offsets[i] != kNoCursorOffset && (offsets_[i] == kNoCursorOffset || offsets[i] > offsets_[i]);
    wanted_[i] = forward ? offsets[i] : offsets_[i];
    moved = moved || forward;
  }
  if (!slot_synced_) {
    // What was read may never have reached the disk (its writer's sync failed, or it died before): it is about to become
    // the only slot that a torn write leaves, or to be answered for as it is.
    const int error = write_slot(slot_, sequence_, offsets_);
    if (error != 0) return error;
    slot_synced_ = true;
  }
  if (!moved) return 0;
  const int error = write_slot(1 - slot_, sequence_ + 1, wanted_);
  if (error != 0) return error;
  slot_ = 1 - slot_;
  ++sequence_;
  offsets_.swap(wanted_);
  return 0;
}

std::vector<std::string> CursorFile::list(const std::string& directory) {
  std::vector<std::string> names = list_directory(directory);
  std::erase_if(names, [](const std::string& name) { return name.front() == '.'; });
  return names;
}

CursorState CursorFile::peek(const std::string& directory, const std::string& name, std::uint32_t partitions,
                             std::uint64_t topic_id) {
  const std::string path = directory + "/" + name;
  const FileDescriptor fd = open_file(path, O_RDONLY);
  const Chosen chosen = choose(fd.get(), path, partitions, topic_id);
  CursorState state;
  state.name = name;
  state.written_ns = chosen.copy.slot.written_ns;
  for (const Offset offset : chosen.copy.offsets) {
    state.offsets.push_back(offset == kNoCursorOffset ? std::nullopt : std::optional<Offset>(offset));
  }
  state.owned = LockProbe(path).held(0);
  if (const std::optional<CursorOwner> owner = read_owner(fd.get()); owner && state.owned) {
    state.owner_pid = owner->pid;
    state.owner_since_ns = owner->since_ns;
  }
  return state;
}

Offset CursorFile::smallest(const std::string& directory, std::uint32_t partitions, std::uint64_t topic_id,
                            std::uint32_t partition) noexcept try {
  if (!directory_exists(directory)) return 0;  // moved away: a topic has one from its creation on
  Offset smallest = kOffsetEnd;
  for (const std::string& name : list(directory)) {
    const std::string path = directory + "/" + name;
    const FileDescriptor fd = try_open_file(path, O_RDONLY | O_NONBLOCK);
    if (!fd && errno == ENOENT) continue;  // deleted meanwhile
    if (!fd) return 0;
    // Its owner may be at one of the slots; the other is then whole.
    const Offset offset = choose(fd.get(), path, partitions, topic_id).copy.offsets[partition];
    // Its owner may not have synced it yet: after a power cut the other slot would count, and need what went by this one.
    if (disk::sync_data(fd.get()) != 0) return 0;
    if (offset != kNoCursorOffset) smallest = std::min(smallest, offset);
  }
  return smallest;
} catch (...) {
  return 0;
}

std::string CursorFile::damage(const std::string& directory, const std::string& name) {
  const std::string path = directory + "/" + name;
  const FileDescriptor fd = try_open_file(path, O_RDONLY | O_NONBLOCK);
  std::vector<std::byte> bytes(2 * kCursorSlotBytes), again(bytes.size());
  // Read twice, because the owner may be at it.
  if (!fd || read_some(fd.get(), bytes.data(), bytes.size(), 0).error != 0 ||
      read_some(fd.get(), again.data(), again.size(), 0).error != 0 || bytes != again) {
    return {};
  }
  for (unsigned place = 0; place < 2; ++place) {
    const auto slot = std::span(bytes).subspan(slot_pos(place), kCursorSlotBytes);
    const bool empty =
        std::all_of(slot.begin(), slot.begin() + sizeof(CursorSlot), [](std::byte b) { return b == std::byte{0}; });
    if (empty || parse_slot(slot)) continue;
    return "slot " + std::to_string(place) + " of the cursor " + path +
           " is damaged: its checksum does not hold; the other one counts, so its consumer may get records again";
  }
  return {};
}

void CursorFile::remove(const std::string& directory, const std::string& name) {
  const std::string path = directory + "/" + name;
  const FileDescriptor fd = open_file(path, O_RDWR);
  if (!FileLock::try_lock_description(fd.get(), LockMode::exclusive)) throw busy(fd.get(), path);
  remove_file(path);
  sync_directory(directory);
}

}  // namespace spillway
