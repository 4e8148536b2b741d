#include "spillway/persist/writer_row.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "spillway/core/error.h"

namespace spillway {
namespace {

constexpr std::uint64_t kPrepareAgainNs = 1'000'000'000;

int errno_of(const Error& error) noexcept { return error.errno_value() != 0 ? error.errno_value() : EBADMSG; }

}  // namespace

WriterRow::WriterRow(const Partition& partition, IoOwner& owner)
    : partition_(partition),
      owner_(owner),
      store_(partition.paths().data, LogIdentity::of(partition.config(), partition.number()),
             partition.config().sharing, FileIo::direct) {}

void WriterRow::load(const HorizonFields& horizon) {
  open_.clear();
  horizon_ = horizon;
  rolled_ = true;
  prepared_ = kOffsetEnd;
  HorizonSlot slot{};
  slot.begin = horizon.begin;
  slot.previous_end = horizon.previous_end;
  const std::vector<Offset> live = live_segments(store_.list(), slot, store_.log().segment_bytes);
  existing_ = std::set<Offset>(live.begin(), live.end());
}

SegmentWriter* WriterRow::find(Offset offset) noexcept {
  for (const auto& writer : open_) {
    if (offset >= writer->base() && offset < writer->end()) return writer.get();
  }
  return nullptr;
}

SegmentBirth WriterRow::birth_of(Offset base) const noexcept {
  SegmentBirth birth{base, base, GapCause::none, partition_.incarnation()};
  if (base == partition_.begin()) {
    birth.previous_end = horizon_.previous_end;
    birth.gap_cause = horizon_.previous_end == base ? GapCause::none : horizon_.previous_cause;
    return birth;
  }
  const auto next = existing_.lower_bound(base);
  const Offset before = next == existing_.begin() ? base : *std::prev(next) + store_.log().segment_bytes;
  if (before < base && before >= partition_.begin()) {
    birth.previous_end = before;
    birth.gap_cause = GapCause::overwritten;
  }
  return birth;
}

SegmentWriter* WriterRow::open(Offset offset, int& error) noexcept try {
  error = 0;
  if (SegmentWriter* const writer = find(offset)) return writer;
  const Offset base = segment_base(offset);
  if (existing_.contains(base)) {
    auto file = store_.adopt(base);
    if (!file) return nullptr;
    return &take(std::move(*file));
  }
  SegmentWriter& writer = take(store_.make_segment(birth_of(base)));
  existing_.insert(base);
  rolled_ = true;
  return &writer;
} catch (const Error& e) {
  error = errno_of(e);
  return nullptr;
} catch (...) {
  error = ENOMEM;
  return nullptr;
}

SegmentWriter& WriterRow::take(SegmentFile file) {
  open_.push_back(std::make_unique<SegmentWriter>(std::move(file), store_.log(), owner_));
  return *open_.back();
}

Offset WriterRow::index_end() const noexcept {
  for (const auto& writer : open_) {
    const Offset end = writer->index_end();
    if (end != kOffsetEnd) return end;
  }
  return kOffsetEnd;
}

bool WriterRow::index_under_way() const noexcept {
  return std::any_of(open_.begin(), open_.end(), [](const auto& w) { return w->index_under_way(); });
}

void WriterRow::close_finished(Offset end) noexcept {
  for (const auto& writer : open_) writer->forget_full_blocks();
  while (open_.size() > 1 && open_.front()->end() <= end && open_.front()->settled()) open_.pop_front();
}

int WriterRow::prepare(Offset written_end, std::uint64_t now_ns) noexcept try {
  if (open_.empty() || now_ns < prepare_again_ns_) return 0;
  const SegmentWriter& newest = *open_.back();
  if (newest.base() == prepared_ || written_end < newest.base() + store_.log().segment_bytes / 2) return 0;
  prepare_again_ns_ = now_ns + kPrepareAgainNs;
  store_.prepare_spare();
  prepare_again_ns_ = 0;
  prepared_ = newest.base();
  return 0;
} catch (const Error& e) {
  return errno_of(e);
} catch (...) {
  return ENOMEM;
}

WriterRow::Expiry WriterRow::plan(Offset keep_from) {
  Expiry expiry;
  const std::uint64_t retain_bytes = partition_.config().retain_bytes;
  const std::vector<Offset> bases(existing_.begin(), existing_.end());
  expiry.bases = plan_retention({bases, store_.log().segment_bytes, retain_bytes, keep_from, 0});
  // Those that could not go yet, because what they hold is not safe, are looked at again.
  const std::size_t kept = bases.size() - expiry.bases.size();
  rolled_ = retain_bytes != 0 && kept > 1 && kept * store_.log().segment_bytes > retain_bytes;
  if (!expiry.bases.empty()) expiry.retained_begin = bases[expiry.bases.size()];
  return expiry;
}

void WriterRow::expire(const Expiry& expiry) {
  for (const Offset base : expiry.bases) existing_.erase(base);
  store_.expire(expiry.bases);
}

}  // namespace spillway
