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

// The latest time that a valid entry of this index block has.
std::optional<std::uint64_t> newest_in(const Block& a, const Block& b, const LogIdentity& log, Offset base,
                                       Offset first) noexcept {
  std::optional<std::uint64_t> newest;
  const Offset end = std::min(first + kIndexBlockLogBytes, base + log.segment_bytes);
  for (Offset range = first; range < end; range += kRangeBytes) {
    const Candidates found = candidates(IndexHome(a), IndexHome(b), log.salt, base, range);
    for (unsigned i = 0; i < found.count; ++i) {
      newest = std::max(newest.value_or(0), found.entries[i].commit_time_ns);
    }
  }
  return newest;
}

}  // namespace

std::optional<std::uint64_t> newest_commit_ns(const std::string& directory, const LogIdentity& log, Offset base,
                                              Offset end) {
  const SegmentFile file = SegmentFile::try_open(directory, log, base, FileIo::buffered);
  if (!file || file.header_status() != HeaderStatus::ok) return std::nullopt;
  // Backwards: behind a gap or padding that reaches the segment's end there are no entries.
  for (std::uint64_t block = index_block_of(base, end - 1) + 1; block-- > 0;) {
    std::array<Block, 2> homes{};
    for (unsigned home = 0; home < 2; ++home) {
      const std::uint64_t position = index_block_pos(log.segment_bytes, block, home);
      if (read_some(file.descriptor(), homes[home].data(), kBlock, position).bytes != kBlock) return std::nullopt;
    }
    const auto newest = newest_in(homes[0], homes[1], log, base, base + block * kIndexBlockLogBytes);
    if (newest) return newest;
  }
  return std::nullopt;
}

std::uint64_t newest_commit_ns(const std::string& directory, const LogIdentity& log, Offset end) {
  const std::vector<Offset> bases = list_segments(directory, log.segment_bytes);
  for (std::size_t i = bases.size(); i-- > 0;) {
    if (bases[i] >= end) continue;
    const auto newest = newest_commit_ns(directory, log, bases[i], std::min(end, bases[i] + log.segment_bytes));
    if (newest) return *newest;
  }
  return 0;
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
