// Directories, and files that appear whole or not at all.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace spillway {

// Who besides the owner may use what we create.
enum class Sharing { owner, group_read, group_write };
mode_t file_mode(Sharing sharing) noexcept;  // 0600, 0640, 0660
// 0700, 02750, 02770: what is made in a shared directory belongs to that directory's group, whoever of the group made it.
mode_t directory_mode(Sharing sharing) noexcept;

// Whether there is such a directory. Throws Error where something else stands, a link that neither this user nor root made,
// or the directory of a stranger who let everybody write to it or did not let this user in.
bool check_directory(const std::string& path);
// Throws Error unless it belongs to this user or to root: for a name that a stranger can foresee, in a place where all may
// make directories.
void check_own_directory(const std::string& path);
// Makes the directory and those above it; of those that exist already the lowest is checked.
void make_directory(const std::string& path, Sharing sharing);
bool directory_exists(const std::string& path) noexcept;
bool file_exists(const std::string& path) noexcept;
// Names in the directory without `.` and `..`, sorted. Empty when it does not exist; throws Error otherwise.
std::vector<std::string> list_directory(const std::string& path);
void sync_directory(const std::string& path);  // throws Error
// Both do nothing when the thing is missing already; throw Error otherwise.
void remove_file(const std::string& path);
void remove_directory(const std::string& path);  // must be empty

// Writes `bytes` under a temporary name, syncs, renames over `path` and syncs the directory. Throws Error.
void replace_file(const std::string& path, std::span<const std::byte> bytes, Sharing sharing);
// The whole file, or nothing when it is missing. A file larger than `bytes_max` is an Error (corrupt).
std::optional<std::vector<std::byte>> read_file(const std::string& path, std::size_t bytes_max);

std::string parent_of(const std::string& path);

}  // namespace spillway
