// One segment file: its name, its birth, its header, its lock. segment_format.h has the bytes and the rules.
//
// A file gets its `.log` name only when it is whole: allocated, header written and synced. While it is being made it
// is called `making-<base>`; an expired one that waits to be used again, `spare-<number>`. Neither ends in `.log`.
// Thread safety: a SegmentFile belongs to one thread at a time; its descriptor may be used by several.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "spillway/core/descriptor.h"
#include "spillway/core/directory.h"
#include "spillway/core/mapping.h"
#include "spillway/ipc/record_layout.h"
#include "spillway/ipc/topic_config.h"
#include "spillway/persist/segment_format.h"

namespace spillway {

// Which log a file must belong to, and its geometry.
struct LogIdentity {
  std::uint64_t topic_id = 0;
  std::uint32_t partition = 0;
  std::uint64_t salt = 0;
  std::uint64_t segment_bytes = 0;
  std::uint64_t ring_bytes = 0;

  static LogIdentity of(const TopicConfig& config, std::uint32_t partition) noexcept;
};

// What a new segment's header says besides. The log before it ends at `previous_end` <= base: at `base` in the steady
// state; at the sealed end when this is the first segment of a ring (cause: HorizonSlot's previous_cause); at the
// last existing segment's end when segments were skipped that lie wholly inside a gap (cause overwritten).
struct SegmentBirth {
  Offset base = 0;
  Offset previous_end = 0;
  GapCause gap_cause = GapCause::none;
  std::uint64_t incarnation = 0;
};

// `direct` is a wish: where the file system refuses O_DIRECT the file is used buffered. See SegmentFile::direct().
enum class FileIo : std::uint8_t { direct, buffered };

std::string segment_name(Offset base);  // 20 digits and ".log"
std::optional<Offset> parse_segment_name(std::string_view name) noexcept;
inline constexpr std::string_view kSparePrefix = "spare-";
inline constexpr std::string_view kMakingPrefix = "making-";

// Looks at a copied header. `ok` means that every field is in its range and belongs to `log` and `base`.
enum class HeaderStatus : std::uint8_t { ok, truncated, not_a_segment, unsupported, checksum, foreign, geometry, base };
HeaderStatus check_header(const SegmentHeader& header, const LogIdentity& log, Offset base) noexcept;
// Names the file, the cause and the cure. `status` is not ok.
std::string header_problem(HeaderStatus status, const std::string& path);

// Reads up to `bytes` from `position`; stops early only at the file's end, which is not an error. `error` is an
// errno.
struct FileRead {
  std::size_t bytes = 0;
  int error = 0;
};
FileRead read_some(int fd, void* to, std::size_t bytes, std::uint64_t position) noexcept;

class SegmentFile {
 public:
  SegmentFile() noexcept = default;

  // Makes a new file: allocated in full (never sparse), header written, synced, renamed, directory synced. It is
  // locked (see try_lock) from before it has its name. Throws Error: no_space, no_permission, io, conflict (the name
  // exists). What was begun is removed again.
  static SegmentFile create(const std::string& directory, const LogIdentity& log, const SegmentBirth& birth,
                            Sharing sharing, FileIo io);
  // The same out of the file `spare` (a name in `directory`), whose blocks are then known to be written already.
  // Nothing when it can't serve: gone, another size, or I/O of a dead process is still under way in it.
  static std::optional<SegmentFile> recycle(const std::string& directory, const std::string& spare,
                                            const LogIdentity& log, const SegmentBirth& birth, FileIo io);
  // Opens `<base>.log` and checks size and header. Throws Error: not_found, corrupt, unsupported, no_permission, io.
  static SegmentFile open(const std::string& directory, const LogIdentity& log, Offset base, Access access, FileIo io);
  // The same without the checks, read-only, for readers that make the best of a damaged file; header_status() says
  // what is wrong. Empty when there is no such file (errno ENOENT), what is there is no file (ELOOP), or it can't be
  // opened.
  static SegmentFile try_open(const std::string& directory, const LogIdentity& log, Offset base, FileIo io) noexcept;

  // Takes the segment's lock (exclusive, an OFD lock on byte 0 of this very description): whoever writes into the
  // segment holds it, and the kernel keeps it until the last I/O that was submitted through the descriptor is over,
  // also after the process died. False: somebody else's I/O may be under way. Needs Access::read_write.
  bool try_lock() noexcept;

  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }
  int descriptor() const noexcept { return fd_.get(); }
  // True: every buffer, position and length given to the descriptor must be a multiple of kBlock.
  bool direct() const noexcept { return direct_; }
  // Goes on buffered, for a file system that takes O_DIRECT at open and refuses it later. False if it can't.
  bool give_up_direct() noexcept;
  Offset base() const noexcept { return header_.base; }
  HeaderStatus header_status() const noexcept { return header_status_; }
  int header_error() const noexcept { return header_error_; }       // errno when the header couldn't be read
  const SegmentHeader& header() const noexcept { return header_; }  // meaningful when header_status() is ok
  const std::string& path() const noexcept { return path_; }
  void close() noexcept { fd_.reset(); }

  // True while `path()` still names this very file. A writer renames a segment before it puts other bytes into it; so
  // what was read before this returned true is this segment's.
  bool still_named() const noexcept;

 private:
  static SegmentFile finish_birth(const std::string& directory, const std::string& temporary, FileDescriptor fd,
                                  const LogIdentity& log, const SegmentBirth& birth, FileIo io);

  FileDescriptor fd_;
  std::string path_;
  SegmentHeader header_{};
  HeaderStatus header_status_ = HeaderStatus::truncated;
  int header_error_ = 0;
  bool direct_ = false;
};

// The header alone, for listings: copied, and checked as far as `status` says. Nothing when there is no such file.
struct HeaderRead {
  HeaderStatus status = HeaderStatus::truncated;
  int error = 0;  // errno when reading failed; `status` is then truncated
  SegmentHeader header{};
};
std::optional<HeaderRead> read_segment_header(const std::string& directory, const LogIdentity& log, Offset base);

}  // namespace spillway
