// The row of segments in a partition's data directory. The directory is the catalog: there is no other list.
//
// Who may change it: the holder of the persister role, or of the writers' lock in its exclusive form. Listing is
// anybody's.
// Thread safety: one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "spillway/persist/horizon_format.h"
#include "spillway/persist/segment_file.h"

namespace spillway {

// Bases of the segments in the directory, ascending. Other names are ignored; so are bases that are not a multiple of
// `segment_bytes`. Empty when there is no directory. Throws Error when it can't be read.
std::vector<Offset> list_segments(const std::string& directory, std::uint64_t segment_bytes);

// What of `bases` belongs to the log: without those the horizon says are sealed away (INV-3 of horizon_format.h),
// which a crash may have left behind.
std::vector<Offset> live_segments(std::span<const Offset> bases, const std::optional<HorizonSlot>& horizon,
                                  std::uint64_t segment_bytes);
// The others: to be deleted by who holds the writers' lock in its exclusive form.
std::vector<Offset> dead_segments(std::span<const Offset> bases, const std::optional<HorizonSlot>& horizon,
                                  std::uint64_t segment_bytes);

// Which segments must go so that those that stay, and `coming` more, fit into retain_bytes of log.
struct RetentionQuestion {
  std::span<const Offset> bases;  // ascending
  std::uint64_t segment_bytes = 0;
  std::uint64_t retain_bytes = 0;  // 0: no limit
  Offset keep_from = 0;      // nothing that reaches past it goes: written_end, or durable_end where the topic syncs
  std::uint64_t coming = 0;  // segments about to be made
};
// The oldest ones, ascending; never the newest.
std::vector<Offset> plan_retention(const RetentionQuestion& question);

inline constexpr std::size_t kSparesMax = 2;

class SegmentStore {
 public:
  SegmentStore(std::string directory, const LogIdentity& log, Sharing sharing, FileIo io);

  const std::string& directory() const noexcept { return directory_; }
  const LogIdentity& log() const noexcept { return log_; }
  FileIo io() const noexcept { return io_; }

  std::vector<Offset> list() const { return list_segments(directory_, log_.segment_bytes); }

  // Takes the segments out of the row: each becomes a spare, or, when there are `spares_max` already, is removed; and so
  // are more spares than that. The caller has stored retained_begin past them before. Oldest first, so that a crash
  // leaves no hole. Nothing for one that is gone already. Throws Error.
  void expire(std::span<const Offset> bases, std::size_t spares_max = kSparesMax);
  // Removes segments for good, newest first, and syncs the directory: what was sealed away must not come back after a
  // later seal, which would not know it for dead. Throws Error.
  void remove(std::span<const Offset> bases);

  // A new segment, locked, from a spare or made anew; renamed and its directory synced before it returns. Throws
  // Error.
  SegmentFile make_segment(const SegmentBirth& birth);
  // Makes a spare unless there is one, so that a later make_segment allocates nothing. Throws Error (no_space ...).
  void prepare_spare();
  std::vector<std::string> spares() const;

  // Opens an existing segment for writing, as open() does, with its lock taken. Nothing while a dead process' I/O is
  // still under way in it: try again. Throws Error as SegmentFile::open does.
  std::optional<SegmentFile> adopt(Offset base);
  // A segment at or after the one that holds `from` in which somebody's I/O may be under way; nothing when all are
  // quiet. Takes no lock that outlives the call.
  std::optional<Offset> busy_segment(Offset from) const;
  // Removes files that were being made when their maker died, and spares of another size or beyond kSparesMax.
  void remove_leftovers();

 private:
  std::string in_directory(const std::string& name) const { return directory_ + "/" + name; }
  void make_spare_of(Offset base);

  std::string directory_;
  LogIdentity log_;
  Sharing sharing_;
  FileIo io_;
};

}  // namespace spillway
