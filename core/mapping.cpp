#include "spillway/core/mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <boost/interprocess/anonymous_shared_memory.hpp>
#include <boost/interprocess/exceptions.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <cerrno>
#include <utility>

#include "spillway/core/disk.h"
#include "spillway/core/error.h"
#include "spillway/core/size_text.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

namespace spillway {
namespace bip = boost::interprocess;
namespace {

// Boost's own file_mapping opens without O_CLOEXEC and O_NOFOLLOW; a mapped_region needs no more than this of one.
class MappableDescriptor {
 public:
  explicit MappableDescriptor(int fd) noexcept : fd_(fd) {}
  bip::mapping_handle_t get_mapping_handle() const noexcept { return bip::mapping_handle_t{fd_, false}; }

 private:
  int fd_;
};

}  // namespace

struct Mapping::Impl {
  bip::mapped_region region;

  explicit Impl(bip::mapped_region&& mapped) : region(std::move(mapped)) {
    fork_registry_add_mapping(region.get_address(), region.get_size());
    ::madvise(region.get_address(), region.get_size(), MADV_DONTFORK);
  }
  ~Impl() { fork_registry_remove_mapping(region.get_address()); }
};

Mapping::Mapping() noexcept = default;
Mapping::~Mapping() = default;
Mapping::Mapping(Mapping&&) noexcept = default;
Mapping& Mapping::operator=(Mapping&&) noexcept = default;

Mapping Mapping::of_file(int fd, std::size_t bytes, Access access, const std::string& path) {
  try {
    Mapping result;
    result.impl_ = std::make_unique<Impl>(bip::mapped_region(
        MappableDescriptor(fd), access == Access::read_only ? bip::read_only : bip::read_write, 0, bytes));
    // Refused by kernels before 5.14 (EINVAL), which then fault the pages in one by one: slower, not wrong.
    ::madvise(result.data(), bytes, access == Access::read_only ? MADV_POPULATE_READ : MADV_POPULATE_WRITE);
    return result;
  } catch (const bip::interprocess_exception& e) {
    throw system_error(e.get_native_error(), "can't map " + path);
  }
}

Mapping Mapping::anonymous(std::size_t bytes) {
  try {
    Mapping result;
    result.impl_ = std::make_unique<Impl>(bip::anonymous_shared_memory(bytes));
    return result;
  } catch (const bip::interprocess_exception& e) {
    throw system_error(e.get_native_error(), "can't get " + format_size(bytes) + " of memory for I/O");
  }
}

std::byte* Mapping::data() const noexcept {
  return impl_ ? static_cast<std::byte*>(impl_->region.get_address()) : nullptr;
}
std::size_t Mapping::bytes() const noexcept { return impl_ ? impl_->region.get_size() : 0; }

void Mapping::leak() noexcept { static_cast<void>(impl_.release()); }

namespace {

FileSystemRoom room_of(const struct statvfs& s) noexcept {
  return {std::uint64_t{s.f_blocks} * s.f_frsize, std::uint64_t{s.f_bavail} * s.f_frsize};
}

}  // namespace

void allocate_file(int fd, std::size_t bytes, const std::string& path) {
  int rc;
  do rc = disk::allocate(fd, bytes);
  while (rc == EINTR);
  if (rc == 0) return;
  // Asked of the descriptor: `path` is how the file will be known, and need not be its name yet.
  struct statvfs s;
  const FileSystemRoom room = ::fstatvfs(fd, &s) == 0 ? room_of(s) : FileSystemRoom{};
  throw system_error(rc, "can't allocate " + format_size(bytes) + " for " + path + " (its file system has " +
                             format_size(room.free_bytes) + " free of " + format_size(room.total_bytes) + ")");
}

void replace_mapping_in_child(void* address, std::size_t bytes) noexcept {
  ::mmap(address, bytes, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

FileSystemRoom file_system_room(const std::string& path) noexcept {
  struct statvfs s;
  return ::statvfs(path.c_str(), &s) == 0 ? room_of(s) : FileSystemRoom{};
}

}  // namespace spillway
