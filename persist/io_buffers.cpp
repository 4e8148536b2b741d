#include "spillway/persist/io_buffers.h"

#include <algorithm>
#include <exception>

#include "spillway/core/error.h"

namespace spillway {

IoBuffers::~IoBuffers() {
  for (Large& large : large_) {
    if (large.taken) {
      large.mapping.leak();
    } else {
      queue_.unregister_buffer(large.mapping.data());
    }
  }
  if (!blocks_) return;
  if (free_blocks_.size() < kBlocksMax) {
    blocks_.leak();
  } else {
    queue_.unregister_buffer(blocks_.data());
  }
}

std::byte* IoBuffers::take_large() noexcept {
  auto found = std::find_if(large_.begin(), large_.end(), [](const Large& l) { return !l.taken; });
  if (found == large_.end()) {
    if (large_.size() == kLargeMax) return nullptr;
    try {
      large_.push_back({Mapping::anonymous(kLargeBytes), false});
    } catch (const std::exception&) {
      return nullptr;  // the caller goes on with what it has and asks again
    }
    found = large_.end() - 1;
    queue_.register_buffer(found->mapping.data(), kLargeBytes);
  }
  found->taken = true;
  return found->mapping.data();
}

std::byte* IoBuffers::take_block() noexcept {
  if (!blocks_) {
    try {
      free_blocks_.reserve(kBlocksMax);
      blocks_ = Mapping::anonymous(kBlocksMax * kBlock);
    } catch (const std::exception&) {
      return nullptr;
    }
    for (std::size_t i = kBlocksMax; i-- > 0;) free_blocks_.push_back(blocks_.data() + i * kBlock);
    queue_.register_buffer(blocks_.data(), blocks_.bytes());
  }
  if (free_blocks_.empty()) return nullptr;
  std::byte* const memory = free_blocks_.back();
  free_blocks_.pop_back();
  return memory;
}

void IoBuffers::give_back_large(std::byte* memory) noexcept {
  for (Large& large : large_) {
    if (large.mapping.data() == memory) large.taken = false;
  }
}

void IoBuffers::give_back_block(std::byte* memory) noexcept { free_blocks_.push_back(memory); }

void IoBuffers::keep(std::size_t count) noexcept {
  for (std::size_t i = large_.size(); i-- > 0 && large_.size() > count;) {
    if (large_[i].taken) continue;
    queue_.unregister_buffer(large_[i].mapping.data());
    std::swap(large_[i], large_.back());
    large_.pop_back();
  }
}

}  // namespace spillway
