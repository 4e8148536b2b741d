// What `spillway persist` does, as a worker: asks for the role of every persistent partition, and stops cleanly on SIGTERM.
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "spillway/core/error.h"
#include "spillway/persist/clean_stop.h"
#include "spillway/persist/domain_state.h"
#include "spillway/persist/lifecycle.h"
#include "spillway/persist/persister.h"
#include "worker.h"

namespace spillway::soak {
namespace {

std::shared_ptr<Partition> open(Worker& worker, const Domain& domain, const std::string& name, std::uint32_t number) {
  const Directories& where = domain.state().directories();
  const TopicConfig config = read_topic(where, name);
  while (!worker.stopping()) {
    try {
      return open_for_writing(PartitionPaths::of(where.shm, where.data, config, number), config, number);
    } catch (const Error& e) {
      if (e.code() != Code::busy) throw;
      worker.tell(std::string("not yet: ") + e.what());
    }
  }
  return nullptr;
}

}  // namespace

void run_daemon(Worker& worker) {
  const Domain domain = worker.places().domain(StandBy::never);
  PersisterOptions options;
  if (worker.dice().one_in(3)) options.io = IoKind::pwrite;
  options.on_event = [&](const PersisterEvent& event) {
    const std::string line =
        event.topic + "/" + std::to_string(event.partition) + " " + std::string(name_of(event.change));
    if (event.error != 0) worker.fault(line + ", errno " + std::to_string(event.error));
    worker.tell(line);
  };
  Persister persister(std::move(options));
  std::vector<std::shared_ptr<Partition>> partitions;
  for (const LanePlan& lane : worker.plan().lanes) {
    const TopicPlan& topic = worker.plan().topics[lane.topic];
    if (topic.ephemeral()) continue;
    auto partition = open(worker, domain, topic.name, lane.partition);
    if (!partition) continue;
    persister.add(partition, {.daemon = true, .stand_by = true});
    partitions.push_back(std::move(partition));
  }
  worker.ready();
  while (!worker.stopping()) {
    worker.rest_in(worker.round());
    // sleep-ok: the persister's thread does the work, and this one has nothing to wait for but SIGTERM.
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  for (const auto& partition : partitions) {
    const Durable stopped = persister.stop_cleanly(partition, Deadline::after_ns(2'000'000'000));
    const bool sealed = stopped == Durable::yes && seal_if_last(*partition);
    worker.tell("stopped " + partition->config().name + "/" + std::to_string(partition->number()) + ": " +
                std::string(name_of(stopped)) + (sealed ? ", sealed" : ""));
  }
}

}  // namespace spillway::soak
