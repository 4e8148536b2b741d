#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "spillway/core/descriptor.h"
#include "spillway/core/disk.h"
#include "spillway/core/fork.h"
#include "spillway/core/points.h"
#include "spillway/persist/io_queue.h"

namespace spillway {
namespace {

// Does the work when it is submitted, on the submitter's thread, and reports it when polled.
class PwriteQueue final : public IoQueue {
 public:
  explicit PwriteQueue(std::size_t depth) : done_(depth) {}

  bool submit_write(int fd, const std::byte* from, std::size_t bytes, std::uint64_t file_pos,
                    std::uint64_t tag) noexcept override {
    return full() ? false : report(tag, write_at(fd, from, bytes, file_pos));
  }
  bool submit_read(int fd, std::byte* to, std::size_t bytes, std::uint64_t file_pos,
                   std::uint64_t tag) noexcept override {
    return full() ? false : report(tag, read_at(fd, to, bytes, file_pos));
  }
  bool submit_sync(int fd, std::uint64_t tag) noexcept override {
    if (full()) return false;
    int rc;
    do rc = disk::sync_data(fd);
    while (rc != 0 && errno == EINTR);
    return report(tag, rc == 0 ? 0 : errno);
  }

  bool register_buffer(std::byte*, std::size_t) noexcept override { return false; }
  void unregister_buffer(std::byte*) noexcept override {}

  std::size_t in_flight() const noexcept override { return mark_.forked() ? 0 : count_; }
  std::size_t depth() const noexcept override { return done_.size(); }
  IoPath path() const noexcept override { return IoPath::pwrite; }

 protected:
  bool next(Deadline, Completion& completion) noexcept override {
    if (in_flight() == 0) return false;
    points::at();
    completion = done_[first_];
    first_ = (first_ + 1) % done_.size();
    --count_;
    return true;
  }

 private:
  bool full() const noexcept { return count_ == done_.size() || mark_.forked(); }
  bool report(std::uint64_t tag, int error) noexcept {
    done_[(first_ + count_++) % done_.size()] = {tag, error};
    return true;
  }

  std::vector<Completion> done_;  // a ring: `count_` of them from `first_` on
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  ForkMark mark_;
};

}  // namespace

std::unique_ptr<IoQueue> make_pwrite_queue(std::size_t depth) { return std::make_unique<PwriteQueue>(depth); }

std::unique_ptr<IoQueue> make_io_queue(IoKind kind, std::size_t depth) {
  const char* wanted = std::getenv("SPILLWAY_IO");
  if (kind == IoKind::automatic && wanted != nullptr && std::string_view(wanted) == "pwrite") kind = IoKind::pwrite;
  if (kind != IoKind::pwrite) {
    if (auto queue = make_uring_queue(depth)) return queue;
  }
  return make_pwrite_queue(depth);
}

}  // namespace spillway
