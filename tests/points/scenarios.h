// What the scenarios have in common.
#pragma once

#include "points/run.h"
#include "spillway/core/disk.h"
#include "support/catch.h"

// The test case of a scenario.
#define SPILLWAY_SCENARIO(name) \
  TEST_CASE(name) { ::spillway::test::run(name); }

namespace spillway::test {

inline constexpr ProducerOptions kPatient{.partition = 0, .deadline_ns = 20'000'000'000};

TopicOptions tiny();       // ring 64 KiB, segment 128 KiB
TopicOptions ephemeral();  // ring 64 KiB

// Beside the victim: a shared producer in a process that may hold the persister role, or may not.
void shared_beside(Scene& scene);
void shared_beside_without_role(Scene& scene);
// Beside the victim: a process that holds the persister role, and produces nothing.
void persister_beside(Scene& scene);
// Before: a shared producer that dies with a claim, behind one record of its own.
void dead_claim(Scene& scene);

// A disk that refuses some calls, each once and in this order, and is well otherwise.
class BadDisk final : public disk::Watch {
 public:
  struct Refusal {
    disk::Call call;
    int error;
    const char* to = "";  // what the new name of a rename ends with
  };
  explicit BadDisk(std::vector<Refusal> refusals) : refusals_(std::move(refusals)) { disk::watch(this); }
  ~BadDisk() override { disk::watch(nullptr); }
  int before(disk::Step& step) noexcept override;
  void after(const disk::Step&, int) noexcept override {}
  bool all_refused() const noexcept { return next_.load() == refusals_.size(); }

 private:
  std::vector<Refusal> refusals_;
  std::atomic<std::size_t> next_{0};
};

std::vector<Scenario> producer_scenarios();
std::vector<Scenario> reader_scenarios();
std::vector<Scenario> persister_scenarios();
std::vector<Scenario> topic_scenarios();

}  // namespace spillway::test
