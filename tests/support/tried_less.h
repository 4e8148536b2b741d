// How much less of what is tried thousands of times, each time elsewhere, is tried in this run.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>

namespace spillway_test {

// 1, or what SPILLWAY_TRIED_LESS says. The sanitizers' preset sets it: they show what a way through the code does, and not how
// often all goes well.
inline std::size_t tried_less() noexcept {
  const char* const text = std::getenv("SPILLWAY_TRIED_LESS");
  return text == nullptr ? 1 : std::max<std::size_t>(std::strtoull(text, nullptr, 10), 1);
}

}  // namespace spillway_test
