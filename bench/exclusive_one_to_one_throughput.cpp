// One exclusive producer, one live consumer, two processes on two cores, an ephemeral topic.
//
//   [core 0] producer --append--> ring --poll, copied--> consumer [core 1]
//   floor: the same two cores, a ring of the same size in bare memory, records of the same stride, a word stored last and
//          looked at first, nothing else: what the machine itself moves from core to core
//
// Timed: the consumer's clock from its first to its last record. Checked: every record's number and, at the end, its count;
// on a topic that does not gate, a lapped consumer would show as a gap and fail the run, so the topic gates. Rounds of floor
// and subject in turn, because what two virtual cores can do changes by a factor of three as the host moves them about.
// With --stopped also the same beside a stopped second consumer, which must not change the producer's rate.
//   exclusive_one_to_one_throughput [--bytes 32] [--records 10000000] [--rounds 15] [--stopped]
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "harness.h"

using namespace spillway;
using namespace spillway::bench;

namespace {

struct Setting {
  std::size_t bytes;
  std::uint64_t records;
  bool gating;
};

int consume(const DomainOptions& options, Board& board, const Setting& setting) {
  const Topic topic = Domain(options).open("stream");
  Consumer consumer =
      topic.consumer({.from = From::earliest, .wait = Wait::spin, .gating = setting.gating, .name = "bench"});
  board.ready.fetch_add(1);
  std::uint64_t expected = 0, wrong = 0, start = 0, gaps = 0;
  while (expected < setting.records) {
    consumer.poll(
        [&](const Record& record) {
          std::uint64_t number = 0;
          std::memcpy(&number, record.payload().data(), sizeof number);
          wrong += number != expected;
          if (expected == 0) start = monotonic_ns();
          ++expected;
        },
        [&](const Gap&) { ++gaps; });
    if (gaps > 0) return 1;
  }
  board.results[0].store(monotonic_ns() - start);
  return wrong == 0 ? 0 : 1;
}

double million_per_second(std::uint64_t records, std::uint64_t ns) {
  return static_cast<double>(records) * 1e3 / static_cast<double>(ns);
}

// Million records a second.
double floor_round(const Setting& setting) {
  constexpr std::uint64_t kRing = 16 * kMiB, kChunk = 64 * kKiB;
  const std::uint64_t stride = record_bytes(setting.bytes);
  Board& board = new_board();
  std::byte* const ring = new_shared_memory(kRing);
  const auto place_of = [&](std::uint64_t offset) {  // no record crosses the end
    const std::uint64_t index = offset & (kRing - 1);
    return index + stride > kRing ? offset + kRing - index : offset;
  };
  const auto word_at = [&](std::uint64_t offset) -> std::atomic<std::uint64_t>& {
    return *reinterpret_cast<std::atomic<std::uint64_t>*>(ring + (offset & (kRing - 1)));
  };
  const int producer = start_child(
      [&] {
        std::vector<std::byte> payload(setting.bytes);
        std::uint64_t offset = 0, limit = kRing;
        while (board.go.load() == 0) cpu_relax();
        for (std::uint64_t i = 0; i < setting.records; ++i) {
          offset = place_of(offset);
          while (offset + stride > limit) limit = std::min(board.back.load() + kRing, offset + kChunk);
          std::memcpy(payload.data(), &i, sizeof i);
          copy_to_ring(ring + (offset & (kRing - 1)) + 16, payload.data(), payload.size());
          word_at(offset).store(offset + 1, std::memory_order_release);
          offset += stride;
        }
        return 0;
      },
      0);
  const int consumer = start_child([&] {
    std::vector<std::byte> payload(setting.bytes);
    std::uint64_t offset = 0, wrong = 0;
    pause_about(10);  // it measures itself when first called
    board.go.store(1);
    const std::uint64_t start = monotonic_ns();
    for (std::uint64_t i = 0; i < setting.records; ++i) {
      offset = place_of(offset);
      if (i % 4096 == 0) board.back.store(offset, std::memory_order_release);
      while (word_at(offset).load(std::memory_order_acquire) != offset + 1) pause_about(1'200);
      copy_from_ring(payload.data(), ring + (offset & (kRing - 1)) + 16, payload.size());
      std::uint64_t number = 0;
      std::memcpy(&number, payload.data(), sizeof number);
      wrong += number != i;
      offset += stride;
    }
    board.results[0].store(monotonic_ns() - start);
    return wrong == 0 ? 0 : 1;
  });
  join_child(producer, "floor's producer");
  join_child(consumer, "floor's consumer");
  return million_per_second(setting.records, board.results[0].load());
}

// Returns {million records a second at the consumer, at the producer}.
std::pair<double, double> round(const Setting& setting, bool stopped) {
  TemporaryDomain place;
  Board& board = new_board();
  {
    // Made by a child: this process must not have threads when it forks the next ones.
    join_child(start_child([&] {
                 Domain(place.options()).open_or_create("stream", {.ephemeral = true});
                 return 0;
               }),
               "creation");
  }
  int other = 0;
  const int creator = start_child(
      [&] {
        // The ring exists once a writer has been there; the consumers then attach to it.
        Domain domain(place.options());
        Topic topic = domain.open("stream");
        ExclusiveProducer producer = topic.exclusive_producer({.deadline_ns = UINT64_MAX});
        board.ready.fetch_add(1);
        while (board.go.load() == 0) cpu_relax();
        std::vector<std::byte> payload(setting.bytes);
        const std::uint64_t start = monotonic_ns();
        for (std::uint64_t i = 0; i < setting.records; ++i) {
          std::memcpy(payload.data(), &i, sizeof i);
          if (!producer.append(std::span<const std::byte>(payload))) return 1;
        }
        board.results[1].store(monotonic_ns() - start);
        return 0;
      },
      0);
  while (board.ready.load() < 1) cpu_relax();
  if (stopped) {
    other = start_child([&] {
      const Topic topic = Domain(place.options()).open("stream");
      Consumer consumer = topic.consumer({.from = From::earliest});
      board.ready.fetch_add(1);
      for (;;) consumer.poll(std::chrono::seconds(1), [](const Record&) {});
      return 0;
    });
    while (board.ready.load() < 2) cpu_relax();
    ::kill(other, SIGSTOP);
  }
  const std::uint64_t seen = board.ready.load();
  const int consumer = start_child([&] { return consume(place.options(), board, setting); });
  while (board.ready.load() <= seen) cpu_relax();
  board.go.store(1);
  join_child(creator, "producer");
  join_child(consumer, "consumer");
  if (stopped) {
    ::kill(other, SIGKILL);
    ::waitpid(other, nullptr, 0);
  }
  return {million_per_second(setting.records, board.results[0].load()),
          million_per_second(setting.records, board.results[1].load())};
}

}  // namespace

int main(int argc, char** argv) {
  const Setting setting = {number_option(argc, argv, "--bytes", 32), number_option(argc, argv, "--records", 10'000'000),
                           true};
  const bool stopped = has_option(argc, argv, "--stopped");
  std::vector<double> floor, alone, of_floor, producer_alone, producer_beside, beside;
  for (std::uint64_t i = 0; i < number_option(argc, argv, "--rounds", 15); ++i) {
    floor.push_back(floor_round(setting));
    const auto [consumer, producer] = round(setting, false);
    alone.push_back(consumer);
    producer_alone.push_back(producer);
    of_floor.push_back(consumer / floor.back());
    if (!stopped) continue;
    producer_beside.push_back(round(setting, true).second);
    beside.push_back(producer_beside.back() / producer);
  }
  std::printf("exclusive one to one, %zu B: %s million records/s\n", setting.bytes, spread(alone).c_str());
  std::printf("bare memory (floor):        %s million records/s; ratio %s\n", spread(floor).c_str(),
              spread(of_floor).c_str());
  if (stopped) {
    std::printf("the producer alone: %s; beside a stopped consumer: %s million records/s; ratio %s\n",
                spread(producer_alone).c_str(), spread(producer_beside).c_str(), spread(beside).c_str());
  }
  return 0;
}
