// What the points of core/points.h do in these tests: they are counted, and at a chosen one the process is killed, stopped,
// or forked.
//
// A point is named by its place in the source and how often the process has been there since arm().
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace spillway::points {

enum class Action : std::uint8_t { none, kill, stop, fork };

// "persist/role.cpp:71", the third time.
struct Point {
  std::string place;
  std::uint32_t time = 0;
};

inline constexpr std::size_t kPlaces = 512;
inline constexpr std::size_t kHits = 1 << 15;
inline constexpr std::size_t kPlaceBytes = 64;

// Shared by the test's processes.
struct Board {
  struct Place {
    std::atomic<std::uint64_t> hash;  // of file and line; 0: free
    std::atomic<std::uint32_t> times;
    char name[kPlaceBytes];
  };
  Place places[kPlaces];
  struct Hit {
    std::uint32_t place;
    std::uint32_t time;
    std::uint64_t way;  // hash of the frames above
  };
  Hit hits[kHits];
  std::atomic<std::uint32_t> hit_count;
  std::atomic<std::uint32_t> acted;  // 1: the process has got to the chosen point
  std::atomic<int> copy;             // pid of the fork's child
};

// For the process that is to act: from now on its points are counted on `board`. `chosen` may be null.
void arm(Board& board, Action action, const Point* chosen);
void disarm() noexcept;
// Counting goes on, and nothing is noted: between two stretches of interest.
class Pause {
 public:
  Pause() noexcept;
  ~Pause();
  Pause(const Pause&) = delete;
  Pause& operator=(const Pause&) = delete;
};

// True in the child of a fork that a point made.
bool is_copy() noexcept;
void forget_copy() noexcept;  // a process like any other from here on
// What the child does instead of going on in the middle of a call, where that is another thread's or the persister's.
inline void (*copy_elsewhere)() = nullptr;
// Set by a thread while its calls may go on as two.
inline thread_local bool goes_on_as_two = false;

// Called once, before the thread's `interpose_at`-th point from now: another's step between two of ours.
inline thread_local std::uint32_t interpose_at = 0;
inline thread_local void (*interposed)() = nullptr;

// Of a run without an action: the points to choose, that is of each place and each way there the first, the second and the
// last time.
std::vector<Point> choose(const Board& board);
std::vector<std::string> places(const Board& board);

}  // namespace spillway::points
