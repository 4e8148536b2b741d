// ORDER.
//   S5 retained_begin -> history readers, who look after copying: it is past a segment before its file is used again
#include "spillway/persist/writer_row.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "spillway/core/directory.h"
#include "spillway/core/error.h"
#include "spillway/persist/cursor_file.h"
#include "spillway/persist/segment_age.h"
#include "spillway/persist/topic_files.h"

namespace spillway {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kPrepareAgainNs = kSecond;
// Few are looked at, and go, at a time, and the next ones a while later: the directory is synced in between, which takes
// milliseconds, and the ring fills meanwhile.
constexpr std::size_t kAgedMax = 4;
constexpr std::uint64_t kMoreAgedNs = kSecond / 12;
constexpr std::uint64_t kAgeAgainMinNs = kSecond;
// At the latest then: uptime, which data ages by, goes on while the host sleeps; the time that is slept by does not.
constexpr std::uint64_t kAgeAgainMaxNs = 60 * kSecond;

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
  removal_unsynced_ = true;
  prepared_ = kOffsetEnd;
  HorizonSlot slot{};
  slot.begin = horizon.begin;
  slot.previous_end = horizon.previous_end;
  const std::vector<Offset> live = live_segments(store_.list(), slot, store_.log().segment_bytes);
  existing_ = std::set<Offset>(live.begin(), live.end());
  newest_ns_.clear();
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
    make_room(room(), 1);
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
  const auto made = [&] {
    SegmentFile file = store_.make_segment(birth_of(base));
    removal_unsynced_ = false;  // that synced the directory
    return file;
  };
  try {
    return made();
  } catch (const Error& e) {
    if (e.errno_value() == EEXIST) {
      if (auto file = leftover(base)) return std::move(*file);
    }
    if (e.code() != Code::no_space || !limited()) throw;
    make_room(count, 1);
    if (existing_.size() == count) throw;
  }
  return made();
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
    make_room(room(), 0);
  else
    surplus_ = false;
}

Offset WriterRow::finished_end() const noexcept {
  return open_.empty() ? safe_end_ : std::min(safe_end_, open_.front()->base());
}

Offset WriterRow::needed_from() const {
  const TopicConfig& config = partition_.config();
  return CursorFile::smallest(cursors_directory(partition_.paths()), config.partitions, config.id, partition_.number());
}

std::uint64_t WriterRow::expire_aged(Offset durable_end) {
  // Never the newest one, though it be finished: by it recovery knows where the log is.
  std::vector<Offset> bases;
  std::vector<std::optional<std::uint64_t>> newest_ns;
  std::size_t told = 0;
  for (auto it = existing_.begin(); told < kAgedMax && it != existing_.end() && std::next(it) != existing_.end();
       ++it) {
    if (segment_end(*it) > finished_end()) break;
    const auto [known, first] = newest_ns_.try_emplace(*it);
    if (first) known->second = newest_commit_ns(store_.directory(), store_.log(), *it, segment_end(*it));
    bases.push_back(*it);
    newest_ns.push_back(known->second);
    if (known->second) ++told;
  }
  const std::uint64_t retain_ns = partition_.config().retain_age_s * kSecond;
  AgeQuestion question{bases,
                       newest_ns,
                       store_.log().segment_bytes,
                       retain_ns,
                       partition_.clock().now_ns(),
                       std::min(durable_end, finished_end())};
  AgePlan plan = plan_age(question);
  if (plan.going > 0) {
    question.keep_from = std::min(question.keep_from, needed_from());
    plan = plan_age(question);
  }
  if (plan.going > 0) {
    // The next segment is made of one that went; but a log that begins none in all this time gives the disk all it can.
    const std::uint64_t staying = existing_.size() - plan.going;
    const bool spare = staying > 1 && (!limited() || staying < room());
    let_go(std::span(bases).first(plan.going), spare ? 1 : 0);
  }
  if (plan.going > 0 && plan.going == bases.size()) return kMoreAgedNs;
  // What is held back, or not finished yet, may be later by a sixteenth of its age.
  const std::uint64_t due_ns = plan.due_in_ns.value_or(retain_ns / 16);
  return std::clamp(due_ns, kAgeAgainMinNs, kAgeAgainMaxNs);
}

// What must go so that what stays, and `coming` more, are at most `room`, as far as it may go. Spares count, too.
void WriterRow::make_room(std::uint64_t room, std::uint64_t coming) {
  const std::uint64_t segment_bytes = store_.log().segment_bytes;
  const std::vector<Offset> bases(existing_.begin(), existing_.end());
  const std::vector<Offset> going =
      plan_retention({bases, segment_bytes, room * segment_bytes, finished_end(), coming});
  const std::uint64_t staying = bases.size() - going.size();
  let_go(going, room > staying ? std::min<std::uint64_t>(room - staying, kSparesMax) : 0);
  surplus_ = existing_.size() > room;
}

// `going` are the oldest, and not all.
void WriterRow::let_go(std::span<const Offset> going, std::size_t spares_max) {
  if (!going.empty()) {
    auto& retained_begin = partition_.control().persister.retained_begin;
    const Offset begin = *existing_.upper_bound(going.back());
    // relaxed: only the holder of the role writes it. S5, seq_cst: before any system call that could let a reader see
    // other bytes under an old segment's descriptor.
    if (retained_begin.load(std::memory_order_relaxed) < begin) retained_begin.store(begin, std::memory_order_seq_cst);
  }
  store_.expire({}, spares_max);
  for (const Offset base : going) {
    // Of two removals that are not synced a power cut may undo the older one only, which leaves a hole.
    if (removal_unsynced_) sync_directory(store_.directory());
    removal_unsynced_ = true;
    store_.expire({&base, 1}, spares_max);
    existing_.erase(base);
    newest_ns_.erase(base);
  }
}

}  // namespace spillway
