// Makes a partition's segments on disk record by record, with no ring and no persister, and keeps what it made as a
// plain model to compare readers with. Damage is then done to the files by the functions at the end.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "spillway/ipc/history.h"
#include "spillway/ipc/topic_config.h"
#include "spillway/persist/horizon_file.h"
#include "spillway/persist/segment_file.h"
#include "spillway/persist/segment_index.h"
#include "spillway/persist/segment_store.h"

namespace spillway_test {

using spillway::GapCause;
using spillway::Offset;

// A directory on a real disk that goes with the test.
class TempDirectory {
 public:
  TempDirectory();  // in $TMPDIR or /tmp
  explicit TempDirectory(const std::string& above);
  ~TempDirectory();
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
};

spillway::TopicConfig test_config(std::uint64_t ring_bytes, std::uint64_t segment_bytes,
                                  spillway::OnFull on_full = spillway::OnFull::block);

class LogBuilder {
 public:
  struct Record {
    Offset offset;
    Offset end;
    std::string payload;
    bool padding = false;
    bool gap = false;  // a gap record
    bool begins_claim = true;
  };

  // The log, and its first ring, begin at `begin`, a multiple of the segment.
  LogBuilder(std::string directory, const spillway::TopicConfig& config, Offset begin = 0);

  // Each returns the record's offset. A claim that would cross the ring's end is preceded by padding.
  Offset append(const std::string& payload);
  std::vector<Offset> append_batch(const std::vector<std::string>& payloads);
  Offset append_bytes(std::uint64_t bytes, char fill);
  void pad_to(Offset offset);  // one padding record; not across a multiple of the ring
  void fill_to(Offset offset, std::size_t payload_bytes = 100);  // records, then padding
  // Gap records, split at segment ends, as the persister makes them on an `overwrite` topic. Segments wholly inside
  // get no file.
  void gap_to(Offset offset);
  // Part of a claim that never became whole: a record with more_in_batch and nothing behind it.
  void append_torn(const std::string& payload);

  // durable_end in entries made by later flushes. Default 0.
  void synced_to(Offset offset) { durable_end_ = offset; }
  // Writes everything so far: bytes, and the index into `home`.
  void flush(unsigned home = 0);
  // From now on segments are made as a persister makes them, out of spares; segments that expired are not written
  // again.
  void recycle_from(spillway::SegmentStore& store) { store_ = &store; }
  // The ring dies: the log is sealed at `end` and goes on with the next segment at or after `begin`.
  void next_ring(Offset end, Offset begin, GapCause cause);
  void write_horizon(Offset horizon, bool clean = false);

  Offset end() const noexcept { return end_; }
  Offset begin() const noexcept { return begin_; }
  const std::vector<Record>& records() const noexcept { return records_; }
  const std::string& directory() const noexcept { return directory_; }
  const spillway::TopicConfig& config() const noexcept { return config_; }
  const spillway::LogIdentity& log() const noexcept { return log_; }
  std::string path_of(Offset offset) const;  // of the segment that holds it
  std::uint64_t file_pos(Offset offset) const;
  // The first claim boundary at or after `offset`; end() if there is none.
  Offset boundary_from(Offset offset) const;

 private:
  void put(spillway::RecordMeta meta, const std::string& payload, std::uint64_t bytes, bool begins_claim);
  void make_room(std::uint64_t claim_bytes);

  struct Segment {
    spillway::SegmentBirth birth;
    std::vector<std::byte> bytes;  // all of the segment's
    std::vector<bool> written;     // by range: anything in it was
    bool made = false;
    bool sealed = false;  // of an older ring: not written any more
  };
  Segment& segment_at(Offset offset);
  std::optional<spillway::IndexEntry> entry_of(const Segment& segment, Offset range_begin) const;

  std::string directory_;
  spillway::TopicConfig config_;
  spillway::LogIdentity log_;
  spillway::CommitMix mix_;
  Offset begin_;
  Offset end_;
  Offset ring_begin_;
  Offset claim_end_;  // the last claim boundary
  Offset durable_end_ = 0;
  Offset previous_end_;  // for the next segment's header
  GapCause previous_cause_ = GapCause::none;
  spillway::SegmentStore* store_ = nullptr;
  std::map<Offset, Segment> segments_;
  std::vector<Record> records_;
};

// One thing a reader was told.
struct Event {
  enum class What { record, gap };
  What what;
  Offset from;
  Offset to;
  std::string payload;              // of a record
  GapCause cause = GapCause::none;  // of a gap
  bool operator==(const Event&) const = default;
};
std::string to_string(const std::vector<Event>& events);

// Reads from `from` until the history has nothing more. Padding is not an event. `last` is how it ended.
struct Drained {
  std::vector<Event> events;
  spillway::HistoryRead last;
};
Drained drain(spillway::History& history, Offset from);
// What a reader of an undamaged log must be told.
std::vector<Event> expected_records(const LogBuilder& log, Offset from, Offset to);

void flip_bit(const std::string& path, std::uint64_t file_pos, unsigned bit = 0);
void zero_fill(const std::string& path, std::uint64_t file_pos, std::uint64_t bytes);
void randomize(const std::string& path, std::uint64_t bytes, std::uint64_t seed);
void truncate_to(const std::string& path, std::uint64_t bytes);
void copy_file(const std::string& from, const std::string& to);

}  // namespace spillway_test
