#include "spillway/persist/persister.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "spillway/core/error.h"
#include "spillway/persist/persister_impl.h"

namespace spillway {
namespace {

constexpr std::uint64_t kMillisecond = 1'000'000;
constexpr std::uint64_t kElectNs = 50 * kMillisecond;         // how often a free role is looked for
constexpr std::uint64_t kElectDrowsyNs = 100 * kMillisecond;  // ... once nothing has happened for a second
constexpr std::uint64_t kPollNs = kMillisecond;               // how long the thread waits for completions at a time
constexpr std::uint64_t kSleepNs = 20 * kMillisecond;         // ... for somebody to want something
constexpr std::uint64_t kQuietNs = 1000 * kMillisecond;
constexpr std::uint64_t kManyNs = 5 * kMillisecond;  // ... when there are more partitions than words to sleep on
constexpr std::size_t kQueueDepth = 64;
constexpr std::size_t kBuffersKept = 2;

}  // namespace

Persister::Persister(PersisterOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}

Persister::~Persister() {
  if (mark_.forked()) {
    static_cast<void>(impl_.release());
    return;
  }
  impl_->stopping_.store(true, std::memory_order_release);
  impl_->doorbell_->ring();
  if (impl_->thread_) impl_->thread_->join();
}

Persister::Impl::~Impl() {
  for (Entry& entry : entries_) {
    entry.partition->set_space_listener(nullptr);
    if (entry.persister->under_way() == 0) {
      entry.persister->release();
      entry.persister->step(monotonic_ns());
    }
  }
  // Pieces keep their buffers if they are under way; those must outlive nothing but the pool's care for them.
  entries_.clear();
  buffers_.reset();
  queue_.reset();
}

void Persister::add(std::shared_ptr<Partition> partition, const StandByOptions& options) {
  if (mark_.forked())
    throw Error(Code::forked, "this process was forked from the one that opened the domain; open it anew");
  SPILLWAY_ASSERT(!partition->config().ephemeral);
  Impl::Locked lock(*impl_);
  if (Impl::Entry* const known = impl_->find(*partition)) {
    known->stand_by = options.stand_by;
    return;
  }
  impl_->make_io();
  const PartitionPersister::Shared shared{*impl_->queue_, *impl_->buffers_, impl_->events_};
  Impl::Entry entry{partition, std::make_unique<PartitionPersister>(partition, shared, options.daemon),
                    options.stand_by, false};
  impl_->entries_.push_back(std::move(entry));
  partition->set_space_listener(impl_->doorbell_);
  impl_->elected_ns_ = 0;
  if (options.stand_by) {
    impl_->start_thread();
    impl_->doorbell_->ring();
  }
}

void Persister::remove(const std::shared_ptr<Partition>& partition) noexcept {
  if (mark_.forked()) return;
  Impl::Locked lock(*impl_);
  Impl::Entry* const entry = impl_->find(*partition);
  if (entry == nullptr) return;
  partition->set_space_listener(nullptr);
  entry->leaving = true;
  entry->persister->role().withdraw();
  entry->persister->release();
  entry->persister->step(monotonic_ns());
  impl_->drop_gone();
  impl_->doorbell_->ring();
}

bool Persister::holds_role(const Partition& partition) const noexcept {
  if (mark_.forked()) return false;
  Impl::Locked lock(*impl_);
  const Impl::Entry* const entry = impl_->find(partition);
  return entry != nullptr && entry->persister->holds_role();
}

IoPath Persister::path() const noexcept {
  if (mark_.forked()) return IoPath::none;
  Impl::Locked lock(*impl_);
  return impl_->queue_ ? impl_->queue_->path() : IoPath::none;
}

Persister::Impl::Entry* Persister::Impl::find(const Partition& partition) noexcept {
  for (Entry& entry : entries_) {
    if (entry.partition.get() == &partition && !entry.leaving) return &entry;
  }
  return nullptr;
}

void Persister::Impl::make_io() {
  if (queue_) return;
  queue_ = options_.make_queue ? options_.make_queue() : make_io_queue(options_.io, kQueueDepth);
  buffers_ = std::make_unique<IoBuffers>(*queue_);
}

void Persister::Impl::start_thread() {
  if (thread_) return;
  // Signals are the application's: its handlers run on its own threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    thread_ = std::make_unique<std::thread>([this] { run(); });
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw Error(Code::io, "can't start the persister's thread; raise the limit on threads");
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(thread_->native_handle(), "spillway-write");  // at most 15 letters
}

std::size_t Persister::Impl::poll(std::size_t min_completions, Deadline deadline) noexcept {
  return queue_->poll(min_completions, deadline, [](const IoQueue::Completion& completion) {
    IoOperation& operation = IoOperation::of(completion.tag);
    operation.owner->io_completed(operation, completion.error);
  });
}

void Persister::Impl::elect(std::uint64_t now_ns) noexcept {
  const std::uint32_t rings = doorbell_->rings();
  if (now_ns - elected_ns_ < kElectNs && rings == elected_rings_) return;
  elected_ns_ = now_ns;
  elected_rings_ = rings;
  for (Entry& entry : entries_) {
    if (!entry.stand_by || entry.leaving || entry.persister->holds_role()) continue;
    if (!entry.persister->take_role(now_ns) && entry.persister->role().daemon()) entry.persister->role().ask();
  }
}

void Persister::Impl::drop_gone() noexcept {
  std::erase_if(entries_, [](const Entry& e) { return e.leaving && !e.persister->holds_role(); });
}

void Persister::Impl::run() noexcept {
  std::unique_lock lock(mutex_, std::defer_lock);
  do {
    // Others want the mutex, too, and would hardly ever get it.
    for (int i = 0; i < 100 && lockers_.load(std::memory_order_relaxed) != 0; ++i) {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    lock.lock();
  } while (round(lock));
}

// One look at everything, then a wait for the next thing to happen. The lock is held on entry and not on return.
bool Persister::Impl::round(std::unique_lock<std::mutex>& lock) noexcept {
  if (stopping_.load(std::memory_order_acquire)) {
    lock.unlock();
    return false;
  }
  const std::uint32_t rings_seen = doorbell_->rings();
  poll(0, Deadline::now());
  const std::uint64_t now_ns = monotonic_ns();
  elect(now_ns);
  const bool drowsy = now_ns - busy_ns_ > kQuietNs;
  std::uint64_t next_ns = now_ns + kElectDrowsyNs;
  bool idle = true;
  for (Entry& entry : entries_) {
    entry.persister->step(now_ns);
    next_ns = std::min(next_ns, entry.persister->next_step_ns(now_ns));
    const bool holds = entry.persister->holds_role();
    const std::uint64_t drowsy_ns = holds ? entry.persister->drowsy_ns() : kElectDrowsyNs;
    next_ns = std::min(next_ns, now_ns + (drowsy ? drowsy_ns : std::min(drowsy_ns, holds ? kSleepNs : kElectNs)));
    idle = idle && entry.persister->idle();
  }
  drop_gone();
  if (!idle) busy_ns_ = now_ns;
  if (queue_ && queue_->in_flight() > 0) {
    const std::uint64_t wait_ns = next_ns > now_ns ? std::min(next_ns - now_ns, kPollNs) : 0;
    poll(1, Deadline::after_ns(wait_ns));
    lock.unlock();
  } else {
    if (idle && buffers_ && buffers_->large_count() > kBuffersKept) buffers_->keep(kBuffersKept);
    sleep(lock, rings_seen, next_ns);
  }
  deliver();
  return true;
}

void Persister::Impl::sleep(std::unique_lock<std::mutex>& lock, std::uint32_t rings_seen,
                            std::uint64_t next_ns) noexcept {
  std::array<FutexWatch, kFutexWatchMax> watches;
  std::array<std::shared_ptr<Partition>, kFutexWatchMax> partitions;  // stay mapped while their words are slept on
  std::size_t count = 0;
  watches[count++] = doorbell_->watch(rings_seen);
  bool many = false;
  for (const Entry& entry : entries_) {
    if (!entry.persister->holds_role()) continue;
    if (count == watches.size()) {
      many = true;
      break;
    }
    partitions[count] = entry.partition;
    watches[count++] = {&entry.partition->control().persister.wake, entry.persister->wake_seen()};
  }
  lock.unlock();
  deliver();
  const std::uint64_t now_ns = monotonic_ns();
  if (next_ns <= now_ns) return;
  const std::uint64_t wait_ns = many ? std::min(next_ns - now_ns, kManyNs) : next_ns - now_ns;
  futex_wait_any(std::span(watches).first(count), Deadline::after_ns(wait_ns));
}

void Persister::Impl::deliver() noexcept {
  std::vector<PersisterEvent> events;
  {
    Locked lock(*this);
    if (events_.empty()) return;
    events.swap(events_);
  }
  if (!options_.on_event) return;
  for (const PersisterEvent& event : events) options_.on_event(event);
}

}  // namespace spillway
