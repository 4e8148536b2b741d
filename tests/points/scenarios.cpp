#include "points/scenarios.h"

#include <signal.h>
#include <unistd.h>

#include "spillway/persist/topic_state.h"
#include "support/place.h"

namespace spillway::test {
namespace {

void shared_beside(Scene& scene, StandBy stand_by) {
  const Domain domain = scene.domain(stand_by);
  const Topic topic = scene.topic(domain);
  auto producer = topic.shared_producer(kPatient);
  const bool writes = stand_by == StandBy::yes && !topic.config().ephemeral;
  Appended appended = scene.append(producer, kHelper, 60);
  if (writes) scene.wait_durable(topic, appended.end);
  scene.ready();
  scene.await_end();
  appended = scene.append(producer, kHelper, 60);
  if (!appended) fail("the producer beside could not append any more");
  if (writes) scene.wait_durable(topic, appended.end);
}

}  // namespace

TopicOptions tiny() { return {.ring = 64 * kKiB, .segment = 128 * kKiB, .sync_interval_ms = 5}; }
TopicOptions ephemeral() { return {.ring = 64 * kKiB, .ephemeral = true}; }

void shared_beside(Scene& scene) { shared_beside(scene, StandBy::yes); }
void shared_beside_without_role(Scene& scene) { shared_beside(scene, StandBy::never); }

void persister_beside(Scene& scene) {
  const Domain domain = scene.domain();
  const Topic topic = scene.topic(domain);
  const auto partition = topic.state().writing(0);
  if (!eventually([&] { return domain.state().persister().holds_role(*partition); })) fail("no role");
  scene.ready();
  scene.await_end();
}

void dead_claim(Scene& scene) {
  const int pid = in_child([&] {
    const Domain domain = scene.domain(StandBy::never);
    auto producer = scene.topic(domain).shared_producer();
    scene.append(producer, kHelper, 60);
    const auto claim = producer.claim(500);
    ::kill(::getpid(), SIGKILL);
    return 0;
  });
  result_of(pid);
}

int BadDisk::before(disk::Step& step) noexcept {
  std::size_t next = next_.load();
  if (next == refusals_.size()) return 0;
  const Refusal& refusal = refusals_[next];
  if (step.call != refusal.call) return 0;
  if (step.to != nullptr && !std::string_view(step.to).ends_with(refusal.to)) return 0;
  return next_.compare_exchange_strong(next, next + 1) ? refusal.error : 0;
}

const std::vector<Scenario>& scenarios() {
  static const std::vector<Scenario> all = [] {
    std::vector<Scenario> together;
    for (const auto& some : {producer_scenarios(), reader_scenarios(), persister_scenarios(), topic_scenarios()}) {
      together.insert(together.end(), some.begin(), some.end());
    }
    return together;
  }();
  return all;
}

}  // namespace spillway::test
