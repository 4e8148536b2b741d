#include "fuzz_support.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>

#include "spillway/core/bytes.h"
#include "spillway/core/descriptor.h"
#include "spillway/core/error.h"

namespace spillway_fuzz {

using namespace spillway;

std::uint64_t Source::word() noexcept {
  static constexpr std::array<std::uint64_t, 12> kAnchors = {
      0,  64 * kKiB, 128 * kKiB, 192 * kKiB, std::uint64_t{1} << 32, kOffsetEnd, 2 * kOffsetEnd, UINT64_MAX,
      16, 4 * kKiB,  UINT32_MAX, 32 * kKiB};
  const std::uint8_t how = byte();
  if (how >= 128) return number<std::uint64_t>();
  if (how >= 64) return number<std::uint16_t>() * std::uint64_t{kRecordAlign};
  const auto distance = static_cast<std::uint64_t>(std::int64_t{number<std::int8_t>()});
  return kAnchors[how % kAnchors.size()] + (how < 32 ? distance * kRecordAlign : distance);
}

void edit(Source& source, std::span<std::byte> image) noexcept {
  const std::uint8_t what = source.byte();
  const std::size_t at = source.number<std::uint32_t>() % image.size();
  const std::size_t room = image.size() - at;
  switch (what % 4) {
    case 0: {
      const std::span<const std::byte> bytes = source.bytes(std::min<std::size_t>(room, source.byte()));
      std::copy(bytes.begin(), bytes.end(), image.begin() + static_cast<std::ptrdiff_t>(at));
      return;
    }
    case 1: store(image, align_down(at, sizeof(std::uint64_t)), source.word()); return;
    case 2: {
      const std::size_t bytes = std::min<std::size_t>(room, source.number<std::uint16_t>());
      std::fill_n(image.begin() + static_cast<std::ptrdiff_t>(at), bytes, std::byte{0});
      return;
    }
    default: {
      const std::size_t from = source.number<std::uint32_t>() % image.size();
      const std::size_t bytes =
          std::min<std::size_t>({room, image.size() - from, std::size_t{source.number<std::uint16_t>()}});
      std::memmove(image.data() + at, image.data() + from, bytes);
    }
  }
}

namespace {

struct ScratchDirectory {
  std::string path;
  ScratchDirectory() {
    const char* above = std::getenv("TMPDIR");
    path = std::string(above != nullptr && *above != '\0' ? above : "/dev/shm") + "/spillway-fuzz-XXXXXX";
    SPILLWAY_ASSERT(::mkdtemp(path.data()) != nullptr);
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

}  // namespace

const std::string& scratch() {
  static const ScratchDirectory directory;
  return directory.path;
}

void put_file(const std::string& path, std::span<const std::byte> bytes) {
  const FileDescriptor fd = open_file(path, O_RDWR | O_CREAT);
  SPILLWAY_ASSERT(write_at(fd.get(), bytes.data(), bytes.size(), 0) == 0);
  if (file_bytes(fd.get(), path) != bytes.size()) {
    SPILLWAY_ASSERT(::ftruncate(fd.get(), static_cast<off_t>(bytes.size())) == 0);
  }
}

std::uint64_t touch(std::span<const std::byte> bytes) noexcept {
  std::uint64_t sum = 0;
  for (const std::byte b : bytes) sum += static_cast<std::uint64_t>(b);
  asm volatile("" : : "r"(sum));  // else the compiler leaves the loop out where nobody wants the sum
  return sum;
}

}  // namespace spillway_fuzz
