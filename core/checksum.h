// CRC32C (Castagnoli), as iSCSI and ext4 use it, by ISA-L; and XXH3, for keys and for fingerprints of small blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace spillway {

// The CRC of the concatenation: crc32c(b, crc32c(a)) == crc32c(ab). The CRC of nothing is 0.
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before = 0) noexcept;
// XXH3_64bits with seed 0.
std::uint64_t xxh3(std::span<const std::byte> bytes) noexcept;

}  // namespace spillway
