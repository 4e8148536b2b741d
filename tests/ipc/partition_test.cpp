// Attaching: what is mapped was checked first, whatever stands in a file's place.
#include "spillway/ipc/partition.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <random>

#include "support/catch.h"
#include "support/ring_fixture.h"

namespace {

using namespace spillway_test::ring;

std::vector<std::string> files_of(const RingPlace& place) {
  return {place.paths().ring, place.paths().control, place.paths().consumers};
}

void write_file(const std::string& path, std::uint64_t at, std::span<const std::byte> bytes) {
  const FileDescriptor fd = open_file(path, O_RDWR);
  REQUIRE(write_at(fd.get(), bytes.data(), bytes.size(), at) == 0);
}

Code attach_fails(const RingPlace& place, Access access, std::string* sentence = nullptr) {
  return code_of([&] { place.attach(access); }, sentence);
}

TEST_CASE("what was created is what is attached, from two mappings") {
  for (const Start& start : starts()) {
    INFO(start.name);
    RingPlace place({}, start);
    const auto a = place.attach();
    const auto b = place.attach(Access::read_only);
    CHECK(a->begin() == start.begin);
    CHECK(a->capacity() == kRing);
    CHECK(a->incarnation() == b->incarnation());
    CHECK(a->claim_bytes_max() == kRing / 4);
    a->control().notices.dropped.store(7);
    CHECK(b->control().notices.dropped.load() == 7);
    CHECK(b->can_announce());
    CHECK_FALSE(a->gone());
  }
}

TEST_CASE("a missing file is not_found, whichever it is") {
  for (std::size_t i = 0; i < 3; ++i) {
    RingPlace place;
    remove_file(files_of(place)[i]);
    CHECK(attach_fails(place, Access::read_write) == Code::not_found);
    CHECK(attach_fails(place, Access::read_only) == Code::not_found);
  }
}

TEST_CASE("a truncated, emptied, lengthened, sparse, zero-filled or random file is refused by name") {
  struct Row {
    const char* name;
    std::function<void(const std::string&, std::uint64_t)> spoil;
  };
  std::mt19937_64 random(1);
  const Row rows[] = {
      {"empty", [](const std::string& p, std::uint64_t) { REQUIRE(::truncate(p.c_str(), 0) == 0); }},
      {"shorter than its identity",
       [](const std::string& p, std::uint64_t) { REQUIRE(::truncate(p.c_str(), 87) == 0); }},
      {"cut by one byte",
       [](const std::string& p, std::uint64_t n) { REQUIRE(::truncate(p.c_str(), static_cast<off_t>(n - 1)) == 0); }},
      {"cut to its first page", [](const std::string& p, std::uint64_t) { REQUIRE(::truncate(p.c_str(), 4096) == 0); }},
      {"a terabyte, sparse",
       [](const std::string& p, std::uint64_t) { REQUIRE(::truncate(p.c_str(), off_t{1} << 40) == 0); }},
      {"right size but holes",
       [](const std::string& p, std::uint64_t n) {
         REQUIRE(::truncate(p.c_str(), 4096) == 0);
         REQUIRE(::truncate(p.c_str(), static_cast<off_t>(n)) == 0);
       }},
      {"zero-filled", [](const std::string& p, std::uint64_t n) { write_file(p, 0, std::vector<std::byte>(n)); }},
      {"random",
       [&](const std::string& p, std::uint64_t n) {
         std::vector<std::byte> noise(n);
         for (std::byte& b : noise) b = static_cast<std::byte>(random());
         write_file(p, 0, noise);
       }},
      {"a directory",
       [](const std::string& p, std::uint64_t) {
         remove_file(p);
         make_directory(p, Sharing::owner);
       }},
      {"a pipe nobody writes to",
       [](const std::string& p, std::uint64_t) {
         remove_file(p);
         REQUIRE(::mkfifo(p.c_str(), 0600) == 0);
       }},
      {"a symbolic link",
       [](const std::string& p, std::uint64_t) {
         REQUIRE(::rename(p.c_str(), (p + ".real").c_str()) == 0);
         REQUIRE(::symlink((p + ".real").c_str(), p.c_str()) == 0);
       }},
  };
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < 3; ++i) {
      for (const Access access : {Access::read_write, Access::read_only}) {
        RingPlace place;
        const std::string path = files_of(place)[i];
        struct stat s = {};
        REQUIRE(::stat(path.c_str(), &s) == 0);
        row.spoil(path, static_cast<std::uint64_t>(s.st_size));
        INFO(row.name << " " << path);
        std::string sentence;
        const Code code = attach_fails(place, access, &sentence);
        INFO(sentence);
        CHECK((code == Code::corrupt || code == Code::io || code == Code::no_permission));
        CHECK(sentence.find(path) != std::string::npos);
      }
    }
  }
}

TEST_CASE("every flipped bit of an identity is noticed") {
  RingPlace place;
  for (const std::string& path : files_of(place)) {
    Identity id;
    {
      const FileDescriptor fd = open_file(path, O_RDONLY);
      REQUIRE(read_at(fd.get(), &id, sizeof id, 0) == 0);
    }
    for (std::size_t bit = 0; bit < 8 * sizeof id; bit += 5) {
      Identity bad = id;
      reinterpret_cast<unsigned char*>(&bad)[bit / 8] ^= static_cast<unsigned char>(1U << bit % 8);
      write_file(path, 0, std::as_bytes(std::span(&bad, 1)));
      const Code code = attach_fails(place, Access::read_only);
      CHECK((code == Code::corrupt || code == Code::unsupported));
    }
    write_file(path, 0, std::as_bytes(std::span(&id, 1)));
  }
  CHECK_NOTHROW(place.attach());
}

TEST_CASE("files in each other's place, of another partition, topic or incarnation are refused") {
  RingPlace place;
  SECTION("control and consumers swapped") {
    REQUIRE(::rename(place.paths().control.c_str(), (place.directory() + "/x").c_str()) == 0);
    REQUIRE(::rename(place.paths().consumers.c_str(), place.paths().control.c_str()) == 0);
    REQUIRE(::rename((place.directory() + "/x").c_str(), place.paths().consumers.c_str()) == 0);
    CHECK(attach_fails(place, Access::read_write) == Code::corrupt);
  }
  SECTION("another partition's number") {
    CHECK(code_of([&] { Partition::attach(place.paths(), place.config(), 1, Access::read_only); }) == Code::corrupt);
  }
  SECTION("another topic of the same name") {
    TopicConfig other = place.config();
    other.id ^= 1;
    CHECK(code_of([&] { Partition::attach(place.paths(), other, 0, Access::read_only); }) == Code::ring_stale);
  }
  SECTION("another ring size") {
    TopicConfig other = place.config();
    other.ring_bytes *= 2;
    CHECK(code_of([&] { Partition::attach(place.paths(), other, 0, Access::read_only); }) == Code::corrupt);
  }
  for (std::size_t i = 0; i < 3; ++i) {
    DYNAMIC_SECTION("one file of an older incarnation: " << i) {
      const std::string path = files_of(place)[i];
      REQUIRE(::link(path.c_str(), (path + ".old").c_str()) == 0);
      place.create(starts()[0]);
      REQUIRE(::rename((path + ".old").c_str(), path.c_str()) == 0);
      CHECK(attach_fails(place, Access::read_write) == Code::ring_stale);
    }
  }
}

TEST_CASE("an observer who may only read gets everything but announcements and slots") {
  RingPlace place;
  {
    ExclusiveProducer producer(place.attach(), {});
    REQUIRE(producer.append("seen"));
  }
  for (const std::string& path : files_of(place)) REQUIRE(::chmod(path.c_str(), 0444) == 0);
  for (const std::string& path : {place.directory(), place.directory() + "/shm", parent_of(place.paths().ring)}) {
    REQUIRE(::chmod(path.c_str(), 0755) == 0);
  }
  CHECK(result_of(in_child([&] {
          if (::geteuid() == 0 && ::setuid(65534) != 0) return 77;  // root could write whatever the mode says
          const auto p = place.attach(Access::read_only);
          if (p->can_announce()) return 1;
          PartitionReader reader = live_reader(p);
          reader.start_earliest();
          if (reader.register_slot("observer", false)) return 2;
          if (texts(drain(reader).records) != std::vector<std::string>{"seen"}) return 3;
          if (reader.held_by_dead()) return 4;
          Sleeper sleeper;
          sleeper.sleep({&reader, 1}, Deadline::after_ns(1'000'000));  // sleep-ok: must not write anywhere
          return attach_fails(place, Access::read_write) == Code::no_permission ? 0 : 5;
        })) == 0);
}

TEST_CASE("creation leaves no temporary file, and an existing ring that is replaced is seen to be gone") {
  RingPlace place;
  CHECK(list_directory(parent_of(place.paths().ring)).size() == (place.config().ephemeral ? 4U : 3U));
  const auto old = place.attach();
  old->look_whether_gone();
  CHECK_FALSE(old->gone());
  place.create(starts()[0]);
  old->look_whether_gone();
  CHECK(old->gone());
  const auto fresh = place.attach();
  CHECK(fresh->incarnation() != old->incarnation());
  fresh->look_whether_gone();
  CHECK_FALSE(fresh->gone());
}

TEST_CASE("a ring that does not fit leaves nothing of itself, however often it is tried") {
  RingPlace place;
  for (const std::string& path : files_of(place)) remove_file(path);
  const auto before = list_directory(parent_of(place.paths().ring));
  CHECK(result_of(in_child([&] {
          ::signal(SIGXFSZ, SIG_IGN);  // a limit of file sizes stands for a full file system: the ring alone is larger
          const struct rlimit limit = {kRing, kRing};
          if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
          for (int i = 0; i < 3; ++i) {
            const Code code = code_of([&] { Partition::create_files(place.paths(), place.config(), 0, {1, 0, 0, 0}); });
            if (code != Code::io && code != Code::no_space) return 2;
          }
          return 0;
        })) == 0);
  CHECK(list_directory(parent_of(place.paths().ring)) == before);
}

TEST_CASE("locks are made with the topic, are not readable by others, and making them again changes nothing") {
  RingPlace place;
  const std::string slots = place.paths().slots_lock();
  struct stat before = {}, after = {};
  REQUIRE(::stat(slots.c_str(), &before) == 0);
  CHECK((before.st_mode & 0777) == 0600);
  Partition::create_locks(place.paths(), Sharing::group_write);
  REQUIRE(::stat(slots.c_str(), &after) == 0);
  CHECK(before.st_ino == after.st_ino);
}

}  // namespace
