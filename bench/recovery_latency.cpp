// How long who comes back, or takes over, keeps the others waiting.
//
//   recovery   a producer is killed, its ring deleted, caches dropped: until another producer of the same log is ready. Only the
//              last segment is looked at, so it takes as long for a small log (first line) as for a large one
//   take-over  the holder of the persister role is killed while a producer waits: until its wait_durable is over
//   repair     a producer is killed with a claim open, a consumer stands before it: until the next record is delivered
//   verify     all of the large log, against reading its files through io_uring with O_DIRECT, 1 MiB x 8, in turn
//   recovery_latency [--gib 10] [--rounds 15]
//
// Checked: the log goes on at an offset never handed out before; every wait says yes; verify finds every record and no damage.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <thread>

#include "harness.h"
#include "spillway/core/descriptor.h"
#include "spillway/core/mapping.h"
#include "spillway/persist/io_queue.h"
#include "spillway/persist/verify.h"

using namespace spillway;
using namespace spillway::bench;

namespace {

constexpr std::size_t kRecordBytes = 64 * kKiB;
constexpr auto kPatience = std::chrono::seconds(60);

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "recovery_latency: %s\n", what);
  std::exit(1);
}

double milliseconds_since(std::uint64_t start_ns) { return static_cast<double>(monotonic_ns() - start_ns) / 1e6; }

// Without the right to, the files stay in memory; the program says so.
bool drop_caches() {
  ::sync();
  std::ofstream file("/proc/sys/vm/drop_caches");
  file << "3" << std::flush;
  return file.good();
}

void wait_for(const std::atomic<std::uint64_t>& word) {
  while (word.load(std::memory_order_acquire) == 0) std::this_thread::yield();
}

void kill_child(int pid) {
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

// A process that writes `bytes`, waits until the disk has them, and dies where it stands. Returns the log's end.
Offset write_and_die(const TemporaryDomain& place, const char* topic, std::uint64_t bytes) {
  Board& board = new_board();
  const int child = start_child([&] {
    Topic t = Domain(place.options()).open_or_create(topic, {.segment = 64 * kMiB});
    ExclusiveProducer producer = t.exclusive_producer();
    const std::vector<std::byte> payload(kRecordBytes);
    Appended appended;
    for (std::uint64_t written = 0; written < bytes; written += kRecordBytes) {
      appended = producer.append(payload);
      if (!appended) return 1;
    }
    if (t.wait_durable(0, appended.end, kPatience) != Durable::yes) return 1;
    board.results[0].store(appended.end);
    board.ready.store(1, std::memory_order_release);
    for (;;) ::pause();
  });
  while (board.ready.load(std::memory_order_acquire) == 0) {
    if (::waitpid(child, nullptr, WNOHANG) != 0) fail("the writing process failed");
    std::this_thread::yield();
  }
  kill_child(child);
  return board.results[0].load();
}

void recovery(const TemporaryDomain& place, const char* topic, std::uint64_t gib, std::uint64_t rounds) {
  Offset end = write_and_die(place, topic, gib * kGiB);
  std::vector<double> times;
  bool cold = true;
  for (std::uint64_t i = 0; i < rounds; ++i) {
    if (i > 0) end = write_and_die(place, topic, kMiB);
    std::filesystem::remove_all(place.options().shm + "/" + topic);
    cold = drop_caches() && cold;
    const std::uint64_t start = monotonic_ns();
    Topic t = Domain(place.options()).open(topic);
    ExclusiveProducer producer = t.exclusive_producer();
    const Appended appended = producer.append("first");
    times.push_back(milliseconds_since(start));
    if (!appended || appended.position.offset < end) fail("an offset was handed out twice");
  }
  std::printf("recovery of %llu GiB, ring lost%s: %s ms\n", static_cast<unsigned long long>(gib),
              cold ? ", cold" : ", files in memory", spread(times).c_str());
}

void take_over(const TemporaryDomain& place, std::uint64_t rounds) {
  std::vector<double> times;
  for (std::uint64_t i = 0; i < rounds; ++i) {
    Board& board = new_board();
    const std::string name = "taken" + std::to_string(i);
    const int holder = start_child(
        [&] {
          Topic t = Domain(place.options()).open_or_create(name);
          SharedProducer producer = t.shared_producer();
          if (t.wait_durable(producer.append("holder").position, kPatience) != Durable::yes) return 1;
          board.ready.store(1, std::memory_order_release);
          for (;;) ::pause();
        },
        1);
    const int waiter = start_child(
        [&] {
          wait_for(board.ready);
          Topic t = Domain(place.options()).open(name);
          SharedProducer producer = t.shared_producer();
          std::uint64_t done_ns = 0;
          while (done_ns == 0 || board.stop.load(std::memory_order_acquire) == 0 || done_ns < board.back.load()) {
            if (t.wait_durable(producer.append("waiter").position, kPatience) != Durable::yes) return 1;
            done_ns = monotonic_ns();
            board.go.store(1, std::memory_order_release);
          }
          board.results[0].store(done_ns);
          return 0;
        },
        0);
    wait_for(board.go);
    board.back.store(monotonic_ns());
    kill_child(holder);
    board.stop.store(1, std::memory_order_release);
    join_child(waiter, "waiting producer");
    times.push_back(static_cast<double>(board.results[0].load() - board.back.load()) / 1e6);
  }
  std::printf("take-over, a producer waits: %s ms\n", spread(times).c_str());
}

void repair(const TemporaryDomain& place, std::uint64_t rounds) {
  std::vector<double> times;
  for (std::uint64_t i = 0; i < rounds; ++i) {
    Board& board = new_board();
    const std::string name = "repaired" + std::to_string(i);
    const int child = start_child([&] {
      SharedProducer dying = Domain(place.options()).open_or_create(name).shared_producer();
      const SharedClaim claim = dying.claim(100);
      if (!claim) return 1;
      board.ready.store(1, std::memory_order_release);
      for (;;) ::pause();
    });
    wait_for(board.ready);
    Topic t = Domain(place.options()).open(name);
    SharedProducer producer = t.shared_producer();
    Consumer consumer = t.consumer({.from = From::earliest, .wait = Wait::spin});
    if (t.wait_written(0, producer.append("behind").end, std::chrono::milliseconds(50)) == Durable::yes) {
      fail("a record passed an open claim");
    }
    std::uint64_t seen = 0;
    static_cast<void>(consumer.poll([&](const Record&) { ++seen; }));
    if (seen != 0) fail("a consumer passed an open claim");
    const std::uint64_t start = monotonic_ns();
    kill_child(child);
    while (seen == 0) static_cast<void>(consumer.poll([&](const Record&) { ++seen; }));
    times.push_back(milliseconds_since(start));
  }
  std::printf("repair, a consumer is stuck: %s ms\n", spread(times).c_str());
}

// All bytes of a directory's segments. Returns GB/s.
double read_raw(const std::string& directory) {
  constexpr std::size_t kPiece = kMiB, kDepth = 8;
  const Mapping buffers = Mapping::anonymous(kPiece * kDepth);
  const auto queue = make_io_queue(IoKind::automatic, kDepth);
  const std::uint64_t start = monotonic_ns();
  std::uint64_t total = 0;
  std::vector<std::size_t> free;
  for (std::size_t i = 0; i < kDepth; ++i) free.push_back(i);
  const auto reap = [&](std::size_t count) {
    queue->poll(count, Deadline::never(), [&](const IoQueue::Completion& completion) {
      if (completion.error != 0) fail("the floor can't read");
      free.push_back(static_cast<std::size_t>(completion.tag));
    });
  };
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().extension() != ".log") continue;
    const FileDescriptor fd = open_file(entry.path(), O_RDONLY | O_DIRECT);
    const std::uint64_t bytes = entry.file_size() / kPiece * kPiece;
    for (std::uint64_t at = 0; at < bytes; at += kPiece) {
      if (free.empty()) reap(1);
      queue->submit_read(fd.get(), const_cast<std::byte*>(buffers.data()) + free.back() * kPiece, kPiece, at,
                         free.back());
      free.pop_back();
      total += kPiece;
    }
    while (free.size() < kDepth) reap(1);
  }
  return static_cast<double>(total) / static_cast<double>(monotonic_ns() - start);
}

void verify(const TemporaryDomain& place, const char* topic, std::uint64_t gib, std::uint64_t rounds) {
  const TopicConfig config = Domain(place.options()).open(topic).config();
  const std::string directory = place.data() + "/" + topic + "/0";
  std::vector<double> ours, raw, ratio;
  for (std::uint64_t i = 0; i < rounds; ++i) {
    static_cast<void>(drop_caches());
    raw.push_back(read_raw(directory));
    static_cast<void>(drop_caches());
    const std::uint64_t start = monotonic_ns();
    const VerifyResult result = verify_partition(directory, config, 0, nullptr);
    ours.push_back(static_cast<double>(result.bytes) / static_cast<double>(monotonic_ns() - start));
    if (!result.sound() || result.records < gib * kGiB / kRecordBytes) fail("verify finds the log damaged");
    ratio.push_back(ours.back() / raw.back());
  }
  std::printf(
      "verify:                      %s GB/s\nraw O_DIRECT read (floor):   %s GB/s\nratio in each round:         %s\n",
      spread(ours).c_str(), spread(raw).c_str(), spread(ratio).c_str());
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t gib = number_option(argc, argv, "--gib", 10);
  const std::uint64_t rounds = number_option(argc, argv, "--rounds", 15);
  const TemporaryDomain place;
  recovery(place, "small", 1, rounds);
  recovery(place, "large", gib, rounds);
  verify(place, "large", gib, std::min<std::uint64_t>(rounds, 5));
  take_over(place, rounds);
  repair(place, rounds);
  return 0;
}
