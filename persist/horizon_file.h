// <partition>/horizon: reading and moving the durable horizon (horizon_format.h has the bytes and the rules).
//
// Who may call write(): the holder of the persister role, or of the writers' lock in its exclusive form; who took
// either calls read() first, because another process may have written since. Anybody may peek().
// Thread safety: one thread at a time. All I/O is buffered and small.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "spillway/core/descriptor.h"
#include "spillway/core/directory.h"
#include "spillway/ipc/record_layout.h"
#include "spillway/persist/horizon_format.h"

namespace spillway {

inline std::string horizon_path(const std::string& partition_directory) { return partition_directory + "/horizon"; }

// What a caller decides of a slot; identity, sequence and checksum are the file's own business.
struct HorizonFields {
  std::uint64_t incarnation = 0;
  Offset begin = 0;
  Offset horizon = 0;       // >= begin
  Offset previous_end = 0;  // <= begin
  GapCause previous_cause = GapCause::none;
  bool clean = false;

  static HorizonFields of(const HorizonSlot& slot) noexcept;
};

class HorizonFile {
 public:
  HorizonFile() noexcept = default;

  // For writing. Creates nothing: a missing file is made, whole and synced, by the first write(), so that an existing
  // file always has a valid slot. Throws Error (no_permission, io).
  static HorizonFile open(const std::string& path, std::uint64_t topic_id, std::uint32_t partition, Sharing sharing);

  // The slot that counts, copied and checked; nothing when there is no file. Throws Error naming the path and the
  // cure: corrupt (no valid slot, another topic's or partition's, values out of order), unsupported (another
  // version), io.
  static std::optional<HorizonSlot> peek(const std::string& path, std::uint64_t topic_id, std::uint32_t partition);
  std::optional<HorizonSlot> read();
  // A slot that holds its checksum, of whatever log it is; nothing when there is none.
  static std::optional<HorizonSlot> peek_any(const std::string& path) noexcept;
  // A sentence that names the file, when a slot of it holds neither its checksum nor nothing; else empty.
  static std::string damage(const std::string& path);

  // Writes `fields` into the other slot and syncs it, and then into the first one too, so that either may be damaged later.
  // Returns 0, or an errno: then the slot that counted before still counts, and calling again tries again. Only what a
  // 0 was returned for may be relied on.
  int write(const HorizonFields& fields) noexcept;

  const std::string& path() const noexcept { return path_; }

 private:
  int write_first(const HorizonSlot& slot) noexcept;
  int write_other(HorizonSlot slot) noexcept;

  std::string path_;
  std::uint64_t topic_id_ = 0;
  std::uint32_t partition_ = 0;
  Sharing sharing_ = Sharing::owner;
  FileDescriptor fd_;  // empty while there is no file
  std::optional<HorizonSlot> current_;
  unsigned current_slot_ = 0;    // where `current_` lies: 0 or 1
  bool current_synced_ = false;  // by us: what was read may never have reached the disk
};

}  // namespace spillway
