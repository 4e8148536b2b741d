// One topic as this process has it open: its partitions, each mapped once for writing and once for reading.
//
// Thread safety: thread-safe. In a forked child it answers `forked`, or throws Error (forked).
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "spillway/ipc/partition_reader.h"
#include "spillway/persist/domain_state.h"

namespace spillway {

class TopicState : public std::enable_shared_from_this<TopicState> {
 public:
  TopicState(std::shared_ptr<DomainState> domain, TopicConfig config);
  ~TopicState();

  const TopicConfig& config() const noexcept { return config_; }
  DomainState& domain() const noexcept { return *domain_; }
  PartitionPaths paths(std::uint32_t partition) const;

  // The partition, open for writing: recovered and made anew where that is needed, registered with the persister. Throws
  // Error as Topic::exclusive_producer() says.
  std::shared_ptr<Partition> writing(std::uint32_t partition);
  // Only if this process has it open for writing already (null in a forked child).
  std::shared_ptr<Partition> writing_if_open(std::uint32_t partition);
  // Makes the partition's ring where there is none, without staying a writer. Throws Error as writing() does.
  void make_ring(std::uint32_t partition);
  // The ring to read from (null when there is none) and the history behind it (null on an ephemeral topic).
  ReaderSource source(std::uint32_t partition);
  // For a reader without a ring: a source only once there is a ring. An ephemeral topic that was deleted and made anew is
  // followed, if its records are of the same type.
  FindSource finder(std::uint32_t partition);
  // No reader of the reader's partition can have got further by now: the ring's committed end, or, without a ring, the horizon.
  Offset readable_end_max(PartitionReader& reader) const;

  Durable wait(std::uint32_t partition, Offset end, std::chrono::nanoseconds timeout, bool synced);
  // Drains and lets go of every partition this process writes to.
  Durable close(std::chrono::nanoseconds timeout);
  bool forked() const noexcept { return mark_.forked(); }

 private:
  void check_partition(std::uint32_t partition) const;
  std::shared_ptr<Partition> reading(std::uint32_t partition);
  ReaderSource source_behind(std::uint32_t partition, std::shared_ptr<Partition> ring) const;
  // This topic, or, where it is ephemeral, the one of its name and type that was made in its place. Throws Error (gone) when
  // it was deleted, or another stands in its place.
  std::shared_ptr<TopicState> as_it_is_now();

  std::shared_ptr<DomainState> domain_;
  TopicConfig config_;
  std::mutex mutex_;  // guards what follows
  std::vector<std::shared_ptr<Partition>> writing_;
  std::vector<std::weak_ptr<Partition>> reading_;
  ForkMark mark_;
};

}  // namespace spillway
