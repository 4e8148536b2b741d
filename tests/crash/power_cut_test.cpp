// Goal: whatever instant the power goes at, and goes again while the log is recovered, what was durable is there, nothing is
// there that was never committed, what is missing is told as a gap, and no offset is handed out twice.
// Method: a life of a topic (its creation, appends, syncs, cursors, rolls, recycling, deaths of the persister, clean stops) on
// a disk that keeps a journal; then cuts at random places of the journal, each with a random choice of what of the unsynced
// changes got to the disk; from each the log is recovered and lives on, until it is cut and recovered once more.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>

#include "spillway/core/clock.h"
#include "spillway/core/directory.h"
#include "spillway/core/error.h"
#include "spillway/persist/clean_stop.h"
#include "spillway/persist/cursor_file.h"
#include "spillway/persist/partition_persister.h"
#include "spillway/persist/topic_files.h"
#include "spillway/persist/verify.h"
#include "support/catch.h"
#include "support/open_partition.h"
#include "support/simulated_disk.h"
#include "support/tried_less.h"

namespace spillway::test {
namespace {

// All on tmpfs: what a disk would keep is the simulated disk's business.
class Scratch {
 public:
  Scratch() {
    if (::mkdtemp(path_.data()) == nullptr) throw std::runtime_error("can't make the test's directory");
  }
  ~Scratch() { std::filesystem::remove_all(path_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_ = "/dev/shm/spillway-test-cut-XXXXXX";
};

// What the outside had been told when the journal had so many changes.
struct Mark {
  std::size_t changes = 0;
  bool topic = false;  // creating it had returned
  Offset durable = 0;
  Offset reserved = 0;
  Offset retained = 0;
  Offset cursor = 0;         // of the last commit that returned 0
  Offset cursor_wanted = 0;  // of the last commit that began
};

using Records = std::map<Offset, std::string>;

struct Seen {
  Records records;
  Offset end = 0;
};

// So that other seeds can be tried by hand.
std::uint64_t first_seed() {
  const char* const text = std::getenv("SPILLWAY_FIRST_SEED");
  return text == nullptr ? 0 : std::strtoull(text, nullptr, 10);
}

TopicOptions options_of(std::mt19937_64& random) {
  TopicOptions options = tiny_topic();
  if (random() % 3 == 0) options.ring = 512 * kKiB;  // several pieces are under way at once
  options.segment = *options.ring * (1 + random() % 2);
  if (random() % 2 == 0) options.retain = *options.segment * (2 + random() % 4);
  const SyncPolicy policies[] = {SyncPolicy::none, SyncPolicy::interval, SyncPolicy::every_batch};
  options.sync = policies[random() % 3];
  if (random() % 4 == 0) options.on_full = OnFull::overwrite;
  options.sync_interval_ms = 5;
  return options;
}

// A topic's time between two cuts.
class Life {
 public:
  Life(const std::string& data, const std::string& shm, const TopicOptions& options, SimulatedQueue::Order order,
       std::uint64_t seed)
      : where_{data, shm}, options_(options), order_(order), random_(seed) {
    std::filesystem::create_directory(shm);
    disk_.emplace(data);
  }
  ~Life() { stop(); }
  Life(const Life&) = delete;
  Life& operator=(const Life&) = delete;

  // `before`: what is known to be in the log, `promised` of it.
  void begin(const Records& before, const Mark& promised) {
    records_ = before;
    mark_ = promised;
    note();
    config_ = create_topic(where_, "t", options_);
    mark_.topic = true;
    note();
    open();
    find_recovered();
  }
  void work(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      act();
      note();
    }
  }
  // From now on the disk fails every now and then, for a while each time.
  void make_unreliable() { unreliable_ = true; }
  // The disk is well again: everything gets there, and the persister says that all is well.
  void expect_well() {
    heal();
    const PersisterArea& area = ring_->control().persister;
    const bool all = drained();
    CAPTURE(area.state.load(), area.error.load(), area.durable_end.load(), area.written_end.load(),
            ring_->control().claims.reserved_end.load(), persister_->holds_role(), persister_->under_way());
    REQUIRE(all);
    for (int i = 0; i < 10'000 && area.state.load() != PersisterState::working; ++i) {
      append(1);
      persister_->ask_sync();
      step();
      poll(1);
    }
    CHECK(area.state.load() == PersisterState::working);
    CHECK(area.error.load() == 0);
    note();
  }
  void stop() {
    heal();
    producer_.reset();
    if (queue_) queue_->abandon();
    persister_.reset();
    cursor_.reset();
    buffers_.reset();
    queue_.reset();
    ring_.reset();
  }

  const SimulatedDisk& disk() const { return *disk_; }
  const Records& records() const { return records_; }
  const Records& lost() const { return lost_; }
  // What was promised before a cut; and, later, what more may have been done by then.
  Mark before(std::size_t cut) const {
    Mark found = marks_.front();
    for (const Mark& mark : marks_) {
      if (mark.changes <= cut) found = mark;
    }
    return found;
  }
  Mark after(std::size_t cut) const {
    for (const Mark& mark : marks_) {
      if (mark.changes > cut) return mark;
    }
    return marks_.back();
  }
  std::size_t failures() const { return failures_; }
  void close_disk() { disk::watch(nullptr); }

 private:
  PartitionPaths paths() const { return PartitionPaths::of(where_.shm, where_.data, *config_, 0); }
  void note() {
    if (ring_) {
      const Control& control = ring_->control();
      mark_.durable = std::max(mark_.durable, control.persister.durable_end.load());
      mark_.reserved = std::max(mark_.reserved, control.claims.reserved_end.load());
      mark_.retained = std::max(mark_.retained, control.persister.retained_begin.load());
    }
    mark_.changes = disk_->changes();
    marks_.push_back(mark_);
  }
  void open() {
    ring_ = open_for_writing(paths(), *config_, 0);
    mark_.reserved = std::max(mark_.reserved, ring_->begin());
    start_persister();
  }
  // What recovery found it has synced, and the rest is lost.
  void find_recovered() {
    const OnDisk found = read_disk(paths().data, *config_, nullptr);
    mark_.durable = std::max(mark_.durable, std::min(found.end, ring_->begin()));
    Records kept;
    for (const Offset offset : found.offsets) kept[offset] = records_.at(offset);
    for (const auto& [offset, payload] : records_) {
      if (!kept.contains(offset)) lost_[offset] = payload;
    }
    records_ = std::move(kept);
    note();
  }
  // All processes die and the ring goes with them, but the host lives: what the disk has not got yet it may still lose.
  void lose_ring() {
    stop();
    std::filesystem::remove_all(where_.shm + "/t");
    open();
    find_recovered();
  }
  void start_persister() {
    queue_ = std::make_unique<SimulatedQueue>(*disk_, order_, random_);
    buffers_ = std::make_unique<IoBuffers>(*queue_);
    persister_ =
        std::make_unique<PartitionPersister>(ring_, PartitionPersister::Shared{*queue_, *buffers_, events_}, false);
  }
  void step() {
    note();
    now_ns_ += random_() % 1'000'000;
    if (!persister_->holds_role()) persister_->take_role(now_ns_);
    persister_->step(now_ns_);
    note();
    poll(random_() % 3 == 0 ? 1 : 0);
    note();
  }
  void poll(std::size_t count) {
    queue_->poll(count, Deadline::after_ns(count == 0 ? 0 : 1'000'000'000), [&](const IoQueue::Completion& c) {
      IoOperation& operation = IoOperation::of(c.tag);
      operation.owner->io_completed(operation, c.error);
    });
  }
  void add(Offset offset, std::string text) { records_[offset] = std::move(text); }
  void append(std::size_t count) {
    if (!producer_) {
      heal();
      producer_.emplace(ring_, ProducerOptions{.partition = 0, .deadline_ns = 0});
    }
    std::vector<std::string> texts;
    std::vector<RecordInput> inputs;
    const std::size_t bytes = random_() % (random_() % 8 == 0 ? 9000 : 700);
    for (std::size_t i = 0; i < count; ++i) texts.push_back(numbered(random_() % 1'000'000, bytes));
    for (const std::string& text : texts) inputs.push_back({bytes_of(text), {}});
    const Appended appended = producer_->append_batch(inputs);
    if (!appended) return step();
    Offset at = appended.position.offset;
    for (std::string& text : texts) {
      const Offset next = at + record_bytes(text.size());
      add(at, std::move(text));
      at = next;
    }
  }
  // Errors on calls and completions, short writes, writes that land in part.
  void fall_ill() {
    const std::uint64_t rate = 2 + random_() % 10;
    const auto strike = [this, rate] {
      const int errors[] = {EIO, ENOSPC, EDQUOT};
      if (random_() % rate != 0) return 0;
      ++failures_;
      return errors[random_() % 3];
    };
    disk_->fail = [this, strike](disk::Step& step) {
      const int error = strike();
      const bool in_part = error != 0 && step.call == disk::Call::write && step.bytes > 1 && random_() % 2 == 0;
      if (in_part) step.bytes = 1 + random_() % (step.bytes - 1);
      return in_part ? 0 : error;
    };
    if (queue_) queue_->fail = [strike](bool) { return strike(); };
  }
  void heal() {
    disk_->fail = nullptr;
    if (queue_) queue_->fail = nullptr;
  }
  void commit_cursor() try {
    if (records_.empty()) return;
    if (!cursor_) {
      cursor_ = CursorFile::open(cursors_directory(where_, *config_), "c", 1, config_->id, Sharing::owner);
    }
    const Offset offset = std::next(records_.begin(), static_cast<std::ptrdiff_t>(random_() % records_.size()))->first;
    mark_.cursor_wanted = std::max(mark_.cursor_wanted, offset);
    if (cursor_->commit(std::span(&offset, 1)) == 0) mark_.cursor = std::max(mark_.cursor, offset);
  } catch (const Error&) {
    REQUIRE(disk_->fail);  // it could not be made
  }
  bool drained() {
    heal();
    producer_.reset();  // pads what it had claimed ahead
    const Offset end = ring_->control().claims.reserved_end.load();
    for (int i = 0; i < 10'000 && ring_->control().persister.durable_end.load() < end; ++i) {
      persister_->ask_sync();
      step();
      poll(1);
    }
    return ring_->control().persister.durable_end.load() >= end;
  }
  void stop_cleanly() {
    REQUIRE(drained());
    persister_->release();
    for (int i = 0; i < 1000 && persister_->holds_role(); ++i) step_released();
    REQUIRE_FALSE(persister_->holds_role());
    note();
    CHECK(seal_if_last(*ring_));
    const bool reboot = random_() % 2 == 0;
    stop();
    if (reboot) std::filesystem::remove_all(where_.shm + "/t");
    open();
  }
  void step_released() {
    poll(1);
    now_ns_ += 1'000'000;
    persister_->step(now_ns_);
  }
  void act() {
    switch (random_() % 40) {
      case 0: persister_->ask_sync(); break;
      case 1: commit_cursor(); break;
      case 2:
        if (random_() % 4 != 0) break;
        heal();
        queue_->abandon();
        persister_.reset();
        buffers_.reset();
        queue_.reset();
        start_persister();
        break;
      case 3:
        if (random_() % 6 == 0) stop_cleanly();
        break;
      case 4:
        for (std::uint64_t i = random_() % 40; i > 0; --i) append(1 + random_() % 12);
        break;
      case 5:
        // After a sync that failed only the ring knows what has to be written again.
        if (!unreliable_ && random_() % 6 == 0) lose_ring();
        break;
      case 6:
        if (unreliable_) fall_ill();
        break;
      case 7:
      case 8: heal(); break;
      default:
        if (random_() % 3 == 0)
          step();
        else
          append(1);
    }
  }

  Directories where_;
  TopicOptions options_;
  SimulatedQueue::Order order_;
  std::mt19937_64 random_;
  std::optional<SimulatedDisk> disk_;
  std::optional<TopicConfig> config_;
  std::shared_ptr<Partition> ring_;
  std::unique_ptr<SimulatedQueue> queue_;
  std::unique_ptr<IoBuffers> buffers_;
  std::vector<PersisterEvent> events_;
  std::unique_ptr<PartitionPersister> persister_;
  std::optional<ExclusiveProducer> producer_;
  std::unique_ptr<CursorFile> cursor_;
  std::uint64_t now_ns_ = monotonic_ns();
  bool unreliable_ = false;
  std::size_t failures_ = 0;
  Records records_, lost_;
  Mark mark_;
  std::vector<Mark> marks_;
};

// What of the records was committed by then, and some that were appended later in what had been handed out.
Records until(Records records, Offset reserved_end) {
  records.erase(records.lower_bound(reserved_end), records.end());
  return records;
}

// What a reader finds must be what was committed, all that was durable, and every hole told. Of `lost` it need not find
// anything: an earlier recovery did not.
void check_log(const std::string& data, const std::string& shm, const TopicOptions& options, const Records& records,
               const Records& lost, const Mark& before, const Mark& after) {
  const Directories where{data, shm};
  std::filesystem::create_directory(shm);
  if (before.topic) REQUIRE_NOTHROW(read_topic(where, "t"));
  const TopicConfig config = create_topic(where, "t", options);
  const PartitionPaths paths = PartitionPaths::of(shm, data, config, 0);
  const auto ring = open_for_writing(paths, config, 0);
  CHECK(ring->begin() >= before.reserved);
  const OnDisk disk = read_disk(paths.data, config, ring);
  const VerifyResult verified = verify_partition(paths.data, config, 0, ring);
  std::string damage;
  for (const LogDamage& d : verified.damage) {
    damage += std::to_string(d.from) + "-" + std::to_string(d.to) + " " + d.what + "; ";
  }
  CAPTURE(damage);
  Records read;
  for (std::size_t i = 0; i < disk.offsets.size(); ++i) read[disk.offsets[i]] = disk.payloads[i];
  for (const auto& [offset, payload] : read) {
    const auto known = records.find(offset);
    if (known == records.end()) FAIL("a record at " << offset << " that nobody committed");
    if (known->second != payload) FAIL("another record at " << offset << " than was committed");
  }
  std::string gaps;
  for (const OnDisk::Gap& gap : disk.gaps) {
    gaps += std::to_string(gap.from) + "-" + std::to_string(gap.to) + " " + std::string(name_of(gap.cause)) + "; ";
  }
  CAPTURE(before.durable, before.retained, after.retained, ring->begin(), disk.end, read.size(), gaps);
  const auto cause = [&](Offset offset) {
    for (const OnDisk::Gap& gap : disk.gaps) {
      if (gap.from <= offset && offset < gap.to) return gap.cause;
    }
    return GapCause::none;
  };
  const auto told = [&](Offset offset) { return cause(offset) != GapCause::none; };
  for (const auto& [offset, payload] : records) {
    if (read.contains(offset)) {
      if (told(offset)) FAIL("the record at " << offset << " is there and in a gap");
      continue;
    }
    const Offset end = offset + record_bytes(payload.size());
    const bool excused = lost.contains(offset) || cause(offset) == GapCause::overwritten;
    if (offset >= after.retained && end <= before.durable && !excused) {
      FAIL("the record at " << offset << " was durable, and is gone");
    }
    const bool beyond = offset >= disk.end;
    if (!read.empty() && offset > read.begin()->first && !beyond && !told(offset)) {
      FAIL("the record at " << offset << " is missing, and nobody is told");
    }
  }
  CHECK(std::none_of(disk.gaps.begin(), disk.gaps.end(),
                     [](const OnDisk::Gap& g) { return g.cause == GapCause::damaged; }));
  CHECK(verified.damage.empty());
  CHECK(verified.problems == std::vector<std::string>{});
  const std::vector<std::string> cursors = CursorFile::list(cursors_directory(where, config));
  const bool found = std::find(cursors.begin(), cursors.end(), "c") != cursors.end();
  if (before.cursor > 0) REQUIRE(found);
  if (!found) return;
  const CursorState cursor = CursorFile::peek(cursors_directory(where, config), "c", 1, config.id);
  CHECK(cursor.offsets[0].value_or(0) >= before.cursor);
  CHECK(cursor.offsets[0].value_or(0) <= after.cursor_wanted);
}

// One life, and `cuts` of it. Returns how often the disk failed.
std::size_t cut_and_recover(const TopicOptions& options, std::uint64_t seed, std::size_t cuts, bool unreliable) {
  const auto order = seed % 2 == 0 ? SimulatedQueue::Order::any : SimulatedQueue::Order::in_turn;
  std::mt19937_64 random(seed);
  const auto on_full = static_cast<int>(options.on_full.value_or(OnFull::block));
  const auto sync = static_cast<int>(*options.sync);
  CAPTURE(seed, on_full, sync, options.retain.value_or(0), *options.ring, *options.segment);
  const Scratch scratch;
  std::filesystem::create_directory(scratch / "data");
  Life first(scratch / "data", scratch / "shm", options, order, seed);
  first.begin({}, {});
  if (unreliable) first.make_unreliable();
  first.work(300 + random() % 1200);
  if (unreliable) first.expect_well();
  first.stop();
  first.close_disk();
  for (std::size_t i = 0; i < cuts; ++i) {
    const std::size_t cut = random() % (first.disk().changes() + 1);
    const std::uint64_t chance = random();
    CAPTURE(i, cut, chance, first.disk().changes(), first.disk().story(cut));
    std::mt19937_64 what(chance);
    const Mark before = first.before(cut), after = first.after(cut);
    first.disk().cut(cut, what, scratch / "cut");
    std::filesystem::copy(scratch / "cut", scratch / "again", std::filesystem::copy_options::recursive);
    Records so_far = first.records();
    so_far.insert(first.lost().begin(), first.lost().end());
    so_far = until(std::move(so_far), before.reserved);
    check_log(scratch / "cut", scratch / "cut-shm", options, so_far, first.lost(), before, after);

    Life second(scratch / "again", scratch / "again-shm", options, order, chance);
    second.begin(so_far, [&] {
      Mark promised = before;
      promised.retained = after.retained;
      promised.cursor_wanted = after.cursor_wanted;
      return promised;
    }());
    second.work(what() % 200);
    second.stop();
    second.close_disk();
    const std::size_t next_cut = what() % (second.disk().changes() + 1);
    CAPTURE(next_cut, second.disk().changes(), second.disk().story(next_cut));
    second.disk().cut(next_cut, what, scratch / "second");
    const Mark next_before = second.before(next_cut), next_after = second.after(next_cut);
    Records all = so_far, lost = so_far;
    std::erase_if(lost, [&](const auto& record) { return second.records().contains(record.first); });
    lost.insert(second.lost().begin(), second.lost().end());
    all.insert(lost.begin(), lost.end());
    all.insert(second.records().begin(), second.records().end());
    check_log(scratch / "second", scratch / "second-shm", options, until(all, next_before.reserved), lost, next_before,
              next_after);
    for (const char* name : {"cut", "cut-shm", "again", "again-shm", "second", "second-shm"}) {
      std::filesystem::remove_all(scratch / name);
    }
  }
  return first.failures();
}

std::uint64_t lives() { return 40 / spillway_test::tried_less(); }

}  // namespace

TEST_CASE("power is cut at any change of the disk, and again while the log recovers and lives on") {
  const std::uint64_t seed = GENERATE(range<std::uint64_t>(1, lives() + 1)) + first_seed();
  std::mt19937_64 random(seed);
  CHECK(cut_and_recover(options_of(random), seed, 25, false) == 0);
}

// Until a failed sync is made good nothing of what it was to cover is promised; the ring is where it is written from again.
TEST_CASE("a disk that fails every now and then is retried from the ring, and then loses power") {
  const std::uint64_t seed = GENERATE(range<std::uint64_t>(1, lives() + 1)) + first_seed();
  std::mt19937_64 random(seed);
  TopicOptions options = options_of(random);
  options.on_full = OnFull::block;  // elsewhere what a failed sync was to cover may be lost, and waits are told
  if (options.sync == SyncPolicy::none) options.sync = SyncPolicy::interval;
  static std::size_t failures = 0;
  failures += cut_and_recover(options, seed, 10, true);
  if (seed == lives() + first_seed()) CHECK(failures >= lives() / 4);
}

}  // namespace spillway::test
