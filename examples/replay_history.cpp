// History first, then live, in one loop: a service builds its state from everything that was ever said and then goes on
// with what is being said.
//
//   example_replay_history              writes some history if there is none, replays it, then reads live for a second
//   example_replay_history --seconds N  meanwhile: echo 5 | spillway pub example_deposits
//
// The ring holds 64 KiB and the history is far longer, so the beginning is read from segment files. The handler can't tell
// and need not: the offsets go on without a seam.
#include <spillway/spillway.h>

#include <atomic>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kHistoryRecords = 100'000;

bool deposit(spillway::SharedProducer& producer, int amount) {
  const spillway::Appended sent = producer.append(std::to_string(amount));
  if (!sent) std::fprintf(stderr, "deposit: %s\n", std::string(name_of(sent.status)).c_str());
  return static_cast<bool>(sent);
}

// The state that is built from the log.
struct Account {
  std::int64_t balance = 0;
  std::uint64_t deposits = 0;
  std::uint64_t gaps = 0;

  spillway::PollResult follow(spillway::Consumer& log) {
    return log.poll(
        std::chrono::milliseconds(100),
        [this](const spillway::Record& record) {
          balance += std::atoi(std::string(record.text()).c_str());
          ++deposits;
        },
        [this](const spillway::Gap& gap) {
          std::fprintf(stderr, "offsets %" PRIu64 " to %" PRIu64 " can't be had (%s): the balance is not complete\n",
                       gap.from, gap.to, std::string(name_of(gap.cause)).c_str());
          ++gaps;
        });
  }
};

bool bad(const spillway::PollResult& result) {
  using spillway::PollState;
  return result.state == PollState::corrupt || result.state == PollState::unsupported ||
         result.state == PollState::failed;
}

int run(std::chrono::seconds seconds) {
  const spillway::Domain domain;
  auto topic = domain.open_or_create(
      "example_deposits", {.ring = 64 * spillway::kKiB, .segment = spillway::kMiB, .retain = 64 * spillway::kMiB});
  auto producer = topic.shared_producer();
  auto log = topic.consumer({.from = spillway::From::earliest});
  if (log.ends().front().offset == log.offset(0)) {
    for (int i = 0; i < kHistoryRecords; ++i) {
      if (!deposit(producer, i % 100)) return 1;
    }
  }

  const auto begin = Clock::now();
  const spillway::Offset end_of_history = log.ends().front().offset;
  Account account;
  while (log.offset(0) < end_of_history) {
    const auto result = account.follow(log);
    if (bad(result)) {
      std::fprintf(stderr, "replay: %s\n", std::string(name_of(result.state)).c_str());
      return 1;
    }
    if (result.records == 0 && result.state == spillway::PollState::idle) break;  // only padding was left
  }
  std::printf("history: %" PRIu64 " deposits in %.0f ms, balance %" PRId64 "\n", account.deposits,
              std::chrono::duration<double, std::milli>(Clock::now() - begin).count(), account.balance);

  // From here on it is live: somebody deposits while we read. The same loop, the same handler.
  std::atomic<bool> stop{false};
  std::thread depositor([&] {
    while (!stop.load() && deposit(producer, 1)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  bool failed = false;
  for (const auto end = Clock::now() + seconds; Clock::now() < end && !failed;) failed = bad(account.follow(log));
  stop.store(true);
  depositor.join();
  std::printf("live: %" PRIu64 " deposits by now, balance %" PRId64 "\n", account.deposits, account.balance);
  producer.close();
  return !failed && topic.close(std::chrono::seconds(30)) == spillway::Durable::yes ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  int seconds = 1;
  if (argc == 3 && std::strcmp(argv[1], "--seconds") == 0) {
    seconds = std::atoi(argv[2]);
  } else if (argc != 1) {
    std::fprintf(stderr, "usage: example_replay_history [--seconds N]\n");
    return 2;
  }
  try {
    return run(std::chrono::seconds(seconds));
  } catch (const spillway::Error& error) {
    std::fprintf(stderr, "replay_history: %s\n", error.what());
    return 1;
  }
}
