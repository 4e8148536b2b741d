// The two homes of an index block, as they may lie on a disk, and the writer's image of them.
//
// Asserted: only valid entries count, the one that covers more first; what a take-over loads reaches no further than
// written_end and covers each range as far as the better home does; whatever the writer then does, and whichever of its
// writes a power cut keeps, the homes hold every entry that the last completed sync covered, or one that covers more.
#include <algorithm>
#include <array>
#include <optional>

#include "fuzz_support.h"
#include "spillway/core/bytes.h"
#include "spillway/core/checksum.h"
#include "spillway/core/error.h"
#include "spillway/persist/segment_index.h"

using namespace spillway;
using namespace spillway_fuzz;

namespace {

constexpr std::uint64_t kSalt = 0xF00D'5A17'0BAD'CAFEU;

using Home = std::array<std::byte, kBlock>;

IndexEntry good_entry(Offset range, std::uint32_t bytes) {
  IndexEntry entry{};
  entry.range_begin = range;
  entry.bytes = bytes;
  entry.crc = bytes * 2654435761U;
  entry.boundary = range;
  entry.first_boundary = kNoBoundary;
  entry.durable_end = range;
  return sealed(entry, kSalt);
}

Home good_home(Offset first, unsigned ranges, std::uint32_t last_bytes) {
  Home home{};
  for (unsigned i = 0; i < ranges; ++i) {
    const std::uint32_t bytes = i + 1 < ranges ? static_cast<std::uint32_t>(kRangeBytes) : last_bytes;
    store(std::span(home), i * sizeof(IndexEntry), good_entry(first + i * kRangeBytes, bytes));
  }
  return home;
}

void mend(Home& home) {
  for (std::size_t at = 0; at < kBlock; at += sizeof(IndexEntry)) {
    store(std::span(home), at, sealed(load<IndexEntry>(home, at), kSalt));
  }
}

// How far the homes cover a range for somebody who believes nothing that reaches past `written_end`.
std::uint64_t covered(const Home& a, const Home& b, Offset first, Offset range, Offset written_end) {
  const Candidates found = candidates(IndexHome(a), IndexHome(b), kSalt, first, range);
  std::uint64_t best = 0;
  for (unsigned i = 0; i < found.count; ++i) {
    SPILLWAY_ASSERT(
        entry_valid(sealed(found.entries[i], kSalt), kSalt, range));  // of two equal ones, both durable_ends
    if (range + found.entries[i].bytes <= written_end) best = std::max<std::uint64_t>(best, found.entries[i].bytes);
  }
  SPILLWAY_ASSERT(found.count < 2 || found.entries[0].bytes >= found.entries[1].bytes);
  return best;
}

// A file as a power cut leaves it: the synced bytes, or those of any write since.
struct Disk {
  std::array<Home, 2> homes;  // as whoever reads them now sees them
  std::array<Home, 2> synced;
  Offset first;

  // What the last completed sync covered is still there, whichever of the unsynced homes are kept.
  void check(std::span<const std::uint64_t, kIndexEntriesPerBlock> promised) const {
    for (unsigned kept = 0; kept < 4; ++kept) {
      const Home& a = (kept & 1) != 0 ? homes[0] : synced[0];
      const Home& b = (kept & 2) != 0 ? homes[1] : synced[1];
      for (std::uint64_t i = 0; i < kIndexEntriesPerBlock; ++i) {
        SPILLWAY_ASSERT(promised[i] == 0 || covered(a, b, first, first + i * kRangeBytes, UINT64_MAX) >= promised[i]);
      }
    }
  }
};

// Drives a block as the persister does, by the input, beside a disk that it writes to.
class Writer {
 public:
  Writer(const IndexBlock& block, Disk& disk) : block_(block), disk_(disk) {
    if (const auto home = block_.durable_home()) note(disk_.synced[*home]);
  }

  void step(Source& source) {
    switch (source.byte() % 6) {
      case 0: return grow(source);
      case 1:
        if (const auto home = block_.home_to_write(); home && block_.dirty()) {
          SPILLWAY_ASSERT(!block_.durable_home() || *home != *block_.durable_home());
          writing_ = *home;
          std::copy(block_.image().begin(), block_.image().end(), under_way_.begin());
          block_.write_submitted();
        }
        return;
      case 2:
      case 3:
        if (writing_) return complete_write(source.byte() % 4 != 0);
        return;
      case 4:
        if (!syncing_ && !writing_) {
          syncing_ = disk_.homes;
          block_.sync_submitted();
        }
        return;
      default:
        if (syncing_) return complete_sync(source.byte() % 4 != 0);
    }
  }
  void check() const { disk_.check(promised_); }

 private:
  void grow(Source& source) {
    const Offset range = disk_.first + source.byte() % kIndexEntriesPerBlock * kRangeBytes;
    const std::optional<IndexEntry> before = block_.entry(range);
    const std::uint32_t from = before ? before->bytes : 0;
    const auto more = static_cast<std::uint32_t>(align_up(source.number<std::uint16_t>(), kRecordAlign));
    const auto bytes = std::min(static_cast<std::uint32_t>(kRangeBytes), from + more);
    if (bytes > from) block_.update(good_entry(range, bytes));
  }
  // A write that fails has reached the disk, or half of it has.
  void complete_write(bool ok) {
    Home& home = disk_.homes[*writing_];
    std::copy_n(under_way_.begin(), ok ? kBlock : kBlock / 2, home.begin());
    writing_.reset();
    block_.write_completed(ok);
  }
  // Of a failed sync the disk has nothing for certain, but what is read is what was written.
  void complete_sync(bool ok) {
    if (ok) disk_.synced = *syncing_;
    syncing_.reset();
    block_.sync_completed(ok);
    if (const auto home = block_.durable_home(); home && ok) note(disk_.synced[*home]);
  }
  void note(const Home& home) {
    for (std::uint64_t i = 0; i < kIndexEntriesPerBlock; ++i) {
      promised_[i] =
          std::max(promised_[i], covered(home, home, disk_.first, disk_.first + i * kRangeBytes, UINT64_MAX));
    }
  }

  IndexBlock block_;
  Disk& disk_;
  Home under_way_{};
  std::optional<unsigned> writing_;
  std::optional<std::array<Home, 2>> syncing_;
  std::array<std::uint64_t, kIndexEntriesPerBlock> promised_{};
};

void check_loaded(const IndexBlock& block, const Disk& disk, Offset written_end) {
  for (std::uint64_t i = 0; i < kIndexEntriesPerBlock; ++i) {
    const Offset range = disk.first + i * kRangeBytes;
    const std::optional<IndexEntry> entry = block.entry(range);
    const std::uint64_t best = covered(disk.homes[0], disk.homes[1], disk.first, range, written_end);
    SPILLWAY_ASSERT((entry ? entry->bytes : 0) == best);
    SPILLWAY_ASSERT(!entry || range + entry->bytes <= written_end);
  }
  SPILLWAY_ASSERT(!block.entry(disk.first + kIndexBlockLogBytes));
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  Source source({data, bytes});
  const std::uint8_t how = source.byte();
  Disk disk{};
  disk.first = Offset{source.byte()} << ((how & 8) != 0 ? 54 : 22);
  if (disk.first + kIndexBlockLogBytes > kOffsetEnd) return 0;
  const auto ranges = static_cast<unsigned>(source.byte() % (kIndexEntriesPerBlock + 1));
  disk.homes = {good_home(disk.first, ranges, 4096), good_home(disk.first, ranges, 8192)};
  for (unsigned edits = source.byte() % 16; edits > 0 && !source.empty(); --edits) {
    edit(source, disk.homes[source.byte() % 2]);
  }
  if ((how & 1) != 0) mend(disk.homes[0]);
  if ((how & 2) != 0) mend(disk.homes[1]);
  disk.synced = disk.homes;  // as whoever takes over makes sure

  const Offset written_end = disk.first + source.word() % (2 * kIndexBlockLogBytes);
  const Offset durable_end = std::min(written_end, disk.first + source.word() % (2 * kIndexBlockLogBytes));
  const bool entries_prove = (how & 16) != 0;
  const auto load = [&](Offset end) {
    return IndexBlock::load(IndexHome(disk.homes[0]), IndexHome(disk.homes[1]), kSalt, disk.first, durable_end, end,
                            entries_prove);
  };
  const IndexBlock block = load(written_end);
  check_loaded(block, disk, written_end);
  if ((how & 4) == 0) return 0;
  // A power cut brings back what reaches past written_end, too; here nothing does.
  const IndexBlock whole = load(UINT64_MAX);
  check_loaded(whole, disk, UINT64_MAX);
  Writer writer(whole, disk);
  for (unsigned steps = 0; steps < 64 && !source.empty(); ++steps) {
    writer.step(source);
    writer.check();
  }
  return 0;
}
