// One segment while it is being written: its file, its lock, the index blocks that still change, and what a sync has to
// cover. It submits index writes and syncs; log bytes are its owner's business.
//
// Thread safety: one thread at a time (the persister's mutex).
#pragma once

#include <deque>
#include <optional>

#include "spillway/persist/io_buffers.h"
#include "spillway/persist/io_queue.h"
#include "spillway/persist/segment_file.h"
#include "spillway/persist/segment_index.h"

namespace spillway {

// What the tag of an operation points to; lives until the completion was reported.
struct IoOperation;
class IoOwner {
 public:
  virtual ~IoOwner() = default;
  virtual void io_completed(IoOperation& operation, int error) noexcept = 0;
};
enum class IoPurpose : std::uint8_t { log_bytes, index, sync };
struct IoOperation {
  IoOwner* owner = nullptr;
  IoPurpose purpose = IoPurpose::log_bytes;
  bool under_way = false;

  std::uint64_t tag() noexcept { return reinterpret_cast<std::uintptr_t>(this); }
  static IoOperation& of(std::uint64_t tag) noexcept { return *reinterpret_cast<IoOperation*>(tag); }
};

class SegmentWriter {
 public:
  // `file` is open for writing and locked. `owner` is told of completions, and hands them to the functions below.
  SegmentWriter(SegmentFile file, const LogIdentity& log, IoOwner& owner);
  SegmentWriter(const SegmentWriter&) = delete;
  SegmentWriter& operator=(const SegmentWriter&) = delete;

  SegmentFile& file() noexcept { return file_; }
  Offset base() const noexcept { return base_; }
  Offset end() const noexcept { return base_ + log_.segment_bytes; }

  // At take-over: the block to go on with. Later blocks begin empty.
  void adopt(const IndexBlock& block);
  void update(const IndexEntry& entry);
  // The home of the block of `offset` that the last completed sync covered, if that is known.
  std::optional<unsigned> durable_home(Offset offset) const noexcept;
  // Up to where what was update()d is written: kOffsetEnd when nothing is missing.
  Offset index_end() const noexcept;

  // Which blocks with something new are written: all of them, or only those that will not change any more, or that
  // would not for the moment: log bytes are written up to `data_end`, and so far the block goes.
  struct IndexPolicy {
    bool all = false;
    Offset data_end = 0;
  };
  // Returns how many writes were submitted. Blocks whose homes may not be written now wait.
  std::size_t submit_index(const IndexPolicy& policy, IoQueue& queue, IoBuffers& buffers) noexcept;
  void index_completed(IoOperation& operation, int error, IoBuffers& buffers) noexcept;
  bool index_under_way() const noexcept { return index_writes_ > 0; }

  // A write of log bytes or index completed since the last sync was submitted: the next one has to cover this file.
  bool touched() const noexcept { return touched_; }
  void touch() noexcept { touched_ = true; }
  // With no index write under way. False: the queue is full.
  bool submit_sync(IoQueue& queue) noexcept;
  void sync_completed(int error) noexcept;
  bool owns(const IoOperation& operation) const noexcept;

  // Nothing more to do here once its log bytes are written.
  bool settled() const noexcept;
  // `safe_end`: writing never begins again before it.
  void forget_full_blocks(Offset safe_end) noexcept;

 private:
  struct Block {
    IoOperation operation;
    IndexBlock index;
    Offset updated_end;    // of the image
    Offset submitted_end;  // of the write under way
    Offset written_end;
    std::byte* memory = nullptr;  // of the write under way

    Block(const IndexBlock& block, Offset end) : index(block), updated_end(end), submitted_end(end), written_end(end) {}
  };
  bool block_full(const Block& block) const noexcept;

  SegmentFile file_;
  LogIdentity log_;
  Offset base_;
  IoOwner& owner_;
  std::deque<Block> blocks_;  // ascending; what a tag points to must not move
  std::size_t index_writes_ = 0;
  bool touched_ = false;
  IoOperation sync_;
};

}  // namespace spillway
