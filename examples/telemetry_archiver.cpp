// Telemetry of this host with a slow archiver: a durable cursor, and only what a power loss can't take back.
//
//   example_telemetry_archiver                         both, for two seconds
//   example_telemetry_archiver sample                  in one terminal
//   example_telemetry_archiver archive >> load.csv     in another; stop it, start it again: it goes on where it was
//   example_telemetry_archiver [sample|archive] --seconds N
//
// The archiver looks only five times a second and stores its place after each batch has been written out. The ring holds
// little more than a second of samples: when the archiver was away for longer, it reads from the segments what it missed,
// and the sampler is never held up by it. A crash between writing and ack() repeats a batch: at least once, never less.
#include <spillway/spillway.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

struct LoadSample {
  std::uint64_t time_ns;  // since the Unix epoch
  double load_1min;
  std::uint64_t free_kib;
  std::uint64_t available_kib;
};

spillway::TypedTopic<LoadSample> open_samples(const spillway::Domain& domain) {
  return domain.open_or_create<LoadSample>("example_load", {.ring = 64 * spillway::kKiB,
                                                            .segment = spillway::kMiB,
                                                            .retain = 16 * spillway::kMiB,
                                                            .sync_interval_ms = 50,
                                                            .schema = "load.v1"});
}

LoadSample take_sample() {
  LoadSample sample{spillway::wall_ns(), 0, 0, 0};
  std::ifstream("/proc/loadavg") >> sample.load_1min;
  std::ifstream memory("/proc/meminfo");
  std::string key, unit;
  for (std::uint64_t kib = 0; memory >> key >> kib; std::getline(memory, unit)) {
    if (key == "MemFree:") sample.free_kib = kib;
    if (key == "MemAvailable:") {
      sample.available_kib = kib;
      break;
    }
  }
  return sample;
}

// This process writes the segments as well: with StandBy::yes, the default, whoever produces stands by for that.
int sample(std::chrono::seconds seconds) {
  const spillway::Domain domain;
  auto samples = open_samples(domain);
  auto producer = samples.exclusive_producer();
  for (const auto end = Clock::now() + seconds; Clock::now() < end;) {
    const spillway::Appended appended = producer.append(take_sample());
    if (!appended) {
      std::fprintf(stderr, "sample: %s (%s)\n", std::string(name_of(appended.status)).c_str(),
                   std::string(name_of(appended.blocked)).c_str());
      return 1;
    }
    std::this_thread::sleep_for(milliseconds(1));
  }
  producer.close();
  const spillway::Durable closed = samples.close(std::chrono::seconds(30));
  if (closed != spillway::Durable::yes) {
    std::fprintf(stderr, "sample: not everything is on disk: %s\n", std::string(name_of(closed)).c_str());
    return 1;
  }
  return 0;
}

int archive(std::chrono::seconds seconds) {
  const spillway::Domain domain;
  auto samples = open_samples(domain).consumer({.cursor = "archiver", .read_up_to = spillway::ReadUpTo::durable});
  std::uint64_t archived = 0;
  for (const auto end = Clock::now() + seconds; Clock::now() < end;) {
    const auto result = samples.poll(
        milliseconds(100),
        [&](const LoadSample& s, const spillway::RecordInfo& info) {
          std::printf("%" PRIu64 ",%" PRIu64 ",%.2f,%" PRIu64 ",%" PRIu64 "\n", info.offset, s.time_ns, s.load_1min,
                      s.free_kib, s.available_kib);
          ++archived;
        },
        [&](const spillway::Gap& gap) {
          std::fprintf(stderr, "archive: offsets %" PRIu64 " to %" PRIu64 " are gone: %s\n", gap.from, gap.to,
                       std::string(name_of(gap.cause)).c_str());
        });
    if (result.state == spillway::PollState::failed) {
      std::fprintf(stderr, "archive: can't read the disk: %s\n", std::strerror(result.error));
      return 1;
    }
    if (result.records > 0) {
      if (std::fflush(stdout) != 0) {
        std::perror("archive: can't write");
        return 1;
      }
      if (const int error = samples.ack(); error != 0) {
        std::fprintf(stderr, "archive: can't store the cursor: %s\n", std::strerror(error));
        return 1;
      }
    }
    std::this_thread::sleep_for(milliseconds(200));  // this is what makes it slow
  }
  std::fprintf(stderr, "archive: %" PRIu64 " samples archived\n", archived);
  return 0;
}

// Two processes. The fork comes before anything of Spillway is opened, so each has handles of its own.
int both(std::chrono::seconds seconds) {
  const pid_t child = ::fork();
  if (child < 0) {
    std::perror("fork");
    return 1;
  }
  if (child == 0) return sample(seconds);
  const int status = archive(seconds);
  int sample_status = 0;
  ::waitpid(child, &sample_status, 0);
  return status != 0 || sample_status != 0 ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::chrono::seconds seconds(2);
  const char* mode = "both";
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
      seconds = std::chrono::seconds(std::atoi(argv[++i]));
    } else {
      mode = argv[i];
    }
  }
  try {
    if (std::strcmp(mode, "sample") == 0) return sample(seconds);
    if (std::strcmp(mode, "archive") == 0) return archive(seconds);
    if (std::strcmp(mode, "both") == 0) return both(seconds);
  } catch (const spillway::Error& error) {
    std::fprintf(stderr, "telemetry_archiver: %s\n", error.what());
    return 1;
  }
  std::fprintf(stderr, "usage: example_telemetry_archiver [sample|archive] [--seconds N]\n");
  return 2;
}
