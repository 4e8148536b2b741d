// One partition's persister, driven by hand, with the partition's only producer; and disks that are too small for it.
#pragma once

#include <sys/mount.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "spillway/persist/partition_persister.h"
#include "support/catch.h"
#include "support/checked_queue.h"
#include "support/open_partition.h"

namespace spillway::test {

inline constexpr std::uint64_t kPatienceNs = 60'000'000'000;

// A partition, its only producer, and a persister that does a step whenever it is told to.
struct Rig {
  explicit Rig(const TopicOptions& options, IoKind wanted_kind = IoKind::automatic)
      : place(options), kind(wanted_kind), ring(place.open()) {
    start();
  }
  ~Rig() {
    if (queue) REQUIRE(finish_io());
    CHECK(violations == std::vector<std::string>{});
  }

  void start() {
    queue = std::make_unique<CheckedQueue>(kind);
    queue->segment_bytes = place.config().segment_bytes;
    queue->durable_end = [this] { return durable(); };
    buffers = std::make_unique<IoBuffers>(*queue);
    persister = std::make_unique<PartitionPersister>(ring, PartitionPersister::Shared{*queue, *buffers, events}, false);
  }
  // What the death of the persister's process does: nothing is finished, I/O under way may still land.
  void die() {
    queue->hold = false;
    violations.insert(violations.end(), queue->violations.begin(), queue->violations.end());
    // The locks of a dead process' segments go when its last I/O is over; so they do here.
    queue->wait_all(Deadline::after_ns(kPatienceNs));
    persister.reset();
    buffers.reset();
    queue.reset();
  }
  void lose_power(std::mt19937_64& random) {
    producer.reset();
    queue->hold = false;
    queue->wait_all(Deadline::after_ns(kPatienceNs));
    queue->lose_power(random);
    die();
    ring.reset();
    place.lose_ring();
  }
  bool finish_io() {
    queue->hold = false;
    for (int i = 0; i < 10'000 && persister && persister->under_way() > 0; ++i) poll(1);
    violations.insert(violations.end(), queue->violations.begin(), queue->violations.end());
    queue->violations.clear();
    return !persister || persister->under_way() == 0;
  }
  void poll(std::size_t count) {
    queue->poll(count, Deadline::after_ns(1'000'000'000), [](const IoQueue::Completion& c) {
      IoOperation& operation = IoOperation::of(c.tag);
      operation.owner->io_completed(operation, c.error);
    });
  }
  void step() {
    const std::uint64_t now_ns = monotonic_ns() + ahead_ns;
    if (!persister->holds_role()) persister->take_role(now_ns);
    persister->step(now_ns);
    if (!queue->hold) poll(queue->in_flight() > 0 ? 1 : 0);
  }
  template <class Ready>
  bool run_until(Ready&& ready) {
    const Deadline deadline = Deadline::after_ns(kPatienceNs);
    while (!ready()) {
      if (deadline.passed()) return false;
      step();
    }
    return true;
  }
  // Time passes that nobody waits for.
  void pass(std::uint64_t ns) {
    skip_uptime(ns);
    ahead_ns += ns;
  }
  Offset durable() const { return area().durable_end.load(); }
  Offset written() const { return area().written_end.load(); }
  PersisterArea& area() const { return ring->control().persister; }
  bool sync_all() {
    return run_until([&] {
      persister->ask_sync();
      return durable() >= end;
    });
  }

  ExclusiveProducer& appender() {
    if (!producer) producer.emplace(ring, ProducerOptions{.partition = 0, .deadline_ns = 0});
    return *producer;
  }
  // Appends record `count`, stepping the persister while there is no room.
  void append(std::size_t bytes = 100) {
    const std::string text = numbered(payloads.size(), bytes);
    const Deadline deadline = Deadline::after_ns(kPatienceNs);
    for (;;) {
      const Appended appended = appender().append(text);
      if (appended) {
        payloads.push_back(text);
        offsets.push_back(appended.position.offset);
        end = appended.end;
        return;
      }
      REQUIRE(appended.status == AppendStatus::full);
      REQUIRE_FALSE(deadline.passed());
      step();
    }
  }
  // Appends while there is room, a step after each try, until ready() says so.
  template <class Ready>
  void append_until(Ready&& ready) {
    const Deadline deadline = Deadline::after_ns(kPatienceNs);
    while (!ready()) {
      REQUIRE_FALSE(deadline.passed());
      const std::string text = numbered(payloads.size());
      const Appended appended = appender().append(text);
      if (appended) {
        payloads.push_back(text);
        offsets.push_back(appended.position.offset);
        end = appended.end;
      }
      step();
    }
  }
  void append_many(std::size_t count, std::size_t bytes = 100) {
    for (std::size_t i = 0; i < count; ++i) append(bytes);
  }
  void append_batch(std::size_t count, std::size_t bytes) {
    std::vector<std::string> texts;
    std::vector<RecordInput> inputs;
    for (std::size_t i = 0; i < count; ++i) texts.push_back(numbered(payloads.size() + i, bytes));
    for (const std::string& text : texts) inputs.push_back({bytes_of(text), {}});
    Appended appended;
    const Deadline deadline = Deadline::after_ns(kPatienceNs);
    while (!(appended = appender().append_batch(inputs))) {
      REQUIRE(appended.status == AppendStatus::full);
      REQUIRE_FALSE(deadline.passed());
      step();
    }
    Offset at = appended.position.offset;
    for (const std::string& text : texts) {
      payloads.push_back(text);
      offsets.push_back(at);
      at += record_bytes(text.size());
    }
    end = appended.end;
  }
  // Everything appended up to `count` records is on disk, byte for byte and at its offset.
  void check_disk(const OnDisk& disk, std::size_t count) {
    REQUIRE(disk.payloads.size() >= count);
    REQUIRE(disk.payloads.size() <= payloads.size());
    CHECK(disk.gaps.empty());
    CHECK(std::equal(disk.payloads.begin(), disk.payloads.end(), payloads.begin()));
    CHECK(std::equal(disk.offsets.begin(), disk.offsets.end(), offsets.begin()));
  }
  std::size_t records_before(Offset offset) const {
    return static_cast<std::size_t>(
        std::count_if(offsets.begin(), offsets.end(), [&](Offset o) { return o < offset; }));
  }
  bool saw(PersisterChange change) const {
    return std::any_of(events.begin(), events.end(), [&](const PersisterEvent& e) { return e.change == change; });
  }

  OpenPlace place;
  IoKind kind;
  std::shared_ptr<Partition> ring;
  std::unique_ptr<CheckedQueue> queue;
  std::unique_ptr<IoBuffers> buffers;
  std::vector<PersisterEvent> events;
  std::unique_ptr<PartitionPersister> persister;
  std::optional<ExclusiveProducer> producer;
  std::vector<std::string> violations;
  std::vector<std::string> payloads;
  std::vector<Offset> offsets;
  Offset end = 0;
  std::uint64_t ahead_ns = 0;  // passed so
};

inline TopicOptions with(SyncPolicy sync, OnFull on_full = OnFull::block) {
  TopicOptions options = tiny_topic();
  options.sync = sync;
  options.sync_interval_ms = 5;
  options.on_full = on_full;
  return options;
}

// The partition's directory on a file system of its own for as long as this lives; the rig's ring and persister are opened
// anew. Closes them at the end.
class SmallDisk {
 public:
  SmallDisk(Rig& rig, const std::string& size) : rig_(rig), data_(rig.place.paths().data) {
    rig.die();
    rig.ring.reset();
    const std::string aside = rig.place.place().data() + "/aside";
    // Lock and horizon files move with it.
    std::filesystem::copy(data_, aside, std::filesystem::copy_options::recursive);
    mounted_ = ::mount("none", data_.c_str(), "tmpfs", 0, ("mode=0700,size=" + size).c_str()) == 0;
    if (mounted_) std::filesystem::copy(aside, data_, std::filesystem::copy_options::recursive);
    rig.ring = rig.place.open();
    rig.start();
  }
  ~SmallDisk() {
    rig_.finish_io();
    rig_.die();
    rig_.producer.reset();
    rig_.ring.reset();
    if (mounted_) ::umount2(data_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  bool mounted() const { return mounted_; }
  bool grow(const std::string& size) const {
    return ::mount("none", data_.c_str(), "tmpfs", MS_REMOUNT, ("mode=0700,size=" + size).c_str()) == 0;
  }

 private:
  Rig& rig_;
  std::string data_;
  bool mounted_ = false;
};

}  // namespace spillway::test
