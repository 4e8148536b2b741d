// What an observer sees of a topic: watermarks, the living, and who holds it up, dead, alive or paused.
#include "spillway/persist/topic_stat.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>

#include "spillway/persist/domain.h"
#include "spillway/persist/domain_state.h"
#include "support/catch.h"
#include "support/place.h"

using namespace spillway;
using namespace spillway::test;
using namespace std::chrono_literals;

namespace {

// A place whose topic nobody persists.
struct Scene {
  Place place;

  Domain domain() const { return place.domain(StandBy::never); }
  void create(const TopicOptions& topic) const { domain().open_or_create("t", topic); }
  PartitionStat look() const {
    const Domain d = domain();
    return PartitionObserver(d.state().directories(), d.open("t").config(), 0).look();
  }
};

// A process that does something and then stays until it is killed.
class Child {
 public:
  explicit Child(const std::function<void()>& act) {
    pid_ = in_child([&]() -> int {
      act();
      done_.raise();
      for (;;) ::pause();
    });
    done_.await();
  }
  ~Child() { kill(); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  std::uint32_t pid() const { return static_cast<std::uint32_t>(pid_); }
  void stop() const {
    ::kill(pid_, SIGSTOP);
    int status = 0;
    REQUIRE(::waitpid(pid_, &status, WUNTRACED) == pid_);
    REQUIRE(WIFSTOPPED(status));
  }
  void kill() {
    if (pid_ > 0) kill_and_wait(pid_);
    pid_ = 0;
  }

 private:
  Signal done_;
  int pid_ = 0;
};

// Claims room and never commits: what the child leaves when it dies, or holds while it is paused.
void claim_and_keep(const Scene& scene) {
  static SharedProducer producer = scene.domain().open("t").shared_producer();
  static SharedClaim claim = producer.claim(100);
}

TopicOptions small() {
  TopicOptions options;
  options.ring = options.segment = 64 * kKiB;
  return options;
}
TopicOptions ephemeral() {
  TopicOptions options;
  options.ring = 64 * kKiB;
  options.ephemeral = true;
  return options;
}
ConsumerOptions named(const std::string& name, bool gating) {
  ConsumerOptions options;
  options.name = name;
  options.gating = gating;
  return options;
}

}  // namespace

TEST_CASE("a topic nobody has written to has no ring, and looking makes none") {
  const Scene scene;
  scene.create(small());
  const PartitionStat stat = scene.look();
  CHECK_FALSE(stat.ring);
  CHECK(stat.committed_end == 0);
  CHECK_FALSE(stat.held);
  CHECK_FALSE(std::filesystem::exists(scene.place.shm() + "/t/0.ring"));
}

TEST_CASE("watermarks are in order, and lag is what a consumer has not read") {
  const Scene scene;
  scene.create(small());
  const Domain domain = scene.domain();
  const Topic topic = domain.open("t");
  ExclusiveProducer producer = topic.exclusive_producer();
  Consumer consumer = topic.consumer(named("watcher", false));
  std::uint64_t bytes = 0;
  for (int i = 0; i < 10; ++i) bytes = producer.append("record").end;

  const PartitionStat stat = scene.look();
  CHECK(stat.ring);
  CHECK(stat.retained_begin <= stat.durable_end);
  CHECK(stat.durable_end <= stat.written_end);
  CHECK(stat.written_end <= stat.committed_end);
  CHECK(stat.committed_end == bytes);
  CHECK(stat.committed_end <= stat.reserved_end);
  CHECK(stat.reserved_end <= stat.horizon);
  REQUIRE(stat.producers.size() == 1);
  CHECK(stat.producers[0].mode == ProducerMode::exclusive);
  CHECK(stat.producers[0].pid == static_cast<std::uint32_t>(::getpid()));
  CHECK_FALSE(stat.producers[0].paused);
  REQUIRE(stat.consumers.size() == 1);
  CHECK(stat.consumers[0].name == "watcher");
  CHECK(stat.consumers[0].lag_bytes == bytes);
  CHECK_FALSE(stat.persister.held);
  CHECK_FALSE(stat.held);  // an exclusive producer reserves ahead: that holds nobody up
}

TEST_CASE("who has died is not shown as a user") {
  const Scene scene;
  scene.create(ephemeral());
  {
    Child child([&] {
      const Domain domain = scene.domain();
      static auto producer = std::make_unique<ExclusiveProducer>(domain.open("t").exclusive_producer());
      static auto consumer = std::make_unique<Consumer>(domain.open("t").consumer());
    });
    CHECK(scene.look().producers.size() == 1);
    CHECK(scene.look().consumers.size() == 1);
  }
  CHECK(scene.look().producers.empty());
  CHECK(scene.look().consumers.empty());
}

// The same claim, by the fate of its owner.
TEST_CASE("an open claim is held by whoever made it: the living, the paused, the dead") {
  const Scene scene;
  scene.create(small());
  Child owner([&] { claim_and_keep(scene); });
  PartitionStat stat = scene.look();
  REQUIRE(stat.held);
  CHECK(stat.held->cause == Blocked::held_by_live);
  CHECK(stat.held->by == HeldStat::By::producer);
  CHECK(stat.held->pid == owner.pid());
  CHECK(stat.held->offset == stat.committed_end);
  CHECK_FALSE(stat.held->paused);

  owner.stop();
  stat = scene.look();
  REQUIRE(stat.held);
  CHECK(stat.held->cause == Blocked::held_by_live);
  CHECK(stat.held->paused);

  owner.kill();
  stat = scene.look();
  REQUIRE(stat.held);
  CHECK(stat.held->cause == Blocked::held_by_dead);
}

TEST_CASE("a full ring that nobody writes to disk is held up by the persister that is missing") {
  const Scene scene;
  scene.create(small());
  const Domain domain = scene.domain();
  ExclusiveProducer producer = domain.open("t").exclusive_producer({0, 0});
  while (producer.append(std::string(1000, 'x'))) {
  }
  const PartitionStat stat = scene.look();
  REQUIRE(stat.held);
  CHECK(stat.held->by == HeldStat::By::persister);
  CHECK(stat.held->cause == Blocked::no_persister);
  CHECK(stat.held->pid == 0);
}

TEST_CASE("a full ring that a gate holds is held up by that consumer") {
  const Scene scene;
  scene.create(ephemeral());
  const Domain domain = scene.domain();
  const Topic topic = domain.open("t");
  ExclusiveProducer producer = topic.exclusive_producer({0, 0});
  Consumer gate = topic.consumer(named("gate", true));
  while (producer.append(std::string(1000, 'x'))) {
  }
  const PartitionStat stat = scene.look();
  REQUIRE(stat.held);
  CHECK(stat.held->by == HeldStat::By::consumer);
  CHECK(stat.held->cause == Blocked::gated);
  CHECK(stat.held->pid == static_cast<std::uint32_t>(::getpid()));
}

// Records of up to a quarter of the ring leave more room than a sixteenth when the next one does not fit.
TEST_CASE("a paused gating consumer is named, however much room it leaves for smaller records") {
  for (const std::size_t bytes : {std::size_t{1000}, std::size_t{12'000}, std::size_t{16'000}}) {
    INFO("records of " << bytes);
    const Scene scene;
    scene.create(ephemeral());
    Child child([&] { static Consumer gate = scene.domain().open("t").consumer(named("gate", true)); });
    const Domain domain = scene.domain();
    ExclusiveProducer producer = domain.open("t").exclusive_producer({0, 0});
    while (producer.append(std::string(bytes, 'x'))) {
    }
    child.stop();
    const PartitionStat stat = scene.look();
    REQUIRE(stat.held);
    CHECK(stat.held->cause == Blocked::gated);
    CHECK(stat.held->pid == child.pid());
    CHECK(stat.held->paused);
  }
}

TEST_CASE("a stopped process is paused, a running, missing or unnamed one is not") {
  Child child([] {});
  CHECK_FALSE(process_paused(child.pid()));
  child.stop();
  CHECK(process_paused(child.pid()));
  const std::uint32_t pid = child.pid();
  child.kill();
  CHECK_FALSE(process_paused(pid));
  CHECK_FALSE(process_paused(0));
}

TEST_CASE("a damaged header of the newest segment is named, and the disk is not blamed") {
  const Scene scene;
  scene.create(small());
  {
    const Topic topic = scene.place.domain().open("t");
    SharedProducer producer = topic.shared_producer();
    for (int i = 0; i < 1000; ++i) REQUIRE(producer.append(std::string(100, 'x')));
    REQUIRE(topic.wait_durable_latest(60s) == Durable::yes);
  }
  std::string newest;
  for (const auto& entry : std::filesystem::directory_iterator(scene.place.data() + "/t/0")) {
    if (entry.path().extension() == ".log") newest = std::max(newest, entry.path().string());
  }
  const auto spoil = [&] {
    std::fstream file(newest, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(16);
    file.put('!');
  };
  spoil();
  const Domain domain = scene.place.domain();
  const Topic topic = domain.open("t");
  SharedProducer producer = topic.shared_producer({.deadline_ns = 0});
  REQUIRE(producer.append("one more"));
  const Deadline deadline = Deadline::after_ns(60'000'000'000U);
  while (topic.blocked(0) != Blocked::damaged && !deadline.passed()) topic.wait_durable_latest(10ms);
  CHECK(topic.blocked(0) == Blocked::damaged);
  const PartitionStat stat = scene.look();
  INFO(stat.persister.error_text);
  CHECK(stat.persister.error_text.find(newest) != std::string::npos);
  CHECK(stat.persister.error_text.find("checksum") != std::string::npos);
}

TEST_CASE("a ring that was deleted under a living writer is shown as elsewhere, and one that nobody has is not") {
  for (const TopicOptions& options : {small(), ephemeral()}) {
    const Scene scene;
    scene.create(options);
    CHECK_FALSE(scene.look().ring_elsewhere);
    {
      const Domain domain = scene.domain();
      SharedProducer producer = domain.open("t").shared_producer();
      REQUIRE(producer.append("record"));
      CHECK_FALSE(scene.look().ring_elsewhere);
      std::filesystem::remove(scene.place.shm() + "/t/0.ring");
      const PartitionStat stat = scene.look();
      CHECK_FALSE(stat.ring);
      CHECK(stat.ring_elsewhere);
    }
    CHECK_FALSE(scene.look().ring_elsewhere);
    // Who makes a ring, or recovers, holds the lock in its exclusive form.
    const Domain domain = scene.domain();
    const std::string path =
        PartitionPaths::of(scene.place.shm(), scene.place.data(), domain.open("t").config(), 0).writers_lock();
    const FileLock maker = FileLock::try_lock(path, LockMode::exclusive);
    REQUIRE(maker);
    CHECK_FALSE(scene.look().ring_elsewhere);
  }
}

TEST_CASE("the gap that a crash leaves between two rings is not kept") {
  const Scene scene;
  scene.create(small());
  const auto append = [](const Topic& topic) {
    SharedProducer producer = topic.shared_producer();
    for (int i = 0; i < 1000; ++i) REQUIRE(producer.append(std::string(100, 'x')));
    REQUIRE(topic.wait_durable_latest(60s) == Durable::yes);
  };
  append(scene.place.domain().open("t"));
  const std::uint64_t once = scene.look().kept_bytes;
  CHECK(once >= 100'000);
  CHECK(once == scene.look().committed_end);
  scene.place.lose_rings();
  CHECK(scene.look().kept_bytes == once);  // without a ring it is what is on disk
  {
    // A ring of which nothing is written yet, and later one with segments.
    const Domain domain = scene.domain();
    SharedProducer producer = domain.open("t").shared_producer();
    CHECK(scene.look().kept_bytes == once);
  }
  append(scene.place.domain().open("t"));
  const PartitionStat stat = scene.look();
  CHECK(stat.committed_end - stat.retained_begin >= kGiB);
  CHECK(stat.kept_bytes == once + (stat.committed_end - stat.begin));
}
