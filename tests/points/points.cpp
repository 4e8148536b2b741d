#include "points/points.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <string_view>

#include "spillway/core/points.h"

namespace spillway::points {
namespace {

std::atomic<Board*> armed{nullptr};
Action action = Action::none;
std::uint64_t chosen_place = 0;
std::uint32_t chosen_time = 0;
bool copy = false;
thread_local int paused = 0;

// "ipc/repair.h", whatever stands before it: headers are found through a link in the build folder.
std::string_view plain(std::string_view file) {
  std::size_t at = 0;
  for (const std::string_view layer : {"core/", "ipc/", "persist/", "tests/"}) {
    const std::size_t found = file.rfind(layer);
    if (found != std::string_view::npos) at = std::max(at, found);
  }
  file.remove_prefix(at);
  return file;
}

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) { return (hash ^ value) * 0x100000001B3U; }

std::uint64_t hash_of(std::string_view file, std::uint64_t line) {
  std::uint64_t hash = 0xCBF29CE484222325U;
  for (const char c : file) hash = mix(hash, static_cast<unsigned char>(c));
  return mix(hash, line) | 1;
}

std::size_t place_of(Board* board, std::string_view file, std::uint32_t line, std::uint64_t hash) {
  for (std::size_t i = hash % kPlaces;; i = (i + 1) % kPlaces) {
    std::uint64_t found = board->places[i].hash.load();
    if (found == 0 && board->places[i].hash.compare_exchange_strong(found, hash)) {
      std::snprintf(board->places[i].name, kPlaceBytes, "%.*s:%u", static_cast<int>(file.size()), file.data(), line);
      return i;
    }
    if (found == hash) return i;
  }
}

// Of the return addresses above the caller: the first few tell by which call a helper's point was reached.
std::uint64_t way() {
  constexpr int kFrames = 6;
  std::uint64_t hash = 0;
  auto* frame = static_cast<void**>(__builtin_frame_address(0));
  for (int i = 0; i < kFrames && frame != nullptr; ++i) {
    hash = mix(hash, reinterpret_cast<std::uint64_t>(frame[1]));
    auto* const above = static_cast<void**>(frame[0]);
    if (above <= frame || above > frame + 8192) break;  // not a frame of ours
    frame = above;
  }
  return hash;
}

void act(Board* board) {
  switch (action) {
    case Action::none: return;
    case Action::kill:
      board->acted.store(1);
      ::kill(::getpid(), SIGKILL);
      for (;;) ::pause();
    case Action::stop:
      board->acted.store(1);
      ::pthread_kill(::pthread_self(), SIGSTOP);  // this thread's, so that it does nothing more
      return;
    case Action::fork: {
      const pid_t child = ::fork();
      if (child < 0) std::abort();
      if (child > 0) {
        board->copy.store(child);
        board->acted.store(1);
        return;
      }
      copy = true;
      armed.store(nullptr);
      sigset_t all;
      sigfillset(&all);
      ::pthread_sigmask(SIG_UNBLOCK, &all, nullptr);  // the persister's thread has all blocked
      ::alarm(60);
      if (!goes_on_as_two) copy_elsewhere();
      return;
    }
  }
}

}  // namespace

void at(Where where) noexcept {
  Board* const board = armed.load(std::memory_order_relaxed);
  if (board == nullptr || paused > 0) return;
  if (interpose_at > 0 && --interpose_at == 0) {
    const Pause pause;
    interposed();
  }
  const std::string_view file = plain(where.file_name());
  const std::uint64_t hash = hash_of(file, where.line());
  const std::size_t place = place_of(board, file, where.line(), hash);
  const std::uint32_t time = board->places[place].times.fetch_add(1) + 1;
  if (action == Action::none) {
    const std::uint32_t hit = board->hit_count.fetch_add(1);
    if (hit < kHits) board->hits[hit] = {static_cast<std::uint32_t>(place), time, way()};
    return;
  }
  if (hash == chosen_place && time == chosen_time) act(board);
}

void arm(Board& to, Action wanted, const Point* chosen) {
  action = wanted;
  chosen_place = 0;
  if (chosen != nullptr) {
    const std::size_t colon = chosen->place.rfind(':');
    chosen_place = hash_of(std::string_view(chosen->place).substr(0, colon),
                           std::strtoul(chosen->place.c_str() + colon + 1, nullptr, 10));
    chosen_time = chosen->time;
  }
  armed.store(&to);
}

void disarm() noexcept { armed.store(nullptr); }

Pause::Pause() noexcept { ++paused; }
Pause::~Pause() { --paused; }

bool is_copy() noexcept { return copy; }
void forget_copy() noexcept { copy = false; }

std::vector<Point> choose(const Board& seen) {
  struct Way {
    std::vector<std::uint32_t> times;
  };
  std::map<std::pair<std::uint32_t, std::uint64_t>, Way> ways;
  std::vector<std::pair<std::uint32_t, std::uint64_t>> order;
  for (std::uint32_t i = 0; i < seen.hit_count.load() && i < kHits; ++i) {
    const Board::Hit& hit = seen.hits[i];
    Way& w = ways[{hit.place, hit.way}];
    if (w.times.empty()) order.emplace_back(hit.place, hit.way);
    w.times.push_back(hit.time);
  }
  std::vector<Point> chosen;
  for (const auto& key : order) {
    const std::vector<std::uint32_t>& times = ways[key].times;
    std::set<std::uint32_t> some{times.front(), times.back()};
    if (times.size() > 1) some.insert(times[1]);
    for (const std::uint32_t time : some) chosen.push_back({seen.places[key.first].name, time});
  }
  return chosen;
}

std::vector<std::string> places(const Board& seen) {
  std::vector<std::string> all;
  for (const Board::Place& place : seen.places) {
    if (place.hash.load() != 0) all.emplace_back(place.name);
  }
  return all;
}

}  // namespace spillway::points
