// Goal: a log's clock is the wall clock's time at birth and the host's uptime from then on, and never goes back.
// Method: uptime is moved on for this process; identities stand for rings that were made at other times.
#include "spillway/ipc/log_clock.h"

#include "spillway/core/clock.h"
#include "support/catch.h"

using namespace spillway;

namespace {

constexpr std::uint64_t kHour = 3'600'000'000'000;

LogClock clock_of(std::uint64_t born_ns, std::uint64_t born_uptime_ns) {
  Identity identity{};
  identity.born_ns = born_ns;
  identity.born_uptime_ns = born_uptime_ns;
  return LogClock(identity);
}

std::uint64_t host_uptime_ns() { return uptime_ns(uptime_shift_ns()); }

}  // namespace

TEST_CASE("a log's clock is born at the wall clock's time, or at that of the newest record if it is later") {
  const std::uint64_t before = wall_ns();
  CHECK(LogClock::born_now(0).born_ns() >= before);
  CHECK(LogClock::born_now(before - kHour).born_ns() >= before);
  const std::uint64_t future = before + 1000 * kHour;
  CHECK(LogClock::born_now(future).born_ns() == future);
  CHECK(LogClock::born_now(UINT64_MAX).born_ns() == kBornNsMax);
  CHECK(LogClock::born_now(0, UINT64_MAX).born_ns() == 0);
  const std::uint64_t behind = LogClock::born_now(before - 3 * kHour, 2 * kHour).born_ns();
  CHECK(behind >= before - 2 * kHour);
  CHECK(behind < before - kHour);
  CHECK(LogClock::born_now(before - kHour, 2 * kHour).born_ns() == before - kHour);
}

TEST_CASE("a log's clock goes on with the uptime, for whoever attaches") {
  const LogClock creator = LogClock::born_now(0);
  const LogClock other = clock_of(creator.born_ns(), creator.born_uptime_ns());
  const std::uint64_t then = creator.now_ns();
  CHECK(then >= creator.born_ns());
  skip_uptime(kHour);
  const std::uint64_t now = other.now_ns();
  CHECK(now >= then + kHour);
  CHECK(creator.now_ns() >= now);
}

TEST_CASE("a clock whose ring has outlived the host stands still and does not go back") {
  const std::uint64_t later = host_uptime_ns() + 2 * kHour;
  const LogClock clock = clock_of(5 * kHour, later);
  CHECK(clock.now_ns() == 5 * kHour);
  skip_uptime(kHour);
  CHECK(clock.now_ns() == 5 * kHour);
  skip_uptime(2 * kHour);
  CHECK(clock.now_ns() >= 6 * kHour);
  CHECK(clock_of(kBornNsMax, 0).now_ns() >= kBornNsMax);
}
