// An event loop over several topics: epoll waits for a timer, for signals and, through a WaitSet, for records of three
// topics, in one thread.
//
//   example_event_loop                  for two seconds, with records that its own timer publishes
//   example_event_loop --seconds N      meanwhile: echo hello | spillway pub example_orders
#include <spillway/spillway.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// A descriptor that closes itself.
class Descriptor {
 public:
  Descriptor(int fd, const char* what) : fd_(fd) {
    if (fd < 0) throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

Descriptor make_timer(long milliseconds) {
  const int fd = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  const timespec period{0, milliseconds * 1'000'000};
  const itimerspec every{period, period};
  if (fd >= 0) ::timerfd_settime(fd, 0, &every, nullptr);
  return {fd, "timerfd"};
}

// To be called before anything starts a thread, so that all of them have the signals blocked.
Descriptor make_signals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGINT);
  ::sigaddset(&signals, SIGTERM);
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  return {::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK), "signalfd"};
}

void watch(const Descriptor& epoll, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    throw std::runtime_error(std::string("epoll_ctl: ") + std::strerror(errno));
  }
}

class Loop {
 public:
  Loop() {
    for (const char* name : {"example_orders", "example_prices", "example_audit"}) {
      topics_.push_back(domain_.open_or_create(name, {.ring = spillway::kMiB, .ephemeral = true}));
      producers_.push_back(topics_.back().shared_producer());
      consumers_.push_back(topics_.back().consumer({.from = spillway::From::latest}));
    }
    // The wait set keeps their addresses: they must not move from here on.
    for (spillway::Consumer& consumer : consumers_) wait_set_.add(consumer);
    watch(epoll_, wait_set_.descriptor());
    watch(epoll_, timer_.get());
    watch(epoll_, signals_.get());
  }
  ~Loop() {
    for (spillway::Consumer& consumer : consumers_) wait_set_.remove(consumer);
  }

  int run(unsigned seconds) {
    const unsigned ticks_max = seconds * 100;
    while (ticks_ < ticks_max && !stop_) {
      std::array<epoll_event, 8> events{};
      const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
      if (count < 0 && errno != EINTR) throw std::runtime_error(std::string("epoll_wait: ") + std::strerror(errno));
      for (int i = 0; i < count; ++i) {
        const int fd = events[static_cast<std::size_t>(i)].data.fd;
        if (fd == timer_.get()) tick();
        if (fd == signals_.get()) stop_ = true;
        if (fd == wait_set_.descriptor()) read_all();
      }
    }
    read_all();
    for (std::size_t i = 0; i < topics_.size(); ++i) {
      std::printf("%s: %lu records read\n", topics_[i].name().c_str(), counts_[i]);
    }
    std::printf("%lu records published, %lu wake-ups\n", published_, wakeups_);
    return counts_[0] + counts_[1] + counts_[2] < published_ ? 1 : 0;
  }

 private:
  void tick() {
    std::uint64_t expirations = 0;
    if (::read(timer_.get(), &expirations, sizeof expirations) != sizeof expirations) return;
    ticks_ += static_cast<unsigned>(expirations);
    if (producers_[ticks_ % 3].append("tick " + std::to_string(ticks_))) ++published_;
  }

  void read_all() {
    ++wakeups_;
    for (std::size_t i = 0; i < consumers_.size(); ++i) {
      // A poll hands out a limited number of records, so that one busy topic can't starve the others; a loop with more to
      // do than this one would go round the consumers instead of emptying each.
      while (consumers_[i].poll([&](const spillway::Record&) { ++counts_[i]; }).records > 0) {
      }
    }
    // Last: what has come meanwhile, or comes from here on, makes the descriptor readable again.
    wait_set_.clear();
  }

  Descriptor signals_ = make_signals();
  Descriptor epoll_{::epoll_create1(EPOLL_CLOEXEC), "epoll"};
  Descriptor timer_ = make_timer(10);
  spillway::Domain domain_;
  std::vector<spillway::Topic> topics_;
  std::vector<spillway::SharedProducer> producers_;
  std::vector<spillway::Consumer> consumers_;
  spillway::WaitSet wait_set_;
  std::array<unsigned long, 3> counts_{};
  unsigned long published_ = 0;
  unsigned long wakeups_ = 0;
  unsigned ticks_ = 0;
  bool stop_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  unsigned seconds = 2;
  if (argc == 3 && std::strcmp(argv[1], "--seconds") == 0) {
    seconds = static_cast<unsigned>(std::atoi(argv[2]));
  } else if (argc != 1) {
    std::fprintf(stderr, "usage: example_event_loop [--seconds N]\n");
    return 2;
  }
  try {
    return Loop().run(seconds);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "event_loop: %s\n", error.what());
    return 1;
  }
}
