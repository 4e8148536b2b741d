// doctor: the kernel, its limits, and what systemd does behind our back.
#include <pwd.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "doctor_checks.h"
#include "spillway/core/bytes.h"
#include "spillway/core/directory.h"
#include "spillway/core/error.h"
#include "spillway/core/futex.h"
#include "spillway/core/size_text.h"
#include "spillway/persist/io_queue.h"

namespace spillway::command {
namespace {

constexpr std::size_t kConfigBytesMax = 1 << 20;
constexpr std::uint64_t kMemlockWanted = 8 * kMiB;

std::string text_of(const std::string& path) {
  try {
    const auto bytes = read_file(path, kConfigBytesMax);
    return bytes ? std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()) : std::string();
  } catch (const Error&) {
    return {};
  }
}

// Files in /proc have no size, so they are read as a stream.
std::string first_line_of(const std::string& path) {
  std::string line;
  if (std::FILE* file = std::fopen(path.c_str(), "re")) {
    char text[256];
    if (std::fgets(text, sizeof text, file) != nullptr) line = text;
    std::fclose(file);
  }
  while (!line.empty() && line.back() == '\n') line.pop_back();
  return line;
}

std::string trim(const std::string& text) {
  const std::size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

// Later files override earlier ones, and files in logind.conf.d the main one.
std::string remove_ipc_of_this_machine() {
  std::string setting;
  const auto look = [&](const std::string& path) {
    if (const std::string value = remove_ipc_setting(text_of(path)); !value.empty()) setting = value;
  };
  look("/etc/systemd/logind.conf");
  for (const char* directory :
       {"/usr/lib/systemd/logind.conf.d", "/run/systemd/logind.conf.d", "/etc/systemd/logind.conf.d"}) {
    try {
      for (const std::string& name : list_directory(directory)) {
        if (name.ends_with(".conf")) look(std::string(directory) + "/" + name);
      }
    } catch (const Error&) {
      // Not ours to read: then it is not known to change anything.
    }
  }
  return setting;
}

std::string user_name() {
  const struct passwd* const entry = ::getpwuid(::geteuid());
  return entry == nullptr || entry->pw_name == nullptr ? std::string() : entry->pw_name;
}

}  // namespace

std::string_view name_of(Verdict value) noexcept {
  switch (value) {
    case Verdict::fine: return "ok";
    case Verdict::advice: return "advice";
    case Verdict::prevents: return "prevents";
  }
  return "unknown";
}

bool kernel_at_least(const std::string& release, int major, int minor) {
  int has_major = 0, has_minor = 0;
  if (std::sscanf(release.c_str(), "%d.%d", &has_major, &has_minor) != 2) return false;
  return has_major > major || (has_major == major && has_minor >= minor);
}

std::string remove_ipc_setting(const std::string& text) {
  std::istringstream lines(text);
  std::string line, setting;
  while (std::getline(lines, line)) {
    const std::size_t equals = line.find('=');
    if (equals == std::string::npos || trim(line.substr(0, equals)) != "RemoveIPC") continue;
    setting = trim(line.substr(equals + 1));
  }
  return setting;
}

Finding check_kernel() {
  struct utsname names = {};
  ::uname(&names);
  Finding finding{"kernel", Verdict::fine, std::string("Linux ") + names.release, "", ""};
  if (!kernel_at_least(names.release, 5, 15)) {
    finding.verdict = Verdict::prevents;
    finding.cause = "Spillway needs Linux 5.15 or later";
    finding.cure = "install a newer kernel";
  } else if (!has_futex_wait_any()) {
    finding.verdict = Verdict::advice;
    finding.cause = "without futex_waitv (Linux 5.16) who waits for several partitions looks once a millisecond";
    finding.cure = "install a newer kernel, or, in a container, allow futex_waitv in its seccomp profile";
  }
  return finding;
}

Finding check_wakeups() {
  if (membarrier_register()) return {"membarrier", Verdict::fine, "available", "", ""};
  return {"membarrier", Verdict::advice, "refused",
          "producers fence after every record instead, and sleepers wake once a millisecond",
          "in a container, allow membarrier in its seccomp profile"};
}

Finding check_io_uring() {
  if (make_uring_queue(8)) return {"io_uring", Verdict::fine, "available", "", ""};
  const int error = errno;
  Finding finding{"io_uring", Verdict::advice, std::string("refused: ") + std::strerror(error), "", ""};
  finding.cause = "the persister uses pwrite and fdatasync instead, which is correct and slower";
  const std::string disabled = first_line_of("/proc/sys/kernel/io_uring_disabled");
  finding.cure =
      !disabled.empty() && disabled != "0"
          ? "sysctl kernel.io_uring_disabled=0 (it is " + disabled + ")"
          : "in a container, allow io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile";
  return finding;
}

Finding check_memlock() {
  struct rlimit limit = {};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  const bool unlimited = limit.rlim_cur == RLIM_INFINITY;
  Finding finding{"memlock", Verdict::fine, unlimited ? "without limit" : format_size(limit.rlim_cur), "", ""};
  if (unlimited || limit.rlim_cur >= kMemlockWanted || ::geteuid() == 0) return finding;
  finding.verdict = Verdict::advice;
  finding.cause = "the persister can't register its I/O buffers and uses plain ones, which costs it some speed";
  finding.cure = "ulimit -l " + std::to_string(kMemlockWanted / kKiB) + ", or LimitMEMLOCK=8M in its unit";
  return finding;
}

Finding check_remove_ipc(const std::string& shm) {
  Finding finding{"RemoveIPC", Verdict::fine, "", "", ""};
  const std::string user = user_name();
  if (!directory_exists("/run/systemd/system")) {
    finding.found = "no systemd";
  } else if (!shm.starts_with("/dev/shm")) {
    finding.found = "rings are not in /dev/shm";
  } else if (::geteuid() < 1000) {
    finding.found = "a system account: logind removes nothing of it";
  } else if (const std::string setting = remove_ipc_of_this_machine();
             setting == "no" || setting == "false" || setting == "0") {
    finding.found = "off";
  } else if (!user.empty() && file_exists("/var/lib/systemd/linger/" + user)) {
    finding.found = "on, but " + user + " lingers";
  } else {
    finding.verdict = Verdict::advice;
    finding.found = "on";
    finding.cause = "logind deletes what " + user + " has in /dev/shm when the last session ends, rings included";
    finding.cure =
        "loginctl enable-linger " + user + ", or RemoveIPC=no in /etc/systemd/logind.conf, or a system account";
  }
  return finding;
}

}  // namespace spillway::command
