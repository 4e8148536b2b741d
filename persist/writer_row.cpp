// ORDER.
//   S5 retained_begin -> history readers, who look after copying: it is past a segment before its file is used again
#include "spillway/persist/writer_row.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "spillway/core/directory.h"
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
  safe_end_ = 0;
  crowded_ = false;
  surplus_ = true;
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
  if (limited()) {
    close_finished();
    let_go(room(), 1);
    crowded_ = existing_.size() >= room();
    if (crowded_) return nullptr;
  }
  SegmentWriter& writer = take(make(base));
  existing_.insert(base);
  return &writer;
} catch (const Error& e) {
  error = errno_of(e);
  return nullptr;
} catch (...) {
  error = ENOMEM;
  return nullptr;
}

// A disk that is full before as much is there as is to be retained: the oldest goes early, or producers would stop.
SegmentFile WriterRow::make(Offset base) {
  const std::size_t count = existing_.size();
  try {
    return store_.make_segment(birth_of(base));
  } catch (const Error& e) {
    if (e.errno_value() == EEXIST) {
      if (auto file = leftover(base)) return std::move(*file);
    }
    if (e.code() != Code::no_space || !limited()) throw;
    let_go(count, 1);
    if (existing_.size() == count) throw;
  }
  return store_.make_segment(birth_of(base));
}

// The segment that an earlier try made whole, could not sync the name of, and could not remove either.
std::optional<SegmentFile> WriterRow::leftover(Offset base) {
  const auto found = read_segment_header(store_.directory(), store_.log(), base);
  if (!found || found->status != HeaderStatus::ok) return std::nullopt;
  if (found->header.incarnation != partition_.incarnation()) return std::nullopt;
  sync_directory(store_.directory());
  return store_.adopt(base);
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

void WriterRow::close_finished() noexcept {
  for (const auto& writer : open_) writer->forget_full_blocks(safe_end_);
  while (open_.size() > 1 && open_.front()->end() <= safe_end_ && open_.front()->settled()) open_.pop_front();
}

int WriterRow::prepare(Offset written_end, std::uint64_t now_ns) noexcept try {
  if (open_.empty() || now_ns < prepare_again_ns_) return 0;
  if (limited() && existing_.size() >= room()) return 0;  // the oldest one's file will do
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

std::uint64_t WriterRow::room() const noexcept {
  return std::max<std::uint64_t>(partition_.config().retain_bytes / store_.log().segment_bytes, 2);
}

void WriterRow::expire() {
  if (limited())
    let_go(room(), 0);
  else
    surplus_ = false;
}

// What must go so that what stays, and `coming` more, are at most `room`, as far as it may go. Spares count, too.
void WriterRow::let_go(std::uint64_t room, std::uint64_t coming) {
  const std::uint64_t segment_bytes = store_.log().segment_bytes;
  const std::vector<Offset> bases(existing_.begin(), existing_.end());
  const Offset keep_from = open_.empty() ? safe_end_ : std::min(safe_end_, open_.front()->base());
  const std::vector<Offset> going = plan_retention({bases, segment_bytes, room * segment_bytes, keep_from, coming});
  if (!going.empty()) {
    auto& retained_begin = partition_.control().persister.retained_begin;
    const Offset begin = bases[going.size()];
    // relaxed: only the holder of the role writes it. S5, seq_cst: before any system call that could let a reader see
    // other bytes under an old segment's descriptor.
    if (retained_begin.load(std::memory_order_relaxed) < begin) retained_begin.store(begin, std::memory_order_seq_cst);
  }
  const std::uint64_t staying = bases.size() - going.size();
  const std::size_t spares_max = room > staying ? std::min<std::uint64_t>(room - staying, kSparesMax) : 0;
  store_.expire({}, spares_max);
  for (const Offset base : going) {
    store_.expire({&base, 1}, spares_max);
    existing_.erase(base);
  }
  surplus_ = existing_.size() > room;
}

}  // namespace spillway
