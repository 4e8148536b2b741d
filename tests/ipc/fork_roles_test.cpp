// A fork in every role: the child's handles answer `forked` and touch nothing; the parent goes on as if nothing had been.
#include "spillway/core/fork.h"
#include "spillway/ipc/repair.h"
#include "support/catch.h"
#include "support/ring_fixture.h"

namespace {

using namespace spillway_test::ring;
using namespace std::chrono_literals;

TEST_CASE("a producer's child appends nothing, and destroying its handles changes nothing") {
  for (const Start& start : starts()) {
    INFO(start.name);
    RingPlace place({}, start);
    const auto p = place.attach();
    PartitionReader reader = live_reader(p);
    reader.start_latest();
    const auto run = [&](auto producer) {
      REQUIRE(producer->append("parent"));
      const auto status_in_child = [&] {
        if (producer->append("child").status != AppendStatus::forked) return 1;
        if (producer->append(bytes_of("child"), RecordOptions::keyed("k")).status != AppendStatus::forked) return 2;
        const std::vector<RecordInput> batch(2);
        if (producer->append_batch(batch).status != AppendStatus::forked) return 3;
        if (producer->claim(10).status() != AppendStatus::forked) return 4;
        producer->close();
        producer.reset();
        return 0;
      };
      CHECK(result_of(in_child(status_in_child)) == 0);
      REQUIRE(producer->append("parent again"));
      CHECK(code_of([&] { ExclusiveProducer(place.attach(), {}); }) == Code::busy);  // its locks are still its own
    };
    run(std::make_unique<ExclusiveProducer>(p, ProducerOptions{}));
    run(std::make_unique<SharedProducer>(p, ProducerOptions{}));
    CHECK(texts(drain(reader).records) == std::vector<std::string>{"parent", "parent again", "parent", "parent again"});
  }
}

TEST_CASE("a claim that is open during a fork is the parent's alone") {
  RingPlace place;
  const auto p = place.attach();
  PartitionReader reader = live_reader(p);
  reader.start_latest();
  const auto run = [&](auto&& producer) {
    auto claim = producer.claim(6);
    REQUIRE(claim);
    CHECK(result_of(in_child([&] {
            auto mine = std::move(claim);
            if (mine.payload().size() == 6) std::memcpy(mine.payload().data(), "child!", 6);  // private zeros
            return mine.commit().status == AppendStatus::forked ? 0 : 1;
          })) == 0);
    CHECK(result_of(in_child([&] {
            {
              auto dropped = std::move(claim);
            }
            return 0;
          })) == 0);
    std::memcpy(claim.payload().data(), "parent", 6);
    REQUIRE(claim.commit());
  };
  run(ExclusiveProducer(p, {}));
  run(SharedProducer(p, {}));
  CHECK(texts(drain(reader).records) == std::vector<std::string>{"parent", "parent"});
}

TEST_CASE("a consumer's child is told, keeps no slot and opens no gate") {
  RingPlace place;
  const auto p = place.attach();
  ExclusiveProducer producer(p, {});
  PartitionReader reader = live_reader(p);
  reader.start_latest();
  Consumer consumer = one_consumer(std::move(reader), {.gating = true, .name = "c"});
  REQUIRE(producer.append("x"));
  auto& slot = p->consumers().slots[0];
  REQUIRE(slot.gate.load() == 0);
  CHECK(result_of(in_child([&] {
          if (consumer.poll([](const Record&) {}).state != PollState::forked) return 1;
          if (consumer.poll(1ms, [](const Record&) {}).state != PollState::forked) return 2;
          static_cast<void>(consumer.ready());
          consumer.wait(1ms);
          static_cast<void>(consumer.seek(0, 0));
          static_cast<void>(consumer.ends());
          {
            Consumer dies = std::move(consumer);
          }
          return 0;
        })) == 0);
  CHECK(slot.state.load() == ConsumerState::live);
  CHECK(slot.gate.load() == 0);
  CHECK(LockProbe(place.paths().consumers_lock()).held(0));
  CHECK(consumer.poll([](const Record& r) { CHECK(r.text() == "x"); }).records == 1);
}

TEST_CASE("a child may open the topic anew and use it like any process") {
  RingPlace place;
  const auto p = place.attach();
  PartitionReader reader = live_reader(p);
  reader.start_latest();
  SharedProducer producer(p, {});
  REQUIRE(producer.append("parent"));
  CHECK(result_of(in_child([&] {
          SharedProducer mine(place.attach(), {});
          return mine.append("child") ? 0 : 1;
        })) == 0);
  REQUIRE(producer.append("parent"));
  CHECK(texts(drain(reader).records) == std::vector<std::string>{"parent", "child", "parent"});
}

TEST_CASE("a child that lives on does not keep its dead parent's claim alive") {
  RingPlace place;
  const auto p = place.attach();
  PartitionReader reader = live_reader(p);
  reader.start_latest();
  SharedProducer other(p, {});
  const Baton born, end;
  const pid_t parent = in_child([&] {
    SharedProducer producer(place.attach(), {});
    const auto claim = producer.claim(10);
    const pid_t child = in_child([&] {
      born.pass();
      end.await();
      return 0;
    });
    born.await();
    die_now();
    return child;
  });
  REQUIRE(result_of(parent) == 1000 + SIGKILL);
  REQUIRE(other.append("behind the dead"));
  CHECK(repair_claim_at_committed_end(*p) == RepairResult::repaired);
  CHECK(texts(drain(reader).records) == std::vector<std::string>{"behind the dead"});
  end.pass();
}

}  // namespace
