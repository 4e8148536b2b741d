// One partition of a persistent topic, opened as Topic does it but without a Domain: for tests of what lies beneath.
#pragma once

#include <memory>
#include <string>

#include "spillway/ipc/exclusive_producer.h"
#include "spillway/ipc/shared_producer.h"
#include "spillway/persist/lifecycle.h"
#include "spillway/persist/segment_history.h"
#include "support/place.h"

namespace spillway::test {

class OpenPlace {
 public:
  // The topic's directories and lock files are made; partition 0 is not open yet.
  explicit OpenPlace(const TopicOptions& options);

  const TopicConfig& config() const { return config_; }
  PartitionPaths paths() const { return PartitionPaths::of(place_.shm(), place_.data(), config_, 0); }
  std::shared_ptr<Partition> open() const { return open_for_writing(paths(), config_, 0); }
  // What a reboot does. Nobody may have it open.
  void lose_ring() const;
  const Place& place() const { return place_; }

 private:
  Place place_;
  TopicConfig config_;
};

// A small topic: ring 64 KiB, segment 128 KiB.
TopicOptions tiny_topic();

// The number's own record: its text, filled up to `bytes` with bytes that depend on it.
std::string numbered(std::uint64_t number, std::size_t bytes = 100);

// What of a log is on disk, read as a consumer would replay it. A gap that isn't padding is in `gaps`.
struct OnDisk {
  std::vector<std::string> payloads;
  std::vector<Offset> offsets;
  struct Gap {
    Offset from, to;
    GapCause cause;
  };
  std::vector<Gap> gaps;
  Offset end = 0;
};
// `partition` null: with no ring.
OnDisk read_disk(const OpenPlace& place, std::shared_ptr<const Partition> partition, Offset from = 0);
OnDisk read_disk(const std::string& directory, const TopicConfig& config, std::shared_ptr<const Partition> partition,
                 Offset from = 0);

}  // namespace spillway::test
