// What a wait for the disk ended with.
#pragma once

#include <cstdint>
#include <string_view>

namespace spillway {

enum class Durable : std::uint8_t {
  yes,
  timed_out,  // not yet; Topic::blocked() says why
  lost,       // it never will be: the offset lies in a gap, or a failed sync lost it (policy none)
  refused,    // an ephemeral topic, or a reader's handle
  forked,
};
std::string_view name_of(Durable value) noexcept;

}  // namespace spillway
