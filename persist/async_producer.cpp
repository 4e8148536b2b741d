#include "spillway/persist/async_producer.h"

#include <concurrentqueue/concurrentqueue.h>

#include <array>
#include <atomic>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

#include "spillway/core/clock.h"
#include "spillway/core/fork.h"
#include "spillway/core/futex.h"

namespace spillway {
namespace {

constexpr std::size_t kBulk = 256;
constexpr std::size_t kInline = 100;

// A record on its way. Small ones lie inside, so that queueing them allocates nothing.
struct Queued {
  std::unique_ptr<std::byte[]> large;
  std::shared_ptr<std::atomic<bool>> mark;  // no record: set once what its thread queued before is done with
  std::uint32_t bytes = 0;
  std::array<std::byte, kInline> small;

  std::span<const std::byte> payload() const noexcept { return {large ? large.get() : small.data(), bytes}; }
};

}  // namespace

// ORDER.
//   Q1 taken (release, the thread)  -> counts() (acquire): the refusals among the records counted are counted too
//   Q2 a mark (release, the thread) -> flush (acquire): what its caller queued before is in the ring, or refused and counted
//   Q3 asleep: the thread stores it (seq_cst), then looks at the queue; append() queues, then looks at it (seq_cst fence on
//      both sides), so one of them sees the other; and the thread's sleep is bounded
struct AsyncProducer::Impl {
  Impl(const Topic& topic, const AsyncProducerOptions& options)
      : producer(topic.exclusive_producer({options.partition, options.deadline_ns})),
        queued_bytes_max(options.queued_bytes_max),
        claim_max(producer.partition()->claim_bytes_max()) {}

  ExclusiveProducer producer;
  moodycamel::ConcurrentQueue<Queued> queue;
  const std::size_t queued_bytes_max;
  const std::uint64_t claim_max;
  std::atomic<std::size_t> waiting_bytes{0};
  std::atomic<std::uint64_t> queued{0};
  std::atomic<std::uint64_t> taken{0};
  std::atomic<std::uint64_t> refused{0};
  std::atomic<AppendStatus> last_refusal{AppendStatus::ok};
  std::atomic<std::uint32_t> asleep{0};  // a futex
  std::atomic<bool> stopping{false};
  ForkMark mark;
  std::unique_ptr<std::thread> thread;

  void run() noexcept;
  void sleep() noexcept;
  void wake() noexcept {
    asleep.store(0, std::memory_order_seq_cst);
    futex_wake_all(asleep);
  }
  void wake_if_asleep() noexcept {
    std::atomic_thread_fence(std::memory_order_seq_cst);  // Q3
    if (asleep.load(std::memory_order_relaxed) != 0) wake();
  }
};

void AsyncProducer::Impl::run() noexcept {
  std::vector<Queued> bulk(kBulk);
  moodycamel::ConsumerToken turn(queue);  // goes round the threads: none that queues without end keeps another waiting
  AppendStatus no_room = AppendStatus::ok;  // else: it is to end, and this is what all that is left gets
  for (unsigned idle = 0;;) {
    // acquire: what was queued before stopping was set is seen below.
    const bool last_round = stopping.load(std::memory_order_acquire);
    const std::size_t count = queue.try_dequeue_bulk(turn, bulk.begin(), kBulk);
    std::size_t bytes = 0, records = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (bulk[i].mark) continue;
      const AppendStatus status = no_room != AppendStatus::ok ? no_room : producer.append(bulk[i].payload()).status;
      if (status != AppendStatus::ok) {
        last_refusal.store(status, std::memory_order_relaxed);  // relaxed: a report
        refused.fetch_add(1, std::memory_order_relaxed);
        const bool waited = status == AppendStatus::full || status == AppendStatus::no_horizon;
        if (waited && stopping.load(std::memory_order_relaxed))
          no_room = status;  // relaxed: looked at with the next, too
      }
      ++records;
      bytes += bulk[i].bytes;
      bulk[i].large.reset();
    }
    if (count > 0) {
      waiting_bytes.fetch_sub(bytes, std::memory_order_relaxed);  // relaxed: only a bound
      taken.fetch_add(records, std::memory_order_release);        // Q1
      for (std::size_t i = 0; i < count; ++i) {
        if (!bulk[i].mark) continue;
        bulk[i].mark->store(true, std::memory_order_release);  // Q2
        bulk[i].mark.reset();
      }
      idle = 0;
    } else if (last_round) {
      return;
    } else if (++idle < 200) {
      cpu_relax();
    } else {
      sleep();
    }
  }
}

void AsyncProducer::Impl::sleep() noexcept {
  asleep.store(1, std::memory_order_seq_cst);  // Q3
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (queue.size_approx() == 0 && !stopping.load(std::memory_order_acquire)) {
    futex_wait(asleep, 1, Deadline::after_ns(10'000'000));
  }
  asleep.store(0, std::memory_order_relaxed);
}

AsyncProducer::AsyncProducer(const Topic& topic, const AsyncProducerOptions& options)
    : impl_(std::make_unique<Impl>(topic, options)) {
  impl_->thread = std::make_unique<std::thread>([impl = impl_.get()] { impl->run(); });
}

AsyncProducer::~AsyncProducer() {
  if (impl_->mark.forked()) {
    // The thread is the parent's, and so is what it works on.
    static_cast<void>(impl_.release());
    return;
  }
  impl_->stopping.store(true, std::memory_order_release);
  impl_->wake();
  impl_->thread->join();
}

AppendStatus AsyncProducer::append(std::span<const std::byte> payload) noexcept {
  Impl& impl = *impl_;
  if (impl.mark.forked()) return AppendStatus::forked;
  if (record_bytes(payload.size()) > impl.claim_max) return AppendStatus::too_large;
  if (impl.producer.partition()->gone()) return AppendStatus::gone;
  // relaxed: only a bound; it may be passed by what other threads queue at the same moment.
  if (impl.waiting_bytes.load(std::memory_order_relaxed) + payload.size() > impl.queued_bytes_max) {
    return AppendStatus::full;
  }
  Queued record;
  record.bytes = static_cast<std::uint32_t>(payload.size());
  if (payload.size() > kInline) {
    record.large.reset(new (std::nothrow) std::byte[payload.size()]);
    if (!record.large) return AppendStatus::full;
  }
  if (!payload.empty())
    std::memcpy(record.large ? record.large.get() : record.small.data(), payload.data(), payload.size());
  impl.waiting_bytes.fetch_add(payload.size(), std::memory_order_relaxed);
  if (!impl.queue.enqueue(std::move(record))) {
    impl.waiting_bytes.fetch_sub(payload.size(), std::memory_order_relaxed);
    return AppendStatus::full;  // out of memory
  }
  impl.queued.fetch_add(1, std::memory_order_relaxed);  // relaxed: a count
  impl.wake_if_asleep();
  return AppendStatus::ok;
}

// The queue keeps the order of each thread's records: a mark behind them comes out when they have.
bool AsyncProducer::flush(std::chrono::nanoseconds timeout) noexcept try {
  if (impl_->mark.forked()) return false;
  const Deadline deadline = Deadline::after_ns(static_cast<std::uint64_t>(std::max<std::int64_t>(timeout.count(), 0)));
  const auto reached = std::make_shared<std::atomic<bool>>(false);
  Queued mark{};
  mark.mark = reached;
  if (!impl_->queue.enqueue(std::move(mark))) return false;
  impl_->wake_if_asleep();
  for (unsigned round = 0; !reached->load(std::memory_order_acquire); ++round) {  // Q2
    if (deadline.passed()) return false;
    if (round < 1000) {
      cpu_relax();
    } else {
      futex_wait_any({}, Deadline::after_ns(50'000));
    }
  }
  return true;
} catch (const std::bad_alloc&) {
  return false;
}

AsyncProducer::Counts AsyncProducer::counts() const noexcept {
  Counts counts;
  counts.queued = impl_->queued.load(std::memory_order_relaxed);
  const std::uint64_t taken = impl_->taken.load(std::memory_order_acquire);
  counts.refused = impl_->refused.load(std::memory_order_relaxed);
  counts.appended = taken > counts.refused ? taken - counts.refused : 0;
  return counts;
}

AppendStatus AsyncProducer::last_refusal() const noexcept {
  return impl_->last_refusal.load(std::memory_order_relaxed);
}

}  // namespace spillway
