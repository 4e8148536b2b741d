// Goal: whatever is killed, stopped and restarted, and however often the ring is lost, what was acknowledged as durable is
// there exactly once, per-producer order holds, every hole is a reported gap, and nobody is stuck.
// Method: this program starts itself many times over: two processes that may persist, producers of both kinds, consumers of
// every kind. It kills, stops and restarts them at random; every few seconds all rest, and a ledger of what each producer was
// told is compared with what each reader was given and with what a fresh one finds. Now and then all are killed at once, and
// the rings deleted.
//
//   soak --seconds N [--seed S] [--data DIR --shm DIR]
//
// The directories are made anew, and removed at the end; after a failure they stay. Exit 0: all held; 1: it did not; 77: it
// can't run here.
#include <sys/stat.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>

#include "conductor.h"
#include "spillway/core/clock.h"
#include "worker.h"

namespace spillway::soak {
namespace {

struct Arguments {
  std::uint64_t seconds = 0;
  std::uint64_t seed = 0;
  bool is_worker = false;
  WorkerArguments worker;
};

[[noreturn]] void usage() {
  std::fprintf(stderr, "usage: soak --seconds N [--seed S] [--data DIR --shm DIR]\n");
  std::exit(2);
}

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  arguments.seed = wall_ns() % 1'000'000;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    const std::uint64_t number = std::strtoull(argv[i + 1], nullptr, 10);
    if (name == "--seconds") {
      arguments.seconds = number;
    } else if (name == "--seed") {
      arguments.seed = number;
    } else if (name == "--data") {
      arguments.worker.places.work = value;
    } else if (name == "--shm") {
      arguments.worker.places.shm = value;
    } else if (name == "--worker") {
      arguments.is_worker = true;
      arguments.worker.worker = number;
    } else if (name == "--incarnation") {
      arguments.worker.incarnation = static_cast<std::uint32_t>(number);
    } else {
      usage();
    }
  }
  arguments.worker.seed = arguments.seed;
  if (argc % 2 == 0 || (arguments.seconds == 0 && !arguments.is_worker)) usage();
  return arguments;
}

std::string make_temporary(const std::string& below) {
  std::string path = below + "/spillway-soak-XXXXXX";
  return ::mkdtemp(path.data()) == nullptr ? std::string() : path;
}

void make_places(Places& places) {
  const char* const temporary = std::getenv("TMPDIR");
  if (places.work.empty()) places.work = make_temporary(temporary != nullptr ? temporary : "/tmp");
  if (places.shm.empty()) places.shm = make_temporary("/dev/shm");
  if (places.work.empty() || places.shm.empty()) {
    std::fprintf(stderr, "skipped: there is no /dev/shm, or no directory for temporary files, to write to\n");
    std::exit(77);
  }
  for (const std::string& path : {places.work, places.shm, places.data(), places.logs()}) {
    std::filesystem::create_directories(path);
    ::chmod(path.c_str(), 0755);  // the observer is a stranger
  }
}

void show_history(const Places& places) {
  std::ifstream file(places.history());
  std::deque<std::string> last;
  for (std::string line; std::getline(file, line);) {
    last.push_back(line);
    if (last.size() > 60) last.pop_front();
  }
  for (const std::string& line : last) std::fprintf(stderr, "%s\n", line.c_str());
}

int conduct(const Arguments& arguments) {
  Places places = arguments.worker.places;
  make_places(places);
  {
    Conductor conductor(places, arguments.seed);
    const std::uint64_t begun_ns = monotonic_ns();
    std::string what;
    try {
      conductor.run(arguments.seconds);
    } catch (const std::exception& e) {
      what = e.what();
    }
    std::printf("%s, seed %" PRIu64 "\n", conductor.counts((monotonic_ns() - begun_ns) / 1'000'000'000).c_str(),
                arguments.seed);
    if (!what.empty()) {
      show_history(places);
      std::fprintf(stderr, "%sFAILED with seed %" PRIu64 ": %s\nkept: %s and %s; the whole history is %s\n",
                   conductor.state().c_str(), arguments.seed, what.c_str(), places.work.c_str(), places.shm.c_str(),
                   places.history().c_str());
      return 1;
    }
  }
  std::filesystem::remove_all(places.work);
  std::filesystem::remove_all(places.shm);
  return 0;
}

}  // namespace
}  // namespace spillway::soak

int main(int argc, char** argv) {
  using namespace spillway::soak;
  const Arguments arguments = parse(argc, argv);
  try {
    return arguments.is_worker ? run_worker(arguments.worker) : conduct(arguments);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "soak: %s\n", e.what());
    return 1;
  }
}
