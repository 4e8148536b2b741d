// Goal: a ring that was spoilt behind its header, or that stands beside a data directory it does not belong to, costs nothing
// that is on disk, and nothing that it alone holds is thrown away for it.
// Method: a small topic through the public API; files are spoilt or put back while nobody, or only a reader, has them open.
#include <filesystem>
#include <fstream>

#include "spillway/core/bytes.h"
#include "spillway/core/error.h"
#include "spillway/ipc/ring_layout.h"
#include "spillway/persist/clean.h"
#include "spillway/persist/segment_format.h"
#include "spillway/persist/verify.h"
#include "spillway/spillway.h"
#include "support/catch.h"
#include "support/log_builder.h"
#include "support/place.h"

using namespace spillway;
using namespace spillway::test;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

constexpr auto kLong = 60s;  // a bound for what must happen, not a measure of speed

struct Scene {
  Place place;
  fs::path ring = place.shm() + "/t/0.ring";
  fs::path partition = place.data() + "/t/0";
  fs::path horizon = partition / "horizon";

  Scene() { open(StandBy::never, true); }

  Topic open(StandBy stand_by = StandBy::yes, bool create = false) const {
    const Domain domain = place.domain(stand_by);
    return create ? domain.open_or_create("t", {.ring = 64 * kKiB, .segment = 64 * kKiB}) : domain.open("t");
  }
  // Numbered records, written and synced; ends with a clean stop, after which the ring stays.
  void publish(int from, int to) const {
    Topic topic = open();
    {
      ExclusiveProducer producer = topic.exclusive_producer();
      for (int i = from; i < to; ++i) REQUIRE(producer.append(std::to_string(i)));
    }
    REQUIRE(topic.close(kLong) == Durable::yes);
  }
  // The same, committed in the ring and nowhere else.
  std::vector<Offset> commit(int from, int to) const {
    std::vector<Offset> offsets;
    const Topic topic = open(StandBy::never);
    ExclusiveProducer producer = topic.exclusive_producer();
    for (int i = from; i < to; ++i) {
      const Appended appended = producer.append(std::to_string(i));
      REQUIRE(appended);
      offsets.push_back(appended.position.offset);
    }
    return offsets;
  }
  // Everything from the beginning, with gaps as "gap".
  std::vector<std::string> records() const {
    std::vector<std::string> found;
    Consumer consumer = open(StandBy::never).consumer({.from = From::earliest});
    const std::vector<Position> ends = consumer.ends();
    const Deadline deadline = Deadline::after_ns(60'000'000'000);
    while (consumer.offset(0) < ends[0].offset && !deadline.passed()) {
      const PollResult result = consumer.poll(
          10ms, [&](const Record& record) { found.emplace_back(record.text()); },
          [&](const Gap&) { found.emplace_back("gap"); });
      if (result.state == PollState::corrupt || result.state == PollState::failed || result.state == PollState::end) {
        found.emplace_back(name_of(result.state));
        break;
      }
    }
    return found;
  }
  CleanPlan plan() const { return plan_clean(place.domain(StandBy::never)); }
  std::vector<std::string> clean() const {
    std::vector<std::string> left;
    const Domain domain = place.domain();
    for (const CleanItem& item : plan_clean(domain).items) {
      if (auto why = apply_clean(domain, item, kLong)) left.push_back(*why);
    }
    return left;
  }
  bool set_aside() const {
    for (const auto& entry : fs::directory_iterator(ring.parent_path())) {
      if (entry.path().filename().string().starts_with("0.ring.aside-")) return true;
    }
    return false;
  }
  void zero_ring(Offset from, std::uint64_t bytes) const { fill_ring(from, bytes, '\0'); }
  void fill_ring(Offset from, std::uint64_t bytes, char with) const {
    std::fstream file(ring, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(kRingHeaderBytes + from));
    file << std::string(bytes, with);
    REQUIRE(file.flush());
  }
};

std::vector<std::string> numbers(int from, int to) {
  std::vector<std::string> result;
  for (int i = from; i < to; ++i) result.push_back(std::to_string(i));
  return result;
}

}  // namespace

TEST_CASE("damaged ring: what is on disk is read from there, and is not overwritten from the ring", "[threads]") {
  const Scene scene;
  scene.publish(0, 100);
  SECTION("all of it is zero") { scene.zero_ring(0, 64 * kKiB); }
  SECTION("one commit word is") { scene.zero_ring(0, 8); }
  SECTION("one length can't be") { scene.fill_ring(8, 4, '\xff'); }
  REQUIRE(fs::exists(scene.ring));
  CHECK(scene.records() == numbers(0, 100));
  scene.publish(100, 101);
  CHECK(scene.records() == numbers(0, 101));
  // Without the ring the disk has to stand for itself.
  scene.place.lose_rings();
  CHECK(scene.records() == numbers(0, 101));
  const Topic topic = scene.open(StandBy::never);
  CHECK(verify_partition(scene.partition, topic.config(), 0, nullptr).sound());
}

TEST_CASE("damaged ring: a reader that waits for what only the ring had is told, and clean keeps both halves",
          "[threads]") {
  const Scene scene;
  const std::vector<Offset> offsets = scene.commit(0, 20);
  scene.zero_ring(offsets[15], 8);
  std::vector<std::string> expected = numbers(0, 15);
  expected.emplace_back("corrupt");
  CHECK(scene.records() == expected);
  const CleanPlan plan = scene.plan();
  REQUIRE(plan.items.size() == 1);
  CHECK(plan.items[0].action == CleanAction::set_aside);
  CHECK(scene.clean().empty());
  CHECK(scene.set_aside());
  CHECK(scene.records() == numbers(0, 15));  // what lies before the damage was written first
  scene.publish(20, 21);
  expected = numbers(0, 15);
  expected.emplace_back("gap");
  expected.emplace_back("20");
  CHECK(scene.records() == expected);
}

TEST_CASE("a ring is kept where its horizon can't be read, and nobody is told to remove it", "[threads]") {
  const Scene scene;
  scene.commit(0, 10);
  const fs::path saved = scene.place.data() + "/horizon-saved";
  fs::rename(scene.horizon, saved);
  SECTION("missing") {}
  SECTION("a symbolic link") { fs::create_symlink(saved, scene.horizon); }
  SECTION("a directory") { fs::create_directory(scene.horizon); }
  SECTION("noise") { std::ofstream(scene.horizon) << std::string(8192, 'x'); }
  const CleanPlan plan = scene.plan();
  CHECK(plan.items.empty());
  REQUIRE(plan.kept.size() == 1);
  CHECK(plan.kept[0].find("horizon") != std::string::npos);
  for (const bool write : {true, false}) {
    try {
      const Topic topic = scene.open(StandBy::never);
      write ? static_cast<void>(topic.exclusive_producer()) : static_cast<void>(topic.consumer());
      FAIL("opened");
    } catch (const Error& e) {
      CHECK(std::string(e.what()).find("horizon") != std::string::npos);
      CHECK(std::string(e.what()).find("clean") == std::string::npos);
    }
  }
  fs::remove_all(scene.horizon);
  fs::rename(saved, scene.horizon);
  CHECK(scene.clean().empty());
  CHECK_FALSE(fs::exists(scene.ring));
  CHECK(scene.records() == numbers(0, 10));
}

TEST_CASE("a ring is set aside where the segments beside it were put back to an older day", "[threads]") {
  const Scene scene;
  scene.publish(0, 10);
  const fs::path copy = scene.place.data() + "-copy";
  fs::copy(scene.partition, copy, fs::copy_options::recursive);
  scene.publish(10, 20);  // durable, and so is what the ring says of it
  fs::remove_all(scene.partition);
  fs::copy(copy, scene.partition, fs::copy_options::recursive);
  fs::remove_all(copy);
  const CleanPlan plan = scene.plan();
  REQUIRE(plan.items.size() == 1);
  CHECK(plan.items[0].action == CleanAction::set_aside);
  CHECK(scene.clean().empty());
  CHECK(scene.set_aside());
  CHECK(scene.records() == numbers(0, 10));
}

TEST_CASE("a ring stays where its segments have lost what it holds", "[threads]") {
  const Scene scene;
  scene.publish(0, 10);
  spillway_test::flip_bit(scene.partition / segment_name(0), log_pos(0, 40));
  const std::vector<std::string> left = scene.clean();
  REQUIRE(left.size() == 1);
  CHECK(left[0].find("verify") != std::string::npos);
  CHECK(fs::exists(scene.ring));
  CHECK(scene.records() == numbers(0, 10));
}

TEST_CASE("a ring without which the log went on is removed once the segments hold all of it", "[threads]") {
  const Scene scene;
  scene.publish(0, 10);
  const fs::path copy = scene.place.shm() + "-copy";
  fs::copy(scene.ring.parent_path(), copy, fs::copy_options::recursive);
  scene.place.lose_rings();
  scene.publish(10, 20);
  scene.place.lose_rings();
  fs::remove_all(scene.ring.parent_path());
  fs::copy(copy, scene.ring.parent_path(), fs::copy_options::recursive);
  fs::remove_all(copy);
  const CleanPlan plan = scene.plan();
  REQUIRE(plan.items.size() == 1);
  CHECK(plan.items[0].action == CleanAction::remove);
  CHECK(scene.clean().empty());
  CHECK_FALSE(scene.set_aside());
  CHECK(scene.records() == numbers(0, 20));
}

TEST_CASE("verify: a flipped bit in the range that is not full is found beside a living ring, too", "[threads]") {
  const Scene scene;
  const bool syncs = GENERATE(true, false);
  CAPTURE(syncs);
  const Domain domain = scene.place.domain();
  const Topic topic = domain.open_or_create(
      "v", {.ring = 64 * kKiB, .segment = 64 * kKiB, .sync = syncs ? SyncPolicy::interval : SyncPolicy::none});
  ExclusiveProducer producer = topic.exclusive_producer();
  Offset end = 0;
  for (int i = 0; i < 10; ++i) end = producer.append("record").end;
  REQUIRE(topic.wait_durable(0, end, kLong) == Durable::yes);
  const PartitionPaths paths = PartitionPaths::of(scene.place.shm(), scene.place.data(), topic.config(), 0);
  const auto ring = Partition::attach(paths, topic.config(), 0, Access::read_only);
  CHECK(verify_partition(paths.data, topic.config(), 0, ring).sound());
  spillway_test::flip_bit(paths.data + "/" + segment_name(0), log_pos(0, 40));
  const VerifyResult result = verify_partition(paths.data, topic.config(), 0, ring);
  REQUIRE(result.damage.size() == 1);
  CHECK(result.damage[0].from <= 40);
  CHECK(result.damage[0].to >= end);
}
