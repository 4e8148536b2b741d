#include "spillway/core/bytes.h"

#include <array>
#include <vector>

#include "support/catch.h"

namespace {

using namespace spillway;

TEST_CASE("copies to and from the ring move exactly the bytes asked for, at every small size") {
  constexpr std::size_t kGuard = 64;
  for (std::size_t bytes = 0; bytes <= 300; ++bytes) {
    std::vector<std::byte> from(bytes + 2 * kGuard), to(bytes + 2 * kGuard, std::byte{0xEE});
    for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::byte>(i + 1);
    const bool out = bytes % 2 == 0;
    (out ? copy_to_ring : copy_from_ring)(to.data() + kGuard, from.data() + kGuard, bytes);
    bool same = true, guarded = true;
    for (std::size_t i = 0; i < bytes; ++i) same = same && to[kGuard + i] == from[kGuard + i];
    for (std::size_t i = 0; i < kGuard; ++i) {
      guarded = guarded && to[i] == std::byte{0xEE} && to[kGuard + bytes + i] == std::byte{0xEE};
    }
    INFO(bytes);
    CHECK(same);
    CHECK(guarded);
  }
}

TEST_CASE("alignment arithmetic") {
  CHECK(align_up(0, 16) == 0);
  CHECK(align_up(1, 16) == 16);
  CHECK(align_up(16, 16) == 16);
  CHECK(align_down(31, 16) == 16);
  CHECK(align_up((std::uint64_t{1} << 32) - 1, 4096) == std::uint64_t{1} << 32);
  CHECK(is_aligned(4096, 4096));
  CHECK_FALSE(is_aligned(4097, 16));
}

}  // namespace
