// What the fuzz targets share: how an input is taken apart, how it damages an image of good bytes, and a directory of
// their own on tmpfs.
//
// A target takes its input as a short program of edits to bytes that are whole to begin with, because random bytes
// would end at the first checksum; most targets mend the checksums afterwards, where the input's first byte says so.
// Whatever holds for every input is asserted with SPILLWAY_ASSERT, which stops the process as a sanitizer does.
//
// Thread safety: one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spillway/ipc/record_layout.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes);

namespace spillway_fuzz {

// Reads an input from its front; behind its end everything is zero.
class Source {
 public:
  explicit Source(std::span<const std::uint8_t> input) noexcept : rest_(input) {}

  template <class Number>
  Number number() noexcept {
    Number value = 0;
    const std::size_t has = rest_.size() < sizeof value ? rest_.size() : sizeof value;
    if (has > 0) std::memcpy(&value, rest_.data(), has);
    rest_ = rest_.subspan(has);
    return value;
  }
  std::uint8_t byte() noexcept { return number<std::uint8_t>(); }
  // At most `most` bytes.
  std::span<const std::byte> bytes(std::size_t most) noexcept {
    const std::span<const std::uint8_t> taken = rest_.first(most < rest_.size() ? most : rest_.size());
    rest_ = rest_.subspan(taken.size());
    return std::as_bytes(taken);
  }
  std::string_view text(std::size_t most) noexcept {
    const std::span<const std::byte> taken = bytes(most);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }
  bool empty() const noexcept { return rest_.empty(); }
  std::size_t left() const noexcept { return rest_.size(); }

  // A word that a mutation of a few bits makes into the ones where bounds lie: an anchor, and a distance from it.
  std::uint64_t word() noexcept;

 private:
  std::span<const std::uint8_t> rest_;
};

// One edit of `image`, as the input says: bytes, a word, zeros, or a piece of it copied to another place. Never
// changes how long it is.
void edit(Source& source, std::span<std::byte> image) noexcept;

template <class Field>
void store(std::span<std::byte> image, std::size_t at, const Field& field) noexcept {
  if (at + sizeof field <= image.size()) std::memcpy(image.data() + at, &field, sizeof field);
}
template <class Field>
Field load(std::span<const std::byte> image, std::size_t at) noexcept {
  Field field{};
  std::memcpy(&field, image.data() + at, sizeof field);
  return field;
}

// The target's own directory, made at first use in $TMPDIR or on tmpfs, and removed when the process exits. A process
// that crashes leaves it: tests/fuzz/run gives a $TMPDIR that it removes.
const std::string& scratch();

// Puts a file's bytes in place, in the file that is there.
void put_file(const std::string& path, std::span<const std::byte> bytes);

// Reads every byte, so that a sanitizer sees a span that reaches where it must not.
std::uint64_t touch(std::span<const std::byte> bytes) noexcept;

}  // namespace spillway_fuzz
