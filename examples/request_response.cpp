// Request and response between two services over two ephemeral topics.
//
//   example_request_response                  server and client, ten thousand requests
//   example_request_response server           in one terminal
//   example_request_response client           in another; start as many as you like
//   example_request_response client --count N
//
// Any number of clients share the topic of requests and any number of servers could share that of responses: both use
// shared producers. A response carries the number of its request and the tag of its client. A client asks again when no
// answer comes within a tenth of a second, so a server may be started later, or again.
#include <spillway/spillway.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

volatile std::sig_atomic_t stop_asked = 0;

struct Channel {
  spillway::Domain domain;
  spillway::Topic requests = domain.open_or_create("example_requests", {.ring = spillway::kMiB, .ephemeral = true});
  spillway::Topic responses = domain.open_or_create("example_responses", {.ring = spillway::kMiB, .ephemeral = true});
};

// The service itself: the sum of the numbers in the text.
std::string answer(std::string_view text) {
  unsigned long long sum = 0, number = 0;
  for (const char c : text) {
    if (c >= '0' && c <= '9') {
      number = number * 10 + static_cast<unsigned long long>(c - '0');
    } else {
      sum += number;
      number = 0;
    }
  }
  return std::to_string(sum + number);
}

int serve() {
  const Channel channel;
  auto responses = channel.responses.shared_producer();
  auto requests = channel.requests.consumer({.from = spillway::From::latest, .wait = spillway::Wait::block});
  std::signal(SIGTERM, [](int) { stop_asked = 1; });
  std::signal(SIGINT, [](int) { stop_asked = 1; });
  unsigned long long served = 0;
  while (stop_asked == 0) {
    requests.poll(
        milliseconds(50),
        [&](const spillway::Record& request) {
          const spillway::RecordOptions address{.sequence = request.sequence(), .tag = request.tag()};
          if (responses.append(spillway::bytes_of(answer(request.text())), address)) ++served;
        },
        [](const spillway::Gap&) {});  // too slow for the ring: those clients ask again
  }
  std::printf("server: %llu requests answered\n", served);
  return 0;
}

class Client {
 public:
  Client() : tag_(static_cast<std::uint32_t>(::getpid())) {}

  // Empty after five seconds without an answer.
  std::string ask(std::string_view text) {
    const std::uint64_t number = ++number_;
    for (int attempt = 0; attempt < 50; ++attempt) {
      if (!requests_.append(spillway::bytes_of(text), {.sequence = number, .tag = tag_})) return {};
      std::string response;
      for (const auto end = Clock::now() + milliseconds(100); Clock::now() < end;) {
        responses_.poll(
            milliseconds(100),
            [&](const spillway::Record& record) {
              if (record.tag() != tag_ || record.sequence() != number) return spillway::Flow::go_on;
              response = record.text();
              return spillway::Flow::stop;
            },
            [](const spillway::Gap&) {});
        if (!response.empty()) return response;
      }
    }
    return {};
  }

 private:
  Channel channel_;
  spillway::SharedProducer requests_ = channel_.requests.shared_producer();
  // Spinning answers in well under a microsecond and takes a core; Wait::block takes none and some fifty microseconds.
  spillway::Consumer responses_ = channel_.responses.consumer({.from = spillway::From::latest});
  std::uint32_t tag_;
  std::uint64_t number_ = 0;
};

int ask(unsigned long count) {
  Client client;
  std::vector<double> microseconds;
  for (unsigned long i = 0; i < count; ++i) {
    const std::string text = std::to_string(i) + " + " + std::to_string(2 * i);
    const auto begin = Clock::now();
    const std::string response = client.ask(text);
    if (response.empty()) {
      std::fprintf(stderr, "client: no answer within five seconds; is a server running?\n");
      return 1;
    }
    if (response != std::to_string(3 * i)) {
      std::fprintf(stderr, "client: `%s` was answered with %s\n", text.c_str(), response.c_str());
      return 1;
    }
    microseconds.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
  }
  std::sort(microseconds.begin(), microseconds.end());
  std::printf("client: %lu answers; round trip p50 %.1f us, p99 %.1f us\n", count, microseconds[count / 2],
              microseconds[count * 99 / 100]);
  return 0;
}

// Two processes. The fork comes before anything of Spillway is opened, so each has handles of its own.
int both(unsigned long count) {
  const pid_t child = ::fork();
  if (child < 0) {
    std::perror("fork");
    return 1;
  }
  if (child == 0) return serve();
  const int status = ask(count);
  ::kill(child, SIGTERM);
  int server_status = 0;
  ::waitpid(child, &server_status, 0);
  return status != 0 || server_status != 0 ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  unsigned long count = 10'000;
  const char* mode = "both";
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--count") == 0 && i + 1 < argc) {
      count = std::max(1UL, std::strtoul(argv[++i], nullptr, 10));
    } else {
      mode = argv[i];
    }
  }
  try {
    if (std::strcmp(mode, "server") == 0) return serve();
    if (std::strcmp(mode, "client") == 0) return ask(count);
    if (std::strcmp(mode, "both") == 0) return both(count);
  } catch (const spillway::Error& error) {
    std::fprintf(stderr, "request_response: %s\n", error.what());
    return 1;
  }
  std::fprintf(stderr, "usage: example_request_response [server|client] [--count N]\n");
  return 2;
}
