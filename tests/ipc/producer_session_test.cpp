// Who may produce beside whom, and what it takes.
#include "spillway/ipc/producer_session.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <atomic>
#include <thread>

#include "spillway/ipc/repair.h"
#include "support/catch.h"
#include "support/ring_fixture.h"

namespace {

using namespace spillway_test::ring;

TEST_CASE("an exclusive producer excludes both kinds, and is named") {
  RingPlace place;
  ExclusiveProducer first(place.attach(), {});
  const std::string me = "pid " + std::to_string(::getpid());
  std::string sentence;
  CHECK(code_of([&] { ExclusiveProducer(place.attach(), {}); }, &sentence) == Code::busy);
  CHECK(sentence.find("exclusive producer") != std::string::npos);
  CHECK(sentence.find(me) != std::string::npos);
  CHECK(code_of([&] { SharedProducer(place.attach(), {}); }, &sentence) == Code::busy);
  CHECK(sentence.find(me) != std::string::npos);
  CHECK(first.append("untouched"));
}

TEST_CASE("shared producers exclude an exclusive one, and go on beside each other") {
  RingPlace place;
  SharedProducer a(place.attach(), {}), b(place.attach(), {});
  std::string sentence;
  CHECK(code_of([&] { ExclusiveProducer(place.attach(), {}); }, &sentence) == Code::busy);
  CHECK(sentence.find("shared producers") != std::string::npos);
  CHECK(a.append("a"));
  CHECK(b.append("b"));
  CHECK_NOTHROW(SharedProducer(place.attach(), {}));
}

TEST_CASE("a failed attach leaves nothing locked") {
  RingPlace place;
  {
    SharedProducer shared(place.attach(), {});
    for (int i = 0; i < 3; ++i) CHECK(code_of([&] { ExclusiveProducer(place.attach(), {}); }) == Code::busy);
    CHECK_NOTHROW(SharedProducer(place.attach(), {}));
  }
  CHECK_NOTHROW(ExclusiveProducer(place.attach(), {}));
}

// Somebody who tries to become the exclusive producer beside shared ones holds the "alone" byte for a moment.
TEST_CASE("a shared producer attaches beside others while somebody tries in vain to be the exclusive one") {
  RingPlace place;
  SharedProducer first(place.attach(), {});
  const FileLock trying = FileLock::try_lock(place.paths().mode_lock(), LockMode::exclusive, 1);
  REQUIRE(trying);
  CHECK_NOTHROW(SharedProducer(place.attach(), {}));
}

TEST_CASE("a killed exclusive producer stands in nobody's way, reaped or not") {
  RingPlace place;
  const Baton ready;
  const pid_t pid = in_child([&] {
    ExclusiveProducer producer(place.attach(), {});
    if (!producer.append("of the dead")) return 1;
    ready.pass();
    die_now();
  });
  ready.await();
  siginfo_t info;
  REQUIRE(::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) == 0);
  PartitionReader reader = live_reader(place.attach());
  reader.start_at_boundary(0);
  {
    ExclusiveProducer next(place.attach(), {});
    REQUIRE(next.append("of the living"));
  }
  CHECK(texts(drain(reader).records) == std::vector<std::string>{"of the dead", "of the living"});
  CHECK(result_of(pid) == 1000 + SIGKILL);
}

TEST_CASE("all slots taken: an error that counts them, one given back is enough") {
  RingPlace place;
  const auto p = place.attach();
  std::vector<FileLock> others;
  for (std::size_t i = 1; i < kProducerSlots; ++i) {
    others.push_back(FileLock::try_lock(place.paths().slots_lock(), LockMode::exclusive, i));
    REQUIRE(others.back());
  }
  SharedProducer last(p, {});
  std::string sentence;
  CHECK(code_of([&] { SharedProducer(p, {}); }, &sentence) == Code::no_slot);
  CHECK(sentence.find("128") != std::string::npos);
  others.erase(others.begin() + 50);
  CHECK_NOTHROW(SharedProducer(p, {}));
}

TEST_CASE("slots of the dead with unsettled notes are not handed out, though nobody holds them") {
  RingPlace place({.ephemeral = false});  // or attaching would repair
  const auto p = place.attach();
  SharedProducer first(p, {});
  const Offset h = p->control().claims.reserved_end.fetch_add(64);
  for (std::size_t i = 1; i < kProducerSlots; ++i) {
    p->control().slots[i].end.store(h + 64);
    p->control().slots[i].start_state.store(h | 2);
  }
  CHECK(code_of([&] { SharedProducer(p, {}); }) == Code::no_slot);
  REQUIRE(repair_claim_at_committed_end(*p) == RepairResult::repaired);
  CHECK_NOTHROW(SharedProducer(p, {}));
}

TEST_CASE("without a descriptor left attaching is an error, and nobody is taken for dead") {
#if defined(__SANITIZE_ADDRESS__)
  SPILLWAY_SKIP("UndefinedBehaviorSanitizer needs a descriptor itself to look at an exception's type");
#endif
  RingPlace place;
  const auto p = place.attach();
  SharedProducer alive(p, {});
  auto claim = alive.claim(32);
  REQUIRE(claim);
  rlimit before = {};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const FileDescriptor next = open_file(place.paths().ring, O_RDONLY);
  const rlimit few = {static_cast<rlim_t>(next.get()), before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
  std::string sentence;
  const Code code = code_of([&] { SharedProducer(p, {}); }, &sentence);
  const RepairResult repair = repair_claim_at_committed_end(*p);
  ::setrlimit(RLIMIT_NOFILE, &before);
  CHECK(code == Code::io);
  CHECK(sentence.find("ulimit -n") != std::string::npos);
  CHECK(repair == RepairResult::busy);
  CHECK(claim.commit());
}

TEST_CASE("the mode changes only while no repairer is at work", "[threads]") {
  RingPlace place;
  const auto p = place.attach();
  {
    SharedProducer last(p, {});
  }
  FileLock repairer = FileLock::try_lock(place.paths().repair_lock(), LockMode::exclusive);
  REQUIRE(repairer);
  std::atomic<bool> attached{false};
  std::thread attacher([&] {
    ExclusiveProducer producer(p, {});
    attached.store(true);
  });
  for (int i = 0; i < 50; ++i) std::this_thread::yield();
  CHECK_FALSE(attached.load());
  CHECK(p->control().notices.mode.load() == ProducerMode::shared);
  repairer.unlock();
  attacher.join();
  CHECK(attached.load());
  CHECK(p->control().notices.mode.load() == ProducerMode::exclusive);
}

TEST_CASE("many attach at once, in both modes: one exclusive producer or several shared ones, never both",
          "[threads]") {
  RingPlace place({.ring_bytes = 4 * kMiB});  // each exclusive one takes a chunk
  const auto p = place.attach();
  std::atomic<int> exclusive{0}, shared{0}, together{0}, attached{0}, wrong_code{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 25; ++i) {
        try {
          if ((t + i) % 2 == 0) {
            ExclusiveProducer producer(p, {});
            if (exclusive.fetch_add(1) != 0 || shared.load() != 0) together.fetch_add(1);
            if (producer.append("e")) attached.fetch_add(1);
            exclusive.fetch_sub(1);
          } else {
            SharedProducer producer(p, {});
            shared.fetch_add(1);
            if (exclusive.load() != 0) together.fetch_add(1);
            if (producer.append("s")) attached.fetch_add(1);
            shared.fetch_sub(1);
          }
        } catch (const Error& e) {
          if (e.code() != Code::busy) wrong_code.fetch_add(1);
        }
      }
    });
  }
  for (std::thread& t : threads) t.join();
  CHECK(together == 0);
  CHECK(wrong_code == 0);
  CHECK(attached > 0);
  PartitionReader reader = live_reader(p);
  reader.start_at_boundary(0);
  CHECK(drain(reader).records.size() == static_cast<std::size_t>(attached));
}

TEST_CASE("what stat shows of a producer is there while it lives, and is cleared when it goes") {
  RingPlace place;
  const auto p = place.attach();
  const auto& slot = p->control().slots[0];
  {
    SharedProducer producer(p, {});
    CHECK(slot.mode.load() == ProducerMode::shared);
    CHECK(slot.pid.load() == static_cast<std::uint32_t>(::getpid()));
    CHECK(slot.since_ns.load() > 0);
  }
  CHECK(slot.mode.load() == ProducerMode::none);
  CHECK(slot.pid.load() == 0);
}

}  // namespace
