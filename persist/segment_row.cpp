#include "spillway/persist/segment_row.h"

#include <algorithm>
#include <utility>

#include "spillway/core/bytes.h"
#include "spillway/core/error.h"
#include "spillway/persist/horizon_file.h"
#include "spillway/persist/segment_store.h"

namespace spillway {

SegmentRow::SegmentRow(std::string directory, const LogIdentity& log) : directory_(std::move(directory)), log_(log) {
  refresh();
}

void SegmentRow::refresh() {
  try {
    horizon_ = HorizonFile::peek(horizon_path(directory_), log_.topic_id, log_.partition);
  } catch (const Error&) {
    horizon_.reset();
  }
  bases_ = live_segments(list_segments(directory_, log_.segment_bytes), horizon_, log_.segment_bytes);
  last_next_.reset();
}

bool SegmentRow::has(Offset base) const noexcept { return std::binary_search(bases_.begin(), bases_.end(), base); }

std::optional<Offset> SegmentRow::base_before(Offset offset) const noexcept {
  const auto after = std::upper_bound(bases_.begin(), bases_.end(), offset);
  if (after == bases_.begin()) return std::nullopt;
  return *(after - 1);
}

std::optional<SegmentRow::Next> SegmentRow::next_after(Offset base) {
  const auto after = std::upper_bound(bases_.begin(), bases_.end(), base);
  if (after == bases_.end()) return std::nullopt;
  if (last_next_ && last_next_->base == *after) return last_next_;
  Next next{*after, *after, GapCause::none};
  const std::optional<HeaderRead> read = read_segment_header(directory_, log_, next.base);
  if (read && read->status == HeaderStatus::ok) {
    next.previous_end = read->header.previous_end;
    next.cause = static_cast<GapCause>(read->header.gap_cause);
  } else if (horizon_ && horizon_->begin == next.base) {  // the horizon says it too, of a ring's first segment
    next.previous_end = horizon_->previous_end;
    next.cause = static_cast<GapCause>(horizon_->previous_cause);
  }
  last_next_ = next;
  return next;
}

SegmentRow::Place SegmentRow::place(Offset offset, Offset limit) {
  const Offset base = align_down(offset, log_.segment_bytes);
  const Offset segment_end = base + log_.segment_bytes;
  std::optional<Next> next = next_after(base);
  if (!next && (limit > segment_end || !has(base))) {
    refresh();  // the log goes on behind what was listed
    next = next_after(base);
  }
  if (!next && horizon_ && horizon_->begin > offset && horizon_->begin > base) {
    next = Next{horizon_->begin, horizon_->previous_end, static_cast<GapCause>(horizon_->previous_cause)};
  }
  const Offset log_end = std::min(limit, next ? next->previous_end : limit);
  if (next && offset >= next->previous_end) {
    return {Place::What::gap, std::min(next->base, limit), next->cause};
  }
  if (!has(base)) return {Place::What::missing, log_end, GapCause::damaged};
  return {Place::What::data, std::min(log_end, segment_end), GapCause::none};
}

}  // namespace spillway
