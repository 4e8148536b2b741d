// From a producer to the disk, against the same disk's raw O_DIRECT sequential write in the same run.
//
//   [core 0] producer --append--> ring --persister (io_uring, O_DIRECT)--> segments
//   floor: io_uring, O_DIRECT, 1 MiB blocks, 8 in flight, into a file that is preallocated and was written once
//
// Both write into files in the same state: preallocated and already written, because the subject's retention recycles its
// segments. Timed: from the first append until everything is durable, after a warm-up that writes every segment once;
// the floor from its first write to the end of its fdatasync. Checked: the durable end.
//   persist_one_to_disk_throughput [--bytes 1024] [--mib 2048] [--rounds 3]
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "harness.h"
#include "spillway/core/descriptor.h"
#include "spillway/core/mapping.h"
#include "spillway/persist/io_queue.h"

using namespace spillway;
using namespace spillway::bench;

namespace {

double cpu_seconds() {
  struct rusage usage;
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// GB/s of the disk itself.
double floor_round(const std::string& directory, std::uint64_t bytes) {
  const std::string path = directory + "/floor";
  const FileDescriptor fd = open_file(path, O_RDWR | O_CREAT | O_DIRECT);
  allocate_file(fd.get(), bytes, path);
  constexpr std::size_t kPiece = kMiB, kDepth = 8;
  Mapping buffers = Mapping::anonymous(kPiece * kDepth);
  std::memset(buffers.data(), 0x5a, buffers.bytes());
  double rate = 0;
  for (int pass = 0; pass < 2; ++pass) {  // the first writes the file once
    const auto queue = make_io_queue(IoKind::automatic, kDepth);
    const std::uint64_t start = monotonic_ns();
    std::uint64_t submitted = 0, done = 0;
    std::vector<std::size_t> free;
    for (std::size_t i = 0; i < kDepth; ++i) free.push_back(i);
    while (done < bytes) {
      while (!free.empty() && submitted < bytes) {
        const std::size_t slot = free.back();
        free.pop_back();
        queue->submit_write(fd.get(), buffers.data() + slot * kPiece, kPiece, submitted, slot);
        submitted += kPiece;
      }
      queue->poll(1, Deadline::never(), [&](const IoQueue::Completion& completion) {
        if (completion.error != 0) std::exit(1);
        free.push_back(static_cast<std::size_t>(completion.tag));
        done += kPiece;
      });
    }
    ::fdatasync(fd.get());
    rate = static_cast<double>(bytes) / static_cast<double>(monotonic_ns() - start);
  }
  ::unlink(path.c_str());
  return rate;
}

struct Result {
  double rate;
  double cpu_per_gb;
  double rss_mib;
};

Result subject_round(std::size_t payload_bytes, std::uint64_t bytes) {
  TemporaryDomain place;
  Board& board = new_board();
  const int child = start_child(
      [&] {
        Domain domain(place.options());
        Topic topic = domain.open_or_create(
            "disk", {.ring = 16 * kMiB, .segment = 64 * kMiB, .retain = 256 * kMiB, .sync = SyncPolicy::interval});
        ExclusiveProducer producer = topic.exclusive_producer({.deadline_ns = 60'000'000'000U});
        std::vector<std::byte> payload(payload_bytes);
        const auto write = [&](std::uint64_t total) {
          Offset end = 0;
          for (std::uint64_t written = 0; written < total; written += payload_bytes) {
            const Appended appended = producer.append(std::span<const std::byte>(payload));
            if (!appended) return false;
            end = appended.end;
          }
          return topic.wait_durable(0, end, std::chrono::seconds(60)) == Durable::yes;
        };
        if (!write(512 * kMiB)) return 1;  // from here on every segment is a recycled one
        const double cpu = cpu_seconds();
        const std::uint64_t start = monotonic_ns();
        if (!write(bytes)) return 1;
        board.results[0].store(monotonic_ns() - start);
        board.results[1].store(static_cast<std::uint64_t>((cpu_seconds() - cpu) * 1e9));
        struct rusage usage;
        ::getrusage(RUSAGE_SELF, &usage);
        board.results[2].store(static_cast<std::uint64_t>(usage.ru_maxrss));
        producer.close();
        return topic.close(std::chrono::seconds(60)) == Durable::yes ? 0 : 1;
      },
      0);
  join_child(child, "producer");
  const auto result = [&](int i) { return static_cast<double>(board.results[i].load()); };
  return {static_cast<double>(bytes) / result(0), result(1) / static_cast<double>(bytes), result(2) / 1024};
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t bytes = number_option(argc, argv, "--mib", 2048) * kMiB;
  const std::size_t payload = number_option(argc, argv, "--bytes", 1024);
  std::vector<double> floor, subject, ratio, cpu;
  double rss = 0;
  for (std::uint64_t i = 0; i < number_option(argc, argv, "--rounds", 3); ++i) {
    const TemporaryDomain place;
    floor.push_back(floor_round(place.data(), bytes));
    const Result r = subject_round(payload, bytes);
    subject.push_back(r.rate);
    cpu.push_back(r.cpu_per_gb);
    ratio.push_back(r.rate / floor.back());
    rss = r.rss_mib;
  }
  std::printf("end to end, durable, %zu B: %s GB/s\n", payload, spread(subject).c_str());
  std::printf("raw O_DIRECT (floor):      %s GB/s\n", spread(floor).c_str());
  std::printf("ratio:                     %s\n", spread(ratio).c_str());
  std::printf("CPU of producer and persister: %s s per GB; peak resident %.0f MiB, 16 MiB of them the ring\n",
              spread(cpu).c_str(), rss);
  return 0;
}
