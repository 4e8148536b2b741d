// What is known of each lane: what producers were told, and whether what readers were given agrees with it.
//
// Fed with the workers' events when no call of a producer is under way: those of the producers first, then those of the
// readers. Whatever disagrees is thrown as Broken.
// Thread safety: one thread.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "event_log.h"
#include "plan.h"
#include "record_code.h"

namespace spillway::soak {

// A promise was broken.
class Broken : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A claim that a producer was told of, or a record of an unknown outcome that turned out to be there.
struct Claim {
  Offset end = 0;
  Identity first = 0;
  std::uint32_t count = 1;
  bool durable = false;    // told so for it alone, where not all that lies before it has to be there
  bool told_lost = false;  // told that it will never be on disk
};

struct LedgerCounts {
  std::uint64_t acknowledged = 0;  // records
  std::uint64_t durable = 0;       // records that lay before what was told to be durable when they were checked
  std::uint64_t refused = 0;
  std::uint64_t unknown = 0;  // records whose producer was killed before it was told, and that are there
  std::uint64_t delivered = 0;
  std::uint64_t ring_losses = 0;
  std::map<std::string, std::uint64_t> gaps;  // by cause, all readers
};

// What a reader knows of its place.
struct StreamState {
  std::uint64_t flags = 0;
  Offset next = 0;   // every known claim from here on is still to come
  Offset begin = 0;  // where it began
  bool any = false;  // a record was delivered
  std::uint32_t batch_left = 0;
  Identity batch_next = 0;
  Offset batch_end = 0;
};

// The watermarks of a lane that gaps are judged by.
struct LaneMarks {
  Offset retained_begin = 0;
  Offset committed_end = 0;
};

class Ledger {
 public:
  explicit Ledger(const Plan& plan);

  void take_producer(const EventReader& reader, std::span<const Event> events);
  void take_consumer(const EventReader& reader, std::span<const Event> events);
  void set_marks(std::size_t lane, const LaneMarks& marks) { lanes_[lane].marks = marks; }

  // The ring is gone, with whatever was not on disk; offsets from before must not come again.
  void lose_ring(std::size_t lane);
  // An ephemeral topic was deleted: its next one begins anew.
  void forget(std::size_t lane);
  // A worker's process has ended: no events of this incarnation will come any more.
  void end_incarnation(std::size_t worker, std::uint32_t incarnation);

  // A fresh reader's walk from the earliest record: begin_audit, then what it was given, then end_audit with where it ended.
  // `whole`: it read with a ring, so that all that is known must be there; else only what is durable.
  void begin_audit(std::size_t lane, Offset position);
  void audit_record(Offset offset, Identity id);
  // One that expired needs the lane's marks of afterwards.
  void audit_gap(Offset from, Offset to, GapCause cause);
  // Returns where what was audited begins.
  Offset end_audit(Offset position, bool whole);
  // What lies before is gone by right.
  void prune(std::size_t lane, Offset begin);

  Offset acknowledged_end(std::size_t lane) const { return lanes_[lane].acknowledged_end; }
  const LedgerCounts& counts() const noexcept { return counts_; }

 private:
  struct GapRange {
    Offset to;
    GapCause cause;
  };
  struct Lane {
    std::map<Offset, Claim> claims;
    std::map<Offset, Claim> overwritten;              // those an audit had no more: a ring may have some of them yet
    std::map<Identity, Offset> found;                 // records of unknown outcome
    std::map<Offset, GapRange> gaps;                  // as the last audit had them
    std::vector<std::pair<Offset, Offset>> unproven;  // gaps told to others that the next audit has to bear out
    Offset acknowledged_end = 0;                      // of any claim told of, but for those that are known to be lost
    Offset durable_end = 0;                           // told; where all before has to be there
    Offset used_end = 0;                              // when the ring was lost last
    std::vector<Offset> durable_at_losses;
    LaneMarks marks;
  };
  struct Outcome {
    std::uint64_t told_end = 0;
    std::uint64_t attempted_end = 0;
  };
  struct Cursor {
    std::optional<Offset> committed, committing;
  };
  using StreamKey = std::array<std::uint32_t, 4>;  // worker, incarnation, stream, lane

  [[noreturn]] void broken(std::size_t lane, const std::string& what) const;
  void appended(const Event& event);
  void told_durable(const Event& event);
  void told_lost(const Event& event);
  void check_unknown(std::size_t lane, Offset offset, Identity id);
  void deliver(std::size_t lane, StreamState& stream, Offset offset, Identity id, const std::string& who);
  void pass(std::size_t lane, const StreamState& stream, Offset to, const std::string& who) const;
  void check_gap(std::size_t lane, const StreamState& stream, Offset from, Offset to, GapCause cause,
                 const std::string& who);
  void check_nothing_durable(std::size_t lane, Offset from, Offset to, const std::string& who) const;
  bool all_durable(std::size_t lane) const;
  std::vector<std::pair<Offset, GapRange>> merged(const std::map<Offset, GapRange>& gaps, Offset from, Offset to) const;

  const Plan& plan_;
  std::array<Lane, kLanesMax> lanes_;
  std::map<std::pair<std::size_t, Identity>, Outcome> outcomes_;  // by lane and identity of #0
  std::map<StreamKey, StreamState> streams_;
  std::map<std::size_t, Cursor> cursors_;  // by lane: each is read by one cursor
  LedgerCounts counts_;
  // The audit under way.
  std::size_t audited_ = 0;
  StreamState audit_;
  std::map<Offset, GapRange> audit_gaps_;
};

}  // namespace spillway::soak
