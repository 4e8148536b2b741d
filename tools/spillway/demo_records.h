// The records of the demo. Each carries its number and a hash of its content, by which a reader knows it whole.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "demo_plan.h"
#include "spillway/core/checksum.h"
#include "spillway/persist/domain.h"

namespace spillway::command::demo {

enum class SampleKind : std::uint32_t {
  cpu,      // values: user, system, idle, waiting for I/O; in clock ticks
  memory,   // values: total, free, available, cached; in KiB
  process,  // values: user, system (clock ticks), resident (pages), threads
};

// A record of the topic `telemetry`.
struct Sample {
  std::uint64_t sequence;  // from 0
  std::uint64_t time_ns;   // wall clock
  SampleKind kind;
  std::uint32_t id;  // number of the CPU, pid of the process; memory: 0
  std::array<std::uint64_t, 4> values;
  std::uint64_t hash;  // of everything before

  std::uint64_t content_hash() const noexcept {
    return xxh3(std::as_bytes(std::span(this, 1)).first(offsetof(Sample, hash)));
  }
};
static_assert(sizeof(Sample) == 64 && std::has_unique_object_representations_v<Sample>);

// What a record of the topic `firehose` begins with; the bytes of a file follow.
struct ChunkHeader {
  std::uint64_t sequence;  // from 0
  std::uint64_t hash;      // of the bytes that follow
};
static_assert(sizeof(ChunkHeader) == 16);
inline constexpr std::size_t kChunkBytesMax = 32 * 1024;  // far below a quarter of the smallest ring

inline TypedTopic<Sample> open_telemetry(const Domain& domain) {
  return domain.open<Sample>(kTelemetryTopic, "spillway.demo.sample.v1");
}

}  // namespace spillway::command::demo
