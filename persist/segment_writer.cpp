#include "spillway/persist/segment_writer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "spillway/core/error.h"

namespace spillway {

SegmentWriter::SegmentWriter(SegmentFile file, const LogIdentity& log, IoOwner& owner)
    : file_(std::move(file)), log_(log), base_(file_.base()), owner_(owner) {
  sync_.owner = &owner;
  sync_.purpose = IoPurpose::sync;
}

void SegmentWriter::adopt(const IndexBlock& block) {
  SPILLWAY_ASSERT(blocks_.empty());
  blocks_.emplace_back(block, block.first());
  blocks_.back().operation = {&owner_, IoPurpose::index, false};
}

void SegmentWriter::update(const IndexEntry& entry) {
  const Offset first = base_ + index_block_of(base_, entry.range_begin) * kIndexBlockLogBytes;
  if (blocks_.empty() || blocks_.back().index.first() < first) {
    blocks_.emplace_back(IndexBlock(log_.salt, first), first);
    blocks_.back().operation = {&owner_, IoPurpose::index, false};
  }
  Block& block = blocks_.back();
  SPILLWAY_ASSERT(block.index.first() == first);
  block.index.update(entry);
  block.updated_end = entry.range_begin + entry.bytes;
}

std::optional<unsigned> SegmentWriter::durable_home(Offset offset) const noexcept {
  for (const Block& block : blocks_) {
    if (offset >= block.index.first() && offset - block.index.first() < kIndexBlockLogBytes) {
      return block.index.durable_home();
    }
  }
  return std::nullopt;
}

Offset SegmentWriter::index_end() const noexcept {
  for (const Block& block : blocks_) {
    if (block.written_end < block.updated_end) return block.written_end;
  }
  return kOffsetEnd;
}

bool SegmentWriter::block_full(const Block& block) const noexcept {
  return block.updated_end >= std::min(block.index.first() + kIndexBlockLogBytes, end());
}

std::size_t SegmentWriter::submit_index(const IndexPolicy& policy, IoQueue& queue, IoBuffers& buffers) noexcept {
  std::size_t submitted = 0;
  for (Block& block : blocks_) {
    if (!block.index.dirty() || (!policy.all && !block_full(block) && policy.data_end < block.updated_end)) continue;
    const auto home = block.index.home_to_write();
    if (!home) continue;
    std::byte* const memory = buffers.take_block();
    if (memory == nullptr) break;
    std::memcpy(memory, block.index.image().data(), kBlock);
    const std::uint64_t number = (block.index.first() - base_) / kIndexBlockLogBytes;
    const std::uint64_t file_pos = index_block_pos(log_.segment_bytes, number, *home);
    if (!queue.submit_write(file_.descriptor(), memory, kBlock, file_pos, block.operation.tag())) {
      buffers.give_back_block(memory);
      break;
    }
    block.memory = memory;
    block.operation.under_way = true;
    block.submitted_end = block.updated_end;
    block.index.write_submitted();
    ++index_writes_;
    ++submitted;
  }
  return submitted;
}

void SegmentWriter::index_completed(IoOperation& operation, int error, IoBuffers& buffers) noexcept {
  const auto found =
      std::find_if(blocks_.begin(), blocks_.end(), [&](const Block& b) { return &b.operation == &operation; });
  SPILLWAY_ASSERT(found != blocks_.end() && index_writes_ > 0);
  operation.under_way = false;
  buffers.give_back_block(std::exchange(found->memory, nullptr));
  found->index.write_completed(error == 0);
  --index_writes_;
  touched_ = true;
  if (error == 0) found->written_end = std::max(found->written_end, found->submitted_end);
}

bool SegmentWriter::submit_sync(IoQueue& queue) noexcept {
  SPILLWAY_ASSERT(!sync_.under_way && index_writes_ == 0);
  if (!queue.submit_sync(file_.descriptor(), sync_.tag())) return false;
  sync_.under_way = true;
  touched_ = false;
  for (Block& block : blocks_) block.index.sync_submitted();
  return true;
}

void SegmentWriter::sync_completed(int error) noexcept {
  sync_.under_way = false;
  for (Block& block : blocks_) block.index.sync_completed(error == 0);
}

bool SegmentWriter::owns(const IoOperation& operation) const noexcept {
  if (operation.purpose == IoPurpose::sync) return &operation == &sync_;
  return std::any_of(blocks_.begin(), blocks_.end(), [&](const Block& b) { return &b.operation == &operation; });
}

bool SegmentWriter::settled() const noexcept {
  return !touched_ && !sync_.under_way && index_writes_ == 0 &&
         std::none_of(blocks_.begin(), blocks_.end(), [](const Block& b) { return b.index.dirty(); });
}

// A full block is never written again, so its homes need no care any more; unless writing begins again inside it after
// a failure: which home is on disk for certain only we know then.
void SegmentWriter::forget_full_blocks(Offset safe_end) noexcept {
  while (blocks_.size() > 1) {
    const Block& block = blocks_.front();
    if (block.index.first() + kIndexBlockLogBytes > safe_end || !block_full(block) || block.index.dirty() ||
        block.operation.under_way || sync_.under_way)
      return;
    blocks_.pop_front();
  }
}

}  // namespace spillway
