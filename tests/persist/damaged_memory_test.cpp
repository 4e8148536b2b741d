// Goal: a bit that flips in control region or ring, at whatever moment, ends nobody: no crash, no read outside, no endless
// loop; statuses and errors are typed, and what was durable before is read from disk as it was written, or told as a gap.
// What the ring alone holds has no checksum: there a flipped payload is a flipped payload.
// Method: a child has a partition with its producer, persister and consumers in one thread, driven by hand. One bit is
// flipped through the file, everybody goes on, and others attach. An alarm ends a child that hangs.
#include <unistd.h>

#include <iostream>
#include <map>
#include <random>

#include "spillway/core/error.h"
#include "spillway/ipc/partition_reader.h"
#include "spillway/ipc/repair.h"
#include "spillway/persist/horizon_file.h"
#include "spillway/persist/partition_persister.h"
#include "spillway/persist/verify.h"
#include "support/catch.h"
#include "support/log_builder.h"
#include "support/open_partition.h"
#include "support/tried_less.h"

using namespace spillway;
using namespace spillway::test;
using spillway_test::flip_bit;

namespace {

constexpr unsigned kHangSeconds = 60;
constexpr Offset kFourGiB = Offset{1} << 32;

enum Verdict : int { survived = 0, wrong_live = 1, wrong_disk = 2, untyped = 3, disk_lost = 4, no_scene = 5 };

// Files in memory: thousands of partitions are made, and no disk need turn for that.
struct InMemory {
  InMemory() {
    const char* const tmp = ::getenv("TMPDIR");
    if (tmp != nullptr) before = tmp;
    ::setenv("TMPDIR", "/dev/shm", 1);
  }
  ~InMemory() {
    if (before.empty()) {
      ::unsetenv("TMPDIR");
    } else {
      ::setenv("TMPDIR", before.c_str(), 1);
    }
  }
  InMemory(const InMemory&) = delete;
  InMemory& operator=(const InMemory&) = delete;
  std::string before;
};

class Scene {
 public:
  Scene(const OpenPlace& place, Offset begin) : place_(place) {
    if (begin != 0) {  // as if a log up to there had ended cleanly
      HorizonFile file = HorizonFile::open(horizon_path(place.paths().data), place.config().id, 0, Sharing::owner);
      HorizonFields fields;
      fields.incarnation = 1;
      fields.begin = fields.horizon = fields.previous_end = begin;
      fields.clean = true;
      if (file.write(fields) != 0) throw std::runtime_error("no horizon");
    }
    ring_ = place.open();
    persister_ =
        std::make_unique<PartitionPersister>(ring_, PartitionPersister::Shared{*queue_, buffers_, events_}, false);
    producer_.emplace(ring_, ProducerOptions{.partition = 0, .deadline_ns = 0});
  }

  void step() {
    const std::uint64_t now = monotonic_ns();
    if (!persister_->holds_role()) persister_->take_role(now);
    persister_->step(now);
    if (queue_->in_flight() == 0) return;
    queue_->poll(1, Deadline::after_ns(1'000'000'000), [](const IoQueue::Completion& c) {
      IoOperation& operation = IoOperation::of(c.tag);
      operation.owner->io_completed(operation, c.error);
    });
  }
  template <class Producer>
  bool append(Producer& producer) {
    const std::string text = numbered(count_, 60 + count_ % 300);
    const Appended a = producer.append(text);
    if (!a) return false;
    ++count_;
    model_[a.position.offset] = text;
    return true;
  }
  // `count` records, with the persister's help.
  void fill(std::size_t count) {
    for (std::size_t i = 0, tries = 0; i < count && tries < 100 * count; ++tries) {
      if (append(*producer_)) {
        ++i;
      } else {
        step();
      }
    }
  }
  void sync() {
    for (int i = 0; i < 1000 && area().durable_end.load() < producer_->offset(); ++i) {
      persister_->ask_sync();
      step();
    }
    durable_ = area().durable_end.load();
  }
  PersisterArea& area() const { return ring_->control().persister; }
  Offset producer_offset() const { return producer_->offset(); }
  PartitionReader reader() const {
    auto ring = open_for_reading(place_.paths(), place_.config(), 0);
    auto history = std::make_unique<SegmentHistory>(place_.paths().data, place_.config(), 0, ring, FileIo::buffered,
                                                    IoKind::pwrite);
    return PartitionReader(0, {std::move(ring), std::move(history)}, nullptr, ReadUpTo::committed);
  }
  // False: something was delivered that was not appended like this.
  bool read(PartitionReader& reader, std::size_t most) {
    bool right = true;
    for (int gaps = 0; gaps < 100; ++gaps) {
      std::size_t got = 0;
      const ReadStop stop = reader.read(
          [&](const Record& r) {
            const auto known = model_.find(r.offset());
            if (known != model_.end() && known->second != r.text()) right = false;
            ++delivered_;
            return Flow::go_on;
          },
          most, got);
      if (stop != ReadStop::gap) return right;
      reader.skip_gap();
    }
    return right;
  }
  // Everybody goes on for a while, whatever they are told.
  bool go_on(PartitionReader& old_reader) {
    bool right = true;
    for (int round = 0; round < 40; ++round) {
      for (int i = 0; i < 5; ++i) append(*producer_);
      step();
      right = read(old_reader, 200) && right;
      static_cast<void>(repair_claim_at_committed_end(*ring_));
    }
    typed([&] {
      PartitionReader fresh = reader();
      fresh.start_earliest();
      right = read(fresh, 5000) && right;
      fresh.start_latest();
      static_cast<void>(fresh.start_at(durable_ / 2));
      right = read(fresh, 5000) && right;
    });
    producer_->close();
    typed([&] {
      SharedProducer shared(ring_, ProducerOptions{.partition = 0, .deadline_ns = 0});
      for (int i = 0; i < 50; ++i) {
        append(shared);
        static_cast<void>(repair_claim_at_committed_end(*ring_));
        step();
      }
    });
    typed([&] {
      ExclusiveProducer next(ring_, ProducerOptions{.partition = 0, .deadline_ns = 0});
      for (int i = 0; i < 50; ++i) {
        append(next);
        step();
      }
    });
    typed([&] { static_cast<void>(verify_partition(place_.paths().data, place_.config(), 0, ring_)); });
    return right;
  }
  template <class Work>
  static void typed(Work&& work) {
    try {
      work();
    } catch (const Error&) {
    }
  }
  // What was durable is on disk without the ring, as it was, or told as a gap.
  Verdict check_disk() {
    persister_.reset();
    producer_.reset();
    ring_.reset();
    place_.lose_ring();
    std::map<Offset, std::string> found;
    try {
      const OnDisk disk = read_disk(place_, nullptr);
      for (std::size_t i = 0; i < disk.offsets.size(); ++i) found[disk.offsets[i]] = disk.payloads[i];
    } catch (const Error&) {
      return disk_lost;
    }
    bool lost = false;
    for (const auto& [offset, text] : durable_model_) {
      const auto record = found.find(offset);
      if (record == found.end())
        lost = true;
      else if (record->second != text)
        return wrong_disk;
    }
    return lost ? disk_lost : survived;
  }
  std::size_t durable_count() const { return durable_model_.size(); }
  std::size_t delivered() const { return delivered_; }
  std::size_t count() const { return count_; }
  void remember_durable() {
    for (const auto& [offset, text] : model_) {
      if (offset + record_bytes(text.size()) <= durable_) durable_model_.emplace(offset, text);
    }
  }

 private:
  const OpenPlace& place_;
  std::shared_ptr<Partition> ring_;
  std::unique_ptr<IoQueue> queue_ = make_io_queue(IoKind::pwrite, 16);
  IoBuffers buffers_{*queue_};
  std::vector<PersisterEvent> events_;
  std::unique_ptr<PartitionPersister> persister_;
  std::optional<ExclusiveProducer> producer_;
  std::map<Offset, std::string> model_, durable_model_;
  std::size_t count_ = 0, delivered_ = 0;
  Offset durable_ = 0;
};

// Which file, and where in it, given where the producer stands.
struct Flip {
  bool ring;
  std::uint64_t file_pos;
  unsigned bit;
  bool behind_end = false;  // file_pos counts back from the producer's place in the ring
};

constexpr std::uint64_t kNothing = 255;  // the last byte of the identity's block means nothing

int life_with(const Flip& flip, Offset begin, bool payload_too) try {
  ::alarm(kHangSeconds);
  const OpenPlace place(tiny_topic());
  Scene scene(place, begin);
  scene.fill(900);  // some laps of the ring, two segments
  scene.sync();
  scene.remember_durable();
  PartitionReader reader = scene.reader();
  reader.start_earliest();
  if (!scene.read(reader, 450)) return wrong_live;
  scene.fill(60);  // not on disk yet
  if (scene.durable_count() < 890 || scene.delivered() < 450) return no_scene;
  std::uint64_t at = flip.file_pos;
  if (flip.behind_end) {
    at = kRingHeaderBytes + (scene.producer_offset() - at) % place.config().ring_bytes;
  }
  flip_bit(flip.ring ? place.paths().ring : place.paths().control, at, flip.bit);
  const bool right = scene.go_on(reader);
  // Undamaged, everybody gets on.
  if (flip.file_pos == kNothing && (scene.count() < 1'200 || scene.delivered() < 2'000)) return no_scene;
  const Verdict disk = scene.check_disk();
  if (!right && !payload_too) return wrong_live;
  return disk;
} catch (const Error& error) {
  std::cerr << "error that nobody expected: " << error.what() << "\n";
  return untyped;
} catch (const std::exception& error) {
  std::cerr << "exception that is none of ours: " << error.what() << "\n";
  return untyped;
}

std::uint64_t seed_of_today() {
  const std::uint64_t seed = std::random_device{}();
  std::cerr << "damaged memory: seed " << seed << "\n";
  return seed;
}

// Each in a child of its own; what becomes of it is counted, and only `disk_lost` is forgiven, where it may be.
void live_with_all(const std::vector<Flip>& flips, bool payload_too, bool may_lose_disk) {
  const InMemory in_memory;
  std::map<int, unsigned> verdicts;
  unsigned number = 0;
  std::mt19937_64 dice(std::random_device{}());
  for (const Flip& flip : flips) {
    if (dice() % spillway_test::tried_less() != 0) continue;
    const Offset begin = number++ % 2 == 0 ? 0 : kFourGiB - 128 * kKiB;
    INFO((flip.ring ? "ring" : "control") << " byte " << flip.file_pos << " bit " << flip.bit << " begin " << begin);
    const int result = result_of(in_child([&] { return life_with(flip, begin, payload_too); }));
    ++verdicts[result];
    if (result == survived || (may_lose_disk && result == disk_lost)) continue;
    CHECK(result == survived);
  }
  for (const auto& [result, count] : verdicts)
    std::cerr << "damaged memory: " << count << " ended with " << result << "\n";
}

std::vector<Flip> all_bits(std::uint64_t file_pos, std::uint64_t bytes, std::uint64_t step = 1,
                           std::uint64_t first = 0) {
  std::vector<Flip> flips;
  for (std::uint64_t bit = first; bit < bytes * 8; bit += step) {
    flips.push_back({false, file_pos + bit / 8, static_cast<unsigned>(bit % 8)});
  }
  return flips;
}

}  // namespace

TEST_CASE("damaged memory: without a flip everything is right") {
  const InMemory in_memory;
  for (const Offset begin : {Offset{0}, kFourGiB - 128 * kKiB}) {
    CHECK(result_of(in_child([&] { return life_with({false, kNothing, 0}, begin, false); })) == survived);
  }
}

TEST_CASE("damaged memory: each bit of reserved_end and committed_end") {
  auto flips = all_bits(offsetof(Control, claims), 8);
  for (const Flip& f : all_bits(offsetof(Control, commits), 8)) flips.push_back(f);
  live_with_all(flips, false, true);
}

TEST_CASE("damaged memory: each bit of the persister's watermarks") {
  live_with_all(all_bits(offsetof(Control, persister), 6 * 8), false, true);
}

TEST_CASE("damaged memory: the rest of the control region") {
  const std::uint64_t seed = seed_of_today();
  std::mt19937_64 random(seed);
  std::vector<Flip> flips = all_bits(offsetof(Control, notices), 4);
  const auto some = [&](std::uint64_t from, std::uint64_t bytes, unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
      flips.push_back({false, from + random() % bytes, static_cast<unsigned>(random() % 8)});
    }
  };
  some(0, sizeof(Identity), 20);
  some(offsetof(Control, notices) + 4, sizeof(Notices) - 4, 20);
  some(offsetof(Control, persister) + 48, sizeof(PersisterArea) - 48, 80);
  some(offsetof(Control, boundaries), sizeof(Control::boundaries), 80);
  some(offsetof(Control, gaps), sizeof(Control::gaps), 30);
  some(offsetof(Control, lost), sizeof(Control::lost), 30);
  some(offsetof(Control, slots), 16, 60);
  some(offsetof(Control, slots), 2 * sizeof(ProducerSlot), 60);
  live_with_all(flips, false, true);
}

TEST_CASE("damaged memory: records in the ring") {
  const std::uint64_t seed = seed_of_today();
  std::mt19937_64 random(seed);
  std::vector<Flip> flips;
  for (unsigned i = 0; i < 300; ++i) {
    // Most are among the last records, which nobody has copied yet; some anywhere.
    const std::uint64_t back = 1 + random() % (i % 4 == 0 ? 60'000 : 3'000);
    flips.push_back({true, back, static_cast<unsigned>(random() % 8), true});
  }
  live_with_all(flips, true, false);
}

TEST_CASE("damaged memory: each bit of an identity is refused at attach, by a typed error") {
  const InMemory in_memory;
  const OpenPlace place(tiny_topic());
  const PartitionPaths paths = place.paths();
  place.open().reset();
  for (const std::string& path : {paths.ring, paths.control, paths.consumers}) {
    for (std::uint64_t bit = 0; bit < sizeof(Identity) * 8; ++bit) {
      INFO(path << " bit " << bit);
      flip_bit(path, bit / 8, bit % 8);
      std::string sentence;
      try {
        Partition::attach(paths, place.config(), 0, Access::read_only);
      } catch (const Error& error) {
        sentence = error.what();
      }
      REQUIRE(sentence.find(path) != std::string::npos);
      flip_bit(path, bit / 8, bit % 8);
    }
  }
  CHECK(Partition::attach(paths, place.config(), 0, Access::read_only) != nullptr);
}
