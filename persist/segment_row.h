// The row of live segments as a reader sees it: where each one's part of the log ends, and where and why it goes on
// elsewhere. Segments describe their own history (SegmentHeader::previous_end); the horizon file describes the
// beginning of a ring that has no segment yet.
// Thread safety: one thread at a time. May throw Error (a directory that can't be read) and std::bad_alloc.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "spillway/persist/horizon_format.h"
#include "spillway/persist/segment_file.h"

namespace spillway {

class SegmentRow {
 public:
  SegmentRow(std::string directory, const LogIdentity& log);

  // Lists again. A horizon file that can't be used is treated as missing: who must know reads it for themselves.
  void refresh();
  std::span<const Offset> bases() const noexcept { return bases_; }  // live ones, ascending
  const std::optional<HorizonSlot>& horizon() const noexcept { return horizon_; }
  bool has(Offset base) const noexcept;
  // The greatest live base <= offset.
  std::optional<Offset> base_before(Offset offset) const noexcept;

  // Where `offset` is, in a log that ends at `limit` > offset.
  struct Place {
    enum class What : std::uint8_t { data, missing, gap };
    What what;
    Offset end;                       // data: this segment's part of the log ends here. missing: the log is known to
                                      // be there until here, but the file is not. gap: the gap's end
    GapCause cause = GapCause::none;  // of a gap
  };
  Place place(Offset offset, Offset limit);

 private:
  struct Next {
    Offset base;
    Offset previous_end;
    GapCause cause;
  };
  std::optional<Next> next_after(Offset base);

  std::string directory_;
  LogIdentity log_;
  std::vector<Offset> bases_;
  std::optional<HorizonSlot> horizon_;
  std::optional<Next> last_next_;  // the answer of the last question that had one
};

}  // namespace spillway
