#include "spillway/core/size_text.h"

#include <array>
#include <charconv>
#include <cstdio>

namespace spillway {
namespace {

struct Unit {
  std::string_view name;
  unsigned shift;
};
constexpr std::array<Unit, 5> kUnits = {{{"B", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}}};

}  // namespace

std::optional<std::uint64_t> parse_size(std::string_view text) noexcept {
  std::uint64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc()) return std::nullopt;
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  if (unit.empty()) return count;
  for (const Unit& u : kUnits) {
    if (unit != u.name) continue;
    if (count > (UINT64_MAX >> u.shift)) return std::nullopt;
    return count << u.shift;
  }
  return std::nullopt;
}

std::string format_size(std::uint64_t bytes) {
  for (std::size_t i = kUnits.size(); i-- > 1;) {
    const std::uint64_t unit = std::uint64_t{1} << kUnits[i].shift;
    if (bytes >= unit && bytes % unit == 0) return std::to_string(bytes / unit) + std::string(kUnits[i].name);
    if (bytes >= unit * 10 || (bytes >= unit && i == 1)) {
      std::array<char, 48> text;
      std::snprintf(text.data(), text.size(), "%.1f%s", static_cast<double>(bytes) / static_cast<double>(unit),
                    kUnits[i].name.data());
      return text.data();
    }
  }
  return std::to_string(bytes) + "B";
}

}  // namespace spillway
