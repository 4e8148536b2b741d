// Memory that is mapped from a file or for I/O. The one file of the project that maps; Boost.Interprocess does it,
// over our own close-on-exec descriptors.
//
// Thread safety: creating and destroying belong to one thread; what is mapped may be used by several.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "spillway/core/descriptor.h"

namespace spillway {

enum class Access { read_only, read_write };

class Mapping {
 public:
  Mapping() noexcept;
  ~Mapping();
  Mapping(Mapping&&) noexcept;
  Mapping& operator=(Mapping&&) noexcept;

  // Maps the first `bytes` bytes of an open file. The caller has checked that the file is that long: touching
  // what lies behind a file's end is a SIGBUS. Pages are populated, so that the first access does not fault.
  static Mapping of_file(int fd, std::size_t bytes, Access access, const std::string& path);
  // Zeroed private memory, page-aligned, for O_DIRECT buffers.
  static Mapping anonymous(std::size_t bytes);

  std::byte* data() const noexcept;
  std::size_t bytes() const noexcept;
  explicit operator bool() const noexcept { return impl_ != nullptr; }

  // Gives the memory up without unmapping it, because an I/O that can't be cancelled may still write from or into it.
  void leak() noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Gives a new file its size and all its blocks, so that writing into the mapping can't fail later (a sparse file on a
// full tmpfs is a SIGBUS). Throws Error: no_space names the file system's room.
void allocate_file(int fd, std::size_t bytes, const std::string& path);

// For the fork handler only: puts private zero pages where a mapping was.
void replace_mapping_in_child(void* address, std::size_t bytes) noexcept;

// What statvfs says of the file system that holds `path`; zeros if it can't be asked.
struct FileSystemRoom {
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;  // for an ordinary user
};
FileSystemRoom file_system_room(const std::string& path) noexcept;

}  // namespace spillway
