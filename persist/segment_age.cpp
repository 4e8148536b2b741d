#include "spillway/persist/segment_age.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "spillway/persist/segment_index.h"
#include "spillway/persist/segment_store.h"

namespace spillway {
namespace {

using Block = std::array<std::byte, kBlock>;

// The times that the valid entries of an index block have.
struct Times {
  std::uint64_t oldest_ns = UINT64_MAX;
  std::uint64_t newest_ns = 0;
};
// Nothing: it has no valid entry. `failed`: it can't be read.
std::optional<Times> times_in(const SegmentFile& file, const LogIdentity& log, std::uint64_t block,
                              bool& failed) noexcept {
  std::array<Block, 2> homes{};
  for (unsigned home = 0; home < 2; ++home) {
    const std::uint64_t position = index_block_pos(log.segment_bytes, block, home);
    failed = read_some(file.descriptor(), homes[home].data(), kBlock, position).bytes != kBlock;
    if (failed) return std::nullopt;
  }
  std::optional<Times> times;
  const Offset first = file.base() + block * kIndexBlockLogBytes;
  const Offset end = std::min(first + kIndexBlockLogBytes, file.base() + log.segment_bytes);
  for (Offset range = first; range < end; range += kRangeBytes) {
    const Candidates found = candidates(IndexHome(homes[0]), IndexHome(homes[1]), log.salt, file.base(), range);
    for (unsigned i = 0; i < found.count; ++i) {
      const std::uint64_t ns = found.entries[i].commit_time_ns;
      if (!times) times.emplace();
      times->oldest_ns = std::min(times->oldest_ns, ns);
      times->newest_ns = std::max(times->newest_ns, ns);
    }
  }
  return times;
}

// By how much the wall clock, which its header has, was ahead of the log's, which its first entry has, when a segment was begun.
std::uint64_t wall_ahead_ns(const std::string& directory, const LogIdentity& log, Offset base) {
  const SegmentFile file = SegmentFile::try_open(directory, log, base, FileIo::buffered);
  bool failed = !file || file.header_status() != HeaderStatus::ok;
  for (std::uint64_t block = 0; !failed && block < index_blocks(log.segment_bytes); ++block) {
    const auto times = times_in(file, log, block, failed);
    if (times) return file.header().created_ns - std::min(file.header().created_ns, times->oldest_ns);
  }
  return 0;
}

}  // namespace

std::optional<std::uint64_t> newest_commit_ns(const std::string& directory, const LogIdentity& log, Offset base,
                                              Offset end) {
  const SegmentFile file = SegmentFile::try_open(directory, log, base, FileIo::buffered);
  if (!file || file.header_status() != HeaderStatus::ok) return std::nullopt;
  // Backwards: behind a gap or padding that reaches the segment's end there are no entries.
  bool failed = false;
  for (std::uint64_t block = index_block_of(base, end - 1) + 1; !failed && block-- > 0;) {
    if (const auto times = times_in(file, log, block, failed)) return times->newest_ns;
  }
  return std::nullopt;
}

LogTime time_of_log(const std::string& directory, const LogIdentity& log, Offset end) {
  const std::vector<Offset> bases = list_segments(directory, log.segment_bytes);
  for (std::size_t i = bases.size(); i-- > 0;) {
    if (bases[i] >= end) continue;
    const auto newest = newest_commit_ns(directory, log, bases[i], std::min(end, bases[i] + log.segment_bytes));
    if (newest) return {*newest, wall_ahead_ns(directory, log, bases[i])};
  }
  return {};
}

AgePlan plan_age(const AgeQuestion& question) noexcept {
  AgePlan plan;
  for (std::size_t i = 0; i < question.bases.size(); ++i) {
    if (question.bases[i] + question.segment_bytes > question.keep_from) break;
    const std::optional<std::uint64_t> newest_ns = question.newest_ns[i];
    if (!newest_ns) continue;
    const std::uint64_t age_ns = question.now_ns - std::min(question.now_ns, *newest_ns);
    if (age_ns < question.retain_ns) {
      plan.due_in_ns = question.retain_ns - age_ns;
      break;
    }
    plan.going = i + 1;
  }
  return plan;
}

}  // namespace spillway
