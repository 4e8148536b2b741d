// The bytes of real files that every machine has, one after the other, round and round.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "spillway/core/descriptor.h"

namespace spillway::command::demo {

// This program, the libraries it has mapped, and libraries of the system, in this order: up to 400 files.
std::vector<std::string> files_of_this_machine();

class FileStream {
 public:
  // Uses the files that can be read, in their order, up to about 256 MiB. Throws Failure when there are none.
  explicit FileStream(std::vector<std::string> files);
  // The next `bytes` (at most kBuffer / 2) of the stream; valid until the next call.
  std::span<const std::byte> take(std::size_t bytes);

  std::size_t file_count() const noexcept { return files_.size(); }
  std::uint64_t total_bytes() const noexcept { return total_bytes_; }  // of all files, as they were found

 private:
  static constexpr std::size_t kBuffer = 1024 * 1024;
  void refill();

  std::vector<std::string> files_;
  std::uint64_t total_bytes_ = 0;
  std::size_t next_file_ = 0;
  FileDescriptor file_;
  std::vector<std::byte> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace spillway::command::demo
