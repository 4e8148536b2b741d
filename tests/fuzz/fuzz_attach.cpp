// The files of a ring that somebody else may write: ring, control and consumers. They are attached to by readers,
// producers and an observer of `stat`, and changed while they are mapped, between any two calls of any of these.
//
// Asserted: the only exception is an Error that says what is wrong; reading ends; what is delivered is on the records'
// grid, within the log, no larger than a claim, and in order; a producer's claims are on the grid, in one lap, within the
// log, and an exclusive one's in order; what was appended to a ring that nobody damaged since is read back. Only
// truncating a mapped file is left out, which is a SIGBUS for everybody who maps it (ARCHITECTURE.md, limits).
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>

#include "fuzz_support.h"
#include "spillway/core/checksum.h"
#include "spillway/core/descriptor.h"
#include "spillway/core/error.h"
#include "spillway/ipc/exclusive_producer.h"
#include "spillway/ipc/partition_reader.h"
#include "spillway/ipc/repair.h"
#include "spillway/ipc/shared_producer.h"
#include "spillway/persist/horizon_file.h"
#include "spillway/persist/segment_history.h"
#include "spillway/persist/topic_stat.h"

using namespace spillway;
using namespace spillway_fuzz;

namespace {

constexpr std::uint64_t kRing = kRingBytesMin;
constexpr ProducerOptions kAtOnce{.partition = 0, .deadline_ns = 0};

// A partition's files as their last users left them.
struct Scene {
  TopicConfig config;
  Directories where;
  PartitionPaths paths;
  std::array<std::vector<std::byte>, 3> images;  // ring, control, consumers
  std::array<std::string, 3> names;
};

void settle_time(std::span<std::byte> image) {
  auto identity = load<Identity>(image, 0);
  identity.born_ns = identity.born_uptime_ns = 0;  // an input must come to the same another day
  identity.checksum = xxh3(std::as_bytes(std::span(&identity, 1)).first(offsetof(Identity, checksum)));
  store(image, 0, identity);
}

template <class Producer>
void fill(Producer& producer, unsigned records) {
  for (unsigned i = 0; i < records; ++i) {
    const std::string payload(8 + i * 37 % 900, static_cast<char>('a' + i % 26));
    SPILLWAY_ASSERT(producer.append(bytes_of(payload)).status == AppendStatus::ok);
    if (i % 16 == 0) {
      const std::array<RecordInput, 3> batch = {RecordInput{bytes_of("x"), RecordOptions::keyed("k")},
                                                RecordInput{bytes_of("y")}, RecordInput{bytes_of("")}};
      SPILLWAY_ASSERT(producer.append_batch(batch).status == AppendStatus::ok);
    }
  }
}

// What a persister would have done.
void settle_watermarks(Partition& partition, Offset to) {
  PersisterArea& area = partition.control().persister;
  for (auto* end : {&area.durable_end, &area.written_end, &area.reclaimable_end}) {
    end->store(align_down(to, kBlock));
  }
}

// The ring's last users: 0 and 2 exclusive, 1 and 3 shared, of whom one died with a claim open; 0 and 1 ephemeral.
void use(const std::shared_ptr<Partition>& partition, unsigned which) {
  const unsigned records = 120;  // about five sixths of a lap
  for (unsigned lap = 0; lap < (which < 2 ? 2U : 1U); ++lap) {
    if (which % 2 == 0) {
      ExclusiveProducer producer(partition, kAtOnce);
      fill(producer, records);
    } else {
      SharedProducer dead(partition, kAtOnce);
      fill(dead, records - 20);
      SharedProducer living(partition, kAtOnce);
      SharedClaim open = dead.claim(100);
      fill(living, 20);
      dead.close();
    }
    if (which >= 2) settle_watermarks(*partition, kRing / 2);
  }
}

Scene make_scene(unsigned which) {
  Scene scene;
  TopicOptions options;
  options.ring = kRing;
  options.ephemeral = which < 2;
  if (which >= 2) options.segment = kRing;
  options.on_full = which == 2 ? OnFull::overwrite : which == 3 ? OnFull::drop_new : OnFull::block;
  scene.config = make_topic_config("t" + std::to_string(which), options);
  scene.config.id = 0x1234'5678'9ABC'DEF1U + which;
  scene.where = {scratch() + "/data", scratch() + "/shm"};
  scene.paths = PartitionPaths::of(scene.where.shm, scene.where.data, scene.config, 0);
  Partition::create_locks(scene.paths, Sharing::owner);
  Partition::create_files(scene.paths, scene.config, 0, {7, 0, 0, which < 2 ? UINT64_MAX : kGiB});
  if (which >= 2) {  // else `stat` would not believe that the ring is the log's
    HorizonFile horizon = HorizonFile::open(horizon_path(scene.paths.data), scene.config.id, 0, Sharing::owner);
    SPILLWAY_ASSERT(horizon.write({7, 0, kGiB, 0, GapCause::none, false}) == 0);
  }
  use(Partition::attach(scene.paths, scene.config, 0, Access::read_write), which);
  scene.names = {scene.paths.ring, scene.paths.control, scene.paths.consumers};
  for (std::size_t i = 0; i < 3; ++i) {
    scene.images[i] = read_file(scene.names[i], kMiB).value();
    settle_time(scene.images[i]);
  }
  return scene;
}

const Scene& scene(unsigned which) {
  static const auto scenes = [] {
    ::setenv("SPILLWAY_IO", "pwrite", 1);  // each iteration makes readers anew
    std::vector<Scene> made;
    for (unsigned i = 0; i < 4; ++i) made.push_back(make_scene(i));
    return made;
  }();
  return scenes[which];
}

// False: what it does was refused.
bool attempt(const std::function<void()>& what) {
  try {
    what();
    return true;
  } catch (const Error& error) {
    SPILLWAY_ASSERT(error.code() == Code::corrupt || error.code() == Code::unsupported ||
                    error.code() == Code::ring_stale || error.code() == Code::busy || error.code() == Code::no_slot);
    return false;
  }
}

// One change of a file, whether it is mapped or not, as whoever may write it could make it.
class Vandal {
 public:
  explicit Vandal(const Scene& s) : scene_(s), mix_(s.config.salt(0)), images_(s.images) {}

  // Returns which file it was.
  std::size_t strike(Source& source) {
    const std::uint8_t what = source.byte() % 8;
    const std::size_t file = what < 3 ? what : what == 3 ? 0 : what == 4 ? 2 : 1;
    const std::span<std::byte> image = images_[file];
    if (what < 3) {
      edit(source, image);
    } else if (what == 3) {
      plant_record(source, image);
    } else if (what == 4) {
      store(image, 256 + source.byte() * sizeof(std::uint64_t) * 16, source.word());
    } else if (what == 5) {
      const std::size_t slot = offsetof(Control, slots) + source.byte() % 4 * sizeof(ProducerSlot);
      store(image, slot + source.byte() % 4 * sizeof(std::uint64_t), source.word());
    } else {
      static constexpr std::array<std::size_t, 5> kPlaces = {offsetof(Control, claims), offsetof(Control, commits),
                                                             offsetof(Control, notices), offsetof(Control, persister),
                                                             offsetof(Control, boundaries)};
      const std::uint8_t place = source.byte();
      const std::size_t field = place < 128 ? 0 : place / 8 % 16 * sizeof(std::uint64_t);
      store(image, kPlaces[place % kPlaces.size()] + field, source.word());
    }
    return file;
  }
  // The same to a file as it is now.
  void strike_now(Source& source) {
    look();
    const std::size_t file = strike(source);
    put_file(scene_.names[file], images_[file]);
  }
  void mend() {
    for (auto& image : images_) {
      auto identity = load<Identity>(image, 0);
      identity.checksum = xxh3(std::as_bytes(std::span(&identity, 1)).first(offsetof(Identity, checksum)));
      store(std::span(image), 0, identity);
    }
  }
  void put() const {
    for (std::size_t i = 0; i < 3; ++i) put_file(scene_.names[i], images_[i]);
  }

 private:
  void look() {
    for (std::size_t i = 0; i < 3; ++i) {
      const FileDescriptor fd = open_file(scene_.names[i], O_RDONLY);
      SPILLWAY_ASSERT(read_at(fd.get(), images_[i].data(), images_[i].size(), 0) == 0);
    }
  }

  void plant_record(Source& source, std::span<std::byte> image) const {
    const Offset at = source.number<std::uint16_t>() * std::uint64_t{kRecordAlign} % (2 * kRing);
    RecordMeta meta;
    const std::uint8_t kind = source.byte();
    meta.kind = kind < 200 ? static_cast<RecordKind>(1 + kind % 3) : static_cast<RecordKind>(kind);
    meta.flags = source.byte();
    meta.key_bytes = source.number<std::uint16_t>();
    meta.length = static_cast<std::uint32_t>(source.word());
    store(image, kRingHeaderBytes + at % kRing, mix_.word(at));
    store(image, kRingHeaderBytes + at % kRing + 8, meta.pack());
  }

  const Scene& scene_;
  CommitMix mix_;
  std::array<std::vector<std::byte>, 3> images_;
};

// A reader and what it was told last.
class Follower {
 public:
  Follower(const Scene& s, std::uint8_t how) {
    const Access access = (how & 1) != 0 ? Access::read_write : Access::read_only;
    const auto partition = Partition::attach(s.paths, s.config, 0, access);
    ReaderSource source{partition, nullptr, {}};
    if (!s.config.ephemeral) {
      source.history = std::make_unique<SegmentHistory>(s.paths.data, s.config, 0, partition, FileIo::buffered);
    }
    reader_.emplace(0, std::move(source), nullptr, (how & 2) != 0 ? ReadUpTo::durable : ReadUpTo::committed);
    if ((how & 4) != 0) reader_->register_slot("fuzz", (how & 8) != 0);
  }

  void seek(Source& source) {
    next_ = 0;
    switch (source.byte() % 4) {
      case 0: return reader_->start_earliest();
      case 1: return reader_->start_latest();
      case 2: return reader_->start_at_boundary(source.word());
      default: {
        const Offset wanted = source.word();
        if (reader_->start_at(wanted) && !reader_->gap_pending()) SPILLWAY_ASSERT(wanted <= kOffsetEnd + kRing);
      }
    }
  }

  void poll(std::size_t most) {
    std::size_t count = 0;
    const ReadStop stop = reader_->read(
        [&](const Record& record) {
          check(record);
          return Flow::go_on;
        },
        most, count);
    reader_->publish();
    SPILLWAY_ASSERT(count <= most && (stop != ReadStop::full || count == most));
    if (stop == ReadStop::gap) {
      SPILLWAY_ASSERT(reader_->gap().to >= reader_->gap().from && reader_->gap_pending());
      reader_->skip_gap();
      next_ = 0;  // a ring whose watermarks went backward is rejoined where they are
    }
  }
  void ask() {
    static_cast<void>(reader_->ready());
    static_cast<void>(reader_->held_by_dead());
    static_cast<void>(reader_->end_now());
    static_cast<void>(reader_->begin_now());
  }

  // The record at a boundary, if it is there.
  std::optional<std::string> record_at(Offset offset) {
    reader_->start_at_boundary(offset);
    std::optional<std::string> found;
    std::size_t count = 0;
    reader_->read(
        [&](const Record& record) {
          if (record.offset() == offset) found = std::string(record.text());
          return Flow::stop;
        },
        1, count);
    return found;
  }

 private:
  void check(const Record& record) {
    SPILLWAY_ASSERT(record.offset() % kRecordAlign == 0 && record.offset() < kOffsetEnd);
    SPILLWAY_ASSERT(record.offset() >= next_);
    SPILLWAY_ASSERT(record.payload().size() + record.key().size() <= kRing / 4);
    SPILLWAY_ASSERT(record.has_key() || record.key().empty());
    touch(record.payload());
    touch(record.key());
    static_cast<void>(record.event_time_ns());
    static_cast<void>(record.sequence());
    static_cast<void>(record.tag());
    next_ = record.offset() + record_bytes(record.payload().size() + record.key().size());
  }

  std::optional<PartitionReader> reader_;
  Offset next_ = 0;
};

// One producer, of either kind.
class Author {
 public:
  Author(const Scene& s, bool exclusive) : scene_(s) {
    auto partition = Partition::attach(s.paths, s.config, 0, Access::read_write);
    if (exclusive) {
      exclusive_.emplace(std::move(partition), kAtOnce);
    } else {
      shared_.emplace(std::move(partition), kAtOnce);
    }
  }
  void spoilt() { spoilt_ = true; }

  void write(Source& source) {
    if (exclusive_) {
      write_with(*exclusive_, source);
    } else {
      write_with(*shared_, source);
    }
  }

 private:
  template <class Producer>
  void write_with(Producer& producer, Source& source) {
    const std::uint8_t what = source.byte();
    reserved_before_ = producer.partition()->control().claims.reserved_end.load();
    const std::string payload(source.number<std::uint16_t>() % (kRing / 4 + 64), 'p');
    switch (what % 4) {
      case 0: return check(producer.append(bytes_of(payload)), payload);
      case 1: {
        const std::array<RecordInput, 2> batch = {RecordInput{bytes_of(payload)},
                                                  RecordInput{bytes_of("second"), RecordOptions::keyed("key")}};
        return check(producer.append_batch(batch), payload);
      }
      case 2: {
        auto claim = producer.claim(payload.size());
        if (!claim) return;
        std::copy_n(bytes_of(payload).begin(), payload.size(), claim.payload().begin());
        return check(claim.commit(), payload);
      }
      default: static_cast<void>(producer.claim(payload.size()));  // and thought better of it
    }
  }

  void check(const Appended& appended, const std::string& payload) {
    if (!appended) return;
    const Offset begin = appended.position.offset;
    SPILLWAY_ASSERT(begin % kRecordAlign == 0 && appended.end % kRecordAlign == 0 && appended.end <= kOffsetEnd);
    SPILLWAY_ASSERT(appended.end > begin && appended.end - begin <= kRing / 4 + kRecordAlign);
    SPILLWAY_ASSERT(begin / kRing == (appended.end - 1) / kRing);
    if (exclusive_ || !spoilt_) SPILLWAY_ASSERT(begin >= end_);
    if (shared_) SPILLWAY_ASSERT(reserved_before_ <= begin);  // however damaged: a claim takes what comes next
    end_ = appended.end;
    if (spoilt_) return;
    std::optional<Follower> follower;
    if (attempt([&] { follower.emplace(scene_, std::uint8_t{0}); })) {
      SPILLWAY_ASSERT(follower->record_at(begin) == payload);
    }
  }

  const Scene& scene_;
  std::optional<ExclusiveProducer> exclusive_;
  std::optional<SharedProducer> shared_;
  Offset end_ = 0;
  Offset reserved_before_ = 0;
  bool spoilt_ = false;
};

void observe(const Scene& s) {
  attempt([&] {
    PartitionObserver observer(s.where, s.config, 0);
    for (int i = 0; i < 2; ++i) {
      const PartitionStat stat = observer.look();
      SPILLWAY_ASSERT(stat.producers.size() <= kProducerSlots && stat.consumers.size() <= kConsumerSlots);
      for (const ConsumerStat& c : stat.consumers) SPILLWAY_ASSERT(c.name.size() <= kConsumerNameBytes);
      static_cast<void>(name_of(stat.mode));
      static_cast<void>(name_of(stat.persister.state));
      static_cast<void>(name_of(stat.persister.path));
    }
  });
}

void repair(const Scene& s) {
  attempt([&] {
    const auto partition = Partition::attach(s.paths, s.config, 0, Access::read_write);
    repair_all(*partition);
    static_cast<void>(advance_committed(*partition));
  });
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  Source source({data, bytes});
  const std::uint8_t how = source.byte();
  const Scene& s = scene(how & 3);
  Vandal vandal(s);
  for (unsigned strikes = source.byte() % 8; strikes > 0 && !source.empty(); --strikes) vandal.strike(source);
  if ((how & 4) != 0) vandal.mend();
  vandal.put();

  std::optional<Follower> follower;
  std::optional<Author> author;
  for (unsigned steps = 0; steps < 48 && !source.empty(); ++steps) {
    switch (source.byte() % 10) {
      case 0:
        follower.reset();
        attempt([&] { follower.emplace(s, source.byte()); });
        break;
      case 1:
        if (follower) follower->seek(source);
        break;
      case 2:
      case 3:
        if (follower) follower->poll(1U + source.byte());
        break;
      case 4:
        if (follower) follower->ask();
        break;
      case 5:
        author.reset();
        attempt([&] { author.emplace(s, source.byte() % 2 == 0 || s.config.on_full == OnFull::overwrite); });
        break;
      case 6:
      case 7:
        if (author) author->write(source);
        break;
      case 8:
        if (source.byte() % 2 == 0) {
          observe(s);
        } else if (!author) {
          repair(s);
        }
        break;
      default:
        vandal.strike_now(source);
        if (author) author->spoilt();
    }
  }
  return 0;
}
