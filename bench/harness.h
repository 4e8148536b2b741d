// What the benchmark programs share: two pinned processes, a place for topics, medians over interleaved rounds.
//
// These machines may be noisy: compare medians and ratios of one run, never single absolute figures of two.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "spillway/spillway.h"

namespace spillway::bench {

// A domain of its own under temporary directories (the data one on the file system of $TMPDIR), removed at the end.
class TemporaryDomain {
 public:
  TemporaryDomain();
  ~TemporaryDomain();
  TemporaryDomain(const TemporaryDomain&) = delete;
  TemporaryDomain& operator=(const TemporaryDomain&) = delete;
  DomainOptions options() const { return {data_, shm_, StandBy::yes}; }
  const std::string& data() const { return data_; }

 private:
  std::string data_, shm_;
  int owner_;
};

// Of those the program was started with, counted round. Pins the calling thread and those it starts from then on.
void pin_to(unsigned core);
inline constexpr unsigned kAnyCore = ~0U;

// Memory that parent and child share across fork, zeroed: results and start signals.
struct Board {
  std::atomic<std::uint64_t> ready;
  std::atomic<std::uint64_t> go;
  std::atomic<std::uint64_t> stop;
  alignas(128) std::atomic<std::uint64_t> there;
  alignas(128) std::atomic<std::uint64_t> back;
  alignas(128) std::atomic<std::uint64_t> results[16];
};
Board& new_board();
std::byte* new_shared_memory(std::uint64_t bytes);  // populated and zeroed; until the program ends

// Forks; the child runs `work` on the given core and exits with its value. Call while the process has one thread.
int start_child(const std::function<int()>& work, unsigned core = 1);
// Waits; the process exits with a message if the child failed.
void join_child(int pid, const char* what);

double median(std::vector<double> values);
// The median with the least and the most, "105.2 (98.1 to 107.0)", or with the first and the ninth tenth.
std::string spread(const std::vector<double>& values);
std::string middle(std::vector<double> values);

// --rounds N, --records N, --quick ...: the value behind a flag, or `otherwise`.
std::uint64_t number_option(int argc, char** argv, const char* flag, std::uint64_t otherwise);
bool has_option(int argc, char** argv, const char* flag);

}  // namespace spillway::bench
