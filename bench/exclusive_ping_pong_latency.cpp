// A record there and a record back, and the floor of any such exchange in the same run.
//
//   [core 0] ping --ring A--> [core 1] pong --ring B--> ping
//   floor: the same two cores pass one number through one cache line each way
//
// Timed: whole round trips, each on its own. Checked: the number that comes back. Floor and subject in turn, a few thousand
// trips at a time in the same two processes, because the distance of two virtual cores changes as the host moves them about.
//   exclusive_ping_pong_latency [--trips 2000] [--rounds 200]
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "harness.h"

using namespace spillway;
using namespace spillway::bench;

namespace {

struct Message {
  std::uint64_t number;
  std::uint64_t rest[3];
};
static_assert(sizeof(Message) == 32);

struct Percentiles {
  double p50, p999;
};

Percentiles percentiles(std::vector<std::uint32_t> ns) {
  std::sort(ns.begin(), ns.end());
  const auto at = [&](double q) {
    return static_cast<double>(ns[static_cast<std::size_t>(q * static_cast<double>(ns.size() - 1))]);
  };
  return {at(0.5), at(0.999)};
}

// Receives exactly one message.
bool receive(TypedConsumer<Message>& consumer, std::uint64_t expected) {
  std::uint64_t got = UINT64_MAX;
  while (got == UINT64_MAX) consumer.poll([&](const Message& m) { got = m.number; });
  return got == expected;
}

struct Setting {
  std::uint64_t trips;
  std::uint64_t rounds;
};

// Answers: floor and subject in turn, as ping() asks.
int pong(const DomainOptions& options, Board& board, const Setting& setting) {
  Domain domain(options);
  auto producer = domain.open_or_create<Message>("back", {.ephemeral = true}).exclusive_producer();
  board.ready.fetch_add(1);
  while (board.go.load() == 0) cpu_relax();
  auto consumer = domain.open<Message>("there").consumer({.from = From::earliest, .wait = Wait::spin});
  std::uint64_t number = 0;
  for (std::uint64_t round = 0; round < setting.rounds; ++round) {
    for (std::uint64_t i = 1; i <= setting.trips; ++i) {
      const std::uint64_t expected = round * setting.trips + i;
      while (board.there.load(std::memory_order_acquire) != expected) cpu_relax();
      board.back.store(expected, std::memory_order_release);
    }
    for (std::uint64_t i = 0; i < setting.trips; ++i, ++number) {
      if (!receive(consumer, number) || !producer.append(Message{number, {}})) return 1;
    }
  }
  return 0;
}

int ping(const DomainOptions& options, Board& board, const Setting& setting) {
  Domain domain(options);
  auto producer = domain.open_or_create<Message>("there", {.ephemeral = true}).exclusive_producer();
  while (board.ready.load() == 0) cpu_relax();
  auto consumer = domain.open<Message>("back").consumer({.from = From::earliest, .wait = Wait::spin});
  board.go.store(1);
  std::uint64_t number = 0;
  std::vector<double> floor50, floor999, subject50, subject999, ratio;
  std::vector<std::uint32_t> took(setting.trips);
  for (std::uint64_t round = 0; round < setting.rounds; ++round) {
    for (std::uint64_t i = 1; i <= setting.trips; ++i) {
      const std::uint64_t start = monotonic_ns();
      board.there.store(round * setting.trips + i, std::memory_order_release);
      while (board.back.load(std::memory_order_acquire) != round * setting.trips + i) cpu_relax();
      took[i - 1] = static_cast<std::uint32_t>(monotonic_ns() - start);
    }
    const Percentiles floor = percentiles(took);
    for (std::uint64_t i = 0; i < setting.trips; ++i, ++number) {
      const std::uint64_t start = monotonic_ns();
      if (!producer.append(Message{number, {}}) || !receive(consumer, number)) return 1;
      took[i] = static_cast<std::uint32_t>(monotonic_ns() - start);
    }
    const Percentiles subject = percentiles(took);
    floor50.push_back(floor.p50);
    floor999.push_back(floor.p999);
    subject50.push_back(subject.p50);
    subject999.push_back(subject.p999);
    ratio.push_back(subject.p50 / floor.p50);
  }
  std::printf("round trip, 32 B:      p50 %s ns, p99.9 %s ns\n", middle(subject50).c_str(), middle(subject999).c_str());
  std::printf("cache line's (floor):  p50 %s ns, p99.9 %s ns\n", middle(floor50).c_str(), middle(floor999).c_str());
  std::printf("ratio of p50s:         %s\n", middle(ratio).c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const Setting setting = {number_option(argc, argv, "--trips", 2'000), number_option(argc, argv, "--rounds", 200)};
  const TemporaryDomain place;
  Board& board = new_board();
  const int other = start_child([&] { return pong(place.options(), board, setting); });
  const int asking = start_child([&] { return ping(place.options(), board, setting); }, 0);
  join_child(asking, "ping side");
  join_child(other, "pong side");
  return 0;
}
