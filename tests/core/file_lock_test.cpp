// Locks are the only proof of life: what they answer in every situation in which a pid or a time-out would lie.
#include "spillway/core/file_lock.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "support/catch.h"
#include "support/ring_fixture.h"

namespace {

using namespace spillway_test::ring;

struct LockPlace : RingPlace {
  std::string path = directory() + "/lock";
  LockPlace() { static_cast<void>(open_file(path, O_RDWR | O_CREAT)); }
};

TEST_CASE("an exclusive lock excludes every other description, of this process too, on its byte only") {
  LockPlace place;
  FileLock first = FileLock::try_lock(place.path, LockMode::exclusive, 3);
  REQUIRE(first);
  CHECK_FALSE(FileLock::try_lock(place.path, LockMode::exclusive, 3));
  CHECK_FALSE(FileLock::try_lock(place.path, LockMode::shared, 3));
  CHECK(FileLock::try_lock(place.path, LockMode::exclusive, 2));
  CHECK(FileLock::try_lock(place.path, LockMode::exclusive, 4));
  const LockProbe probe(place.path);
  CHECK(probe.held(3));
  CHECK(probe.held(3, LockMode::shared));
  CHECK_FALSE(probe.held(2));
  first.unlock();
  CHECK_FALSE(probe.held(3));
  CHECK(FileLock::try_lock(place.path, LockMode::exclusive, 3));
}

TEST_CASE("shared locks stand beside each other, and one turns exclusive only when it is alone") {
  LockPlace place;
  FileLock a = FileLock::try_lock(place.path, LockMode::shared);
  FileLock b = FileLock::try_lock(place.path, LockMode::shared);
  REQUIRE(a);
  REQUIRE(b);
  const LockProbe probe(place.path);
  CHECK(probe.held(0));
  CHECK_FALSE(probe.held(0, LockMode::shared));
  CHECK_FALSE(a.try_convert(LockMode::exclusive));
  CHECK_FALSE(FileLock::try_lock(place.path, LockMode::exclusive));  // it kept the shared form
  b.unlock();
  CHECK(a.try_convert(LockMode::exclusive));
  CHECK(probe.held(0, LockMode::shared));
  CHECK(a.try_convert(LockMode::shared));
  CHECK(FileLock::try_lock(place.path, LockMode::shared));
}

TEST_CASE("asked through the owner's own description the kernel answers free: probes have their own") {
  LockPlace place;
  const FileLock lock = FileLock::try_lock(place.path, LockMode::exclusive);
  REQUIRE(lock);
  struct flock question = {};
  question.l_type = F_WRLCK;
  question.l_whence = SEEK_SET;
  question.l_len = 1;
  REQUIRE(::fcntl(lock.descriptor(), F_OFD_GETLK, &question) == 0);
  CHECK(question.l_type == F_UNLCK);  // the trap
  CHECK(LockProbe(place.path).held(0));
}

TEST_CASE("a killed child's lock is free although nobody has reaped it, while its pid still looks alive") {
  LockPlace place;
  const Baton locked;
  const pid_t pid = in_child([&] {
    const FileLock lock = FileLock::try_lock(place.path, LockMode::exclusive);
    if (!lock) return 1;
    locked.pass();
    die_now();
  });
  locked.await();
  siginfo_t info;
  REQUIRE(::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) == 0);  // a zombie, left as it is
  CHECK(::kill(pid, 0) == 0);
  CHECK_FALSE(LockProbe(place.path).held(0));
  CHECK(result_of(pid) == 1000 + SIGKILL);
}

TEST_CASE("a live child's lock is held, and a stopped one's too") {
  LockPlace place;
  const Baton locked, end;
  const pid_t pid = in_child([&] {
    const FileLock lock = FileLock::try_lock(place.path, LockMode::exclusive);
    locked.pass();
    end.await();
    return lock ? 0 : 1;
  });
  locked.await();
  const LockProbe probe(place.path);
  CHECK(probe.held(0));
  ::kill(pid, SIGSTOP);
  int status = 0;
  REQUIRE(::waitpid(pid, &status, WUNTRACED) == pid);
  CHECK(probe.held(0));
  ::kill(pid, SIGCONT);
  end.pass();
  CHECK(result_of(pid) == 0);
  CHECK_FALSE(probe.held(0));
}

TEST_CASE("a child does not inherit its parent's locks: the parent's death frees them though the child lives") {
  LockPlace place;
  const Baton born, end;
  const pid_t parent = in_child([&] {
    const FileLock lock = FileLock::try_lock(place.path, LockMode::exclusive);
    if (!lock) return 1;
    const pid_t child = in_child([&] {
      const bool mine = static_cast<bool>(lock);
      born.pass();
      end.await();
      return mine ? 1 : 0;
    });
    born.await();
    if (!LockProbe(place.path).held(0)) return 2;  // the child has given up nothing of ours
    static_cast<void>(child);
    die_now();
  });
  CHECK(result_of(parent) == 1000 + SIGKILL);
  CHECK_FALSE(LockProbe(place.path).held(0));
  end.pass();
}

TEST_CASE("a probe that can't be asked takes nobody for dead, and a lock file that can't be opened is an error") {
  const LockProbe empty;
  CHECK(empty.held(0));
  CHECK(code_of([] { LockProbe("/dev/shm/no such directory/lock"); }) == Code::not_found);
  CHECK(code_of([] { FileLock::try_lock("/dev/shm/no such directory/lock", LockMode::shared); }) == Code::not_found);
}

TEST_CASE("a lock file that is missing is not made anew beside the one that the living may hold") {
  LockPlace place;
  const FileLock held = FileLock::try_lock(place.path, LockMode::exclusive);
  REQUIRE(std::remove(place.path.c_str()) == 0);
  std::string sentence;
  CHECK(code_of([&] { FileLock::try_lock(place.path, LockMode::exclusive); }, &sentence) == Code::not_found);
  CHECK(sentence.find(place.path + " is missing") != std::string::npos);
  CHECK(sentence.find("; stop everything") != std::string::npos);
  CHECK_FALSE(file_exists(place.path));
}

TEST_CASE("a moved lock is held once and released once") {
  LockPlace place;
  FileLock a = FileLock::try_lock(place.path, LockMode::exclusive);
  FileLock b = std::move(a);
  CHECK(b);
  CHECK(LockProbe(place.path).held(0));
  b = FileLock();
  CHECK_FALSE(LockProbe(place.path).held(0));
}

}  // namespace
