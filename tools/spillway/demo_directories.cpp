#include "demo_directories.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "spillway/core/directory.h"
#include "spillway/core/error.h"

namespace spillway::command::demo {
namespace {

// A dot in front, because no topic's name has one: inside somebody's domain it is no topic.
constexpr const char* kPrefix = ".spillway-demo-";

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : value;
}

bool writable(const std::string& directory) {
  return !directory.empty() && directory_exists(directory) && ::access(directory.c_str(), W_OK | X_OK) == 0;
}

std::string data_parent(const Context& context) {
  for (const std::string& named : {context.data, environment("SPILLWAY_DATA")}) {
    if (!named.empty()) return named;
  }
  // /tmp is often in memory; /var/tmp is meant to be on disk.
  for (const std::string& usual : {environment("TMPDIR"), std::string("/var/tmp")}) {
    if (writable(usual)) return usual;
  }
  return "/tmp";
}

std::string shm_parent(const Context& context) {
  for (const std::string& named : {context.shm, environment("SPILLWAY_SHM")}) {
    if (!named.empty()) return named;
  }
  return "/dev/shm";
}

FileDescriptor lock_directory(const std::string& path) {
  FileDescriptor lock = try_open_file(path, O_RDONLY | O_DIRECTORY);
  if (lock && ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) lock.reset();
  return lock;
}

void remove_tree(const std::string& path) noexcept {
  std::error_code ignored;  // what can't be removed is left to the next demo
  std::filesystem::remove_all(path, ignored);
}

// Removes what a demo of ours left that was killed.
void remove_leftovers(const std::string& parent) {
  for (const std::string& name : list_directory(parent)) {
    if (name.rfind(kPrefix, 0) != 0) continue;
    const std::string path = parent + "/" + name;
    struct stat status = {};
    if (::lstat(path.c_str(), &status) != 0 || !S_ISDIR(status.st_mode) || status.st_uid != ::geteuid()) continue;
    if (const FileDescriptor lock = lock_directory(path)) remove_tree(path);
  }
}

std::uint64_t free_bytes(const std::string& path) {
  struct statvfs status = {};
  if (::statvfs(path.c_str(), &status) != 0) throw system_error(errno, "can't tell the free space of " + path);
  return std::uint64_t{status.f_bavail} * status.f_frsize;
}

}  // namespace

Directories::Directories(const Context& context) : data_(make(data_parent(context))) {
  try {
    shm_ = make(shm_parent(context));
  } catch (...) {
    remove(data_);
    throw;
  }
}

Directories::~Directories() {
  remove(shm_);
  remove(data_);
}

Directories::Scratch Directories::make(const std::string& parent) {
  Scratch scratch;
  if (!directory_exists(parent)) {
    make_directory(parent, Sharing::owner);
    scratch.made_parent = parent;
  }
  remove_leftovers(parent);
  for (;;) {
    scratch.path = parent + "/" + kPrefix + "XXXXXX";
    if (::mkdtemp(scratch.path.data()) == nullptr) throw system_error(errno, "can't make a directory in " + parent);
    scratch.lock = lock_directory(scratch.path);
    // Between the two another demo may have taken it for a leftover; then it is gone, or about to be.
    if (scratch.lock && !is_unlinked(scratch.lock.get())) return scratch;
  }
}

void Directories::remove(Scratch& scratch) noexcept {
  if (scratch.path.empty()) return;
  remove_tree(scratch.path);
  if (!scratch.made_parent.empty())
    ::rmdir(scratch.made_parent.c_str());  // fails, as it should, if it is in use by now
}

std::uint64_t Directories::disk_free() const { return free_bytes(data()); }
std::uint64_t Directories::shm_free() const { return free_bytes(shm()); }

}  // namespace spillway::command::demo
