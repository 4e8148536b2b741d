// One partition's persister: what this process does, and knows, while it holds the role.
//
// It is a state machine that never waits for log bytes: step() starts whatever can be started, io_completed() notes
// what came of it, and step() is called again. Its owner (Persister, or a thread that waits for the disk) drives it.
//
//   take_role --> settling --> working <--> broken        step() by step():
//       ^         (I/O of a    (below)      (a write or     horizon ahead . look what is committed . repair . copy into
//       |          dead holder              sync failed:    pieces . submit pieces and index . sync . watermarks .
//       |          is over?                 wait for what   segments: next one, old ones
//       |          read the tail)           is under way,
//       +------------- releasing            then settle)
//
// What dies, or fails, and what then. "New holder" is whoever takes the role next; it begins where control says.
//
//   dies after                  on disk                        new holder
//   role lock taken             nothing new                    takes the lock, which the kernel freed
//   piece submitted             bytes may land for seconds     waits for the segment's lock (take_over.h), then writes
//                                                              the same bytes from the ring again
//   index submitted, bytes not  an entry that covers too much  it ends beyond written_end and does not count (INV-5);
//   landed                                                     without a ring its CRC does not match, and the other
//                                                              home has what was synced
//   written_end stored          bytes and entries whole        policy none, and `overwrite`: syncs it and goes on there;
//                                                              else from durable_end
//   sync submitted              some of it                     durable_end did not move: writes from there again
//   durable_end stored, space   synced                         gives the space back itself
//   not given back
//   segment half made           making-*                       removed, or made again under the same name
//   retained_begin stored,      an old segment                 it is below retained_begin: expires at the next roll, or
//   file not expired                                           with the next look at ages
//   gap noticed, not recorded   nothing                        finds itself lapped, too, and records it
//   horizon written, not        a larger horizon               reads the file, which counts
//   stored
//   ring's files deleted,       nothing new                    goes on with what is mapped: nobody can make another
//   processes live                                             ring before they all have ended
//
//   fails                       here
//   write, index write          all from the last safe boundary (durable_end where the ring keeps what is not durable,
//                               else written_end) is taken from the ring again, after a back-off, once nothing is
//                               under way
//   sync, the ring keeps it     the same: space is given back at durable_end only
//   sync, policy none, or       from durable_end on, all that was taken is one of control's lost ranges: waits for it
//   `overwrite`                 answer `lost`; synced again after a back-off
//   new segment (no space)      the oldest goes early where retention is limited; else nothing is taken until it can be
//                               made, what is written is synced, and producers see it when the ring is full
//   horizon                     no claim goes past the old one
//   ring can't be right         what lies before goes to disk; nothing more is taken; looked at again after a back-off
//   no memory while taking      as a write
//   two failures in a row       each goes back to a boundary that was true before: watermarks never move back
//
// Invariants. A block with a write under way is not submitted again. An index home without which what was promised is
// on disk for certain nowhere is not overwritten. durable_end is a written_end that was read before the sync was
// submitted, with no index write under way and no index entry ahead of its bytes: else the sync would cover an entry
// whose CRC may not hold, in the place of one that does. Watermarks are stored larger ones first.
//
// Thread safety: one thread at a time (the persister's mutex).
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "spillway/persist/horizon_file.h"
#include "spillway/persist/ring_intake.h"
#include "spillway/persist/role.h"
#include "spillway/persist/take_over.h"
#include "spillway/persist/writer_row.h"

namespace spillway {

// A change of state worth a line to whoever runs the persister.
enum class PersisterChange : std::uint8_t { took_role, handed_over, released, failed, cleared, stale };
std::string_view name_of(PersisterChange value) noexcept;
struct PersisterEvent {
  std::string topic;
  std::uint32_t partition = 0;
  PersisterChange change = PersisterChange::took_role;
  int error = 0;  // failed: an errno
};

// The steps in which the horizon of a topic moves.
std::uint64_t horizon_step(const TopicConfig& config) noexcept;

class PartitionPersister final : public IoOwner {
 public:
  // What all partitions of a process share; outlives them.
  struct Shared {
    IoQueue& queue;
    IoBuffers& buffers;
    std::vector<PersisterEvent>& events;  // appended to; the owner delivers them
  };
  // Throws Error when lock or horizon files can't be opened.
  PartitionPersister(std::shared_ptr<Partition> partition, const Shared& shared, bool daemon);
  // Operations may be under way: their memory is left where it is (IoBuffers), their files close when they are over.
  ~PartitionPersister() override = default;

  Partition& partition() noexcept { return *partition_; }
  Role& role() noexcept { return role_; }

  // Takes the role if it is free. True: it is ours (now).
  bool take_role(std::uint64_t now_ns) noexcept;
  bool holds_role() const noexcept { return stage_ != Stage::none; }
  // Starts nothing new; the role is free once nothing is under way: holds_role() turns false in a later step().
  void release() noexcept;

  // Starts what can be started. Never waits for log bytes; may wait for the file system (new segment, horizon).
  void step(std::uint64_t now_ns) noexcept;
  void io_completed(IoOperation& operation, int error) noexcept override;
  std::size_t under_way() const noexcept { return under_way_; }
  // When step() has something to do even if nothing happens; UINT64_MAX: never.
  std::uint64_t next_step_ns(std::uint64_t now_ns) const noexcept;
  // The last step() left something to do at once.
  bool busy() const noexcept { return stage_ == Stage::working && intake_.more(); }
  bool idle() const noexcept;  // nothing taken, under way or waited for
  // For how long new records may lie unnoticed at most.
  std::uint64_t drowsy_ns() const noexcept;

  // Somebody of this process wants everything that is committed by now written, or written and synced.
  void ask_write() noexcept { write_wished_ = true; }
  void ask_sync() noexcept { write_wished_ = sync_wished_ = true; }
  Offset written_end() const noexcept { return written_end_; }
  Offset durable_end() const noexcept { return durable_end_; }
  // The wake word as look() saw it: while it has not changed, step() need not be called before next_step_ns().
  std::uint32_t wake_seen() const noexcept { return wake_seen_; }

 private:
  enum class Stage : std::uint8_t { none, settling, working, broken, releasing };
  // What failed last: only the same thing, done well, clears it.
  enum class Trouble : std::uint8_t { none, write, sync, segment, horizon, ring, settle };

  bool settle(std::uint64_t now_ns) noexcept;
  void finish_release() noexcept;
  void move_horizon(std::uint64_t now_ns) noexcept;
  bool load_horizon();

  void want_written(Offset end) noexcept { want_written_ = std::max(want_written_, end); }
  void want_durable(Offset end) noexcept {
    want_written(end);
    want_durable_ = std::max(want_durable_, end);
    if (first_wanted_ <= durable_end_) first_wanted_ = end;
  }
  void look(std::uint64_t now_ns) noexcept;
  void note_wishes(std::uint64_t now_ns) noexcept;
  void tend_shared(std::uint64_t now_ns) noexcept;
  void take(std::uint64_t now_ns) noexcept;
  void submit() noexcept;
  void start_sync(std::uint64_t now_ns) noexcept;
  void sync_over() noexcept;
  void advance() noexcept;
  void publish() noexcept;
  void tend_segments(std::uint64_t now_ns) noexcept;
  void expire_aged(std::uint64_t now_ns) noexcept;

  void trouble(Trouble what, int error, std::uint64_t now_ns) noexcept;
  void well(Trouble what) noexcept;
  void lose_unsynced(Offset end) noexcept;
  void store_state(PersisterState state, int error) noexcept;
  void tell(PersisterChange change, int error = 0) noexcept;
  bool topic_syncs() const noexcept { return partition_->config().sync != SyncPolicy::none; }
  // What is not durable can be written again from the ring.
  bool ring_keeps_unsynced() const noexcept {
    return topic_syncs() && partition_->config().on_full != OnFull::overwrite;
  }
  bool pressed() const noexcept;  // more than half of the ring waits to be given back

  std::shared_ptr<Partition> partition_;
  Shared shared_;
  Role role_;
  HorizonFile horizon_file_;
  HorizonFields horizon_;  // as written last
  WriterRow row_;
  RingIntake intake_;
  Stage stage_ = Stage::none;
  bool handing_over_ = false;

  // The truth this process knows; control has the same, or more from an earlier holder.
  Offset written_end_ = 0;
  Offset durable_end_ = 0;
  Offset reclaimable_end_ = 0;
  std::uint64_t records_ = 0;
  std::uint64_t syncs_ = 0;

  // Wishes.
  Offset want_written_ = 0;
  Offset want_durable_ = 0;
  Offset first_wanted_ = 0;    // of the wishes for durable bytes the oldest that is not met, if past durable_end_
  bool write_wished_ = false;  // seen, and not yet turned into an offset
  bool sync_wished_ = false;
  std::uint32_t wake_seen_ = 0;
  std::uint32_t sync_wanted_seen_ = 0;
  Offset reserved_end_ = 0;              // as loaded by look()
  std::uint64_t streamed_ns_ = 0;        // when a whole piece was last taken
  std::uint64_t looked_ns_ = 0;          // when look() last ran; what it did not find came later
  std::uint64_t backlog_since_ns_ = 0;   // since when something known is not taken; 0: all is
  std::uint64_t unsynced_since_ns_ = 0;  // since when something known is not durable; 0: all is

  // What is under way.
  std::size_t under_way_ = 0;
  std::size_t syncs_under_way_ = 0;
  bool sync_waiting_ = false;  // for index writes: no new ones are submitted
  int sync_error_ = 0;
  Offset sync_end_ = 0;      // durable_end when the sync under way succeeds
  Offset settling_end_ = 0;  // where settling goes on from

  Trouble trouble_ = Trouble::none;
  std::optional<unsigned> known_home_;  // from before a failure: the index home that our last completed sync covered
  std::uint64_t retry_ns_ = 0;          // when what failed is tried again
  std::uint64_t back_off_ns_ = 0;
  std::uint64_t sync_again_ns_ = 0;
  Offset newest_base_ = 0;  // of the newest segment: another one is a roll
  std::uint64_t horizon_again_ns_ = 0;
  std::uint64_t retain_again_ns_ = 0;
  std::uint64_t age_again_ns_ = 0;
  RingIntake::Look last_look_ = RingIntake::Look::nothing_new;
  Offset stuck_at_ = 0;               // a claim here is not committed, although it was made
  std::uint64_t stuck_since_ns_ = 0;  // 0: no claim is stuck
  std::uint64_t repair_again_ns_ = 0;
};

}  // namespace spillway
