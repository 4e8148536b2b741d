#include "spillway/persist/recovery.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "spillway/core/bytes.h"
#include "spillway/core/disk.h"
#include "spillway/core/error.h"
#include "spillway/persist/segment_reader.h"
#include "spillway/persist/segment_row.h"
#include "spillway/persist/segment_store.h"

namespace spillway {
namespace {

// What could not be read: the first of it is told.
void note_unreadable(RecoveredLog& recovered, Offset at, int error) {
  if (recovered.error == 0) {
    recovered.error = error;
    recovered.error_at = at;
  }
}

// The largest durable_end that a valid entry of the segment names; nothing when no entry is valid.
std::optional<Offset> durable_end_in(SegmentReader& reader, Offset base, std::uint64_t segment_bytes,
                                     RecoveredLog& recovered) {
  std::optional<Offset> result;
  for (Offset range = base; range < base + segment_bytes; range += kRangeBytes) {
    int error = 0;
    const Candidates found = reader.entries(range, error);
    if (error != 0) note_unreadable(recovered, range, error);
    for (unsigned i = 0; i < found.count; ++i) {
      result = std::max(result.value_or(0), found.entries[i].durable_end);
    }
  }
  return result;
}

// The same over the newest segments of `bases`: two, or as many as it takes until an entry is valid. A writer that
// has several small segments under way when it dies may leave the newest ones without any.
std::optional<Offset> newest_durable_end(SegmentReader& reader, std::span<const Offset> bases,
                                         std::uint64_t segment_bytes, RecoveredLog& recovered) {
  std::optional<Offset> result;
  for (std::size_t i = bases.size(); i-- > 0;) {
    const std::optional<Offset> here = durable_end_in(reader, bases[i], segment_bytes, recovered);
    if (here) result = std::max(result.value_or(0), *here);
    if (bases.size() - i >= 2 && result) break;
  }
  return result;
}

// Whether no range that begins inside long padding contradicts its entry. Nobody reads it, but verify would call a torn one
// damaged.
bool padding_whole(SegmentReader& reader, Offset from, Offset to, RecoveredLog& recovered) {
  for (Offset range = align_up(from, kRangeBytes); range < to; range += kRangeBytes) {
    int error = 0;
    const Candidates known = reader.entries(range, error);
    if (error != 0) note_unreadable(recovered, range, error);
    if (known.count == 0) continue;
    const Offset wanted = std::min(to, range + known.entries[0].bytes);
    const CheckedRange& checked = reader.check(range, wanted);
    if (checked.checked_end >= wanted) continue;
    if (checked.fault == RangeFault::failed) note_unreadable(recovered, range, checked.error);
    return false;
  }
  return true;
}

// Walks claims from the claim boundary `from` as far as they are whole; the last boundary it got to.
Offset walk_claims(SegmentReader& reader, SegmentRow& row, Offset from, std::uint64_t segment_bytes,
                   RecoveredLog& recovered) {
  Offset boundary = from;
  for (Offset at = from;;) {
    const Offset segment_end = align_down(at, segment_bytes) + segment_bytes;
    const SegmentRow::Place place = row.place(at, UINT64_MAX);
    if (place.what == SegmentRow::Place::What::gap && place.cause == GapCause::overwritten && at == boundary) {
      boundary = at = place.end;  // whole segments inside a gap have no file
      continue;
    }
    if (place.what != SegmentRow::Place::What::data) return boundary;
    SegmentReader::Piece piece = reader.piece(at, segment_end);
    if (piece.fault == RangeFault::failed) piece = reader.piece(at, segment_end);  // that may have been for once
    if (piece.what == SegmentReader::Piece::What::bad) {
      if (piece.fault == RangeFault::failed) note_unreadable(recovered, piece.bad_range, piece.error);
      return boundary;
    }
    const bool padding = piece.what == SegmentReader::Piece::What::padding;
    if (padding && !padding_whole(reader, at, piece.end, recovered)) return boundary;
    if (piece.claim_end > at) boundary = piece.claim_end;
    at = piece.end;
  }
}

// The end of a log whose last writers did not stop cleanly. `ring_bases`: live segments of the last ring, at least
// one.
void scan_end(RecoveredLog& recovered, SegmentReader& reader, SegmentRow& row, std::span<const Offset> ring_bases,
              Offset ring_begin, std::uint64_t segment_bytes) {
  const Offset first = std::max(ring_begin, ring_bases.front());
  const std::optional<Offset> durable = newest_durable_end(reader, ring_bases, segment_bytes, recovered);
  const Offset from = std::max(first, durable.value_or(0));
  recovered.synced_end = from;
  recovered.end = walk_claims(reader, row, from, segment_bytes, recovered);

  // What was synced must be there. Looking at the last range of it costs nothing; the rest is for readers to find.
  if (from <= first) return;
  const Offset range = range_begin_of(from - 1);
  const CheckedRange& checked = reader.check(range, from);
  if (checked.checked_end >= from || checked.fault == RangeFault::no_entry) return;
  recovered.damage.push_back({align_down(range, segment_bytes), std::max(first, range), from,
                              std::string(describe(checked.fault)) + ", though it was synced once"});
}

// Segments that begin past the horizon: made ahead of need, and empty. If one is not, the horizon is not its own.
std::vector<Offset> unused_segments(const std::string& directory, const LogIdentity& log, FileIo io,
                                    std::span<const Offset> live, Offset horizon, RecoveredLog& recovered) {
  const auto first = std::lower_bound(live.begin(), live.end(), align_up(horizon, log.segment_bytes));
  std::vector<Offset> unused(first, live.end());
  if (unused.empty()) return unused;
  SegmentReader reader(directory, log, io);
  for (const Offset base : unused) {
    if (!durable_end_in(reader, base, log.segment_bytes, recovered)) continue;
    throw Error(Code::corrupt, "the horizon file " + horizon_path(directory) + " ends at offset " +
                                   std::to_string(horizon) + ", but the segment " + segment_name(base) +
                                   " holds later ones: one of the two was restored without the other; restore both");
  }
  return unused;
}

}  // namespace

RecoveredLog recover(const std::string& directory, const LogIdentity& log, FileIo io) {
  return recover_by(HorizonFile::peek(horizon_path(directory), log.topic_id, log.partition), directory, log, io);
}

RecoveredLog recover_by(const std::optional<HorizonSlot>& horizon, const std::string& directory, const LogIdentity& log,
                        FileIo io) {
  const std::uint64_t segment_bytes = log.segment_bytes;
  RecoveredLog recovered;
  recovered.slot = horizon;
  const std::vector<Offset> all = list_segments(directory, segment_bytes);
  recovered.dead = dead_segments(all, recovered.slot, segment_bytes);
  SegmentRow row(directory, log);
  std::vector<Offset> live(row.bases().begin(), row.bases().end());  // walking may list again
  if (recovered.slot) {
    const std::vector<Offset> unused = unused_segments(directory, log, io, live, recovered.slot->horizon, recovered);
    live.resize(live.size() - unused.size());
    recovered.dead.insert(recovered.dead.end(), unused.begin(), unused.end());
  }
  const Offset ring_begin = recovered.slot ? recovered.slot->begin : live.empty() ? 0 : live.front();
  const std::span<const Offset> ring_bases = std::span(live).subspan(
      static_cast<std::size_t>(std::lower_bound(live.begin(), live.end(), ring_begin) - live.begin()));
  recovered.clean = recovered.slot && recovered.slot->clean == 1;
  recovered.horizon = recovered.slot ? recovered.slot->horizon : 0;

  if (recovered.clean && recovered.slot->horizon > ring_begin) {
    recovered.end = recovered.synced_end = recovered.slot->horizon;
  } else {
    if (!recovered.clean && !ring_bases.empty()) {
      SegmentReader reader(directory, log, io);
      scan_end(recovered, reader, row, ring_bases, ring_begin, segment_bytes);
    } else {
      recovered.end = recovered.synced_end = ring_begin;
    }
    // A ring of which nothing reached the disk: the log still ends where the one before it ended. What was committed
    // in it is lost all the same, unless its writers stopped cleanly without having committed anything.
    const bool never_used = !recovered.slot && live.empty();
    recovered.cause = recovered.clean || never_used ? GapCause::none : GapCause::crash;
    if (recovered.slot && recovered.end <= ring_begin) {
      recovered.end = recovered.synced_end = recovered.slot->previous_end;
      if (recovered.clean) recovered.cause = static_cast<GapCause>(recovered.slot->previous_cause);
    }
  }
  recovered.horizon = std::max(recovered.horizon, recovered.end);
  recovered.begin = live.empty() ? recovered.end : std::min(live.front(), recovered.end);
  return recovered;
}

void check_sealable(const std::string& directory, const RecoveredLog& recovered) {
  if (recovered.error != 0) {
    throw Error(
        Code::io,
        "the log in " + directory + " can't be read near offset " + std::to_string(recovered.error_at) + " (" +
            std::strerror(recovered.error) +
            "), so it is not known where it ends, and what lies behind would be given up; try again, or, if the "
            "disk is broken, copy its segments to another with a tool that puts zeros where nothing can be read",
        recovered.error);
  }
  if (recovered.slot || (recovered.begin == recovered.end && recovered.end == 0)) return;
  throw Error(Code::corrupt,
              "the horizon file " + horizon_path(directory) +
                  " is missing beside segments, so it is not known which offsets were handed out; restore "
                  "it from a backup, or delete the topic");
}

int sync_recovered(const std::string& directory, const LogIdentity& log, const RecoveredLog& recovered) noexcept try {
  bool any = false;
  for (const Offset base : list_segments(directory, log.segment_bytes)) {
    if (base + log.segment_bytes <= recovered.synced_end || base >= recovered.end) continue;
    const FileDescriptor fd = try_open_file(directory + "/" + segment_name(base), O_RDONLY);
    if (!fd && errno == ENOENT) continue;  // expired meanwhile
    if (!fd || disk::sync_data(fd.get()) != 0) return errno;
    any = true;
  }
  if (any) sync_directory(directory);  // a segment's maker may have died before it did
  return 0;
} catch (const Error& error) {
  return error.errno_value() != 0 ? error.errno_value() : EIO;
} catch (...) {
  return ENOMEM;
}

HorizonFields seal_fields(const RecoveredLog& recovered, std::uint64_t segment_bytes, std::uint64_t incarnation,
                          std::uint64_t step) noexcept {
  HorizonFields fields;
  fields.incarnation = incarnation;
  fields.begin = align_up(recovered.horizon, segment_bytes);
  fields.horizon = fields.begin + step;
  fields.previous_end = recovered.end;
  fields.previous_cause = recovered.cause;
  fields.clean = false;
  return fields;
}

}  // namespace spillway
