// Random operations against a plain model, which finds what examples don't.
//
// Method: an std::deque holds what was appended and what each reader must still be told. Producers of both kinds, batches,
// claims that are committed or dropped, closing and attaching anew, a persister by hand that writes when it likes, readers that
// are fast, slow or seek. Whatever a reader is told must be the front of its queue, or a gap whose bounds are what it missed.
#include <deque>
#include <random>

#include "support/catch.h"
#include "support/ring_fixture.h"

namespace {

using namespace spillway_test::ring;

struct Expected {
  Offset offset;
  Offset end;
  std::string text;
};

struct Reader {
  PartitionReader reader;
  std::deque<Expected> left;
  std::size_t gaps = 0;
  bool up_to_durable = false;
};

class Model {
 public:
  Model(unsigned seed, const Start& start, const RingOptions& options)
      : random_(seed),
        options_(options),
        start_(start.at),
        place_(options, start),
        p_(place_.attach()),
        disk_(std::make_shared<HandDisk>(start.at)) {}

  void run(int steps) {
    for (int i = 0; i < 3; ++i) add_reader(i == 2 && !options_.ephemeral);
    for (int i = 0; i < steps; ++i) step();
    persist();
    for (Reader& r : readers_) {
      while (read(r, 1000)) {
      }
      CHECK(r.left.empty());
    }
    CHECK(appended_ > steps / 4);
  }

  std::size_t gaps() const {
    std::size_t sum = 0;
    for (const Reader& r : readers_) sum += r.gaps;
    return sum;
  }
  Offset end() const { return find_committed_end(*p_).end; }

 private:
  void add_reader(bool durable) {
    auto history = options_.ephemeral ? nullptr : std::make_unique<HandHistory>(disk_);
    readers_.push_back(
        {PartitionReader(0, {p_, std::move(history)}, nullptr, durable ? ReadUpTo::durable : ReadUpTo::committed),
         {},
         0,
         durable});
    readers_.back().reader.start_at_boundary(end());
  }

  std::string some_text() {
    const std::size_t most = random_() % 20 == 0 ? kRing / 4 - 100 : random_() % 3 == 0 ? 2000 : 60;
    return std::string(random_() % most, static_cast<char>('a' + random_() % 26)) + std::to_string(++counter_);
  }

  void note(Offset offset, const std::string& text) {
    ++appended_;
    for (Reader& r : readers_) r.left.push_back({offset, offset + record_bytes(text.size()), text});
  }

  template <class Producer>
  void produce(Producer& producer) {
    const std::string text = some_text();
    switch (random_() % 5) {
      case 0: {
        std::vector<std::string> texts(1 + random_() % 6, "");
        std::vector<RecordInput> batch;
        std::uint64_t total = 0;
        for (std::string& t : texts) {
          t = std::to_string(++counter_) + std::string(random_() % 900, 'B');
          batch.push_back({bytes_of(t), {}});
          total += record_bytes(t.size());
        }
        const Appended a = producer.append_batch(batch);
        if (!settled(a)) return;
        CHECK(a.end == a.position.offset + total);
        Offset at = a.position.offset;
        for (const std::string& t : texts) {
          note(at, t);
          at += record_bytes(t.size());
        }
        return;
      }
      case 1: {
        auto claim = producer.claim(text.size());
        if (!claim) return static_cast<void>(settled({claim.status(), claim.blocked(), {}, 0}));
        std::memcpy(claim.payload().data(), text.data(), text.size());
        if (random_() % 3 == 0) return;  // dropped: padding
        const Appended a = claim.commit();
        REQUIRE(a);
        return note(a.position.offset, text);
      }
      default: {
        const Appended a = producer.append(text);
        if (settled(a)) note(a.position.offset, text);
      }
    }
  }

  // Whether it was appended; if not, the reason must fit the policy, and then the disk catches up.
  bool settled(const Appended& a) {
    if (a) return true;
    CHECK_FALSE(options_.ephemeral);
    CHECK(a.status == (options_.on_full == OnFull::drop_new ? AppendStatus::dropped : AppendStatus::full));
    CHECK(p_->control().claims.reserved_end.load() + kRing / 2 >
          p_->control().persister.reclaimable_end.load() + kRing);  // it really was full
    persist();
    return false;
  }

  void persist() {
    if (!options_.ephemeral) disk_->persist(*p_);
  }

  bool read(Reader& r, std::size_t most) {
    std::size_t count = 0;
    bool right = true;
    const ReadStop stop = r.reader.read(
        [&](const Record& record) {
          right = right && !r.left.empty() && r.left.front().offset == record.offset() &&
                  r.left.front().text == record.text();
          if (!r.left.empty()) r.left.pop_front();
          return Flow::go_on;
        },
        most, count);
    CHECK(right);
    if (stop == ReadStop::gap) {
      const Gap gap = r.reader.gap();
      ++r.gaps;
      CHECK(options_.ephemeral);
      CHECK(gap.from <= gap.to);
      if (!r.left.empty()) CHECK(gap.from <= r.left.front().offset);
      while (!r.left.empty() && r.left.front().end <= gap.to) r.left.pop_front();
      if (!r.left.empty()) CHECK(r.left.front().offset >= gap.to);
      r.reader.skip_gap();
      return true;
    }
    CHECK((stop == ReadStop::caught_up || stop == ReadStop::full));
    if (r.up_to_durable) CHECK(r.reader.offset() <= std::max(disk_->end(), start_));
    return stop == ReadStop::full;
  }

  void step() {
    switch (random_() % 12) {
      case 0:
        exclusive_.reset();
        shared_.clear();
        if (random_() % 2 == 0) {
          exclusive_ = std::make_unique<ExclusiveProducer>(p_, ProducerOptions{.deadline_ns = 0});
        } else {
          for (int i = 0; i < 3; ++i) {
            shared_.push_back(std::make_unique<SharedProducer>(p_, ProducerOptions{.deadline_ns = 0}));
          }
        }
        return;
      case 1: return persist();
      case 2: static_cast<void>(read(readers_[0], 100)); return;
      case 3: static_cast<void>(read(readers_[random_() % readers_.size()], random_() % 30)); return;
      default:
        if (exclusive_) {
          produce(*exclusive_);
        } else if (!shared_.empty()) {
          produce(*shared_[random_() % shared_.size()]);
        }
    }
  }

  std::mt19937 random_;
  RingOptions options_;
  Offset start_;
  RingPlace place_;
  std::shared_ptr<Partition> p_;
  std::shared_ptr<HandDisk> disk_;
  std::vector<Reader> readers_;
  std::unique_ptr<ExclusiveProducer> exclusive_;
  std::vector<std::unique_ptr<SharedProducer>> shared_;
  int counter_ = 0;
  int appended_ = 0;
};

TEST_CASE("random operations: a persistent log loses nothing and tells no gap, whoever is slow") {
  for (const Start& start : starts()) {
    for (const OnFull on_full : {OnFull::block, OnFull::drop_new}) {
      const unsigned seed = std::random_device{}();
      INFO(start.name << ", " << name_of(on_full) << ", seed " << seed);
      Model model(seed, start, {.on_full = on_full, .ephemeral = false});
      model.run(1500);
      CHECK(model.gaps() == 0);
      CHECK(model.end() > start.at + 2 * kRing);  // several laps, or the scene is not what it should be
    }
  }
}

TEST_CASE("random operations: an ephemeral log tells exactly what each reader missed") {
  for (const Start& start : starts()) {
    const unsigned seed = std::random_device{}();
    INFO(start.name << ", seed " << seed);
    Model model(seed, start, {});
    model.run(2500);
    CHECK(model.gaps() > 0);
    CHECK(model.end() > start.at + 2 * kRing);
  }
}

}  // namespace
