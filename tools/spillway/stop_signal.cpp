#include "stop_signal.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>

#include "spillway/core/error.h"

namespace spillway::command {
namespace {

std::atomic<bool> requested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "it is stored by a signal handler");
int event = -1;

void handle_stop(int) {
  const int before = errno;
  // relaxed: nothing else is published by it.
  requested.store(true, std::memory_order_relaxed);
  const std::uint64_t one = 1;
  // It can only fail when the counter is full, and then the descriptor is readable.
  [[maybe_unused]] const auto written = ::write(event, &one, sizeof one);
  errno = before;
}

}  // namespace

void catch_stop_signals() {
  if (event >= 0) return;
  event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (event < 0) throw system_error(errno, "can't make an event descriptor");
  struct sigaction action = {};
  action.sa_handler = handle_stop;
  ::sigemptyset(&action.sa_mask);
  action.sa_flags = 0;  // no SA_RESTART: a blocked read or write returns
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

bool stop_requested() noexcept { return requested.load(std::memory_order_relaxed); }  // relaxed: as above
int stop_descriptor() noexcept { return event; }

void ignore_closed_pipes() noexcept { ::signal(SIGPIPE, SIG_IGN); }
void ignore_file_size_limit() noexcept { ::signal(SIGXFSZ, SIG_IGN); }

}  // namespace spillway::command
