#include "spillway/persist/wait_set.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <thread>

#include "spillway/core/descriptor.h"
#include "spillway/core/error.h"
#include "spillway/core/futex.h"
#include "spillway/ipc/sleeper.h"

namespace spillway {
namespace {

constexpr std::uint64_t kPollNs = 1'000'000;                 // where there is nothing to sleep on
constexpr std::uint64_t kRinglessNs = 10'000'000;            // how often a reader looks for a ring
constexpr std::uint64_t kLongNs = 100'000'000;               // as in Sleeper
constexpr std::size_t kWordsPerThread = kFutexWatchMax - 1;  // and the control word

// One partition as a helper thread watches it. It keeps the mapping alive, and looks at shared memory only: the reader
// belongs to the loop's thread, which stores here what it waits for.
struct Watched {
  std::shared_ptr<Partition> ring;
  Offset offset = 0;  // what the reader wants next
  bool durable = false;
  std::uint64_t ask_at_ns = 0;  // not 0: replaying or without a ring, so only the reader can tell; it is asked then
};

bool has_news(const Watched& w) noexcept {
  if (w.ask_at_ns != 0) return monotonic_ns() >= w.ask_at_ns;
  if (w.ring->gone()) return true;
  if (w.durable) return w.ring->control().persister.durable_end.load(std::memory_order_acquire) > w.offset;
  return w.ring->header_at(w.offset)->commit.load(std::memory_order_acquire) == w.ring->mix().word(w.offset) ||
         !still_in_ring(*w.ring, w.offset) || committed_word_missing(*w.ring, w.offset);
}

}  // namespace

// The loop's thread tells the helpers what is wanted (clear), they tell it when something is there (the eventfd), and look
// again only after the next clear. ORDER: everything between them is under the mutex; the futex words are as in Sleeper.
struct WaitSet::Impl {
  FileDescriptor event;
  std::vector<Consumer*> consumers;
  std::mutex mutex;
  std::vector<Watched> watched;           // guarded by mutex
  bool armed = false;                     // guarded by mutex: news are wanted
  bool stopping = false;                  // guarded by mutex
  std::atomic<std::uint32_t> control{0};  // a futex: stepped when what stands above changed
  std::vector<std::unique_ptr<std::thread>> helpers;
  ForkMark mark;

  void run(std::size_t helper) noexcept;
  void tell() noexcept {
    const std::uint64_t one = 1;
    // EAGAIN: the counter is full, so the descriptor is readable already.
    if (::write(event.get(), &one, sizeof one) < 0) return;
  }
  void step() noexcept {
    control.fetch_add(1, std::memory_order_release);
    futex_wake_all(control);
  }
  void refresh();
};

void WaitSet::Impl::run(std::size_t helper) noexcept {
  std::vector<Watched> mine;
  std::vector<FutexWatch> words, before;
  bool quiet = false;
  for (;;) {
    const std::uint32_t seen = control.load(std::memory_order_acquire);
    bool wanted = false;
    {
      std::lock_guard lock(mutex);
      if (stopping) return;
      wanted = armed;
      const std::size_t first = std::min(helper * kWordsPerThread, watched.size());
      const std::size_t last = std::min(first + kWordsPerThread, watched.size());
      mine.assign(watched.begin() + static_cast<std::ptrdiff_t>(first),
                  watched.begin() + static_cast<std::ptrdiff_t>(last));
    }
    words.assign(1, {&control, seen});
    if (!wanted || mine.empty()) {
      quiet = false;
      futex_wait_any(words, Deadline::never());
      continue;
    }
    bool all = has_futex_wait_any();
    std::uint64_t ask_at_ns = UINT64_MAX;
    bool rings = false;
    for (const Watched& w : mine) {
      if (w.ask_at_ns != 0) ask_at_ns = std::min(ask_at_ns, w.ask_at_ns);
      if (w.ask_at_ns == 0) rings = true;
      if (w.ask_at_ns != 0 || !w.ring->config().wakeups || !w.ring->can_announce() || w.durable) {
        all = false;
        continue;
      }
      Consumers& shared = w.ring->consumers();
      words.push_back({&shared.wake.sequence, shared.wake.sequence.load(std::memory_order_acquire)});
      shared.announcement.asleep.store(1, std::memory_order_relaxed);
    }
    const auto same = [](const FutexWatch& a, const FutexWatch& b) {
      return a.word == b.word && a.expected == b.expected;
    };
    const bool unstepped = quiet && std::equal(words.begin(), words.end(), before.begin(), before.end(), same);
    const bool barrier = all && unstepped && membarrier_everyone();
    const auto tell_if_wanted = [&] {
      std::lock_guard lock(mutex);
      if (armed && control.load(std::memory_order_acquire) == seen) {
        armed = false;
        tell();
      }
      quiet = false;
    };
    if (std::any_of(mine.begin(), mine.end(), has_news)) {
      tell_if_wanted();
      continue;
    }
    const std::uint64_t start = monotonic_ns();
    std::uint64_t ns = barrier ? kLongNs : kPollNs;
    if (!rings) ns = std::max(ask_at_ns, start) - start;
    futex_wait_any(words, Deadline::after_ns(ns));
    quiet = barrier || monotonic_ns() - start >= kPollNs;
    before = words;
  }
}

// Takes over from the readers what they want next, or tells that one has something already. By the loop's thread only.
void WaitSet::Impl::refresh() {
  std::vector<Watched> fresh;
  bool ready = false;
  const std::uint64_t now_ns = monotonic_ns();
  for (Consumer* consumer : consumers) {
    for (PartitionReader& reader : consumer->readers()) {
      ready = ready || reader.ready();
      const bool ringless = !reader.ring() || reader.ring()->gone();
      const std::uint64_t ask_at_ns = ringless ? now_ns + kRinglessNs : reader.replaying() ? now_ns + kPollNs : 0;
      fresh.push_back({reader.ring(), reader.offset(), reader.reads_durable(), ask_at_ns});
    }
  }
  const std::size_t needed = (fresh.size() + kWordsPerThread - 1) / kWordsPerThread;
  {
    std::lock_guard lock(mutex);
    watched = std::move(fresh);
    armed = !ready;
  }
  if (ready) tell();
  step();
  while (helpers.size() < needed) {
    helpers.push_back(std::make_unique<std::thread>([this, n = helpers.size()] { run(n); }));
  }
}

WaitSet::WaitSet() : impl_(std::make_unique<Impl>()) {
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) throw system_error(errno, "can't make an eventfd");
  impl_->event = FileDescriptor(fd);
}

WaitSet::~WaitSet() {
  if (impl_->mark.forked()) {
    static_cast<void>(impl_.release());  // another thread may have been at work on it
    return;
  }
  {
    std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->step();
  for (auto& helper : impl_->helpers) helper->join();
}

void WaitSet::add(Consumer& consumer) {
  impl_->consumers.push_back(&consumer);
  impl_->refresh();
}

void WaitSet::remove(Consumer& consumer) {
  std::erase(impl_->consumers, &consumer);
  impl_->refresh();
}

int WaitSet::descriptor() const noexcept { return impl_->event.get(); }

void WaitSet::clear() {
  std::uint64_t count = 0;
  // EAGAIN: it was not readable.
  if (::read(impl_->event.get(), &count, sizeof count) < 0) count = 0;
  impl_->refresh();
}

}  // namespace spillway
