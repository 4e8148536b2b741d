#include "spillway/persist/segment_store.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "spillway/core/disk.h"
#include "spillway/core/error.h"
#include "spillway/core/file_lock.h"
#include "spillway/core/random.h"

namespace spillway {
namespace {

bool sealed_away(Offset base, const HorizonSlot& horizon, std::uint64_t segment_bytes) noexcept {
  return base >= align_up(horizon.previous_end, segment_bytes) && base < horizon.begin;
}

void rename_or_throw(const std::string& from, const std::string& to) {
  if (disk::rename(from.c_str(), to.c_str()) != 0) throw system_error(errno, "can't rename " + from);
}

}  // namespace

std::vector<Offset> list_segments(const std::string& directory, std::uint64_t segment_bytes) {
  std::vector<Offset> bases;
  for (const std::string& name : list_directory(directory)) {
    const std::optional<Offset> base = parse_segment_name(name);
    if (base && *base % segment_bytes == 0) bases.push_back(*base);
  }
  return bases;  // names have a fixed number of digits: sorted as names is sorted as numbers
}

std::vector<Offset> live_segments(std::span<const Offset> bases, const std::optional<HorizonSlot>& horizon,
                                  std::uint64_t segment_bytes) {
  std::vector<Offset> live(bases.begin(), bases.end());
  if (horizon) std::erase_if(live, [&](Offset base) { return sealed_away(base, *horizon, segment_bytes); });
  return live;
}

std::vector<Offset> dead_segments(std::span<const Offset> bases, const std::optional<HorizonSlot>& horizon,
                                  std::uint64_t segment_bytes) {
  std::vector<Offset> dead;
  if (!horizon) return dead;
  std::copy_if(bases.begin(), bases.end(), std::back_inserter(dead),
               [&](Offset base) { return sealed_away(base, *horizon, segment_bytes); });
  return dead;
}

std::vector<Offset> plan_retention(const RetentionQuestion& question) {
  std::vector<Offset> going;
  if (question.retain_bytes == 0) return going;
  const std::uint64_t room = question.retain_bytes / question.segment_bytes;
  std::uint64_t count = question.bases.size() + question.coming;
  for (std::size_t i = 0; i + 1 < question.bases.size() && count > room; ++i) {
    if (question.bases[i] + question.segment_bytes > question.keep_from) break;
    going.push_back(question.bases[i]);
    --count;
  }
  return going;
}

SegmentStore::SegmentStore(std::string directory, const LogIdentity& log, Sharing sharing, FileIo io)
    : directory_(std::move(directory)), log_(log), sharing_(sharing), io_(io) {}

std::vector<std::string> SegmentStore::spares() const {
  std::vector<std::string> names = list_directory(directory_);
  std::erase_if(names, [](const std::string& name) { return !name.starts_with(kSparePrefix); });
  return names;
}

void SegmentStore::make_spare_of(Offset base) {
  const std::string from = in_directory(segment_name(base));
  const std::string to = in_directory(std::string(kSparePrefix) + std::to_string(random_u64()));
  if (disk::rename(from.c_str(), to.c_str()) != 0 && errno != ENOENT) throw system_error(errno, "can't rename " + from);
}

void SegmentStore::expire(std::span<const Offset> bases, std::size_t spares_max) {
  const std::vector<std::string> names = spares();
  for (std::size_t i = spares_max; i < names.size(); ++i) remove_file(in_directory(names[i]));
  std::size_t spare_count = std::min(names.size(), spares_max);
  for (const Offset base : bases) {
    if (spare_count < spares_max) {
      make_spare_of(base);
      ++spare_count;
    } else {
      remove_file(in_directory(segment_name(base)));
    }
  }
  // Not synced: an expired segment that comes back after a power loss is expired again. Who lets several go syncs in between.
}

void SegmentStore::remove(std::span<const Offset> bases) {
  if (bases.empty()) return;
  for (std::size_t i = bases.size(); i-- > 0;) remove_file(in_directory(segment_name(bases[i])));
  sync_directory(directory_);
}

SegmentFile SegmentStore::make_segment(const SegmentBirth& birth) {
  for (const std::string& spare : spares()) {
    if (auto file = SegmentFile::recycle(directory_, spare, log_, birth, io_)) return std::move(*file);
  }
  return SegmentFile::create(directory_, log_, birth, sharing_, io_);
}

void SegmentStore::prepare_spare() {
  if (!spares().empty()) return;
  const std::string suffix = std::to_string(random_u64());
  const std::string temporary = in_directory(std::string(kMakingPrefix) + suffix);
  try {
    const FileDescriptor fd = open_file(temporary, O_RDWR | O_CREAT | O_EXCL, file_mode(sharing_));
    if (sharing_ != Sharing::owner) ::fchmod(fd.get(), file_mode(sharing_));
    allocate_file(fd.get(), segment_file_bytes(log_.segment_bytes), temporary);
    rename_or_throw(temporary, in_directory(std::string(kSparePrefix) + suffix));
  } catch (...) {
    disk::unlink(temporary.c_str());
    throw;
  }
}

std::optional<SegmentFile> SegmentStore::adopt(Offset base) {
  SegmentFile file = SegmentFile::open(directory_, log_, base, Access::read_write, io_);
  if (!file.try_lock()) return std::nullopt;
  return file;
}

std::optional<Offset> SegmentStore::busy_segment(Offset from) const {
  for (const Offset base : list()) {
    if (base + log_.segment_bytes <= from) continue;
    const FileDescriptor fd = try_open_file(in_directory(segment_name(base)), O_RDWR);
    if (!fd) {
      if (errno == ENOENT) continue;  // expired meanwhile
      throw system_error(errno, "can't open " + in_directory(segment_name(base)));
    }
    if (!FileLock::try_lock_description(fd.get(), LockMode::exclusive)) return base;
  }
  return std::nullopt;
}

void SegmentStore::remove_leftovers() {
  std::size_t kept = 0;
  for (const std::string& name : list_directory(directory_)) {
    if (name.starts_with(kMakingPrefix)) remove_file(in_directory(name));
    if (!name.starts_with(kSparePrefix)) continue;
    const FileDescriptor fd = try_open_file(in_directory(name), O_RDONLY);
    const bool usable = fd && file_bytes(fd.get(), in_directory(name)) == segment_file_bytes(log_.segment_bytes);
    if (usable && kept < kSparesMax) {
      ++kept;
    } else {
      remove_file(in_directory(name));
    }
  }
}

}  // namespace spillway
