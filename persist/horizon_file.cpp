#include "spillway/persist/horizon_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <span>

#include "spillway/core/bytes.h"
#include "spillway/core/checksum.h"
#include "spillway/core/disk.h"
#include "spillway/core/error.h"
#include "spillway/persist/segment_file.h"

namespace spillway {
namespace {

using Block = std::array<std::byte, kBlock>;
constexpr std::uint64_t slot_pos(unsigned slot) noexcept { return slot * kBlock; }

std::uint64_t checksum_of(const HorizonSlot& slot) noexcept {
  return xxh3(std::as_bytes(std::span(&slot, 1)).first(offsetof(HorizonSlot, checksum)));
}

bool intact(const HorizonSlot& slot) noexcept {
  return slot.magic == kHorizonMagic && slot.checksum == checksum_of(slot);
}

Block block_of(const HorizonSlot& slot) noexcept {
  Block block{};
  std::memcpy(block.data(), &slot, sizeof slot);
  return block;
}

// Both slots as they are in the file.
FileRead read_slots(int fd, std::array<HorizonSlot, 2>& slots) noexcept {
  std::array<std::byte, 2 * kBlock> bytes{};
  const FileRead got = read_some(fd, bytes.data(), bytes.size(), 0);
  for (unsigned i = 0; i < 2; ++i) std::memcpy(&slots[i], bytes.data() + slot_pos(i), sizeof(HorizonSlot));
  return got;
}

// The slot that counts and where it is. Throws Error when there is none.
struct Chosen {
  HorizonSlot slot;
  unsigned place;
};

Chosen choose(int fd, const std::string& path) {
  std::array<HorizonSlot, 2> slots;
  const FileRead got = read_slots(fd, slots);
  if (got.error != 0) throw system_error(got.error, "can't read " + path);
  const bool a = intact(slots[0]);
  const bool b = intact(slots[1]);
  if (!a && !b) {
    throw Error(Code::corrupt,
                "the horizon file " + path +
                    " is damaged (neither of its two slots holds its checksum), so it is not known which "
                    "offsets were handed out; restore it from a backup, or delete the topic");
  }
  // Sequences wrap: the slot that is written next is later than the one that was read, whatever that said.
  const bool b_later = static_cast<std::int64_t>(slots[1].sequence - slots[0].sequence) > 0;
  const unsigned place = a && (!b || !b_later) ? 0 : 1;
  return {slots[place], place};
}

void check(const HorizonSlot& slot, const std::string& path, std::uint64_t topic_id, std::uint32_t partition) {
  if (slot.version != kHorizonVersion) {
    throw Error(Code::unsupported, "the horizon file " + path + " has version " + std::to_string(slot.version) +
                                       ", this build reads version " + std::to_string(kHorizonVersion) +
                                       "; use the release that wrote it");
  }
  if (slot.topic_id != topic_id || slot.partition != partition) {
    throw Error(Code::corrupt,
                "the horizon file " + path + " belongs to another topic or partition; put back the one that was here");
  }
  const bool in_order = slot.previous_end <= slot.begin && slot.begin <= slot.horizon && slot.horizon <= 2 * kOffsetEnd;
  const bool on_grid = is_aligned(slot.previous_end | slot.begin | slot.horizon, kRecordAlign);
  if (!in_order || !on_grid || slot.previous_cause > static_cast<std::uint64_t>(GapCause::damaged) || slot.clean > 1) {
    throw Error(Code::corrupt, "the horizon file " + path + " holds values that can't be (previous end " +
                                   std::to_string(slot.previous_end) + ", begin " + std::to_string(slot.begin) +
                                   ", horizon " + std::to_string(slot.horizon) + "); restore it from a backup");
  }
}

}  // namespace

HorizonFields HorizonFields::of(const HorizonSlot& slot) noexcept {
  return {slot.incarnation, slot.begin, slot.horizon, slot.previous_end, static_cast<GapCause>(slot.previous_cause),
          slot.clean != 0};
}

HorizonFile HorizonFile::open(const std::string& path, std::uint64_t topic_id, std::uint32_t partition,
                              Sharing sharing) {
  HorizonFile file;
  file.path_ = path;
  file.topic_id_ = topic_id;
  file.partition_ = partition;
  file.sharing_ = sharing;
  file.fd_ = try_open_file(path, O_RDWR);
  if (!file.fd_ && errno != ENOENT) throw system_error(errno, "can't open the horizon file " + path);
  return file;
}

std::optional<HorizonSlot> HorizonFile::peek(const std::string& path, std::uint64_t topic_id, std::uint32_t partition) {
  const FileDescriptor fd = try_open_file(path, O_RDONLY);
  if (!fd) {
    if (errno == ENOENT) return std::nullopt;
    throw system_error(errno, "can't open the horizon file " + path);
  }
  const Chosen chosen = choose(fd.get(), path);
  check(chosen.slot, path, topic_id, partition);
  return chosen.slot;
}

std::optional<HorizonSlot> HorizonFile::peek_any(const std::string& path) noexcept try {
  const FileDescriptor fd = try_open_file(path, O_RDONLY);
  std::array<HorizonSlot, 2> slots;
  if (!fd || read_slots(fd.get(), slots).error != 0) return std::nullopt;
  for (const HorizonSlot& slot : slots) {
    if (intact(slot) && slot.version == kHorizonVersion) return slot;
  }
  return std::nullopt;
} catch (...) {
  return std::nullopt;
}

std::string HorizonFile::damage(const std::string& path) {
  const FileDescriptor fd = try_open_file(path, O_RDONLY);
  std::array<HorizonSlot, 2> slots, again;
  // Read twice, because a writer may be at it.
  if (!fd || read_slots(fd.get(), slots).error != 0 || read_slots(fd.get(), again).error != 0) return {};
  for (unsigned i = 0; i < 2; ++i) {
    const HorizonSlot nothing{};
    if (intact(slots[i]) || std::memcmp(&slots[i], &nothing, sizeof nothing) == 0) continue;
    if (std::memcmp(&slots[i], &again[i], sizeof nothing) != 0) continue;
    return "slot " + std::to_string(i) + " of the horizon file " + path +
           " is damaged: its checksum does not hold; the other one counts, and the next writer writes both anew";
  }
  return {};
}

std::optional<HorizonSlot> HorizonFile::read() {
  if (!fd_) *this = open(path_, topic_id_, partition_, sharing_);  // somebody may have made it meanwhile
  current_.reset();
  if (!fd_) return std::nullopt;
  const Chosen chosen = choose(fd_.get(), path_);
  check(chosen.slot, path_, topic_id_, partition_);
  current_ = chosen.slot;
  current_slot_ = chosen.place;
  current_synced_ = false;
  return current_;
}

int HorizonFile::write(const HorizonFields& fields) noexcept try {
  if (!current_) read();
  HorizonSlot slot{};
  slot.magic = kHorizonMagic;
  slot.version = kHorizonVersion;
  slot.partition = partition_;
  slot.topic_id = topic_id_;
  slot.sequence = 1;
  slot.incarnation = fields.incarnation;
  slot.begin = fields.begin;
  slot.horizon = fields.horizon;
  slot.previous_end = fields.previous_end;
  slot.previous_cause = static_cast<std::uint64_t>(fields.previous_cause);
  slot.clean = fields.clean ? 1 : 0;
  slot.checksum = checksum_of(slot);  // of the first one; write_other seals with its own sequence number
  SPILLWAY_ASSERT(slot.previous_end <= slot.begin && slot.begin <= slot.horizon);
  if (!current_) return write_first(slot);

  if (!current_synced_) {
    // What was read may be in the page cache only: a writer before us may have failed to sync it, or died before it
    // did. It becomes the survivor of a torn write now, so it has to be on disk. Writing it again marks its page
    // dirty.
    const Block block = block_of(*current_);
    const int error = write_at(fd_.get(), block.data(), block.size(), slot_pos(current_slot_));
    if (error != 0) return error;
    if (disk::sync_data(fd_.get()) != 0) return errno;
    current_synced_ = true;
  }
  const int error = write_other(slot);
  // Were the newest slot to be damaged, an older horizon would count, and offsets would be used again. So both say the same.
  // If that fails, what was promised is on disk all the same.
  if (error == 0) write_other(slot);
  return error;
} catch (const Error& error) {
  return error.errno_value() != 0 ? error.errno_value() : EIO;
} catch (...) {
  return ENOMEM;
}

// Writes the slot that does not count, with the next sequence number, and syncs it: it counts from then on.
int HorizonFile::write_other(HorizonSlot slot) noexcept {
  slot.sequence = current_->sequence + 1;
  slot.checksum = checksum_of(slot);
  const unsigned other = 1 - current_slot_;
  const Block block = block_of(slot);
  const int error = write_at(fd_.get(), block.data(), block.size(), slot_pos(other));
  if (error != 0) return error;
  if (disk::sync_data(fd_.get()) != 0) return errno;
  current_ = slot;
  current_slot_ = other;
  return 0;
}

int HorizonFile::write_first(const HorizonSlot& slot) noexcept try {
  std::array<std::byte, 2 * kBlock> bytes{};
  HorizonSlot second = slot;
  ++second.sequence;
  second.checksum = checksum_of(second);
  std::memcpy(bytes.data(), &slot, sizeof slot);
  std::memcpy(bytes.data() + slot_pos(1), &second, sizeof second);
  replace_file(path_, bytes, sharing_);
  fd_ = try_open_file(path_, O_RDWR);
  if (!fd_) return errno;
  current_ = second;
  current_slot_ = 1;
  current_synced_ = true;
  return 0;
} catch (const Error& error) {
  return error.errno_value() != 0 ? error.errno_value() : EIO;
} catch (...) {
  return ENOMEM;
}

}  // namespace spillway
