#include "support/checked_queue.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "spillway/core/mapping.h"
#include "spillway/persist/segment_file.h"
#include "spillway/persist/segment_index.h"

namespace spillway::test {
namespace {

std::string path_of(int fd) {
  std::array<char, 4096> path;
  const ssize_t bytes = ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path.data(), path.size());
  return {path.data(), static_cast<std::size_t>(std::max<ssize_t>(bytes, 0))};
}

}  // namespace

CheckedQueue::What CheckedQueue::what_of(std::uint64_t file_pos) const noexcept {
  return segment_bytes != 0 && file_pos >= kSegmentHeaderBytes + segment_bytes ? What::index : What::log_bytes;
}

// The other home of the same index block.
std::uint64_t CheckedQueue::twin_of(std::uint64_t home) const noexcept {
  const std::uint64_t half = index_blocks(segment_bytes) * kBlock;
  const std::uint64_t first = kSegmentHeaderBytes + segment_bytes;
  return home - first < half ? home + half : home - half;
}

// The first offset that an index block is about.
std::uint64_t CheckedQueue::first_offset(const Operation& o) const {
  const auto base = parse_segment_name(std::string_view(o.file).substr(o.file.rfind('/') + 1));
  const std::uint64_t first = kSegmentHeaderBytes + segment_bytes;
  return base.value_or(0) +
         (std::min(o.begin, twin_of(o.begin)) - first) / kBlock * kIndexEntriesPerBlock * kRangeBytes;
}

// Whether a home that is about to be written is covered, and its twin does not have all of it that was promised.
bool CheckedQueue::needed(const File& file, const Operation& o) const {
  const auto home = file.homes.find(o.begin);
  const auto twin = file.homes.find(twin_of(o.begin));
  if (home == file.homes.end() || !home->second.covered) return false;
  const auto bytes_of = [&](const File::Home& h, std::uint64_t slot) -> std::uint64_t {
    IndexEntry entry;
    std::memcpy(&entry, h.bytes.data() + slot * sizeof entry, sizeof entry);
    return entry.range_begin == first_offset(o) + slot * kRangeBytes ? entry.bytes : 0;
  };
  for (std::uint64_t slot = 0; slot < kIndexEntriesPerBlock; ++slot) {
    const std::uint64_t range = first_offset(o) + slot * kRangeBytes;
    const std::uint64_t end = durable_end();
    const std::uint64_t promised = std::min(end > range ? end - range : 0, kRangeBytes);
    const std::uint64_t here = std::min(promised, bytes_of(home->second, slot));
    const bool safe = twin != file.homes.end() && twin->second.covered;
    if (here > (safe ? bytes_of(twin->second, slot) : 0)) return true;
  }
  return false;
}

// A take-over writes a home, and syncs it, before it has anything under way, without the queue.
void CheckedQueue::see_twin(const Operation& o, int fd) {
  const std::uint64_t at = twin_of(o.begin);
  const Mapping memory = Mapping::anonymous(kBlock);
  if (read_at(fd, memory.data(), kBlock, at) != 0) return;
  File& file = files_[o.file];
  const std::vector<std::byte> bytes(memory.data(), memory.data() + kBlock);
  if (file.homes[at].bytes == bytes) return;
  file.homes[at] = {bytes, next_number_++, true};
  file.synced[at] = bytes;
  file.written.erase(at);
}

bool CheckedQueue::submit_write(int fd, const std::byte* from, std::size_t bytes, std::uint64_t file_pos,
                                std::uint64_t tag) noexcept {
  Operation o{what_of(file_pos),    path_of(fd),    file_pos, file_pos + bytes,
              {from, from + bytes}, next_number_++, {},       from};
  if (o.what == What::index) see_twin(o, fd);
  check_write(o);
  remember(o, fd);
  return submit(std::move(o), tag, [&] { return real_->submit_write(fd, from, bytes, file_pos, tag); });
}

bool CheckedQueue::submit_read(int fd, std::byte* to, std::size_t bytes, std::uint64_t file_pos,
                               std::uint64_t tag) noexcept {
  return real_->submit_read(fd, to, bytes, file_pos, tag);
}

bool CheckedQueue::submit_sync(int fd, std::uint64_t tag) noexcept {
  Operation o{What::sync, path_of(fd), 0, 0, {}, next_number_++, {}, nullptr};
  for (const auto& [other_tag, other] : operations_) {
    if (other.file == o.file && other.what == What::index) violations.push_back("a sync with an index write under way");
  }
  o.covers = files_[o.file].written;
  return submit(std::move(o), tag, [&] { return real_->submit_sync(fd, tag); });
}

bool CheckedQueue::submit(Operation operation, std::uint64_t tag, const std::function<bool()>& forward) {
  if (operations_.size() >= depth()) return false;
  ++count[operation.what];
  const int error = fail ? fail(operation.what) : 0;
  if (error != 0) {
    failed_.push_back({tag, error});
  } else if (!forward()) {
    return false;
  }
  operations_.emplace(tag, std::move(operation));
  return true;
}

void CheckedQueue::check_write(const Operation& o) {
  for (const auto& [tag, other] : operations_) {
    if (other.what != What::sync && other.file == o.file && other.begin < o.end && o.begin < other.end) {
      violations.push_back("a block with a write under way was submitted again");
    }
  }
  File& file = files_[o.file];
  if (o.what == What::index) {
    if (needed(file, o)) violations.push_back("an index home was overwritten that alone had what was promised");
    file.homes[o.begin].covered = false;
    return;
  }
  // Zeros stand for what was not committed yet; a gap's header may take the place of a claim that was never indexed.
  for (std::uint64_t at = o.begin; at < o.end; at += kBlock) {
    const auto synced = file.synced.find(at);
    if (synced == file.synced.end()) continue;
    for (std::size_t i = 0; i < kBlock; ++i) {
      if (synced->second[i] != std::byte{0} && synced->second[i] != o.bytes[at - o.begin + i]) {
        violations.push_back("bytes that were synced were changed, file position " + std::to_string(at + i));
        break;
      }
    }
  }
}

// What a block holds that is written for the first time: an old segment's bytes, or zeros.
void CheckedQueue::remember(const Operation& o, int fd) {
  File& file = files_[o.file];
  const Mapping memory = Mapping::anonymous(kBlock);
  for (std::uint64_t at = o.begin; at < o.end; at += kBlock) {
    if (file.synced.contains(at) || file.before.contains(at)) continue;
    read_at(fd, memory.data(), kBlock, at);
    file.before[at] = {memory.data(), memory.data() + kBlock};
  }
}

void CheckedQueue::lose_power(std::mt19937_64& random) {
  constexpr std::size_t kSector = 512;
  for (const auto& [path, file] : files_) {
    const FileDescriptor fd = try_open_file(path, O_WRONLY);
    if (!fd) continue;  // expired
    for (const auto& [at, block] : file.written) {
      const auto synced = file.synced.find(at);
      const std::vector<std::byte>& old = synced != file.synced.end() ? synced->second : file.before.at(at);
      std::vector<std::byte> torn = block.bytes;
      const auto how = random() % 3;  // not at all, whole, or torn
      for (std::size_t sector = 0; sector < kBlock; sector += kSector) {
        if (how == 1 || (how == 2 && random() % 2 == 0)) continue;
        std::copy_n(old.begin() + static_cast<std::ptrdiff_t>(sector), kSector,
                    torn.begin() + static_cast<std::ptrdiff_t>(sector));
      }
      write_at(fd.get(), torn.data(), kBlock, at);
    }
    ::fdatasync(fd.get());
  }
}

void CheckedQueue::note(const Operation& o, int error) {
  if (error != 0) return;
  File& file = files_[o.file];
  const std::uint64_t number = next_number_++;
  if (o.what == What::index) file.homes[o.begin] = {o.bytes, number, false};
  for (std::uint64_t at = o.begin; at < o.end; at += kBlock) {
    const auto* from = o.bytes.data() + (at - o.begin);
    file.written[at] = {{from, from + kBlock}, number};
  }
  for (const auto& [at, block] : o.covers) {
    file.synced[at] = block.bytes;
    if (file.written.contains(at) && file.written[at].number == block.number) file.written.erase(at);
  }
  if (o.what != What::sync) return;
  for (auto& [position, home] : file.homes) home.covered = home.covered || (home.number != 0 && home.number < o.number);
}

bool CheckedQueue::next(Deadline deadline, Completion& completion) noexcept {
  if (hold) return false;
  bool found = false;
  if (!failed_.empty()) {
    completion = failed_.front();
    failed_.pop_front();
    found = true;
  } else {
    found = real_->poll_one(deadline, completion);
  }
  if (!found) return false;
  const auto operation = operations_.find(completion.tag);
  if (operation != operations_.end()) {
    const Operation& o = operation->second;
    if (o.from != nullptr && std::memcmp(o.from, o.bytes.data(), o.bytes.size()) != 0) {
      violations.push_back("bytes changed while they were being written");
    }
    note(operation->second, completion.error);
    operations_.erase(operation);
  }
  return true;
}

}  // namespace spillway::test
