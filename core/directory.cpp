#include "spillway/core/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "spillway/core/descriptor.h"
#include "spillway/core/disk.h"
#include "spillway/core/error.h"
#include "spillway/core/random.h"
#include "spillway/core/size_text.h"

namespace spillway {

mode_t file_mode(Sharing sharing) noexcept {
  return sharing == Sharing::owner ? 0600 : sharing == Sharing::group_read ? 0640 : 0660;
}
mode_t directory_mode(Sharing sharing) noexcept {
  return sharing == Sharing::owner ? 0700 : sharing == Sharing::group_read ? 02750 : 02770;
}

std::string parent_of(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

namespace {

// Whether a directory that was there before us can be trusted with our files.
void check_owner(const std::string& path, const struct stat& s) {
  if (s.st_uid == ::geteuid() || s.st_uid == 0) return;
  if ((s.st_mode & S_IWOTH) == 0 && ::access(path.c_str(), R_OK | X_OK) == 0) return;
  throw Error(Code::no_permission,
              "the directory " + path + " belongs to user " + std::to_string(s.st_uid) +
                  ", who did not give this one access; choose another directory or ask for group access",
              EACCES);
}

}  // namespace

bool check_directory(const std::string& path) {
  struct stat s;
  if (::lstat(path.c_str(), &s) != 0) return false;
  if (S_ISLNK(s.st_mode)) {
    // A link that the user or root made (a home on another disk) is fine; a stranger's is not.
    if (s.st_uid != ::geteuid() && s.st_uid != 0) {
      throw Error(Code::no_permission, path + " is a symbolic link of another user; remove it", ELOOP);
    }
    if (::stat(path.c_str(), &s) != 0) s.st_mode = S_IFLNK;
  }
  if (!S_ISDIR(s.st_mode)) throw Error(Code::conflict, path + " exists and is not a directory; remove it", ENOTDIR);
  check_owner(path, s);
  return true;
}

void check_own_directory(const std::string& path) {
  struct stat s;
  if (::stat(path.c_str(), &s) != 0 || s.st_uid == ::geteuid() || s.st_uid == 0) return;
  throw Error(Code::no_permission,
              "the directory " + path + " was made by user " + std::to_string(s.st_uid) +
                  ", who could exchange everything in it; have it removed, or choose another directory",
              EACCES);
}

void make_directory(const std::string& path, Sharing sharing) {
  if (check_directory(path)) return;
  const std::string above = parent_of(path);
  if (!directory_exists(above)) make_directory(above, sharing);
  if (disk::make_directory(path.c_str(), directory_mode(sharing)) != 0) {
    if (errno == EEXIST) return make_directory(path, sharing);
    throw system_error(errno, "can't create the directory " + path);
  }
  if (sharing == Sharing::owner) return;
  // The umask may have taken the group's bits, and mkdir hands the group on only where that is done above already. Only where
  // something is missing: chmod by who is not of the group would take that away.
  struct stat s;
  if (::stat(path.c_str(), &s) == 0 && (s.st_mode & 07777) != directory_mode(sharing)) {
    ::chmod(path.c_str(), directory_mode(sharing));
  }
}

bool directory_exists(const std::string& path) noexcept {
  struct stat s;
  return ::stat(path.c_str(), &s) == 0 && S_ISDIR(s.st_mode);
}

bool file_exists(const std::string& path) noexcept {
  struct stat s;
  return ::lstat(path.c_str(), &s) == 0;
}

std::vector<std::string> list_directory(const std::string& path) {
  std::vector<std::string> names;
  DIR* dir = ::opendir(path.c_str());
  if (!dir) {
    if (errno == ENOENT) return names;
    throw system_error(errno, "can't list " + path);
  }
  // A list that an error has cut short must not be taken for the whole: of what is missing in it nobody would ever hear.
  errno = 0;
  while (const struct dirent* entry = ::readdir(dir)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
    errno = 0;
  }
  const int error = errno;
  ::closedir(dir);
  if (error != 0) throw system_error(error, "can't list " + path);
  std::sort(names.begin(), names.end());
  return names;
}

void sync_directory(const std::string& path) {
  const FileDescriptor fd = open_file(path, O_RDONLY | O_DIRECTORY);
  // Some file systems (ramfs) can't sync a directory and have nothing to sync.
  if (disk::sync(fd.get()) != 0 && errno != EINVAL) throw system_error(errno, "can't sync the directory " + path);
}

void remove_file(const std::string& path) {
  if (disk::unlink(path.c_str()) != 0 && errno != ENOENT) throw system_error(errno, "can't remove " + path);
}

void remove_directory(const std::string& path) {
  if (disk::remove_directory(path.c_str()) != 0 && errno != ENOENT) throw system_error(errno, "can't remove " + path);
}

void replace_file(const std::string& path, std::span<const std::byte> bytes, Sharing sharing) {
  const std::string temporary = path + ".tmp-" + std::to_string(random_u64());
  {
    const FileDescriptor fd = open_file(temporary, O_WRONLY | O_CREAT | O_EXCL, file_mode(sharing));
    if (sharing != Sharing::owner) ::fchmod(fd.get(), file_mode(sharing));
    int error = write_at(fd.get(), bytes.data(), bytes.size(), 0);
    if (error == 0 && disk::sync_data(fd.get()) != 0) error = errno;
    if (error != 0) {
      disk::unlink(temporary.c_str());
      throw system_error(error, "can't write " + path);
    }
  }
  if (disk::rename(temporary.c_str(), path.c_str()) != 0) {
    const int error = errno;
    disk::unlink(temporary.c_str());
    throw system_error(error, "can't rename " + temporary + " to " + path);
  }
  sync_directory(parent_of(path));
}

std::optional<std::vector<std::byte>> read_file(const std::string& path, std::size_t bytes_max) {
  const FileDescriptor fd = try_open_file(path, O_RDONLY);
  if (!fd) {
    if (errno == ENOENT) return std::nullopt;
    throw system_error(errno, "can't open " + path);
  }
  const std::uint64_t bytes = file_bytes(fd.get(), path);
  if (bytes > bytes_max) {
    throw Error(Code::corrupt, path + " is " + format_size(bytes) + ", more than such a file can be (" +
                                   format_size(bytes_max) + "); restore or remove it");
  }
  std::vector<std::byte> data(static_cast<std::size_t>(bytes));
  const int error = read_at(fd.get(), data.data(), data.size(), 0);
  if (error != 0) throw system_error(error, "can't read " + path);
  return data;
}

}  // namespace spillway
