// An I/O queue that stands before a real one, makes operations fail or wait on demand, and checks what a persister must
// never do: submit a block that has a write under way, change bytes that were synced, overwrite an index home without
// which entries that were promised to be durable are on disk for certain nowhere.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "spillway/persist/io_queue.h"

namespace spillway::test {

class CheckedQueue final : public IoQueue {
 public:
  explicit CheckedQueue(IoKind kind) : real_(make_io_queue(kind, 64)) {}

  // Asked for every operation when it is submitted: an errno makes it fail without being carried out, 0 lets it
  // through.
  enum class What { log_bytes, index, sync };
  std::function<int(What)> fail;
  // Completions are kept back while this is set.
  bool hold = false;
  std::uint64_t segment_bytes = 0;  // 0: nothing is known of files, and homes are not checked
  // What was promised: entries of ranges before it must not get lost.
  std::function<std::uint64_t()> durable_end;

  // What a power loss does to the files: of what was written and not synced each sector is as it was or as it was to
  // be. Nothing is under way.
  void lose_power(std::mt19937_64& random);

  std::vector<std::string> violations;
  std::map<What, int> count;

  bool submit_write(int fd, const std::byte* from, std::size_t bytes, std::uint64_t file_pos,
                    std::uint64_t tag) noexcept override;
  bool submit_read(int fd, std::byte* to, std::size_t bytes, std::uint64_t file_pos,
                   std::uint64_t tag) noexcept override;
  bool submit_sync(int fd, std::uint64_t tag) noexcept override;
  bool register_buffer(std::byte* memory, std::size_t bytes) noexcept override {
    return real_->register_buffer(memory, bytes);
  }
  void unregister_buffer(std::byte* memory) noexcept override { real_->unregister_buffer(memory); }
  std::size_t in_flight() const noexcept override { return operations_.size(); }
  std::size_t depth() const noexcept override { return real_->depth(); }
  IoPath path() const noexcept override { return real_->path(); }

 protected:
  bool next(Deadline deadline, Completion& completion) noexcept override;

 private:
  struct Block {
    std::vector<std::byte> bytes;
    std::uint64_t number = 0;  // of the completion
  };
  struct Operation {
    What what;
    std::string file;  // its path: a recycled segment is another file
    std::uint64_t begin, end;
    std::vector<std::byte> bytes;
    std::uint64_t number;                     // in the order of all submissions and completions
    std::map<std::uint64_t, Block> covers{};  // a sync: what it will have made durable
    const std::byte* from = nullptr;          // where the bytes of a write lie
  };
  struct File {
    std::map<std::uint64_t, Block> written;                  // blocks that no completed sync covers as they are
    std::map<std::uint64_t, std::vector<std::byte>> synced;  // blocks, as they are on disk for certain
    std::map<std::uint64_t, std::vector<std::byte>> before;  // blocks that were never synced, as they were
    struct Home {
      std::vector<std::byte> bytes;
      std::uint64_t number = 0;  // of the write that completed
      bool covered = false;      // by a sync that completed, and not written to since
    };
    std::map<std::uint64_t, Home> homes;  // by position
  };
  What what_of(std::uint64_t file_pos) const noexcept;
  bool submit(Operation operation, std::uint64_t tag, const std::function<bool()>& forward);
  void check_write(const Operation& operation);
  void note(const Operation& operation, int error);
  void remember(const Operation& operation, int fd);
  std::uint64_t twin_of(std::uint64_t home) const noexcept;
  std::uint64_t first_offset(const Operation& index_write) const;
  void see_twin(const Operation& index_write, int fd);
  bool needed(const File& file, const Operation& index_write) const;

  std::unique_ptr<IoQueue> real_;
  std::map<std::uint64_t, Operation> operations_;  // by tag
  std::deque<Completion> failed_;
  std::map<std::string, File> files_;
  std::uint64_t next_number_ = 1;
};

}  // namespace spillway::test
