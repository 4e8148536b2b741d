// What can be seen of a topic from outside: watermarks, who uses it, who holds it up, who writes it to disk.
//
// Only looks: creates, locks, wakes and changes nothing, and needs no more than read permission (without the right to open
// the lock files it can't tell the living from the dead, and says so). What it shows was true a moment ago, field by field.
// Thread safety: a PartitionObserver belongs to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "spillway/ipc/partition.h"
#include "spillway/ipc/producer_types.h"
#include "spillway/persist/topic_files.h"

namespace spillway {

struct ProducerStat {
  std::size_t slot = 0;
  std::uint32_t pid = 0;  // in its own pid namespace
  ProducerMode mode = ProducerMode::none;
  std::uint64_t since_ns = 0;  // wall clock
  std::uint64_t blocked = 0;   // times it waited for space
  bool paused = false;         // stopped by a signal or a debugger
};

struct ConsumerStat {
  std::size_t slot = 0;
  std::uint32_t pid = 0;
  std::string name;
  ConsumerState state = ConsumerState::none;
  Offset offset = 0;
  std::uint64_t lag_bytes = 0;  // committed_end - offset
  std::optional<Offset> gate;
  std::uint64_t since_ns = 0;
  bool paused = false;
};

struct PersisterStat {
  bool held = false;  // somebody holds the role now
  PersisterState state = PersisterState::none;
  IoPath path = IoPath::none;
  std::uint32_t pid = 0;
  bool daemon = false;
  bool paused = false;
  bool asked_for = false;  // a daemon waits for the role
  int error = 0;           // errno of the last failure, 0 once it cleared
  std::string error_text;  // what it means, with the file that is damaged where that is what it means
  std::uint64_t since_ns = 0;
  std::uint64_t syncs = 0;
  std::uint64_t records_written = 0;
};

// Why nothing goes on at `offset`, and whose doing it is.
struct HeldStat {
  enum class By : std::uint8_t { producer, persister, consumer };
  Blocked cause = Blocked::none;
  By by = By::producer;
  Offset offset = 0;
  std::uint32_t pid = 0;  // 0: unknown, or nobody
  bool paused = false;
};

struct PartitionStat {
  std::uint32_t partition = 0;
  bool ring = false;  // false: there is no ring (after a reboot); the watermarks are what recovery finds on disk
  bool ring_elsewhere =
      false;                // no ring here, but live writers: it was deleted under them, or lies in another directory
  bool locks_known = true;  // false: no right to open the lock files; everybody in a slot is listed, dead or alive
  std::uint64_t capacity = 0;
  std::uint64_t incarnation = 0;
  Offset begin = 0;  // of this ring
  // Watermarks, as DESIGN.md names them. committed_end is the walked one, not control's floor.
  Offset retained_begin = 0;
  Offset durable_end = 0;
  Offset written_end = 0;
  Offset committed_end = 0;
  Offset reserved_end = 0;
  Offset reclaimable_end = 0;
  Offset horizon = 0;
  std::uint64_t kept_bytes = 0;  // of the log: retained_begin to committed_end without the gaps between segments
  std::uint64_t dropped = 0;     // records refused by drop_new
  std::uint64_t gap_count = 0;   // ranges overwritten before they could be written
  ProducerMode mode = ProducerMode::none;  // of the last writers
  PersisterStat persister;
  std::vector<ProducerStat> producers;
  std::vector<ConsumerStat> consumers;
  std::optional<HeldStat> held;
  std::uint64_t taken_ns = 0;  // monotonic, for rates
};

std::string_view name_of(ProducerMode value) noexcept;
std::string_view name_of(ConsumerState value) noexcept;
std::string_view name_of(PersisterState value) noexcept;
std::string_view name_of(IoPath value) noexcept;
std::string_view name_of(HeldStat::By value) noexcept;

// What a persister's errno means: where that is damage, a sentence that names the file and the cure. Looks at the newest
// segments' headers and the horizon only.
std::string persister_error_text(const PartitionPaths& paths, const TopicConfig& config, std::uint32_t partition,
                                 int error);

// True when the process is visible here and stopped by a signal or a debugger.
bool process_paused(std::uint32_t pid) noexcept;

class PartitionObserver {
 public:
  PartitionObserver(const Directories& where, const TopicConfig& config, std::uint32_t partition);

  // Keeps the ring mapped from look to look, and finds a newer one. Throws Error when there is a ring that can't be read, or
  // none and a disk that can't.
  PartitionStat look();

 private:
  PartitionStat look_at_ring() const;
  PartitionStat look_at_disk() const;
  bool ring_elsewhere() const;

  TopicConfig config_;
  std::uint32_t number_;
  PartitionPaths paths_;
  std::shared_ptr<Partition> ring_;
};

}  // namespace spillway
