// Sleeping on a 32-bit word that other processes map, and the barrier that lets a waker do without one.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "spillway/core/clock.h"

namespace spillway {

// Sleeps while `*word == expected`, at most until `deadline`. Returns at once when it already differs, and may return
// early for no reason: the caller looks again. Works on a read-only mapping.
void futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected, Deadline deadline) noexcept;
// Wakes everybody who sleeps on the word; needs no write access to it.
void futex_wake_all(const std::atomic<std::uint32_t>& word) noexcept;

struct FutexWatch {
  const std::atomic<std::uint32_t>* word;
  std::uint32_t expected;
};
inline constexpr std::size_t kFutexWatchMax = 128;  // the kernel's
// Sleeps until one of at most kFutexWatchMax words differs from what was expected. Where the kernel has no
// futex_waitv (before 5.16) it sleeps on the first word for at most a millisecond.
void futex_wait_any(std::span<const FutexWatch> watches, Deadline deadline) noexcept;
bool has_futex_wait_any() noexcept;

// membarrier(2), global expedited. A process that registered is interrupted on every core it runs on by a caller of
// membarrier_everyone(): all its earlier stores are then visible, and its later loads see ours.
// Registering costs microseconds in a process of one thread, milliseconds in one of several: do it first.
bool membarrier_register() noexcept;  // false: not supported or forbidden (then fence on every store)
bool membarrier_everyone() noexcept;  // false: not supported (then never sleep long)

}  // namespace spillway
