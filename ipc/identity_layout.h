// Who a mapped file is: the first bytes of ring, control and consumers files.
//
// INV-1  Written once by the creator, before the file gets its name; read-only ever after.
// INV-2  A file is ours if and only if magic, fingerprint, version and checksum hold and file, partition and topic
//        are the ones asked for. Then every other field is checked against its range before it is used.
// INV-3  The ring and control of one incarnation carry the same incarnation, salt, capacity and begin, and were born at the
//        same time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace spillway {

enum class MappedFile : std::uint32_t { ring = 1, control = 2, consumers = 3 };

struct Identity {
  std::uint64_t magic;        // kIdentityMagic
  std::uint64_t fingerprint;  // of the memory layouts: builds that disagree refuse each other
  std::uint32_t version;
  MappedFile file;
  std::uint32_t partition;
  std::uint32_t ephemeral;       // 0 or 1
  std::uint64_t topic_id;        // random, from the topic's configuration
  std::uint64_t incarnation;     // random, of this ring; recorded beside the horizon
  std::uint64_t salt;            // of the log's commit words
  std::uint64_t capacity;        // the ring's bytes; a power of two
  std::uint64_t begin;           // the ring's first offset; a multiple of the capacity
  std::uint64_t born_ns;         // when the ring was made, by the log's clock (log_clock.h); at most kBornNsMax
  std::uint64_t born_uptime_ns;  // ... and by the host's uptime
  std::uint64_t checksum;        // XXH3 of everything before
};
static_assert(sizeof(Identity) == 96 && std::has_unique_object_representations_v<Identity>);
static_assert(offsetof(Identity, checksum) == 88);

inline constexpr std::uint64_t kIdentityMagic = 0x31594157'4C495053U;  // "SPILWAY1"
inline constexpr std::uint32_t kMemoryVersion = 3;
inline constexpr std::uint64_t kBornNsMax = UINT64_MAX / 2;  // the year 2262: uptime can be added

}  // namespace spillway
