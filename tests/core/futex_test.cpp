#include "spillway/core/futex.h"

#include <atomic>
#include <thread>

#include "spillway/core/mapping.h"
#include "support/catch.h"
#include "support/ring_fixture.h"

namespace {

using namespace spillway_test::ring;

constexpr std::uint64_t kMinute = 60'000'000'000U;

TEST_CASE("a wait for a word that has changed already returns at once") {
  const std::atomic<std::uint32_t> word{5};
  futex_wait(word, 4, Deadline::never());
  std::atomic<std::uint32_t> other{0};
  const std::array<FutexWatch, 2> watches = {{{&other, 0}, {&word, 4}}};
  if (has_futex_wait_any()) futex_wait_any(watches, Deadline::never());
  SUCCEED("both came back");
}

TEST_CASE("a wait ends at its deadline, with no words as well") {
  const std::atomic<std::uint32_t> word{5};
  const std::array<FutexWatch, 2> watches = {{{&word, 5}, {&word, 5}}};
  for (int kind = 0; kind < 3; ++kind) {
    const std::uint64_t start = monotonic_ns();
    const Deadline deadline = Deadline::after_ns(2'000'000);
    // Each may come back early for no reason; nobody may come back so often.
    for (int i = 0; i < 1000 && !deadline.passed(); ++i) {
      if (kind == 0) futex_wait(word, 5, deadline);
      if (kind == 1) futex_wait_any(watches, deadline);
      if (kind == 2) futex_wait_any({}, deadline);
    }
    CHECK(monotonic_ns() - start >= 2'000'000);
  }
}

TEST_CASE("a sleeper is woken by a step of any of its words", "[threads]") {
  std::array<std::atomic<std::uint32_t>, 3> words{};
  for (std::size_t stepped = 0; stepped < words.size(); ++stepped) {
    std::array<FutexWatch, 3> watches;
    for (std::size_t i = 0; i < 3; ++i) watches[i] = {&words[i], words[i].load()};
    std::thread sleeper([&] {
      const Deadline deadline = Deadline::after_ns(kMinute);
      while (words[stepped].load(std::memory_order_acquire) == watches[stepped].expected && !deadline.passed()) {
        futex_wait_any(watches, deadline);
      }
    });
    words[stepped].fetch_add(1, std::memory_order_release);
    futex_wake_all(words[stepped]);
    sleeper.join();
    CHECK(words[stepped].load() == watches[stepped].expected + 1);
  }
}

TEST_CASE("waking crosses processes, and sleeping works on a read-only mapping") {
  RingPlace place;
  const Baton ready;
  const pid_t pid = in_child([&] {
    const auto p = place.attach(Access::read_only);
    auto& word = p->control().persister.progress;  // mapped read-only here
    const std::uint32_t seen = word.load(std::memory_order_acquire);
    ready.pass();
    const Deadline deadline = Deadline::after_ns(kMinute);
    while (word.load(std::memory_order_acquire) == seen && !deadline.passed()) futex_wait(word, seen, deadline);
    return word.load() == seen + 1 ? 0 : 1;
  });
  ready.await();
  const auto p = place.attach();
  p->control().persister.progress.fetch_add(1);
  futex_wake_all(p->control().persister.progress);
  CHECK(result_of(pid) == 0);
}

TEST_CASE("deadlines: now has passed, never does not, and the far future does not overflow") {
  CHECK(Deadline::now().passed());
  CHECK(Deadline::now().left_ns() == 0);
  CHECK_FALSE(Deadline::never().passed());
  CHECK(Deadline::never().left_ns() == UINT64_MAX);
  CHECK_FALSE(Deadline::after_ns(UINT64_MAX - 1).passed());
  CHECK(Deadline::after_ns(0).passed());
  CHECK(Deadline::after_ns(kMinute).left_ns() <= kMinute);
}

}  // namespace
