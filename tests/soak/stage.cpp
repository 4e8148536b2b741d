#include "stage.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "spillway/core/clock.h"
#include "spillway/core/error.h"

namespace spillway::soak {

Stage& Stage::open(const std::string& path, bool create) {
  const FileDescriptor file = open_file(path, create ? O_RDWR | O_CREAT | O_EXCL : O_RDWR);
  if (create && ::ftruncate(file.get(), sizeof(Stage)) != 0) throw system_error(errno, "making " + path);
  void* const at = ::mmap(nullptr, sizeof(Stage), PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (at == MAP_FAILED) throw system_error(errno, "mapping " + path);
  return *static_cast<Stage*>(at);
}

History::History(const std::string& path, std::string who)
    : fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)), who_(std::move(who)) {}

void History::tell(const std::string& line) const noexcept {
  char time[32];
  std::snprintf(time, sizeof time, "%10.3f ", static_cast<double>(monotonic_ns() / 1000) / 1e6);
  const std::string text = time + who_ + ": " + line + "\n";
  if (::write(fd_, text.data(), text.size()) < 0) return;  // nobody to tell that to
}

}  // namespace spillway::soak
