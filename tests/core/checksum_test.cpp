#include "spillway/core/checksum.h"

#include <array>
#include <string_view>
#include <vector>

#include "support/catch.h"

namespace {

using namespace spillway;

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST_CASE("crc32c gives the published vectors (RFC 3720, B.4)") {
  CHECK(crc32c({}) == 0);
  CHECK(crc32c(bytes_of("123456789")) == 0xE3069283U);
  std::array<unsigned char, 32> block{};
  CHECK(crc32c(std::as_bytes(std::span(block))) == 0x8A9136AAU);
  block.fill(0xFF);
  CHECK(crc32c(std::as_bytes(std::span(block))) == 0x62A8AB43U);
  for (unsigned i = 0; i < 32; ++i) block[i] = static_cast<unsigned char>(i);
  CHECK(crc32c(std::as_bytes(std::span(block))) == 0x46DD794EU);
  for (unsigned i = 0; i < 32; ++i) block[i] = static_cast<unsigned char>(31 - i);
  CHECK(crc32c(std::as_bytes(std::span(block))) == 0x113FDB5CU);
}

TEST_CASE("crc32c of the pieces is crc32c of the whole, wherever it is cut") {
  std::vector<std::byte> all(1000);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::byte>(i * 7 + i / 256);
  const std::uint32_t whole = crc32c(all);
  const std::span<const std::byte> view(all);
  for (std::size_t cut = 0; cut <= all.size(); cut += 37) {
    CHECK(crc32c(view.subspan(cut), crc32c(view.first(cut))) == whole);
  }
}

TEST_CASE("crc32c notices every single flipped bit of a block") {
  std::array<std::byte, 64> block{};
  const std::uint32_t good = crc32c(block);
  for (std::size_t bit = 0; bit < 8 * block.size(); ++bit) {
    block[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    CHECK(crc32c(block) != good);
    block[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
  }
}

TEST_CASE("xxh3 is XXH3_64bits with seed 0, which keys are spread by for ever") {
  CHECK(xxh3({}) == 0x2D06800538D394C2U);
  CHECK(xxh3(bytes_of("a")) == 0xE6C632B61E964E1FU);
  CHECK(xxh3(bytes_of("abc")) == 0x78AF5F94892F3950U);
}

}  // namespace
