// A disk that loses power. Files live in a real directory (on tmpfs, to be quick), where everybody sees what was written
// at once; what the disk itself would have by then is worked out from a journal of every call that changed something.
//
// What a cut may leave, by POSIX and no file system's courtesy: of each write since the file's last sync any of its
// 512-byte sectors, of several to one sector any of them or none; the size a file grew to, or not; of each change of a
// directory since its last sync (a name added, removed, or moved: that is one change) whether it happened. A sync covers what
// had completed when it was submitted. What a failed sync was to cover is covered by no later one.
//
// Thread safety: none. The watched code runs on the test's own thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "spillway/core/disk.h"
#include "spillway/persist/io_queue.h"

namespace spillway::test {

class SimulatedDisk final : public disk::Watch {
 public:
  // What is below `root` now is on disk for certain. Watches from now on.
  explicit SimulatedDisk(std::string root);
  ~SimulatedDisk() override { disk::watch(nullptr); }
  SimulatedDisk(const SimulatedDisk&) = delete;
  SimulatedDisk& operator=(const SimulatedDisk&) = delete;

  // How many changes, syncs included, the journal has. A cut lies before the journal's `at`-th.
  std::size_t changes() const noexcept { return journal_.size(); }
  // Makes `directory`, which does not exist, what a cut at `at` may leave of the root.
  void cut(std::size_t at, std::mt19937_64& random, const std::string& directory) const;

  // The last changes before `at`, one a line, to find out by what a cut did harm.
  std::string story(std::size_t at, std::size_t count = 40) const;

  // For a queue: a write that was submitted, and that it completed; a sync that completed, of what had completed before.
  using Write = std::uint64_t;
  Write submitted(int fd, const std::byte* from, std::size_t bytes, std::uint64_t position);
  void completed(Write write);
  void failed(Write write);
  std::vector<Write> completed_writes(int fd) const;
  void synced(int fd, const std::vector<Write>& writes, bool well);

  int before(disk::Step& step) noexcept override;
  void after(const disk::Step& step, int error) noexcept override;
  // Asked before every call: an errno makes it fail, and fewer bytes a write short.
  std::function<int(disk::Step&)> fail;

 private:
  enum class Kind : std::uint8_t { write, size, sync, name, sync_names };
  using Node = std::size_t;
  static constexpr Node kNone = SIZE_MAX;
  struct Change {
    Kind kind = Kind::write;
    Node node = kNone;
    std::uint64_t position = 0;  // write; size: the new one
    std::shared_ptr<const std::vector<std::byte>> bytes{};
    Write write = 0;
    std::vector<Write> covers{};     // sync
    std::string removed{}, added{};  // name
    Node target = kNone;
  };
  struct File {
    std::vector<std::byte> bytes;
    std::map<std::string, Node> names;
    bool directory = false;
  };
  // A change that no sync has covered, and where what is durable took its place: it had ended when that was submitted.
  struct Pending {
    const Change* change;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> replaced{};
  };

  Node load(const std::string& path);
  Node node_of(const std::string& path) const;  // kNone: not ours
  Node node_of(int fd) const;
  Node add_node(const std::string& path, bool directory);
  static std::vector<std::byte> torn(const File& file, const std::vector<Pending>& pending, std::mt19937_64& random);
  static std::map<std::string, Node> some(const File& file, const std::vector<Pending>& pending,
                                          std::mt19937_64& random);

  std::vector<File> origin_;  // by node: as on disk at first
  std::map<std::uint64_t, Node> by_inode_;
  Node root_ = kNone;
  std::vector<Change> journal_;
  struct Known {
    Node node;
    bool completed = false;
    bool covered = false;     // a sync, well or not, had it
    Write over = UINT64_MAX;  // the first write that was submitted after it had ended, well or not
  };
  std::map<Write, Known> writes_;
  Write next_write_ = 1;
  Node moved_ = kNone;  // between before() and after() of a rename
};

// An I/O queue over it. As io_uring completes: in any order, some late; or as pwrite does: in order, at once.
class SimulatedQueue final : public IoQueue {
 public:
  enum class Order { any, in_turn };
  SimulatedQueue(SimulatedDisk& disk, Order order, std::mt19937_64& random)
      : disk_(disk), order_(order), random_(random) {}

  // Asked for every operation when it completes: an errno makes it fail. A failed write may have landed in part.
  std::function<int(bool sync)> fail;

  bool submit_write(int fd, const std::byte* from, std::size_t bytes, std::uint64_t file_pos,
                    std::uint64_t tag) noexcept override;
  bool submit_read(int fd, std::byte* to, std::size_t bytes, std::uint64_t file_pos,
                   std::uint64_t tag) noexcept override;
  bool submit_sync(int fd, std::uint64_t tag) noexcept override;
  bool register_buffer(std::byte*, std::size_t) noexcept override { return false; }
  void unregister_buffer(std::byte*) noexcept override {}
  std::size_t in_flight() const noexcept override { return operations_.size(); }
  std::size_t depth() const noexcept override { return 64; }
  IoPath path() const noexcept override { return IoPath::uring; }

  // The process died: what is under way still lands, as far as the kernel has got.
  void abandon();

 protected:
  bool next(Deadline deadline, Completion& completion) noexcept override;

 private:
  struct Operation {
    enum class What { write, read, sync } what;
    int fd;
    std::vector<std::byte> bytes;
    std::byte* to;
    std::uint64_t position;
    std::uint64_t tag;
    SimulatedDisk::Write write;
    std::vector<SimulatedDisk::Write> covers;
  };
  int perform(const Operation& operation);

  SimulatedDisk& disk_;
  Order order_;
  std::mt19937_64& random_;
  std::vector<Operation> operations_;
};

}  // namespace spillway::test
