// Components on one core: what append and poll cost by themselves, with the ring in cache and nobody on the other side.
#include <benchmark/benchmark.h>

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "spillway/spillway.h"

using namespace spillway;

namespace {

struct Place {
  Place() {
    data = "/tmp/spillway-micro-XXXXXX";
    shm = "/dev/shm/spillway-micro-XXXXXX";
    if (::mkdtemp(data.data()) == nullptr || ::mkdtemp(shm.data()) == nullptr) std::abort();
  }
  ~Place() {
    std::error_code ignored;
    std::filesystem::remove_all(data, ignored);
    std::filesystem::remove_all(shm, ignored);
  }
  std::string data, shm;
};

Topic open_topic(const Place& place) {
  return Domain({place.data, place.shm}).open_or_create("micro", {.ring = kMiB, .ephemeral = true});
}

void append_exclusive(benchmark::State& state) {
  const Place place;
  ExclusiveProducer producer = open_topic(place).exclusive_producer();
  const std::vector<std::byte> payload(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(producer.append(std::span<const std::byte>(payload)));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(append_exclusive)->Arg(32)->Arg(256)->Arg(1024);

void append_shared(benchmark::State& state) {
  const Place place;
  SharedProducer producer = open_topic(place).shared_producer();
  const std::vector<std::byte> payload(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(producer.append(std::span<const std::byte>(payload)));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(append_shared)->Arg(32)->Arg(256)->Arg(1024);

void append_then_poll(benchmark::State& state) {
  const Place place;
  const Topic topic = open_topic(place);
  ExclusiveProducer producer = topic.exclusive_producer();
  Consumer consumer = topic.consumer({.from = From::latest, .wait = Wait::spin});
  const std::vector<std::byte> payload(32);
  std::size_t bytes = 0;
  for (auto _ : state) {
    producer.append(std::span<const std::byte>(payload));
    consumer.poll([&](const Record& record) { bytes += record.payload().size(); });
  }
  benchmark::DoNotOptimize(bytes);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(append_then_poll);

}  // namespace
