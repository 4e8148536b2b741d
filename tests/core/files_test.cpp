// Descriptors, directories and whole-file replacement.
#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>

#include "spillway/core/descriptor.h"
#include "spillway/core/directory.h"
#include "spillway/core/file_lock.h"
#include "spillway/core/mapping.h"
#include "spillway/core/random.h"
#include "support/catch.h"
#include "support/ring_fixture.h"

namespace {

using namespace spillway_test::ring;

mode_t mode_of(const std::string& path) {
  struct stat s = {};
  REQUIRE(::lstat(path.c_str(), &s) == 0);
  return s.st_mode & 07777;
}

TEST_CASE("descriptors are close-on-exec and don't follow symbolic links") {
  RingPlace place;
  const FileDescriptor fd = open_file(place.paths().ring, O_RDONLY);
  CHECK((::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
  const std::string link = place.directory() + "/link";
  REQUIRE(::symlink(place.paths().ring.c_str(), link.c_str()) == 0);
  std::string sentence;
  CHECK(code_of([&] { open_file(link, O_RDONLY); }, &sentence) == Code::no_permission);
  CHECK(sentence.find("symbolic link") != std::string::npos);
  CHECK(code_of([&] { open_file(place.directory() + "/none", O_RDONLY); }) == Code::not_found);
}

TEST_CASE("what is neither a file nor a directory is refused at once, and what is opened waits as it should") {
  RingPlace place;
  const std::string pipe = place.directory() + "/pipe", socket = place.directory() + "/socket";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  REQUIRE(::mknod(socket.c_str(), S_IFSOCK | 0600, 0) == 0);
  for (const std::string& path : {pipe, socket, std::string("/dev/zero")}) {
    for (const int flags : {O_RDONLY, O_RDWR, O_WRONLY, O_RDWR | O_CREAT}) {
      INFO(path << " " << flags);
      CHECK_FALSE(try_open_file(path, flags));
      CHECK(errno == ENXIO);
      std::string sentence;
      CHECK(code_of([&] { open_file(path, flags); }, &sentence) == Code::io);
      CHECK(sentence.find(path) != std::string::npos);
      CHECK(sentence.find("remove it") != std::string::npos);
    }
    CHECK(code_of([&] { static_cast<void>(read_file(path, 100)); }) == Code::io);
    CHECK(code_of([&] { LockProbe{path}; }) == Code::io);
    CHECK(code_of([&] { FileLock::try_lock(path, LockMode::exclusive); }) == Code::io);
  }
  const FileDescriptor file = open_file(place.paths().ring, O_RDWR);
  CHECK((::fcntl(file.get(), F_GETFL) & (O_NONBLOCK | O_ACCMODE)) == O_RDWR);
  CHECK(open_file(place.directory(), O_RDONLY | O_DIRECTORY));
}

TEST_CASE("transfers are whole, and a read that meets the end early says so") {
  RingPlace place;
  const FileDescriptor fd = open_file(place.directory() + "/file", O_RDWR | O_CREAT);
  const std::string text = "some bytes";
  REQUIRE(write_at(fd.get(), text.data(), text.size(), 4090) == 0);
  CHECK(file_bytes(fd.get(), "file") == 4100);
  std::string back(text.size(), ' ');
  CHECK(read_at(fd.get(), back.data(), back.size(), 4090) == 0);
  CHECK(back == text);
  CHECK(read_at(fd.get(), back.data(), back.size(), 4095) == EIO);
  CHECK(read_at(-1, back.data(), 1, 0) == EBADF);
}

TEST_CASE("a file is replaced whole, and leaves nothing else behind") {
  RingPlace place;
  const std::string path = place.directory() + "/d/file";
  make_directory(place.directory() + "/d", Sharing::owner);
  CHECK_FALSE(read_file(path, 100).has_value());
  for (const std::string text : {"first", "and the second"}) {
    replace_file(path, std::as_bytes(std::span(text)), Sharing::group_read);
    const auto back = read_file(path, 100);
    REQUIRE(back.has_value());
    CHECK(std::string(reinterpret_cast<const char*>(back->data()), back->size()) == text);
    CHECK(mode_of(path) == 0640);
  }
  CHECK(list_directory(place.directory() + "/d") == std::vector<std::string>{"file"});
  CHECK(code_of([&] { static_cast<void>(read_file(path, 5)); }) == Code::corrupt);
}

TEST_CASE("directories: made with those above, ours alone by default, and not where something else stands") {
  RingPlace place;
  const std::string base = place.directory();
  make_directory(base + "/a/b/c", Sharing::owner);
  CHECK(mode_of(base + "/a/b/c") == 0700);
  make_directory(base + "/a/b/c", Sharing::owner);
  make_directory(base + "/g", Sharing::group_write);
  CHECK(mode_of(base + "/g") == 02770);
  make_directory(base + "/g/below", Sharing::group_read);
  CHECK(mode_of(base + "/g/below") == 02750);
  static_cast<void>(open_file(base + "/file", O_RDWR | O_CREAT));
  CHECK(code_of([&] { make_directory(base + "/file", Sharing::owner); }) == Code::conflict);
  REQUIRE(::symlink((base + "/a").c_str(), (base + "/link").c_str()) == 0);
  make_directory(base + "/link", Sharing::owner);  // our own link: a home on another disk
  REQUIRE(::symlink((base + "/nowhere").c_str(), (base + "/dangling").c_str()) == 0);
  CHECK(code_of([&] { make_directory(base + "/dangling", Sharing::owner); }) == Code::conflict);
  CHECK(list_directory(base + "/none").empty());
  remove_file(base + "/none");
  remove_directory(base + "/none");
  CHECK(code_of([&] { remove_directory(base + "/a"); }) == Code::io);
}

TEST_CASE("what is made in a shared directory belongs to its group, whatever the first group of who makes it") {
  if (::geteuid() != 0) SPILLWAY_SKIP("only root can become a user of other groups");
  RingPlace place;
  const std::string base = place.directory() + "/shared";
  make_directory(base, Sharing::group_write);
  REQUIRE(::chown(base.c_str(), 64001, 64100) == 0);
  REQUIRE(::chmod(base.c_str(), 02770) == 0);
  REQUIRE(::chmod(place.directory().c_str(), 0711) == 0);
  CHECK(result_of(in_child([&] {
          const gid_t group = 64100;
          if (::setgroups(1, &group) != 0 || ::setgid(64002) != 0 || ::setuid(64002) != 0) return 77;
          ::umask(077);
          make_directory(base + "/topic/0", Sharing::group_write);
          static_cast<void>(open_file(base + "/topic/0/file", O_RDWR | O_CREAT));
          return 0;
        })) == 0);
  for (const char* made : {"/topic", "/topic/0", "/topic/0/file"}) {
    struct stat s = {};
    REQUIRE(::stat((base + made).c_str(), &s) == 0);
    INFO(made);
    CHECK(s.st_uid == 64002);
    CHECK(s.st_gid == 64100);
  }
  CHECK(mode_of(base + "/topic") == 02770);
  CHECK(mode_of(base + "/topic/0") == 02770);
}

TEST_CASE("a stranger's directory and a stranger's link are not ours to use, and ours and root's are") {
  if (::geteuid() != 0) SPILLWAY_SKIP("only root can make what belongs to others");
  RingPlace place;
  const std::string base = place.directory();
  REQUIRE(::chmod(base.c_str(), 0711) == 0);
  const auto seen_by = [](uid_t uid, const std::function<void()>& check) {
    return result_of(in_child([&] {
      if (::setgid(uid) != 0 || ::setuid(uid) != 0) return 77;
      try {
        check();
      } catch (const Error& e) {
        return e.code() == Code::no_permission ? 1 : 2;
      }
      return 0;
    }));
  };
  make_directory(base + "/d", Sharing::owner);
  REQUIRE(::chown((base + "/d").c_str(), 64001, 64001) == 0);
  REQUIRE(::symlink((base + "/d").c_str(), (base + "/link").c_str()) == 0);
  REQUIRE(::lchown((base + "/link").c_str(), 64002, 64002) == 0);
  const auto use = [&] { check_directory(base + "/d"); };
  const auto own = [&] { check_own_directory(base + "/d"); };
  for (const mode_t mode : {0700U, 0755U, 0777U, 01777U}) {
    REQUIRE(::chmod((base + "/d").c_str(), mode) == 0);
    INFO(std::oct << mode);
    CHECK(seen_by(64001, use) == 0);
    CHECK(seen_by(64001, own) == 0);
    CHECK(seen_by(64002, use) == (mode == 0755 ? 0 : 1));
    CHECK(seen_by(64002, own) == 1);
    CHECK(code_of(own) == Code::no_permission);  // root's neither
  }
  CHECK(seen_by(64001, [&] { check_directory(base + "/link"); }) == 1);
  REQUIRE(::lchown((base + "/link").c_str(), 0, 0) == 0);
  CHECK(seen_by(64001, [&] { check_directory(base + "/link"); }) == 0);
  REQUIRE(::chown((base + "/d").c_str(), 0, 0) == 0);
  REQUIRE(::chmod((base + "/d").c_str(), 0755) == 0);
  CHECK(seen_by(64001, own) == 0);
  CHECK_FALSE(check_directory(base + "/none"));
}

TEST_CASE("a file that does not fit is refused with its file system's room, before anything is mapped") {
  RingPlace place;
  const FileDescriptor fd = open_file(place.directory() + "/huge", O_RDWR | O_CREAT);
  std::string sentence;
  const std::uint64_t more = file_system_room("/dev/shm").total_bytes + kGiB;
  // Under the name it is to have, which nothing has yet.
  const Code code = code_of([&] { allocate_file(fd.get(), more, place.directory() + "/final"); }, &sentence);
  CHECK((code == Code::no_space || code == Code::io));  // ENOSPC, or EFBIG under a file size limit
  CHECK(sentence.find("/final") != std::string::npos);
  CHECK(sentence.find("free of") != std::string::npos);
  CHECK(sentence.find("free of 0B") == std::string::npos);
  CHECK(::ftruncate(fd.get(), 0) == 0);
}

TEST_CASE("random numbers are never zero and don't repeat") {
  std::vector<std::uint64_t> seen;
  for (int i = 0; i < 100; ++i) seen.push_back(random_u64());
  std::sort(seen.begin(), seen.end());
  CHECK(seen.front() != 0);
  CHECK(std::adjacent_find(seen.begin(), seen.end()) == seen.end());
}

}  // namespace
