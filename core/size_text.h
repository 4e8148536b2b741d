// Sizes as people write them: `64KiB`, `16MiB`, `1GiB`, or a plain count of bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace spillway {

// Accepts digits followed by nothing, B, KiB, MiB, GiB or TiB. Nothing for anything else or what overflows 64 bits.
std::optional<std::uint64_t> parse_size(std::string_view text) noexcept;
// Exact where a unit divides it (`16MiB`), else with one decimal (`1.5GiB`).
std::string format_size(std::uint64_t bytes);

}  // namespace spillway
