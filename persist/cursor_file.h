// A named, durable consumer offset for each partition of a topic. cursor_format.h has the bytes and the rules.
//
// A cursor has one owner at a time: a CursorFile holds its lock for life, and loses it by death at the latest.
// Thread safety: one thread at a time. Looking (list, peek) takes no locks and creates nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spillway/core/descriptor.h"
#include "spillway/core/directory.h"
#include "spillway/ipc/consumer.h"
#include "spillway/persist/cursor_format.h"

namespace spillway {

// The same rules as for a topic's name. Throws Error (invalid_argument) naming what is wrong.
void check_cursor_name(std::string_view name);

// A cursor as it was found.
struct CursorState {
  std::string name;
  std::vector<std::optional<Offset>> offsets;  // by partition; nothing: not begun
  std::uint64_t written_ns = 0;                // wall clock
  bool owned = false;                          // its lock is held
  std::uint64_t owner_pid = 0;                 // hints, while `owned`; 0: not known
  std::uint64_t owner_since_ns = 0;
};

class CursorFile : public CursorStore {
 public:
  // Opens or creates the cursor `name` in `directory` (made if missing) and takes its lock. Throws Error:
  // invalid_argument (the name), busy (naming the owner), corrupt (naming the path and the cure), conflict (another
  // topic's, or made for another number of partitions), unsupported, no_permission, no_space, io.
  static std::unique_ptr<CursorFile> open(const std::string& directory, const std::string& name,
                                          std::uint32_t partitions, std::uint64_t topic_id, Sharing sharing);

  std::optional<Offset> offset(std::uint32_t partition) const noexcept override;
  // One offset per partition, kNoCursorOffset where there is nothing new. What lies before the stored one is left as
  // it is; nothing is written when nothing moves. Returns 0 once it is synced, or an errno: the stored offsets then
  // are what they were, and calling again tries again. EINVAL: not one per partition.
  int commit(std::span<const Offset> offsets) noexcept override;
  const std::string& path() const noexcept { return path_; }

  // Names of the cursors in the directory, sorted; empty when there is none.
  static std::vector<std::string> list(const std::string& directory);
  // Throws Error: not_found, corrupt, conflict, unsupported, no_permission.
  static CursorState peek(const std::string& directory, const std::string& name, std::uint32_t partitions,
                          std::uint64_t topic_id);
  // What any cursor in the directory still needs of a partition: the smallest stored offset. kOffsetEnd: none has one. A
  // cursor that has not begun there holds nothing: one that is used for other partitions only would hold all of this one for
  // ever. One that can't be read, or is damaged, holds everything: what it needs is not known, and once it is mended, or
  // deleted, it will be; what expired meanwhile would not come back. So does a missing directory. What is answered by is
  // synced; a cursor's first store holds from the next time on that this is asked.
  static Offset smallest(const std::string& directory, std::uint32_t partitions, std::uint64_t topic_id,
                         std::uint32_t partition) noexcept;
  // A sentence that names the file, when a slot of it holds neither its checksum nor nothing; else empty.
  static std::string damage(const std::string& directory, const std::string& name);
  // Deletes a cursor that nobody owns. Throws Error: busy, not_found.
  static void remove(const std::string& directory, const std::string& name);

 private:
  CursorFile() = default;
  int write_slot(unsigned slot, std::uint64_t sequence, std::span<const Offset> offsets) noexcept;

  std::string path_;
  FileDescriptor fd_;
  std::uint64_t topic_id_ = 0;
  std::uint64_t sequence_ = 0;
  unsigned slot_ = 0;         // the one that counts
  bool slot_synced_ = false;  // by us
  std::vector<Offset> offsets_;
  std::vector<Offset> wanted_;  // room for commit(), which must not allocate
  std::vector<std::byte> buffer_;
};

}  // namespace spillway
