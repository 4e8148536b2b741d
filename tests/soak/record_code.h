// The records of a soak: each says who sent it as the how-manieth, and carries a checksum over all that it holds.
//
// Two forms: `plain` has that in the payload, `dressed` in the record's extension, so that payloads may be empty.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "spillway/ipc/producer_types.h"
#include "spillway/ipc/record.h"

namespace spillway::soak {

// Worker (8 bits), incarnation (24), sequence number in the lane (32): a later record of the same worker has a greater one.
using Identity = std::uint64_t;
constexpr Identity identity(std::size_t worker, std::uint32_t incarnation, std::uint64_t sequence) noexcept {
  return std::uint64_t{worker} << 56 | std::uint64_t{incarnation} << 32 | sequence;
}
constexpr std::size_t worker_of(Identity id) noexcept { return static_cast<std::size_t>(id >> 56); }
constexpr std::uint32_t incarnation_of(Identity id) noexcept { return static_cast<std::uint32_t>(id >> 32) & 0xFFFFFF; }
constexpr std::uint64_t sequence_of(Identity id) noexcept { return id & 0xFFFFFFFF; }
std::string text_of(Identity id);

inline constexpr std::size_t kPlainBytesMin = 24;

// Fills the payload of a plain record.
void fill_plain(std::span<std::byte> payload, Identity id, std::size_t lane) noexcept;
// Fills the payload of a dressed one, and sets what its options have to say; options.key is set before, if at all.
void fill_dressed(std::span<std::byte> payload, Identity id, std::size_t lane, RecordOptions& options) noexcept;

// Who sent it; nothing when it is not what anybody sent to this lane.
std::optional<Identity> check(const Record& record, std::size_t lane) noexcept;

}  // namespace spillway::soak
