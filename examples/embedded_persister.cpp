// The persister embedded in an application: no daemon, several threads that log, and a clean stop.
//
//   example_embedded_persister          four threads, a hundred thousand records
//   spillway verify example_log         checks what is on disk
//
// Whoever opens a topic for writing stands by for the persister role: one thread of this process writes the segments
// unless another process does already. If the application is killed, what it appended stays in the ring in shared memory,
// and the next one to open the topic, or a `spillway persist`, writes it. Topic::close() is the clean end.
#include <spillway/spillway.h>

#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr int kThreads = 4;
constexpr int kRecordsPerThread = 25'000;

void work(spillway::AsyncProducer& log, int thread) {
  for (int i = 0; i < kRecordsPerThread; ++i) {
    const std::string line = "thread " + std::to_string(thread) + " did step " + std::to_string(i);
    // It never waits for the disk or the ring; `full` means that too much is queued already.
    while (log.append(line) == spillway::AppendStatus::full) log.flush(std::chrono::milliseconds(10));
  }
}

int run() {
  const spillway::Domain domain({.stand_by = spillway::StandBy::yes});  // yes is the default
  auto topic = domain.open_or_create("example_log", {.retain = 256 * spillway::kMiB});
  spillway::AsyncProducer::Counts counts;
  {
    spillway::AsyncProducer log(topic);
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) threads.emplace_back([&log, t] { work(log, t); });
    for (std::thread& thread : threads) thread.join();
    log.flush(std::chrono::seconds(30));
    counts = log.counts();
  }
  // All producers of the topic are gone: now everything is written and synced, and the role is let go.
  const spillway::Durable closed = topic.close(std::chrono::seconds(30));
  std::printf("%" PRIu64 " records queued, %" PRIu64 " appended, %" PRIu64 " refused; durable: %s\n", counts.queued,
              counts.appended, counts.refused, std::string(name_of(closed)).c_str());
  return closed == spillway::Durable::yes && counts.refused == 0 ? 0 : 1;
}

}  // namespace

int main() {
  try {
    return run();
  } catch (const spillway::Error& error) {
    std::fprintf(stderr, "embedded_persister: %s\n", error.what());
    return 1;
  }
}
