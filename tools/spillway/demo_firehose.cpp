// The producer of the topic `firehose`: streams the machine's program files as records of varying size, written in place,
// at a steady pace, and measures how long each append takes.
#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>

#include "command.h"
#include "demo_audit.h"
#include "demo_files.h"
#include "demo_latency.h"
#include "demo_records.h"
#include "demo_roles.h"

namespace spillway::command::demo {
namespace {

// How many bytes may go out by now. What could not go out in time (the disk was slow) is not made up for later than a
// tenth of a second, because a burst would be measured instead of a stream.
class Pace {
 public:
  explicit Pace(std::uint64_t bytes_per_second) noexcept : rate_(static_cast<double>(bytes_per_second) / 1e9) {}

  bool allows() noexcept { return credit_ > 0; }
  void spend(std::size_t bytes) noexcept { credit_ -= static_cast<double>(bytes); }
  void tick() noexcept {
    const std::uint64_t now = monotonic_ns();
    credit_ = std::min(credit_ + static_cast<double>(now - last_ns_) * rate_, 1e8 * rate_);
    last_ns_ = now;
  }

 private:
  double rate_;  // bytes per ns
  double credit_ = 0;
  std::uint64_t last_ns_ = monotonic_ns();
};

class Firehose {
 public:
  explicit Firehose(const RoleOptions& options)
      : log_bytes_max_(options.log_bytes_max),
        files_(files_of_this_machine()),
        domain_(options.domain),
        producer_(domain_.open(kFirehoseTopic).exclusive_producer({.deadline_ns = 30'000 * kMillisecond})) {}

  // False: all that may be written has been.
  bool append(Pace& pace) {
    const std::size_t bytes = next_size();
    if (produced_.end + bytes + 2 * kRecordHeaderBytes + sizeof(ChunkHeader) > log_bytes_max_) return false;
    const std::span<const std::byte> content = files_.take(bytes);
    const ChunkHeader header = {produced_.records, xxh3(content)};

    const std::uint64_t begin = monotonic_ns();
    ExclusiveClaim claim = producer_.claim(sizeof header + bytes);
    if (!claim) refuse(claim.status(), claim.blocked());
    std::memcpy(claim.payload().data(), &header, sizeof header);
    std::memcpy(claim.payload().data() + sizeof header, content.data(), bytes);
    const Appended appended = claim.commit();
    latencies_[phase_].add(monotonic_ns() - begin);

    if (!appended) refuse(appended.status, appended.blocked);
    ++produced_.records;
    produced_.bytes += sizeof header + bytes;
    produced_.end = appended.end;
    checksum_.add(header.hash, sizeof header + bytes);
    pace.spend(sizeof header + bytes);
    return true;
  }

  void enter(std::size_t phase) noexcept { phase_ = std::min(phase, kPhases.size() - 1); }

  std::string line(bool last) {
    produced_.checksum = checksum_.value();
    nlohmann::json line = produced_;
    line["at_ns"] = monotonic_ns();
    line["files"] = files_.file_count();
    line["file_bytes"] = files_.total_bytes();
    if (last) {
      line["final"] = true;
      for (const Phase phase : kPhases)
        line["append"][name_of(phase)] = latencies_[static_cast<std::size_t>(phase)].summary();
    }
    return line.dump();
  }

 private:
  // From 32 bytes to 32 KiB: each doubling is half as frequent, so that most are small and most bytes are not.
  std::size_t next_size() noexcept {
    random_ ^= random_ << 13U;
    random_ ^= random_ >> 7U;
    random_ ^= random_ << 17U;
    const unsigned doublings = std::min<unsigned>(static_cast<unsigned>(std::countr_zero(random_ >> 32U)), 9);
    const std::size_t base = std::size_t{32} << doublings;
    return std::min(base + (random_ & (base - 1)), kChunkBytesMax);
  }

  [[noreturn]] static void refuse(AppendStatus status, Blocked blocked) {
    throw Failure(exit_code::kEnvironment, "the firehose can't append: " + std::string(spillway::name_of(status)) +
                                               " (" + std::string(spillway::name_of(blocked)) + ")");
  }

  std::uint64_t log_bytes_max_;
  FileStream files_;
  Domain domain_;
  ExclusiveProducer producer_;
  Produced produced_;
  StreamChecksum checksum_;
  std::array<Latency, kPhases.size()> latencies_;
  std::size_t phase_ = 0;
  std::uint64_t random_ = 0x9E37'79B9'7F4A'7C15U;
};

// Obeys what the director says. False: stop.
bool obey(Orders& orders, Firehose& firehose) {
  while (const std::optional<std::string> order = orders.next()) {
    if (*order == "stop") return false;
    constexpr std::string_view kPhaseOrder = "phase ";
    if (order->rfind(kPhaseOrder, 0) == 0) {
      std::size_t phase = 0;
      std::from_chars(order->data() + kPhaseOrder.size(), order->data() + order->size(), phase);
      firehose.enter(phase);
    }
  }
  return true;
}

}  // namespace

int run_firehose(const RoleOptions& options) {
  Firehose firehose(options);
  Orders orders;
  Every report_due(kReportPeriod);
  Pace pace(options.bytes_per_second);
  for (bool more = true;;) {
    pace.tick();
    while (more && pace.allows()) more = firehose.append(pace);
    if (!obey(orders, firehose)) break;
    if (report_due.due()) report(firehose.line(false));
    rest(kTick);
  }
  report(firehose.line(true));
  return exit_code::kDone;
}

}  // namespace spillway::command::demo
