// From a producer to the disk, against the same disk's raw O_DIRECT sequential write in the same run.
//
//   [core 0] producer --append--> ring --persister (another thread; core 1; io_uring, O_DIRECT)--> segments
//   floor: io_uring, O_DIRECT, 1 MiB blocks, 8 in flight, into a file that is preallocated and was written once
//
// Both write into files in the same state: preallocated and already written, because the subject's retention recycles its
// segments. Timed: from the first append until everything is durable, after a warm-up that writes every segment once;
// the floor from its first write to the end of its fdatasync; in turn, a quarter of a gibibyte at a time, because a disk's
// speed changes from second to second. Checked: the durable end.
//   persist_one_to_disk_throughput [--bytes 1024] [--mib 256] [--rounds 15] [--ring-mib 16] [--sync-none]
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "harness.h"
#include "spillway/core/descriptor.h"
#include "spillway/core/mapping.h"
#include "spillway/persist/io_queue.h"

using namespace spillway;
using namespace spillway::bench;

namespace {

// CPU time so far: of this thread, which produces, and of all others, which persist.
struct CpuSeconds {
  double producer = 0;
  double persister = 0;
};

CpuSeconds cpu_seconds() {
  CpuSeconds result;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    double ns = 0;
    std::ifstream(task.path() / "schedstat") >> ns;
    (task.path().filename() == std::to_string(::getpid()) ? result.producer : result.persister) += ns / 1e9;
  }
  return result;
}

// The disk itself: a file that was written once already, written over again.
class Floor {
 public:
  Floor(const std::string& directory, std::uint64_t bytes)
      : path_(directory + "/floor"),
        fd_(open_file(path_, O_RDWR | O_CREAT | O_DIRECT)),
        bytes_(bytes),
        buffers_(Mapping::anonymous(kPiece * kDepth)),
        queue_(make_io_queue(IoKind::automatic, kDepth)) {
    allocate_file(fd_.get(), bytes, path_);
    std::memset(buffers_.data(), 0x5a, buffers_.bytes());
    write();
  }

  // Returns GB/s.
  double write() {
    const std::uint64_t start = monotonic_ns();
    std::uint64_t submitted = 0, done = 0;
    std::vector<std::size_t> free;
    for (std::size_t i = 0; i < kDepth; ++i) free.push_back(i);
    while (done < bytes_) {
      while (!free.empty() && submitted < bytes_) {
        const std::size_t slot = free.back();
        free.pop_back();
        queue_->submit_write(fd_.get(), buffers_.data() + slot * kPiece, kPiece, submitted, slot);
        submitted += kPiece;
      }
      queue_->poll(1, Deadline::never(), [&](const IoQueue::Completion& completion) {
        if (completion.error != 0) std::exit(1);
        free.push_back(static_cast<std::size_t>(completion.tag));
        done += kPiece;
      });
    }
    ::fdatasync(fd_.get());
    return static_cast<double>(bytes_) / static_cast<double>(monotonic_ns() - start);
  }

 private:
  static constexpr std::size_t kPiece = kMiB, kDepth = 8;
  std::string path_;
  FileDescriptor fd_;
  std::uint64_t bytes_;
  Mapping buffers_;
  std::unique_ptr<IoQueue> queue_;
};

struct Setting {
  std::size_t payload_bytes;
  std::uint64_t bytes;  // in each round
  std::uint64_t rounds;
  std::uint64_t ring;
  SyncPolicy sync;
};

int run(const Setting& setting) {
  const TemporaryDomain place;
  pin_to(1);  // with the persister's thread, which is started below
  Floor floor(place.data(), setting.bytes);
  Domain domain(place.options());
  Topic topic = domain.open_or_create(
      "disk", {.ring = setting.ring, .segment = 64 * kMiB, .retain = 256 * kMiB, .sync = setting.sync});
  ExclusiveProducer producer = topic.exclusive_producer({.deadline_ns = 60'000'000'000U});
  pin_to(0);  // this thread only
  std::vector<std::byte> payload(setting.payload_bytes);
  const auto write = [&](std::uint64_t total) {
    Offset end = 0;
    for (std::uint64_t written = 0; written < total; written += payload.size()) {
      const Appended appended = producer.append(std::span<const std::byte>(payload));
      if (!appended) return false;
      end = appended.end;
    }
    return topic.wait_durable(0, end, std::chrono::seconds(60)) == Durable::yes;
  };
  if (!write(512 * kMiB)) return 1;  // from here on every segment is a recycled one
  std::vector<double> disk, subject, ratio, producer_cpu, persister_cpu;
  for (std::uint64_t i = 0; i < setting.rounds; ++i) {
    disk.push_back(floor.write());
    const CpuSeconds cpu_before = cpu_seconds();
    const std::uint64_t start = monotonic_ns();
    if (!write(setting.bytes)) return 1;
    const auto gigabytes = static_cast<double>(setting.bytes) / 1e9;
    subject.push_back(gigabytes * 1e9 / static_cast<double>(monotonic_ns() - start));
    const CpuSeconds cpu_after = cpu_seconds();
    producer_cpu.push_back((cpu_after.producer - cpu_before.producer) / gigabytes);
    persister_cpu.push_back((cpu_after.persister - cpu_before.persister) / gigabytes);
    ratio.push_back(subject.back() / disk.back());
  }
  struct rusage usage;
  ::getrusage(RUSAGE_SELF, &usage);
  std::printf("end to end, durable, %zu B: %s GB/s\n", setting.payload_bytes, spread(subject).c_str());
  std::printf("raw O_DIRECT (floor):      %s GB/s\n", spread(disk).c_str());
  std::printf("ratio in each round:       %s\n", spread(ratio).c_str());
  std::printf(
      "CPU of the persister:      %s s per GB\nCPU of the producer:       %s s per GB\n"
      "peak resident %.0f MiB, the ring's %llu and the floor's 8 included\n",
      spread(persister_cpu).c_str(), spread(producer_cpu).c_str(), static_cast<double>(usage.ru_maxrss) / 1024,
      static_cast<unsigned long long>(setting.ring / kMiB));
  producer.close();
  return topic.close(std::chrono::seconds(60)) == Durable::yes ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  return run({.payload_bytes = number_option(argc, argv, "--bytes", 1024),
              .bytes = number_option(argc, argv, "--mib", 256) * kMiB,
              .rounds = number_option(argc, argv, "--rounds", 15),
              .ring = number_option(argc, argv, "--ring-mib", 16) * kMiB,
              .sync = has_option(argc, argv, "--sync-none") ? SyncPolicy::none : SyncPolicy::interval});
}
