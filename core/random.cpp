#include "spillway/core/random.h"

#include <sys/random.h>

#include <cerrno>

#include "spillway/core/error.h"

namespace spillway {

std::uint64_t random_u64() {
  std::uint64_t value = 0;
  while (value == 0) {
    const ssize_t n = ::getrandom(&value, sizeof value, 0);
    if (n < 0 && errno != EINTR) throw system_error(errno, "the kernel gives no random numbers");
    if (n != static_cast<ssize_t>(sizeof value)) value = 0;
  }
  return value;
}

}  // namespace spillway
