#include "spillway/persist/segment_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <utility>

#include "spillway/core/bytes.h"
#include "spillway/core/checksum.h"
#include "spillway/core/clock.h"
#include "spillway/core/disk.h"
#include "spillway/core/error.h"
#include "spillway/core/file_lock.h"
#include "spillway/core/size_text.h"

namespace spillway {
namespace {

constexpr std::size_t kBaseDigits = 20;
constexpr std::string_view kSuffix = ".log";

std::string digits_of(Offset base) {
  std::array<char, kBaseDigits + 1> text;
  std::snprintf(text.data(), text.size(), "%020llu", static_cast<unsigned long long>(base));
  return text.data();
}

std::uint64_t checksum_of(const SegmentHeader& header) noexcept {
  return xxh3(std::as_bytes(std::span(&header, 1)).first(offsetof(SegmentHeader, checksum)));
}

SegmentHeader header_of(const LogIdentity& log, const SegmentBirth& birth) noexcept {
  SegmentHeader header{};
  header.magic = kSegmentMagic;
  header.version = kSegmentVersion;
  header.partition = log.partition;
  header.topic_id = log.topic_id;
  header.salt = log.salt;
  header.base = birth.base;
  header.segment_bytes = log.segment_bytes;
  header.ring_bytes = log.ring_bytes;
  header.incarnation = birth.incarnation;
  header.previous_end = birth.previous_end;
  header.gap_cause = static_cast<std::uint64_t>(birth.gap_cause);
  header.created_ns = wall_ns();
  header.checksum = checksum_of(header);
  return header;
}

// Copies the header out of an open file and checks it together with the file's size.
HeaderRead read_header(int fd, const LogIdentity& log, Offset base) noexcept {
  HeaderRead result;
  struct stat s;
  if (::fstat(fd, &s) != 0 || !S_ISREG(s.st_mode)) {
    result.status = HeaderStatus::not_a_segment;
    return result;
  }
  alignas(kBlock) std::array<std::byte, kBlock> block;  // aligned for a descriptor with O_DIRECT
  const FileRead got = read_some(fd, block.data(), block.size(), 0);
  result.error = got.error;
  if (got.error != 0 || got.bytes < sizeof(SegmentHeader)) return result;
  std::memcpy(&result.header, block.data(), sizeof(SegmentHeader));
  result.status = check_header(result.header, log, base);
  if (result.status == HeaderStatus::ok &&
      static_cast<std::uint64_t>(s.st_size) < segment_file_bytes(log.segment_bytes)) {
    result.status = HeaderStatus::truncated;
  }
  return result;
}

bool set_direct(int fd, bool on) noexcept {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && ::fcntl(fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

// Renames to a name that nobody has yet. Returns 0 or an errno.
int rename_new(const std::string& from, const std::string& to) noexcept {
  if (disk::rename_new(from.c_str(), to.c_str()) == 0) return 0;
  if (errno != EINVAL) return errno;
  // A file system that can't promise not to replace. Nobody else makes segments here, so looking is enough.
  if (file_exists(to)) return EEXIST;
  return disk::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
}

[[noreturn]] void fail(int error, const std::string& what, const std::string& leftover) {
  disk::unlink(leftover.c_str());
  throw system_error(error, what);
}

}  // namespace

LogIdentity LogIdentity::of(const TopicConfig& config, std::uint32_t partition) noexcept {
  return {config.id, partition, config.salt(partition), config.segment_bytes, config.ring_bytes};
}

std::string segment_name(Offset base) { return digits_of(base).append(kSuffix); }

std::optional<Offset> parse_segment_name(std::string_view name) noexcept {
  if (name.size() != kBaseDigits + kSuffix.size() || !name.ends_with(kSuffix)) return std::nullopt;
  Offset base = 0;
  for (const char c : name.substr(0, kBaseDigits)) {
    if (c < '0' || c > '9') return std::nullopt;
    if (base > (UINT64_MAX - 9) / 10) return std::nullopt;
    base = base * 10 + static_cast<Offset>(c - '0');
  }
  if (base >= kOffsetEnd) return std::nullopt;
  return base;
}

HeaderStatus check_header(const SegmentHeader& header, const LogIdentity& log, Offset base) noexcept {
  if (header.magic != kSegmentMagic) return HeaderStatus::not_a_segment;
  if (header.checksum != checksum_of(header)) return HeaderStatus::checksum;
  if (header.version != kSegmentVersion) return HeaderStatus::unsupported;
  if (header.topic_id != log.topic_id || header.partition != log.partition || header.salt != log.salt) {
    return HeaderStatus::foreign;
  }
  if (header.segment_bytes != log.segment_bytes || header.ring_bytes != log.ring_bytes) return HeaderStatus::geometry;
  if (header.base != base || header.previous_end > base || !is_aligned(header.previous_end, kRecordAlign) ||
      header.gap_cause > static_cast<std::uint64_t>(GapCause::damaged)) {
    return HeaderStatus::base;
  }
  return HeaderStatus::ok;
}

std::string header_problem(HeaderStatus status, const std::string& path) {
  const char* cause = "";
  const char* cure = "; restore it from a backup, or go on without: readers then get a gap for what it held";
  switch (status) {
    case HeaderStatus::ok: break;
    case HeaderStatus::truncated: cause = " is shorter than a segment of this topic"; break;
    case HeaderStatus::not_a_segment: cause = " is not a segment: its magic number is wrong"; break;
    case HeaderStatus::unsupported:
      cause = " is a segment of another version than this build reads";
      cure = "; use the release that wrote it";
      break;
    case HeaderStatus::checksum: cause = " has a damaged header: its checksum does not hold"; break;
    case HeaderStatus::foreign:
      cause = " is a segment of another topic or partition";
      cure = "; move it back to where it belongs";
      break;
    case HeaderStatus::geometry: cause = " is a segment with other ring or segment sizes than the topic's"; break;
    case HeaderStatus::base:
      cause = " says in its header that it holds another part of the log than its name says";
      break;
  }
  return "the segment " + path + cause + cure;
}

FileRead read_some(int fd, void* to, std::size_t bytes, std::uint64_t position) noexcept {
  FileRead result;
  auto* out = static_cast<std::byte*>(to);
  while (result.bytes < bytes) {
    const ssize_t n =
        ::pread(fd, out + result.bytes, bytes - result.bytes, static_cast<off_t>(position + result.bytes));
    if (n < 0 && errno == EINTR) continue;
    // Past a short piece at the end of a file of odd length an O_DIRECT read is misaligned: it is the end all the
    // same.
    if (n < 0 && errno == EINVAL && result.bytes > 0) break;
    if (n < 0) result.error = errno;
    if (n <= 0) break;
    result.bytes += static_cast<std::size_t>(n);
  }
  return result;
}

SegmentFile SegmentFile::finish_birth(const std::string& directory, const std::string& temporary, FileDescriptor fd,
                                      const LogIdentity& log, const SegmentBirth& birth, FileIo io) {
  SPILLWAY_ASSERT(is_aligned(birth.base, log.segment_bytes) && birth.previous_end <= birth.base);
  SegmentFile file;
  file.fd_ = std::move(fd);
  file.path_ = directory + "/" + segment_name(birth.base);
  file.header_ = header_of(log, birth);
  std::array<std::byte, kBlock> block{};
  std::memcpy(block.data(), &file.header_, sizeof file.header_);
  const int error = write_at(file.fd_.get(), block.data(), block.size(), 0);
  if (error != 0) fail(error, "can't write the header of " + file.path_, temporary);
  if (disk::sync(file.fd_.get()) != 0) fail(errno, "can't sync " + file.path_, temporary);
  const int renamed = rename_new(temporary, file.path_);
  if (renamed == EEXIST) {
    disk::unlink(temporary.c_str());
    throw Error(Code::conflict, "the segment " + file.path_ + " exists already; move it out of the way", EEXIST);
  }
  if (renamed != 0) fail(renamed, "can't rename " + temporary + " to " + file.path_, temporary);
  try {
    sync_directory(directory);
  } catch (...) {
    disk::unlink(file.path_.c_str());  // or trying again would find its own leftover
    throw;
  }
  file.header_status_ = HeaderStatus::ok;
  file.direct_ = io == FileIo::direct && set_direct(file.fd_.get(), true);
  return file;
}

SegmentFile SegmentFile::create(const std::string& directory, const LogIdentity& log, const SegmentBirth& birth,
                                Sharing sharing, FileIo io) {
  const std::string temporary = directory + "/" + std::string(kMakingPrefix) + digits_of(birth.base);
  remove_file(temporary);  // of a maker that died
  FileDescriptor fd = open_file(temporary, O_RDWR | O_CREAT | O_EXCL, file_mode(sharing));
  if (sharing != Sharing::owner) ::fchmod(fd.get(), file_mode(sharing));  // the umask may have taken the group's bits
  try {
    allocate_file(fd.get(), segment_file_bytes(log.segment_bytes), temporary);
  } catch (...) {
    disk::unlink(temporary.c_str());
    throw;
  }
  if (!FileLock::try_lock_description(fd.get(), LockMode::exclusive)) {
    fail(errno, "can't lock " + temporary, temporary);
  }
  return finish_birth(directory, temporary, std::move(fd), log, birth, io);
}

std::optional<SegmentFile> SegmentFile::recycle(const std::string& directory, const std::string& spare,
                                                const LogIdentity& log, const SegmentBirth& birth, FileIo io) {
  const std::string from = directory + "/" + spare;
  FileDescriptor fd = try_open_file(from, O_RDWR);
  if (!fd) return std::nullopt;
  if (file_bytes(fd.get(), from) != segment_file_bytes(log.segment_bytes)) return std::nullopt;
  if (!FileLock::try_lock_description(fd.get(), LockMode::exclusive)) return std::nullopt;
  const std::string temporary = directory + "/" + std::string(kMakingPrefix) + digits_of(birth.base);
  if (disk::rename(from.c_str(), temporary.c_str()) != 0) throw system_error(errno, "can't rename " + from);
  sync_directory(directory);  // no name of the old content may come back over the new header
  return finish_birth(directory, temporary, std::move(fd), log, birth, io);
}

SegmentFile SegmentFile::open(const std::string& directory, const LogIdentity& log, Offset base, Access access,
                              FileIo io) {
  SegmentFile file;
  file.path_ = directory + "/" + segment_name(base);
  file.fd_ = open_file(file.path_, access == Access::read_write ? O_RDWR : O_RDONLY);
  const HeaderRead read = read_header(file.fd_.get(), log, base);
  if (read.error != 0) throw system_error(read.error, "can't read the header of " + file.path_);
  if (read.status != HeaderStatus::ok) {
    throw Error(read.status == HeaderStatus::unsupported ? Code::unsupported : Code::corrupt,
                header_problem(read.status, file.path_));
  }
  file.header_ = read.header;
  file.header_status_ = read.status;
  file.direct_ = io == FileIo::direct && set_direct(file.fd_.get(), true);
  return file;
}

SegmentFile SegmentFile::try_open(const std::string& directory, const LogIdentity& log, Offset base, FileIo io) noexcept
    try {
  SegmentFile file;
  file.path_ = directory + "/" + segment_name(base);
  file.fd_ = try_open_file(file.path_, O_RDONLY);
  if (!file.fd_) {
    if (errno == ENXIO) errno = ELOOP;  // a pipe, a device
    return file;
  }
  struct stat s;
  if (::fstat(file.fd_.get(), &s) != 0 || !S_ISREG(s.st_mode)) {
    file.fd_.reset();
    errno = ELOOP;
    return file;
  }
  const HeaderRead read = read_header(file.fd_.get(), log, base);
  file.header_ = read.header;
  file.header_.base = base;
  file.header_status_ = read.status;
  file.header_error_ = read.error;
  file.direct_ = io == FileIo::direct && set_direct(file.fd_.get(), true);
  return file;
} catch (...) {
  errno = ENOMEM;
  return {};
}

bool SegmentFile::try_lock() noexcept { return FileLock::try_lock_description(fd_.get(), LockMode::exclusive); }

bool SegmentFile::give_up_direct() noexcept {
  if (!direct_) return true;
  direct_ = !set_direct(fd_.get(), false);
  return !direct_;
}

bool SegmentFile::still_named() const noexcept {
  struct stat named;
  struct stat open;
  return ::stat(path_.c_str(), &named) == 0 && ::fstat(fd_.get(), &open) == 0 && named.st_ino == open.st_ino &&
         named.st_dev == open.st_dev;
}

std::optional<HeaderRead> read_segment_header(const std::string& directory, const LogIdentity& log, Offset base) {
  const std::string path = directory + "/" + segment_name(base);
  const FileDescriptor fd = try_open_file(path, O_RDONLY);
  if (!fd) {
    if (errno == ENOENT) return std::nullopt;
    if (errno == ELOOP || errno == ENXIO) return HeaderRead{HeaderStatus::not_a_segment, 0, {}};
    throw system_error(errno, "can't open " + path);
  }
  return read_header(fd.get(), log, base);
}

}  // namespace spillway
