// A record there and a record back, and the floor of any such exchange in the same run.
//
//   [core 0] ping --ring A--> [core 1] pong --ring B--> ping
//   floor: the same two cores pass one number through one cache line each way
//
// Timed: whole round trips, each on its own. Checked: the number that comes back. Rounds of floor and subject in turn.
//   exclusive_ping_pong_latency [--trips 200000] [--rounds 7]
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
  double p50, p99, p999, mean;
};

Percentiles percentiles(std::vector<std::uint32_t> ns) {
  std::sort(ns.begin(), ns.end());
  const auto at = [&](double q) {
    return static_cast<double>(ns[static_cast<std::size_t>(q * static_cast<double>(ns.size() - 1))]);
  };
  double sum = 0;
  for (const auto v : ns) sum += v;
  return {at(0.5), at(0.99), at(0.999), sum / static_cast<double>(ns.size())};
}

Percentiles floor_round(std::uint64_t trips) {
  Board& board = new_board();
  const int child = start_child([&] {
    for (std::uint64_t i = 1; i <= trips; ++i) {
      while (board.there.load(std::memory_order_acquire) != i) cpu_relax();
      board.back.store(i, std::memory_order_release);
    }
    return 0;
  });
  std::vector<std::uint32_t> took;
  took.reserve(trips);
  for (std::uint64_t i = 1; i <= trips; ++i) {
    const std::uint64_t start = monotonic_ns();
    board.there.store(i, std::memory_order_release);
    while (board.back.load(std::memory_order_acquire) != i) cpu_relax();
    took.push_back(static_cast<std::uint32_t>(monotonic_ns() - start));
  }
  join_child(child, "floor's other side");
  return percentiles(std::move(took));
}

// Receives exactly one message.
bool receive(TypedConsumer<Message>& consumer, std::uint64_t expected) {
  std::uint64_t got = UINT64_MAX;
  while (got == UINT64_MAX) consumer.poll([&](const Message& m) { got = m.number; });
  return got == expected;
}

Percentiles subject_round(std::uint64_t trips) {
  TemporaryDomain place;
  Board& board = new_board();
  const TopicOptions options = {.ephemeral = true};
  std::vector<std::uint32_t> took;
  // Each side makes its own ring before the other reads it.
  const int pong = start_child([&] {
    Domain domain(place.options());
    auto back = domain.open_or_create<Message>("back", options);
    auto producer = back.exclusive_producer();
    board.ready.fetch_add(1);
    while (board.go.load() == 0) cpu_relax();
    auto consumer = domain.open<Message>("there").consumer({.from = From::earliest, .wait = Wait::spin});
    for (std::uint64_t i = 0; i < trips; ++i) {
      if (!receive(consumer, i)) return 1;
      producer.append(Message{i, {}});
    }
    return 0;
  });
  const int ping = start_child(
      [&] {
        Domain domain(place.options());
        auto there = domain.open_or_create<Message>("there", options);
        auto producer = there.exclusive_producer();
        while (board.ready.load() == 0) cpu_relax();
        auto consumer = domain.open<Message>("back").consumer({.from = From::earliest, .wait = Wait::spin});
        board.go.store(1);
        std::vector<std::uint32_t> ns;
        ns.reserve(trips);
        for (std::uint64_t i = 0; i < trips; ++i) {
          const std::uint64_t start = monotonic_ns();
          producer.append(Message{i, {}});
          if (!receive(consumer, i)) return 1;
          ns.push_back(static_cast<std::uint32_t>(monotonic_ns() - start));
        }
        const Percentiles p = percentiles(std::move(ns));
        const double values[] = {p.p50, p.p99, p.p999, p.mean};
        for (int i = 0; i < 4; ++i) board.results[i].store(static_cast<std::uint64_t>(values[i]));
        return 0;
      },
      0);
  join_child(ping, "ping side");
  join_child(pong, "pong side");
  const auto value = [&](int i) { return static_cast<double>(board.results[i].load()); };
  return {value(0), value(1), value(2), value(3)};
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t trips = number_option(argc, argv, "--trips", 200'000);
  pin_to(0);
  std::vector<double> floor50, floor999, subject50, subject999, ratio;
  for (std::uint64_t i = 0; i < number_option(argc, argv, "--rounds", 7); ++i) {
    const Percentiles f = floor_round(trips), s = subject_round(trips);
    floor50.push_back(f.p50);
    floor999.push_back(f.p999);
    subject50.push_back(s.p50);
    subject999.push_back(s.p999);
    ratio.push_back(s.p50 / f.p50);
  }
  std::printf("round trip, 32 B:      p50 %s ns, p99.9 %s ns\n", spread(subject50).c_str(), spread(subject999).c_str());
  std::printf("cache line's (floor):  p50 %s ns, p99.9 %s ns\n", spread(floor50).c_str(), spread(floor999).c_str());
  std::printf("ratio of p50s:         %s\n", spread(ratio).c_str());
  return 0;
}
