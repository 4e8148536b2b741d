// io_uring. Any thread may submit and poll (one at a time), so neither SINGLE_ISSUER nor DEFER_TASKRUN is asked for.
#include <liburing.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "spillway/core/bytes.h"
#include "spillway/core/fork.h"
#include "spillway/core/points.h"
#include "spillway/persist/io_queue.h"

namespace spillway {
namespace {

constexpr unsigned kFruitlessMax = 1000;               // times an operation is tried again without getting on
constexpr std::uint64_t kLongestWaitNs = 100'000'000;  // then what still waits to be submitted is

bool is_transient(int error) noexcept { return error == EINTR || error == EAGAIN || error == ECANCELED; }

class UringQueue final : public IoQueue {
 public:
  explicit UringQueue(std::size_t depth) : operations_(depth) {
    for (std::size_t i = 0; i < depth; ++i) free_.push_back(static_cast<std::uint32_t>(depth - 1 - i));
  }

  // 0, or the errno with which the kernel refused.
  int open() noexcept {
    const int rc = io_uring_queue_init(static_cast<unsigned>(operations_.size()), &ring_, 0);
    if (rc != 0) return -rc;
    open_ = true;
    io_uring_ring_dontfork(&ring_);
    fork_registry_add_descriptor(ring_.ring_fd);  // a child that kept it would keep what we do in flight
    if ((ring_.features & IORING_FEAT_EXT_ARG) == 0) return ENOSYS;  // waiting with a time-out needs 5.11
    can_register_ = io_uring_register_buffers_sparse(&ring_, kRegisteredBuffersMax) == 0;
    return 0;
  }

  ~UringQueue() override {
    if (!open_ || mark_.forked()) return;
    fork_registry_remove_descriptor(ring_.ring_fd);
    io_uring_queue_exit(&ring_);
  }

  bool submit_write(int fd, const std::byte* from, std::size_t bytes, std::uint64_t file_pos,
                    std::uint64_t tag) noexcept override {
    return start({Kind::write, fd, const_cast<std::byte*>(from), bytes, file_pos, tag, 0, 0});
  }
  bool submit_read(int fd, std::byte* to, std::size_t bytes, std::uint64_t file_pos,
                   std::uint64_t tag) noexcept override {
    return start({Kind::read, fd, to, bytes, file_pos, tag, 0, 0});
  }
  bool submit_sync(int fd, std::uint64_t tag) noexcept override {
    return start({Kind::sync, fd, nullptr, 0, 0, tag, 0, 0});
  }

  bool register_buffer(std::byte* memory, std::size_t bytes) noexcept override {
    if (!can_register_ || mark_.forked()) return false;
    const auto slot = std::find_if(buffers_.begin(), buffers_.end(), [](const Buffer& b) { return b.bytes == 0; });
    if (slot == buffers_.end() || !update(slot, {memory, bytes})) return false;
    *slot = {memory, bytes};
    return true;
  }
  void unregister_buffer(std::byte* memory) noexcept override {
    if (mark_.forked()) return;
    const auto slot = std::find_if(buffers_.begin(), buffers_.end(),
                                   [&](const Buffer& b) { return b.bytes != 0 && b.memory == memory; });
    if (slot == buffers_.end()) return;
    update(slot, {nullptr, 0});
    *slot = {};
  }

  std::size_t in_flight() const noexcept override {
    return mark_.forked() ? 0 : operations_.size() - free_.size();  // what is under way is the parent's
  }
  std::size_t depth() const noexcept override { return operations_.size(); }
  IoPath path() const noexcept override { return IoPath::uring; }

 protected:
  bool next(Deadline deadline, Completion& completion) noexcept override {
    if (mark_.forked()) return false;
    for (;;) {
      io_uring_cqe* cqe = nullptr;
      while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
        const auto slot = static_cast<std::uint32_t>(cqe->user_data);
        const int result = cqe->res;
        io_uring_cqe_seen(&ring_, cqe);
        points::at();
        if (finished(slot, result, completion)) return true;
      }
      if (in_flight() == 0 || deadline.passed()) return false;
      submit_pending();
      const std::uint64_t wait_ns = std::min(deadline.left_ns(), kLongestWaitNs);
      __kernel_timespec timeout{};
      timeout.tv_nsec = static_cast<long long>(wait_ns);
      io_uring_wait_cqe_timeout(&ring_, &cqe, &timeout);
    }
  }

 private:
  enum class Kind : std::uint8_t { write, read, sync };
  struct Operation {
    Kind kind;
    int fd;
    std::byte* memory;
    std::size_t bytes;
    std::uint64_t file_pos;
    std::uint64_t tag;
    std::size_t done;    // bytes that are transferred for certain
    unsigned fruitless;  // tries in a row that transferred nothing
  };
  struct Buffer {
    std::byte* memory = nullptr;
    std::size_t bytes = 0;
  };
  using Buffers = std::array<Buffer, kRegisteredBuffersMax>;

  bool start(const Operation& operation) noexcept {
    points::at();
    if (free_.empty() || mark_.forked()) return false;
    const std::uint32_t slot = free_.back();
    free_.pop_back();
    operations_[slot] = operation;
    prepare(slot);
    submit_pending();
    return true;
  }

  // An operation has at most one entry in the submission queue, which has room for one of each.
  void prepare(std::uint32_t slot) noexcept {
    const Operation& o = operations_[slot];
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    std::byte* memory = o.memory + o.done;
    const auto bytes = static_cast<unsigned>(std::min<std::size_t>(o.bytes - o.done, std::size_t{1} << 30));
    const std::uint64_t file_pos = o.file_pos + o.done;
    const int buffer = o.kind == Kind::sync ? -1 : registered(memory, bytes);
    switch (o.kind) {
      case Kind::write:
        if (buffer >= 0)
          io_uring_prep_write_fixed(sqe, o.fd, memory, bytes, file_pos, buffer);
        else
          io_uring_prep_write(sqe, o.fd, memory, bytes, file_pos);
        break;
      case Kind::read:
        if (buffer >= 0)
          io_uring_prep_read_fixed(sqe, o.fd, memory, bytes, file_pos, buffer);
        else
          io_uring_prep_read(sqe, o.fd, memory, bytes, file_pos);
        break;
      case Kind::sync: io_uring_prep_fsync(sqe, o.fd, IORING_FSYNC_DATASYNC); break;
    }
    sqe->user_data = slot;
  }

  // What the kernel does not take now (it is out of memory, say) stays in the queue for next() to submit again.
  void submit_pending() noexcept {
    while (io_uring_sq_ready(&ring_) != 0 && io_uring_submit(&ring_) > 0) {
    }
  }

  // False: the operation goes on.
  bool finished(std::uint32_t slot, int result, Completion& completion) noexcept {
    Operation& o = operations_[slot];
    int error = 0;
    if (result < 0 && is_transient(-result) && ++o.fruitless < kFruitlessMax) {
      return again(slot);
    }
    if (result < 0) {
      error = -result;
    } else if (o.kind != Kind::sync && o.done + static_cast<std::size_t>(result) < o.bytes) {
      if (result == 0 && o.kind == Kind::read) {
        error = EIO;  // the file ends here
      } else {
        // Whole blocks count: with O_DIRECT the rest has to begin at one. The part of one is transferred again.
        const std::size_t done = align_down(o.done + static_cast<std::size_t>(result), kBlock);
        o.fruitless = done > o.done ? 0 : o.fruitless + 1;
        o.done = std::max(o.done, done);
        if (o.fruitless < kFruitlessMax) return again(slot);
        error = EIO;
      }
    }
    completion = {o.tag, error};
    free_.push_back(slot);
    return true;
  }
  bool again(std::uint32_t slot) noexcept {
    prepare(slot);
    submit_pending();
    return false;
  }

  int registered(const std::byte* memory, std::size_t bytes) const noexcept {
    for (std::size_t i = 0; i < buffers_.size(); ++i) {
      const Buffer& b = buffers_[i];
      if (b.bytes != 0 && memory >= b.memory && memory + bytes <= b.memory + b.bytes) return static_cast<int>(i);
    }
    return -1;
  }
  bool update(Buffers::iterator slot, Buffer to) noexcept {
    const iovec vector{to.memory, to.bytes};
    const __u64 tag = 0;
    const auto index = static_cast<unsigned>(slot - buffers_.begin());
    return io_uring_register_buffers_update_tag(&ring_, index, &vector, &tag, 1) == 1;
  }

  io_uring ring_{};
  bool open_ = false;
  bool can_register_ = false;
  std::vector<Operation> operations_;
  std::vector<std::uint32_t> free_;  // of operations_
  Buffers buffers_;
  ForkMark mark_;
};

}  // namespace

std::unique_ptr<IoQueue> make_uring_queue(std::size_t depth) {
  auto queue = std::make_unique<UringQueue>(depth);
  const int error = queue->open();
  if (error == 0) return queue;
  queue.reset();
  errno = error;
  return nullptr;
}

}  // namespace spillway
