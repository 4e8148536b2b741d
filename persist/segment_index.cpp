#include "spillway/persist/segment_index.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "spillway/core/checksum.h"
#include "spillway/core/error.h"

namespace spillway {
namespace {

std::uint64_t checksum_of(const IndexEntry& entry, std::uint64_t salt) noexcept {
  return xxh3(std::as_bytes(std::span(&entry, 1)).first(offsetof(IndexEntry, checksum))) ^ salt;
}

IndexEntry entry_at(IndexHome home, std::uint64_t slot) noexcept {
  IndexEntry entry;
  std::memcpy(&entry, home.data() + slot * sizeof entry, sizeof entry);
  return entry;
}

// How many bytes of a range a home covers; 0 when its entry is not valid or reaches past `end_max`.
std::uint64_t coverage(IndexHome home, std::uint64_t slot, std::uint64_t salt, Offset range, Offset end_max) noexcept {
  const IndexEntry entry = entry_at(home, slot);
  return entry_valid(entry, salt, range) && range + entry.bytes <= end_max ? entry.bytes : 0;
}

}  // namespace

IndexEntry sealed(IndexEntry entry, std::uint64_t salt) noexcept {
  entry.checksum = checksum_of(entry, salt);
  return entry;
}

bool entry_valid(const IndexEntry& entry, std::uint64_t salt, Offset range_begin) noexcept {
  if (entry.range_begin != range_begin || entry.checksum != checksum_of(entry, salt)) return false;
  if (entry.bytes == 0 || entry.bytes > kRangeBytes || !is_aligned(entry.bytes, kRecordAlign)) return false;
  if (entry.durable_end > kOffsetEnd || !is_aligned(entry.durable_end, kRecordAlign)) return false;
  const Offset end = range_begin + entry.bytes;
  if (entry.boundary > end || !is_aligned(entry.boundary, kRecordAlign)) return false;
  return entry.first_boundary == kNoBoundary || (entry.first_boundary >= range_begin && entry.first_boundary < end &&
                                                 is_aligned(entry.first_boundary, kRecordAlign));
}

bool entry_spoilt(const IndexEntry& entry, std::uint64_t salt) noexcept {
  const IndexEntry nothing{};
  return std::memcmp(&entry, &nothing, sizeof entry) != 0 && entry.checksum != checksum_of(entry, salt);
}

Candidates candidates(IndexHome home_a, IndexHome home_b, std::uint64_t salt, Offset base,
                      Offset range_begin) noexcept {
  const std::uint64_t slot = (range_begin - base) / kRangeBytes % kIndexEntriesPerBlock;
  Candidates result;
  for (const IndexHome home : {home_a, home_b}) {
    const IndexEntry entry = entry_at(home, slot);
    if (!entry_valid(entry, salt, range_begin)) continue;
    // Two that cover the same bytes say the same of them; only the CRC is ever believed, and it is compared.
    if (result.count == 1 && result.entries[0].bytes == entry.bytes && result.entries[0].crc == entry.crc) {
      result.entries[0].durable_end = std::max(result.entries[0].durable_end, entry.durable_end);
      continue;
    }
    result.entries[result.count++] = entry;
  }
  if (result.count == 2 && result.entries[0].bytes < result.entries[1].bytes) {
    std::swap(result.entries[0], result.entries[1]);
  }
  return result;
}

IndexBlock::IndexBlock(std::uint64_t salt, Offset first) noexcept : salt_(salt), first_(first) {}

IndexBlock IndexBlock::load(IndexHome home_a, IndexHome home_b, std::uint64_t salt, Offset first, Offset durable_end,
                            Offset written_end, bool entries_prove, std::optional<unsigned> known_home) noexcept {
  const std::array<IndexHome, 2> homes = {home_a, home_b};
  IndexBlock block(salt, first);
  std::array<std::uint64_t, 2> total = {0, 0};
  bool any = false;
  std::array<bool, 2> whole = {true, true};  // covers whatever of the durable log the other covers
  for (std::uint64_t slot = 0; slot < kIndexEntriesPerBlock; ++slot) {
    const Offset range = first + slot * kRangeBytes;
    std::array<std::uint64_t, 2> bytes, proven;
    for (unsigned h = 0; h < 2; ++h) {
      bytes[h] = coverage(homes[h], slot, salt, range, written_end);
      proven[h] = entries_prove ? coverage(homes[h], slot, salt, range, kOffsetEnd) : bytes[h];
      any = any || proven[h] > 0;
    }
    const std::uint64_t needed = durable_end <= range ? 0 : std::min(durable_end - range, kRangeBytes);
    for (unsigned h = 0; h < 2; ++h) {
      total[h] += bytes[h];
      if (proven[h] < std::min(needed, proven[1 - h])) whole[h] = false;
    }
    const unsigned best = bytes[1] > bytes[0] ? 1 : 0;
    if (bytes[best] == 0) continue;
    std::memcpy(block.image_.data() + slot * sizeof(IndexEntry), homes[best].data() + slot * sizeof(IndexEntry),
                sizeof(IndexEntry));
  }
  if (!any) return block;
  unsigned kept = total[1] > total[0] ? 1 : 0;
  if (!whole[kept] && whole[1 - kept]) kept = 1 - kept;
  if (known_home) kept = *known_home;
  block.durable_home_ = kept;
  block.dirty_ = std::memcmp(block.image_.data(), homes[kept].data(), kBlock) != 0;
  return block;
}

void IndexBlock::update(const IndexEntry& entry) noexcept {
  SPILLWAY_ASSERT(entry.range_begin >= first_ && entry.range_begin - first_ < kIndexBlockLogBytes);
  const IndexEntry whole = sealed(entry, salt_);
  SPILLWAY_ASSERT(entry_valid(whole, salt_, align_down(entry.range_begin, kRangeBytes)));
  const std::uint64_t slot = (entry.range_begin - first_) / kRangeBytes;
  std::memcpy(image_.data() + slot * sizeof whole, &whole, sizeof whole);
  dirty_ = true;
}

std::optional<IndexEntry> IndexBlock::entry(Offset range_begin) const noexcept {
  if (range_begin < first_ || range_begin - first_ >= kIndexBlockLogBytes) return std::nullopt;
  const IndexEntry entry = entry_at(image(), (range_begin - first_) / kRangeBytes);
  if (!entry_valid(entry, salt_, range_begin)) return std::nullopt;
  return entry;
}

IndexHome IndexBlock::image() const noexcept { return IndexHome(image_); }

std::optional<unsigned> IndexBlock::home_to_write() const noexcept {
  if (writing_ || syncing_) return std::nullopt;
  return durable_home_ ? 1 - *durable_home_ : 0;
}

void IndexBlock::write_submitted() noexcept {
  SPILLWAY_ASSERT(!writing_ && !syncing_);
  writing_ = true;
  written_ = false;  // what the home held before is being overwritten: no sync can cover it any more
  dirty_ = false;
}

void IndexBlock::write_completed(bool ok) noexcept {
  SPILLWAY_ASSERT(writing_);
  writing_ = false;
  written_ = ok && !in_doubt_;
  if (!written_) dirty_ = true;
  in_doubt_ = false;
}

void IndexBlock::sync_submitted() noexcept {
  if (!written_) return;
  written_ = false;
  syncing_ = true;
}

void IndexBlock::sync_completed(bool ok) noexcept {
  if (ok) {
    if (syncing_) durable_home_ = durable_home_ ? 1 - *durable_home_ : 0;
    syncing_ = false;
    return;
  }
  // Whatever was written and not synced may be lost, also what the sync was not meant to cover: it is written again,
  // even if a later sync succeeds.
  if (syncing_ || written_) dirty_ = true;
  syncing_ = false;
  written_ = false;
  in_doubt_ = writing_;
}

bool IndexBlock::settled() const noexcept { return !dirty_ && !writing_ && !written_ && !syncing_; }

}  // namespace spillway
