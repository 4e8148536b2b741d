// One partition's ring with nothing of the disk: files under /dev/shm that go with the test, a persister's moves made by
// hand, and a history that is a plain vector of bytes.
#pragma once

#include <ftw.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "spillway/core/error.h"
#include "spillway/ipc/consumer.h"
#include "spillway/ipc/exclusive_producer.h"
#include "spillway/ipc/partition.h"
#include "spillway/ipc/shared_producer.h"

namespace spillway_test::ring {

using namespace spillway;

inline constexpr std::uint64_t kRing = kRingBytesMin;  // small: laps are cheap
inline constexpr Offset kFourGiB = Offset{1} << 32;

// Where a log begins and where its next record goes: what can go wrong with offsets shows near these.
struct Start {
  const char* name;
  Offset begin;
  Offset at;
};
inline const std::vector<Start>& starts() {
  static const std::vector<Start> all = {{"zero", 0, 0},
                                         {"just below 2^32", kFourGiB - kRing, kFourGiB - 80},
                                         {"one record short of a lap", 0, kRing - 48}};
  return all;
}

inline void remove_tree(const std::string& path) {
  ::nftw(
      path.c_str(), [](const char* name, const struct stat*, int, struct FTW*) { return std::remove(name); }, 16,
      FTW_DEPTH | FTW_PHYS);
}

struct RingOptions {
  OnFull on_full = OnFull::block;
  bool ephemeral = true;
  bool wakeups = true;
  std::uint64_t ring_bytes = kRing;
};

// The files of one partition, in a directory of its own.
class RingPlace {
 public:
  explicit RingPlace(const RingOptions& options = {}, const Start& start = starts()[0]) {
    char name[] = "/dev/shm/spillway-test-XXXXXX";
    if (::mkdtemp(name) == nullptr) throw std::runtime_error("no directory under /dev/shm");
    directory_ = name;
    owner_ = ::getpid();
    TopicOptions topic;
    topic.ring = options.ring_bytes;
    topic.on_full = options.on_full;
    topic.ephemeral = options.ephemeral;
    topic.wakeups = options.wakeups;
    config_ = make_topic_config("t", topic);
    paths_ = PartitionPaths::of(directory_ + "/shm", directory_ + "/data", config_, 0);
    Partition::create_locks(paths_, Sharing::owner);
    create(start);
  }
  ~RingPlace() {
    if (::getpid() == owner_) remove_tree(directory_);
  }
  RingPlace(const RingPlace&) = delete;
  RingPlace& operator=(const RingPlace&) = delete;

  // A new incarnation, whose log goes on at `start`, as if everything before were written and read.
  void create(const Start& start) {
    const Offset horizon = config_.ephemeral ? UINT64_MAX : start.begin + kGiB;
    Partition::create_files(paths_, config_, 0, {++incarnation_, start.begin, start.begin, horizon});
    const auto p = attach();
    p->control().claims.reserved_end.store(start.at);
    p->control().commits.committed_end.store(start.at);
    for (auto& boundary : p->control().boundaries) boundary.store(start.at);
    auto& area = p->control().persister;
    for (auto* end : {&area.durable_end, &area.written_end, &area.reclaimable_end}) end->store(start.at);
  }

  std::shared_ptr<Partition> attach(Access access = Access::read_write) const {
    return Partition::attach(paths_, config_, 0, access);
  }
  const TopicConfig& config() const noexcept { return config_; }
  const PartitionPaths& paths() const noexcept { return paths_; }
  const std::string& directory() const noexcept { return directory_; }

 private:
  std::string directory_;
  pid_t owner_ = 0;
  TopicConfig config_;
  PartitionPaths paths_;
  std::uint64_t incarnation_ = 0;
};

// What a persister and its disk would do, on memory: `log` has the bytes of [begin, written_end).
struct HandDisk {
  std::vector<std::byte> log;
  Offset begin = 0;

  explicit HandDisk(Offset log_begin) : begin(log_begin) {}
  Offset end() const { return begin + log.size(); }

  // Writes and syncs what is committed, and gives its space back.
  void persist(Partition& p) {
    const Offset to = find_committed_end(p).end;
    for (Offset at = end(); at < to;) {
      const std::uint64_t bytes = std::min(to - at, p.capacity() - (at & p.mask()));
      const std::byte* from = p.at(at);
      log.insert(log.end(), from, from + bytes);
      at += bytes;
    }
    auto& area = p.control().persister;
    area.written_end.store(to, std::memory_order_release);
    area.durable_end.store(to, std::memory_order_release);
    area.reclaimable_end.store(align_down(to, kBlock), std::memory_order_release);
  }
};

class HandHistory final : public History {
 public:
  explicit HandHistory(std::shared_ptr<const HandDisk> disk) : disk_(std::move(disk)) {}
  HandHistory(std::shared_ptr<const HandDisk> disk, std::function<HistoryRead(Offset)> instead)
      : disk_(std::move(disk)), instead_(std::move(instead)) {}

  HistoryRead read(Offset from) noexcept override {
    ++reads;
    if (instead_) {
      const HistoryRead told = instead_(from);
      if (told.status != HistoryStatus::nothing) return told;
    }
    HistoryRead r;
    if (from < disk_->begin || from >= disk_->end()) return r;
    r.status = HistoryStatus::data;
    r.begin = from;
    r.end = disk_->end();
    copy_.assign(disk_->log.begin() + static_cast<std::ptrdiff_t>(from - disk_->begin), disk_->log.end());
    r.bytes = copy_;
    return r;
  }
  Offset begin() noexcept override { return disk_->begin; }
  Offset end() noexcept override { return disk_->end(); }
  Offset durable_end() noexcept override { return disk_->end(); }
  Offset boundary_before(Offset) noexcept override { return disk_->begin; }

  std::size_t reads = 0;

 private:
  std::shared_ptr<const HandDisk> disk_;
  std::function<HistoryRead(Offset)> instead_;
  std::vector<std::byte> copy_;
};

inline PartitionReader live_reader(std::shared_ptr<Partition> p, ReadUpTo up_to = ReadUpTo::committed) {
  return PartitionReader(0, {std::move(p), nullptr}, nullptr, up_to);
}

inline Consumer one_consumer(PartitionReader reader, const ConsumerOptions& options = {}) {
  std::vector<PartitionReader> readers;
  readers.push_back(std::move(reader));
  return Consumer(std::move(readers), nullptr, options);
}

struct Delivered {
  Offset offset;
  std::string text;
  bool operator==(const Delivered&) const = default;
};

// Everything a reader has now. Gaps are noted and passed.
struct Drained {
  std::vector<Delivered> records;
  std::vector<Gap> gaps;
  ReadStop stop = ReadStop::caught_up;
};
inline Drained drain(PartitionReader& reader, std::size_t most = SIZE_MAX) {
  Drained d;
  for (;;) {
    std::size_t count = 0;
    d.stop = reader.read(
        [&](const Record& r) {
          d.records.push_back({r.offset(), std::string(r.text())});
          return Flow::go_on;
        },
        most - d.records.size(), count);
    if (d.stop != ReadStop::gap) return d;
    d.gaps.push_back(reader.gap());
    reader.skip_gap();
  }
}
inline std::vector<std::string> texts(const std::vector<Delivered>& records) {
  std::vector<std::string> all;
  for (const Delivered& d : records) all.push_back(d.text);
  return all;
}

// Runs `work` in a child made by fork, which ends with its value (an exception: 99). For use before threads exist.
template <class Work>
pid_t in_child(Work&& work) {
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  int value = 99;
  try {
    value = work();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "child: %s\n", e.what());
  }
  ::_exit(value);
}
// Waits for a child: its exit value, or 1000 + the signal that ended it.
inline int result_of(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}
[[noreturn]] inline void die_now() {
  ::kill(::getpid(), SIGKILL);
  for (;;) ::pause();
}

// One byte from a process to another, so that nobody sleeps to be sure.
class Baton {
 public:
  Baton() {
    if (::pipe(ends_) != 0) throw std::runtime_error("no pipe");
  }
  ~Baton() {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  Baton(const Baton&) = delete;
  Baton& operator=(const Baton&) = delete;
  void pass() const {
    const char one = 1;
    if (::write(ends_[1], &one, 1) != 1) std::abort();
  }
  void await() const {
    char one = 0;
    if (::read(ends_[0], &one, 1) != 1) std::abort();
  }

 private:
  int ends_[2];
};

template <class Work>
Code code_of(Work&& work, std::string* sentence = nullptr) {
  try {
    work();
  } catch (const Error& e) {
    if (sentence != nullptr) *sentence = e.what();
    return e.code();
  }
  throw std::runtime_error("no spillway::Error was thrown");
}

}  // namespace spillway_test::ring
