// One exclusive producer, one live consumer, two processes on two cores, an ephemeral topic.
//
//   [core 0] producer --append--> ring --poll, copied--> consumer [core 1]
//
// Timed: the consumer's clock from its first to its last record. Checked: every record's number and, at the end, its count;
// on a topic that does not gate, a lapped consumer would show as a gap and fail the run, so the topic gates.
// Compare: the same with a stopped second consumer (--stopped), which must not change the producer's rate.
//   exclusive_one_to_one_throughput [--bytes 32] [--records 50000000] [--rounds 5] [--stopped]
#include <signal.h>
#include <sys/wait.h>

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
  const auto rate = [&](std::uint64_t ns) {
    return static_cast<double>(setting.records) * 1e3 / static_cast<double>(ns);
  };
  return {rate(board.results[0].load()), rate(board.results[1].load())};
}

}  // namespace

int main(int argc, char** argv) {
  const Setting setting = {number_option(argc, argv, "--bytes", 32), number_option(argc, argv, "--records", 50'000'000),
                           true};
  const bool stopped = has_option(argc, argv, "--stopped");
  std::vector<double> alone, beside;
  for (std::uint64_t i = 0; i < number_option(argc, argv, "--rounds", 5); ++i) {
    alone.push_back(round(setting, false).first);
    if (stopped) beside.push_back(round(setting, true).first);
  }
  std::printf("exclusive one to one, %zu B: %s million records/s\n", setting.bytes, spread(alone).c_str());
  if (stopped) {
    std::printf("with a stopped consumer:    %s million records/s; ratio of medians %.3f\n", spread(beside).c_str(),
                median(beside) / median(alone));
  }
  return 0;
}
