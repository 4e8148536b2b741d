#include "spillway/core/checksum.h"

#include <isa-l/crc.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace spillway {

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before) noexcept {
  // ISA-L leaves the inversions at both ends to the caller, takes an int length and a pointer it does not write to.
  auto* data = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(bytes.data()));
  std::size_t left = bytes.size();
  std::uint32_t crc = ~before;
  while (left > 0) {
    const int piece = left > (1U << 30) ? (1 << 30) : static_cast<int>(left);
    crc = crc32_iscsi(data, piece, crc);
    data += piece;
    left -= static_cast<std::size_t>(piece);
  }
  return ~crc;
}

std::uint64_t xxh3(std::span<const std::byte> bytes) noexcept { return XXH3_64bits(bytes.data(), bytes.size()); }

}  // namespace spillway
