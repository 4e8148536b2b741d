// What `clean` would remove, and that it removes nothing that anybody uses or that is nowhere else.
#include "spillway/persist/clean.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "spillway/persist/domain_state.h"
#include "support/catch.h"
#include "support/place.h"

using namespace spillway;
using namespace std::chrono_literals;

namespace {

struct Scene {
  test::Place place;
  std::filesystem::path ring = place.shm() + "/t/0.ring";

  Domain domain(StandBy stand_by = StandBy::yes) const { return place.domain(stand_by); }
  Topic create(bool ephemeral = false) const {
    TopicOptions options;
    options.ring = 64 * kKiB;
    options.ephemeral = ephemeral;
    if (!ephemeral) options.segment = 64 * kKiB;
    return domain(StandBy::never).open_or_create("t", options);
  }
  // Carries out the whole plan; what was left alone.
  std::vector<std::string> clean() const {
    std::vector<std::string> left;
    const Domain d = domain();
    for (const CleanItem& item : plan_clean(d).items) {
      if (auto why = apply_clean(d, item, 10s)) left.push_back(*why);
    }
    return left;
  }
  std::vector<std::string> records() const {
    std::vector<std::string> found;
    ConsumerOptions options;
    options.from = From::earliest;
    Consumer consumer = domain(StandBy::never).open("t").consumer(options);
    const auto take = [&](const Record& record) { found.emplace_back(record.text()); };
    while (consumer.poll(take).records > 0) {
    }
    return found;
  }
};

}  // namespace

TEST_CASE("nothing is left over where nobody was") {
  const Scene scene;
  CHECK(plan_clean(scene.domain()).items.empty());
  scene.create();
  CHECK(plan_clean(scene.domain()).items.empty());
  CHECK(plan_clean(scene.domain()).kept.empty());
}

TEST_CASE("a ring is left alone while a writer or a consumer lives") {
  const Scene scene;
  scene.create();
  {
    const Topic topic = scene.domain(StandBy::never).open("t");
    ExclusiveProducer producer = topic.exclusive_producer();
    producer.append("x");
    CHECK(plan_clean(scene.domain()).items.empty());
  }
  {
    Consumer consumer = scene.domain(StandBy::never).open("t").consumer();
    const CleanPlan plan = plan_clean(scene.domain());
    CHECK(plan.items.empty());
    CHECK(plan.kept.size() == 1);
  }
  CHECK(plan_clean(scene.domain()).items.size() == 1);
}

TEST_CASE("somebody who came after the plan was made is left alone") {
  const Scene scene;
  scene.create();
  {
    scene.domain(StandBy::never).open("t").exclusive_producer().append("x");
  }
  const Domain domain = scene.domain();
  const CleanPlan plan = plan_clean(domain);
  REQUIRE(plan.items.size() == 1);
  SECTION("a writer") {
    const Topic topic = scene.domain(StandBy::never).open("t");
    ExclusiveProducer producer = topic.exclusive_producer();
    CleanItem item = plan.items[0];
    item.action = CleanAction::remove;
    CHECK(apply_clean(domain, item, 10s));
  }
  SECTION("a consumer") {
    Consumer consumer = scene.domain(StandBy::never).open("t").consumer();
    CHECK(apply_clean(domain, plan.items[0], 10s));
  }
  SECTION("bytes that no segment holds") {
    CleanItem item = plan.items[0];
    item.action = CleanAction::remove;
    CHECK(apply_clean(domain, item, 10s));
  }
  CHECK(std::filesystem::exists(scene.ring));
}

TEST_CASE("what a dead producer committed is written to disk before its ring goes") {
  const Scene scene;
  scene.create();
  {
    ExclusiveProducer producer = scene.domain(StandBy::never).open("t").exclusive_producer();
    producer.append("one");
    producer.append("two");
  }
  CHECK(scene.clean().empty());
  CHECK_FALSE(std::filesystem::exists(scene.ring));
  CHECK(scene.records() == std::vector<std::string>{"one", "two"});
  CHECK(plan_clean(scene.domain()).items.empty());
}

TEST_CASE("an ephemeral ring goes only when it is empty") {
  const Scene scene;
  scene.create(true);
  {
    scene.domain().open("t").exclusive_producer();
  }
  CHECK(scene.clean().empty());
  CHECK_FALSE(std::filesystem::exists(scene.ring));
  {
    scene.domain().open("t").exclusive_producer().append("x");
  }
  CHECK(plan_clean(scene.domain()).items.empty());
  CHECK(plan_clean(scene.domain()).kept.size() == 1);
}

TEST_CASE("a file that is no ring is removed, one that may be a ring of another kind is set aside") {
  const Scene scene;
  scene.create();
  {
    scene.domain(StandBy::never).open("t").exclusive_producer().append("x");
  }
  SECTION("noise") {
    std::ofstream(scene.ring, std::ios::trunc) << std::string(100'000, 'x');
    CHECK(scene.clean().empty());
    CHECK_FALSE(std::filesystem::exists(scene.ring));
    CHECK(plan_clean(scene.domain()).kept.empty());
  }
  SECTION("a ring of another version, or a damaged one") {
    std::fstream file(scene.ring, std::ios::in | std::ios::out);
    file.seekp(16);
    file << "another version";
    file.close();
    CHECK(scene.clean().empty());
    CHECK_FALSE(std::filesystem::exists(scene.ring));
    CHECK(plan_clean(scene.domain()).kept.size() == 1);
  }
  // Either way the topic can be written to again.
  CHECK(scene.domain(StandBy::never).open("t").exclusive_producer().append("y"));
}

TEST_CASE("a ring that can't be written because a segment is damaged is left alone at once, and the segment is named") {
  const Scene scene;
  {
    scene.create();
    const Topic topic = scene.domain().open("t");
    ExclusiveProducer producer = topic.exclusive_producer();
    for (int i = 0; i < 1000; ++i) REQUIRE(producer.append(std::string(100, 'x')));
    REQUIRE(topic.wait_durable_latest(60s) == Durable::yes);
  }
  std::string newest;
  for (const auto& entry : std::filesystem::directory_iterator(scene.place.data() + "/t/0")) {
    if (entry.path().extension() == ".log") newest = std::max(newest, entry.path().string());
  }
  std::filesystem::resize_file(newest, 100);
  const Domain domain = scene.domain();
  const CleanPlan plan = plan_clean(domain);
  REQUIRE(plan.items.size() == 1);
  CHECK(plan.items[0].action == CleanAction::persist_and_remove);
  // Were it to wait for the disk, the test would end with its own time-out.
  const auto why = apply_clean(domain, plan.items[0], 24h);
  REQUIRE(why);
  INFO(*why);
  CHECK(why->find(newest) != std::string::npos);
  CHECK(std::filesystem::exists(scene.ring));
}
