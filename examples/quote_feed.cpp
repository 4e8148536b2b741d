// A typed quote feed and a strategy that reads it: two processes, one ephemeral topic, no system call on either side.
//
//   example_quote_feed                 both, for two seconds
//   example_quote_feed feed            in one terminal
//   example_quote_feed strategy        in another; start as many as you like
//   example_quote_feed [feed|strategy] --seconds N
//
// The feed writes each quote in place. The strategy spins, so it takes a core; what it can't keep up with it is told of as
// a gap. The feed never notices either.
#include <spillway/spillway.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

using Clock = std::chrono::steady_clock;

struct Quote {
  std::uint64_t sent_ns;
  std::uint32_t instrument;
  std::uint32_t bid;  // in ticks
  std::uint32_t ask;
  std::uint32_t unused;
};

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count());
}

spillway::TypedTopic<Quote> open_quotes(const spillway::Domain& domain) {
  return domain.open_or_create<Quote>("example_quotes", {.wakeups = false, .ephemeral = true, .schema = "quote.v1"});
}

int feed(std::chrono::seconds seconds) {
  const spillway::Domain domain;
  auto producer = open_quotes(domain).exclusive_producer();
  std::uint32_t price = 100'000;
  std::uint64_t random = 88'172'645'463'325'252U;
  std::uint64_t sent = 0;
  for (const auto end = Clock::now() + seconds; Clock::now() < end;) {
    random ^= random << 13U;
    random ^= random >> 7U;
    random ^= random << 17U;
    price += static_cast<std::uint32_t>(random % 3) - 1;
    auto quote = producer.claim();
    if (!quote) {
      std::fprintf(stderr, "feed: %s\n", std::string(name_of(quote.status())).c_str());
      return 1;
    }
    *quote = {now_ns(), static_cast<std::uint32_t>(random >> 60U), price, price + 1, 0};
    quote.commit();
    ++sent;
    // A real feed waits for its exchange here; this one for about two microseconds.
    spillway::pause_about(2'000);
  }
  std::printf("feed: %llu quotes sent\n", static_cast<unsigned long long>(sent));
  return 0;
}

int strategy(std::chrono::seconds seconds) {
  const spillway::Domain domain;
  auto quotes =
      open_quotes(domain).consumer({.from = spillway::From::latest, .wait = spillway::Wait::spin, .name = "strategy"});
  std::uint64_t seen = 0, missed_bytes = 0, age_ns = 0, youngest_ns = UINT64_MAX;
  const auto end = Clock::now() + seconds;
  while (Clock::now() < end) {
    const auto result = quotes.poll(
        std::chrono::milliseconds(10),
        [&](const Quote& quote) {
          const std::uint64_t age = now_ns() - quote.sent_ns;
          age_ns += age;
          if (age < youngest_ns) youngest_ns = age;
          ++seen;
        },
        [&](const spillway::Gap& gap) { missed_bytes += gap.to - gap.from; });
    if (result.state == spillway::PollState::corrupt) {
      std::fprintf(stderr, "strategy: a record is not a quote\n");
      return 1;
    }
  }
  if (seen == 0) {
    std::printf("strategy: no quotes; is a feed running?\n");
    return 0;
  }
  std::printf("strategy: %llu quotes read, %llu bytes missed; age at least %llu ns, on average %llu ns\n",
              static_cast<unsigned long long>(seen), static_cast<unsigned long long>(missed_bytes),
              static_cast<unsigned long long>(youngest_ns), static_cast<unsigned long long>(age_ns / seen));
  return 0;
}

// Two processes. The fork comes before anything of Spillway is opened, so each has handles of its own.
int both(std::chrono::seconds seconds) {
  const pid_t child = ::fork();
  if (child < 0) {
    std::perror("fork");
    return 1;
  }
  if (child == 0) return feed(seconds);
  const int status = strategy(seconds);
  int feed_status = 0;
  ::waitpid(child, &feed_status, 0);
  return status != 0 || feed_status != 0 ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::chrono::seconds seconds(2);
  const char* mode = "both";
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
      seconds = std::chrono::seconds(std::atoi(argv[++i]));
    } else {
      mode = argv[i];
    }
  }
  try {
    if (std::strcmp(mode, "feed") == 0) return feed(seconds);
    if (std::strcmp(mode, "strategy") == 0) return strategy(seconds);
    if (std::strcmp(mode, "both") == 0) return both(seconds);
  } catch (const spillway::Error& error) {
    std::fprintf(stderr, "quote_feed: %s\n", error.what());
    return 1;
  }
  std::fprintf(stderr, "usage: example_quote_feed [feed|strategy] [--seconds N]\n");
  return 2;
}
