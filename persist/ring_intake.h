// Takes a partition's committed bytes out of its ring: walks the claims, copies them into I/O buffers, checks the copy,
// computes CRCs and index entries, and notices when the ring was faster (gaps of `overwrite`).
//
// What comes out are pieces (log bytes in a buffer, ready to be written to one place of one segment) and marks (index
// entries, and at which claim boundary the log stands once they are written). Nothing is submitted here.
//
// Entries go into the index in groups that end exactly at a claim boundary: whole ranges, and the part of the last
// one up to the boundary. So what an index home holds ends where a watermark may stand, and never in the middle of a
// claim.
//
// A piece begins at a 4 KiB block. The last block of a piece may be partly filled: committed bytes, then zeros; the
// next piece then begins with that block again, from our own copy of it, and may not be submitted before the first is
// done. Thread safety: one thread at a time (the persister's mutex).
#pragma once

#include <deque>

#include "spillway/ipc/ring_walk.h"
#include "spillway/persist/io_buffers.h"
#include "spillway/persist/range_builder.h"
#include "spillway/persist/writer_row.h"

namespace spillway {

struct Piece {
  IoOperation operation;
  SegmentWriter* writer = nullptr;
  std::byte* buffer = nullptr;  // of IoBuffers; the bytes of [begin, padded_end)
  Offset begin = 0;             // a multiple of kBlock
  Offset end = 0;               // of the log bytes that count
  Offset padded_end = 0;        // the next multiple of kBlock; behind `end` zeros
  bool done = false;
};

// An index entry on its way. A group of them ends with one that `closes`: once log bytes and entries up to its `end`
// are written, the log on disk reaches the claim boundary `boundary`.
struct Mark {
  IndexEntry entry{};  // none when bytes == 0: segments that were left out
  Offset end = 0;
  Offset boundary = 0;
  bool closes = false;
};

class RingIntake {
 public:
  RingIntake(Partition& partition, WriterRow& row, IoBuffers& buffers, IoOwner& owner);

  // Forgets everything and goes on from `start`, a claim boundary. No piece may be under way.
  void start(const RangeBuilder::Start& start);
  // Gives the buffers back. No piece may be under way.
  void clear() noexcept;

  enum class Look : std::uint8_t { nothing_new, found, enough, corrupt };
  // Walks on over what is committed, some megabytes ahead of what was taken (then `enough`: take first). `nothing_new`:
  // known_end() is the true end.
  Look look() noexcept;

  Offset known_end() const noexcept { return known_end_; }  // everything before is committed; a claim boundary
  Offset taken_end() const noexcept { return builder_.end(); }
  Offset boundary() const noexcept { return builder_.boundary(); }
  Offset indexed_end() const noexcept { return indexed_end_; }  // of what there are marks for
  bool ring_broken() const noexcept { return ring_broken_; }    // what it holds can't be right; start() looks again

  // Copies what is known and not yet taken, one piece at a time, so that each is on its way while the next is copied:
  // whole ranges if there is much, also a partly filled one if it lies before `urgent_end`. Returns an errno: 0, that of
  // a segment that can't be had, or EBADMSG when the ring's bytes can't be right. A segment that is not free yet: 0, and
  // nothing is taken. ENOMEM: what was taken may have no mark: start() again.
  int take(Offset urgent_end) noexcept;
  bool more() const noexcept { return more_; }  // the last take() left something for the next

  // Puts entries into the index of their segments, group by group: those whose log bytes are written, or (`ahead`) all.
  // `durable_end` goes into them. With entries ahead of their bytes no sync may be submitted: it would promise them.
  void hand_on(bool ahead, Offset durable_end) noexcept;
  bool ahead() const noexcept { return handed_end_ > data_end_; }

  std::deque<Piece>& pieces() noexcept { return pieces_; }
  // True unless an earlier piece that is not done holds a block of this one.
  bool may_submit(const Piece& piece) const noexcept;
  std::uint64_t bytes_under_way() const noexcept;
  // Drops pieces that are done from the front; data_end() says how far.
  void retire() noexcept;
  Offset data_end() const noexcept { return data_end_; }
  // The last mark that closes a group at or before `end` and was handed on, if there is one; it and those before are
  // forgotten.
  bool pop_mark(Offset end, Mark& mark) noexcept;
  bool quiet() const noexcept;  // little is under way

 private:
  void fetch(Offset limit) const noexcept;
  int take_piece(Offset cut) noexcept;
  bool fill(Piece& piece, Offset cut, int& error) noexcept;
  bool begin_piece(Offset at, int& error, Piece& piece) noexcept;
  void finish_piece(Piece& piece) noexcept;
  bool partial_under_way() const noexcept;
  void lapped() noexcept;
  void rewind() noexcept;
  int take_gap() noexcept;
  int take_gap_record(Offset to) noexcept;
  void collect();
  void give_notice(Offset from, Offset to) noexcept;

  Partition& partition_;
  WriterRow& row_;
  IoBuffers& buffers_;
  IoOwner& owner_;
  RangeBuilder builder_;
  std::uint64_t piece_bytes_;  // the largest piece
  Offset known_end_ = 0;
  Offset indexed_end_ = 0;
  Offset data_end_ = 0;
  Offset gap_end_ = 0;  // not 0: from taken_end() on the ring was overwritten, records resume here
  bool more_ = false;
  bool ring_broken_ = false;  // nothing readable was found behind what was overwritten
  std::deque<Piece> pieces_;  // ascending, but for rewinds; what a tag points to must not move
  std::deque<Mark> marks_;
  std::size_t handed_ = 0;  // of marks_, from the front
  Offset handed_end_ = 0;   // of the last entry handed on
};

}  // namespace spillway
