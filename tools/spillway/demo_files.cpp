#include "demo_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "command.h"

namespace spillway::command::demo {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kFilesMax = 400;
constexpr std::uint64_t kTotalBytesMax =
    256ULL * 1024 * 1024;                    // they fit the page cache, so that the disk is the log's alone
constexpr std::size_t kEntriesMax = 20'000;  // a /usr/lib that is larger is not searched to its end
constexpr std::uint64_t kFileBytesMin = 64 * 1024;

void add(std::vector<std::string>& files, const std::string& file) {
  if (std::find(files.begin(), files.end(), file) == files.end()) files.push_back(file);
}

void add_mapped(std::vector<std::string>& files) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const std::size_t path = line.find('/');
    if (path != std::string::npos && line.find(" (deleted)") == std::string::npos) add(files, line.substr(path));
  }
}

void add_libraries(std::vector<std::string>& files) {
  std::error_code error;
  fs::recursive_directory_iterator entry("/usr/lib", fs::directory_options::skip_permission_denied, error);
  std::size_t seen = 0;
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    if (++seen > kEntriesMax || files.size() >= kFilesMax) return;
    std::error_code ignored;  // a file that can't be looked at is not one for us
    if (entry->path().filename().native().find(".so") == std::string::npos) continue;
    if (!entry->is_regular_file(ignored) || entry->is_symlink(ignored)) continue;
    if (entry->file_size(ignored) >= kFileBytesMin && !ignored) add(files, entry->path().native());
  }
}

// 0 when it can't be read.
std::uint64_t readable_bytes(const std::string& file) {
  std::error_code error;
  const std::uint64_t bytes = fs::file_size(file, error);
  return error || ::access(file.c_str(), R_OK) != 0 ? 0 : bytes;
}

}  // namespace

std::vector<std::string> files_of_this_machine() {
  std::vector<std::string> files;
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  if (!error) files.push_back(self.native());
  add_mapped(files);
  add_libraries(files);
  return files;
}

FileStream::FileStream(std::vector<std::string> files) : files_(std::move(files)), buffer_(kBuffer) {
  std::erase_if(files_, [this](const std::string& file) {
    const std::uint64_t bytes = total_bytes_ < kTotalBytesMax ? readable_bytes(file) : 0;
    total_bytes_ += bytes;
    return bytes == 0;
  });
  refill();
}

std::span<const std::byte> FileStream::take(std::size_t bytes) {
  if (end_ - begin_ < bytes) refill();
  const std::span<const std::byte> taken(buffer_.data() + begin_, bytes);
  begin_ += bytes;
  return taken;
}

// Fills the buffer. A file that has become unreadable meanwhile is passed over.
void FileStream::refill() {
  std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  std::size_t empty_in_a_row = 0;
  while (end_ < buffer_.size()) {
    if (!file_) {
      if (empty_in_a_row++ > files_.size() || files_.empty()) {
        throw Failure(exit_code::kEnvironment, "none of this machine's program files can be read; is /proc mounted?");
      }
      file_ = try_open_file(files_[next_file_], O_RDONLY);
      next_file_ = (next_file_ + 1) % files_.size();
      if (!file_) continue;
    }
    const ssize_t got = ::read(file_.get(), buffer_.data() + end_, buffer_.size() - end_);
    if (got > 0) {
      end_ += static_cast<std::size_t>(got);
      empty_in_a_row = 0;
    } else {
      file_.reset();
    }
  }
}

}  // namespace spillway::command::demo
