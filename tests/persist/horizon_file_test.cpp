// Goal: of the horizon's two slots one is always right, whatever was torn; and what can't be right is refused by
// name.
#include "spillway/persist/horizon_file.h"

#include <fcntl.h>

#include <filesystem>

#include "spillway/core/bytes.h"
#include "spillway/core/checksum.h"
#include "spillway/core/error.h"
#include "support/catch.h"
#include "support/log_builder.h"

using namespace spillway;
using namespace spillway_test;

namespace {

constexpr std::uint64_t kTopic = 77;

struct Scene {
  TempDirectory directory;
  std::string path = horizon_path(directory.path());
  HorizonFile open() const { return HorizonFile::open(path, kTopic, 3, Sharing::owner); }
  std::optional<HorizonSlot> peek() const { return HorizonFile::peek(path, kTopic, 3); }
};

HorizonFields fields(Offset begin, Offset horizon) {
  HorizonFields f;
  f.incarnation = 42;
  f.begin = begin;
  f.horizon = horizon;
  f.previous_end = begin / 2;
  f.previous_cause = GapCause::crash;
  return f;
}

Code code_of(const Scene& scene) {
  try {
    static_cast<void>(scene.peek());
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find(scene.path) != std::string::npos);
    return error.code();
  }
  FAIL("accepted");
  return Code::io;
}

}  // namespace

TEST_CASE("horizon: nothing is created before the first write, which makes a whole file") {
  Scene scene;
  CHECK_FALSE(scene.peek());
  HorizonFile file = scene.open();
  CHECK_FALSE(file.read());
  CHECK_FALSE(std::filesystem::exists(scene.path));
  REQUIRE(file.write(fields(160, 320)) == 0);
  CHECK(std::filesystem::file_size(scene.path) == 8192);
  const auto slot = scene.peek();
  REQUIRE(slot);
  CHECK(slot->begin == 160);
  CHECK(slot->horizon == 320);
  CHECK(slot->previous_end == 80);
  CHECK(slot->previous_cause == static_cast<std::uint64_t>(GapCause::crash));
  CHECK(slot->clean == 0);
  CHECK(slot->incarnation == 42);
  CHECK((std::filesystem::status(scene.path).permissions() & std::filesystem::perms::all) ==
        (std::filesystem::perms::owner_read | std::filesystem::perms::owner_write));
  CHECK(std::distance(std::filesystem::directory_iterator(scene.directory.path()), {}) == 1);
}

TEST_CASE("horizon: the newest of many writes counts, also for who opens it anew each time") {
  Scene scene;
  HorizonFile kept = scene.open();
  for (Offset i = 1; i <= 20; ++i) {
    if (i % 3 == 0) {
      HorizonFile other = scene.open();
      REQUIRE(other.read());
      REQUIRE(other.write(fields(32, 160 * i)) == 0);
      REQUIRE(kept.read());  // as who takes the role does
    } else {
      REQUIRE(kept.write(fields(32, 160 * i)) == 0);
    }
    REQUIRE(scene.peek()->horizon == 160 * i);
    REQUIRE(scene.peek()->sequence == 2 * i);  // each write fills both slots
  }
}

TEST_CASE("horizon: a torn write leaves the slot before it") {
  // However much of the newest slot's block reached the disk, a reader gets it whole or the one before.
  Scene scene;
  HorizonFile file = scene.open();
  REQUIRE(file.write(fields(32, 160)) == 0);
  REQUIRE(file.write(fields(32, 320)) == 0);
  const std::string before = scene.path + ".before";
  copy_file(scene.path, before);
  REQUIRE(file.write(fields(32, 480)) == 0);  // into slot 0
  const std::string after = scene.path + ".after";
  copy_file(scene.path, after);
  for (std::size_t torn = 0; torn <= sizeof(HorizonSlot); ++torn) {
    copy_file(before, scene.path);
    const FileDescriptor from = open_file(after, O_RDONLY);
    const FileDescriptor to = open_file(scene.path, O_WRONLY);
    std::vector<std::byte> bytes(torn);
    REQUIRE(read_at(from.get(), bytes.data(), torn, 0) == 0);
    REQUIRE(write_at(to.get(), bytes.data(), torn, 0) == 0);
    const auto slot = scene.peek();
    REQUIRE(slot);
    REQUIRE(slot->horizon == (torn == sizeof(HorizonSlot) ? 480 : 320));
    // And who writes on leaves either slot able to stand for both.
    HorizonFile next = scene.open();
    REQUIRE(next.read());
    REQUIRE(next.write(fields(32, 640)) == 0);
    REQUIRE(scene.peek()->horizon == 640);
    flip_bit(scene.path, torn % 2 * kBlock);
    REQUIRE(scene.peek()->horizon == 640);
  }
}

TEST_CASE("horizon: what can't be right is refused") {
  Scene scene;
  HorizonFile file = scene.open();
  REQUIRE(file.write(fields(32, 160)) == 0);
  const auto rewrite = [&](auto change) {
    HorizonSlot slot = *scene.peek();
    change(slot);
    slot.checksum = xxh3(std::as_bytes(std::span(&slot, 1)).first(offsetof(HorizonSlot, checksum)));
    const FileDescriptor fd = open_file(scene.path, O_WRONLY);
    REQUIRE(write_at(fd.get(), &slot, sizeof slot, 0) == 0);
  };
  SECTION("empty") {
    truncate_to(scene.path, 0);
    CHECK(code_of(scene) == Code::corrupt);
  }
  SECTION("cut off") {
    truncate_to(scene.path, 40);
    CHECK(code_of(scene) == Code::corrupt);
  }
  SECTION("zeros") {
    zero_fill(scene.path, 0, 8192);
    CHECK(code_of(scene) == Code::corrupt);
  }
  SECTION("random") {
    randomize(scene.path, 1 << 20, 3);
    CHECK(code_of(scene) == Code::corrupt);
  }
  SECTION("another version") {
    rewrite([](HorizonSlot& s) { s.version = 2; });
    CHECK(code_of(scene) == Code::unsupported);
  }
  SECTION("another topic") {
    rewrite([](HorizonSlot& s) { s.topic_id = 78; });
    CHECK(code_of(scene) == Code::corrupt);
  }
  SECTION("another partition") {
    rewrite([](HorizonSlot& s) { s.partition = 4; });
    CHECK(code_of(scene) == Code::corrupt);
  }
  SECTION("horizon before begin") {
    rewrite([](HorizonSlot& s) { s.horizon = 16; });
    CHECK(code_of(scene) == Code::corrupt);
  }
  SECTION("previous end after begin") {
    rewrite([](HorizonSlot& s) { s.previous_end = 48; });
    CHECK(code_of(scene) == Code::corrupt);
  }
  SECTION("an end off the records' grid") {
    rewrite([](HorizonSlot& s) { s.previous_end = 17; });
    CHECK(code_of(scene) == Code::corrupt);
  }
  SECTION("a horizon off the records' grid") {
    rewrite([](HorizonSlot& s) { s.horizon = 161; });
    CHECK(code_of(scene) == Code::corrupt);
  }
  SECTION("unknown cause") {
    rewrite([](HorizonSlot& s) { s.previous_cause = 9; });
    CHECK(code_of(scene) == Code::corrupt);
  }
  SECTION("a directory") {
    std::filesystem::remove(scene.path);
    std::filesystem::create_directory(scene.path);
    CHECK(code_of(scene) == Code::io);
  }
}

TEST_CASE("horizon: a write that fails is reported, and what counted before still counts") {
  Scene scene;
  HorizonFile file = scene.open();
  REQUIRE(file.write(fields(32, 160)) == 0);
  std::filesystem::remove_all(scene.directory.path());
  HorizonFile fresh = scene.open();
  CHECK(fresh.write(fields(32, 160)) != 0);  // no directory to make it in
  CHECK(file.write(fields(32, 320)) == 0);   // an open one goes on
}
