// Arithmetic on sizes, and copying bytes that another process may be writing.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "spillway/core/points.h"

namespace spillway {

inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * kKiB;
inline constexpr std::uint64_t kGiB = 1024 * kMiB;
inline constexpr std::size_t kCacheLine = 64;
inline constexpr std::size_t kBlock = 4096;  // the unit of O_DIRECT and of giving ring space back

// `alignment` is a power of two. Wraps when value is within alignment of 2^64: callers bound value first.
constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) noexcept {
  return (value + alignment - 1) & ~(alignment - 1);
}
constexpr std::uint64_t align_down(std::uint64_t value, std::uint64_t alignment) noexcept {
  return value & ~(alignment - 1);
}
constexpr bool is_aligned(std::uint64_t value, std::uint64_t alignment) noexcept {
  return (value & (alignment - 1)) == 0;
}

#if defined(__SANITIZE_THREAD__)
#define SPILLWAY_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SPILLWAY_TSAN 1
#endif
#endif

// Copies between ring and private memory. The ring's bytes may be overwritten while a reader copies them (it then
// notices, and throws the copy away): a data race by the letter of the language that atomics would settle at the
// price of byte-wise copying. Under ThreadSanitizer the copy really is made of relaxed atomics, so that what it
// reports is never this. Ring addresses are 16-aligned.
#if defined(SPILLWAY_TSAN)
inline void copy_from_ring(void* to, const void* from, std::size_t bytes) noexcept {
  auto* out = static_cast<unsigned char*>(to);
  const auto* in = static_cast<const unsigned char*>(from);
  for (std::size_t i = 0; i < bytes; ++i) out[i] = __atomic_load_n(in + i, __ATOMIC_RELAXED);
}
inline void copy_to_ring(void* to, const void* from, std::size_t bytes) noexcept {
  auto* out = static_cast<unsigned char*>(to);
  const auto* in = static_cast<const unsigned char*>(from);
  for (std::size_t i = 0; i < bytes; ++i) __atomic_store_n(out + i, in[i], __ATOMIC_RELAXED);
}
#else
// Most records are small, and a call to memcpy costs more than they do: up to 64 bytes are copied as two or four pieces of
// a fixed size that may overlap.
inline void copy_small(std::byte* to, const std::byte* from, std::size_t bytes) noexcept {
  const auto both_ends = [&]<std::size_t piece>() {
    std::byte first[piece], last[piece];
    std::memcpy(first, from, piece);
    std::memcpy(last, from + bytes - piece, piece);
    std::memcpy(to, first, piece);
    std::memcpy(to + bytes - piece, last, piece);
  };
  if (bytes > 32) return both_ends.template operator()<32>();
  if (bytes >= 16) return both_ends.template operator()<16>();
  if (bytes >= 8) return both_ends.template operator()<8>();
  for (std::size_t i = 0; i < bytes; ++i) to[i] = from[i];
}
inline void copy_from_ring(void* to, const void* from, std::size_t bytes) noexcept {
  if (bytes > 64) {
    std::memcpy(to, from, bytes);
  } else {
    copy_small(static_cast<std::byte*>(to), static_cast<const std::byte*>(from), bytes);
  }
}
#if defined(SPILLWAY_POINTS)
inline void copy_to_ring(void* to, const void* from, std::size_t bytes,
                         points::Where where = points::Where::current()) noexcept {
  points::at(where);
  std::memcpy(to, from, bytes / 2);
  points::at(where);
  std::memcpy(static_cast<std::byte*>(to) + bytes / 2, static_cast<const std::byte*>(from) + bytes / 2,
              bytes - bytes / 2);
  points::at(where);
}
#else
inline void copy_to_ring(void* to, const void* from, std::size_t bytes) noexcept { copy_from_ring(to, from, bytes); }
#endif
#endif

// Copies to memory that nobody on this core reads soon and that may lie in another core's cache (an I/O buffer, after
// the device has read it): past the caches, where the processor can. `to` is a multiple of 16; the ranges don't overlap.
inline void copy_streaming(void* to, const void* from, std::size_t bytes) noexcept {
#if defined(__SSE2__)
  auto* out = static_cast<__m128i*>(to);
  const auto* in = static_cast<const __m128i*>(from);
  for (; bytes >= 4 * sizeof(__m128i); bytes -= 4 * sizeof(__m128i), out += 4, in += 4) {
    const __m128i line[] = {_mm_loadu_si128(in), _mm_loadu_si128(in + 1), _mm_loadu_si128(in + 2),
                            _mm_loadu_si128(in + 3)};
    for (int i = 0; i < 4; ++i) _mm_stream_si128(out + i, line[i]);
  }
  std::memcpy(out, in, bytes);
  _mm_sfence();  // these stores are ordered by nothing else
#else
  std::memcpy(to, from, bytes);
#endif
}

// A hint that `address` is read soon.
inline void prefetch(const void* address) noexcept { __builtin_prefetch(address); }

}  // namespace spillway
