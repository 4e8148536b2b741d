#include "record_code.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <random>

#include "spillway/core/checksum.h"

namespace spillway::soak {
namespace {

constexpr std::size_t kNoise = std::size_t{1} << 18;

// Something to fill payloads with that is different in every place.
const std::vector<std::byte>& noise() {
  static const std::vector<std::byte> bytes = [] {
    std::vector<std::byte> made(kNoise);
    std::mt19937_64 engine(1);
    for (std::byte& b : made) b = static_cast<std::byte>(engine());
    return made;
  }();
  return bytes;
}

void fill(std::span<std::byte> payload, Identity id) noexcept {
  std::size_t from = (id * 0x9E3779B97F4A7C15U) >> 47;
  for (std::size_t done = 0; done < payload.size();) {
    const std::size_t part = std::min(payload.size() - done, kNoise - from);
    std::memcpy(payload.data() + done, noise().data() + from, part);
    done += part;
    from = 0;
  }
}

std::uint64_t sum(Identity id, std::size_t lane, std::span<const std::byte> bytes,
                  const std::optional<std::span<const std::byte>>& key) noexcept {
  const std::array<std::uint64_t, 5> parts = {id, lane, bytes.size(), xxh3(bytes),
                                              key ? xxh3(*key) * 2 + key->size() : 1};
  return xxh3(std::as_bytes(std::span(parts)));
}

struct PlainHeader {
  Identity id;
  std::uint64_t sum;
  std::uint64_t lane;
};
static_assert(sizeof(PlainHeader) == kPlainBytesMin);

}  // namespace

std::string text_of(Identity id) {
  return "worker " + std::to_string(worker_of(id)) + "." + std::to_string(incarnation_of(id)) + " #" +
         std::to_string(sequence_of(id));
}

void fill_plain(std::span<std::byte> payload, Identity id, std::size_t lane) noexcept {
  const auto rest = payload.subspan(sizeof(PlainHeader));
  fill(rest, id);
  const PlainHeader header{id, sum(id, lane, rest, std::nullopt), lane};
  std::memcpy(payload.data(), &header, sizeof header);
}

void fill_dressed(std::span<std::byte> payload, Identity id, std::size_t lane, RecordOptions& options) noexcept {
  fill(payload, id);
  options.sequence = id;
  options.tag = static_cast<std::uint32_t>(lane);
  options.event_time_ns = sum(id, lane, payload, options.key);
}

std::optional<Identity> check(const Record& record, std::size_t lane) noexcept {
  if (record.sequence()) {
    std::optional<std::span<const std::byte>> key;
    if (record.has_key()) key = record.key();
    const Identity id = *record.sequence();
    const bool whole = record.tag() == lane && record.event_time_ns() == sum(id, lane, record.payload(), key);
    return whole ? std::optional(id) : std::nullopt;
  }
  PlainHeader header{};
  if (record.has_key() || record.payload().size() < sizeof header) return std::nullopt;
  std::memcpy(&header, record.payload().data(), sizeof header);
  const bool whole =
      header.lane == lane && header.sum == sum(header.id, lane, record.payload().subspan(sizeof header), std::nullopt);
  return whole ? std::optional(header.id) : std::nullopt;
}

}  // namespace spillway::soak
