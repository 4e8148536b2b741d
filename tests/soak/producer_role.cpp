// The producers: they append in all ways, with all deadlines, and write down what each call told them.
#include <chrono>
#include <cinttypes>
#include <cstring>
#include <optional>
#include <thread>
#include <variant>

#include "record_code.h"
#include "spillway/core/bytes.h"
#include "spillway/core/error.h"
#include "worker.h"

namespace spillway::soak {
namespace {

using std::chrono::nanoseconds;

// A lane as one producer process writes it.
class LaneWriter {
 public:
  LaneWriter(Worker& worker, Topic topic, std::size_t lane)
      : worker_(worker), topic_(std::move(topic)), lane_(lane), dice_(worker.dice()) {}

  bool open();  // false: it is somebody else's for now
  void close() noexcept { producer_ = std::monostate(); }
  void one_call();
  Offset end() const noexcept { return end_; }
  std::size_t lane() const noexcept { return lane_; }
  bool syncs_all() const { return !plan().ephemeral() && !plan().overwrites(); }
  Topic& topic() noexcept { return topic_; }

 private:
  const TopicPlan& plan() const { return worker_.plan().topic_of(lane_); }
  template <class Producer>
  void call(Producer& producer);
  template <class Producer>
  Appended append_one(Producer& producer, bool dressed);
  template <class Producer>
  Appended append_batch(Producer& producer, std::size_t count);
  template <class Producer>
  std::optional<Appended> claim_one(Producer& producer);
  template <class Producer>
  void set_some_deadline(Producer& producer);
  void note(const Appended& appended, std::size_t count);
  void refused(std::size_t count);
  void wait_for_disk(const Appended& appended);
  Identity next(std::size_t count) noexcept;
  std::size_t some_bytes();
  std::optional<std::span<const std::byte>> some_key();

  Worker& worker_;
  Topic topic_;
  std::size_t lane_;
  Dice& dice_;
  std::variant<std::monostate, SharedProducer, ExclusiveProducer> producer_;
  std::uint64_t sequence_ = 0;  // the next one
  Identity first_ = 0;          // of the call under way
  Offset end_ = 0;              // of the last claim told
  std::vector<std::byte> room_;
  std::vector<std::byte> key_room_ = std::vector<std::byte>(300);
};

bool LaneWriter::open() {
  if (!std::holds_alternative<std::monostate>(producer_)) return true;
  const LanePlan& lane = worker_.plan().lanes[lane_];
  const bool exclusive = worker_.role() == Role::exclusive_producer;
  try {
    if (exclusive) {
      producer_.emplace<ExclusiveProducer>(topic_.exclusive_producer({.partition = lane.partition}));
    } else {
      producer_.emplace<SharedProducer>(topic_.shared_producer({.partition = lane.partition}));
    }
    return true;
  } catch (const Error& e) {
    if (e.code() != Code::busy) throw;
    worker_.tell(worker_.plan().lane_name(lane_) + ": " + e.what());
    return false;
  }
}

void LaneWriter::one_call() {
  if (auto* shared = std::get_if<SharedProducer>(&producer_)) call(*shared);
  if (auto* exclusive = std::get_if<ExclusiveProducer>(&producer_)) call(*exclusive);
}

template <class Producer>
void LaneWriter::set_some_deadline(Producer& producer) {
  static constexpr std::uint64_t kDeadlines[] = {0, 100'000, 5'000'000, 300'000'000, UINT64_MAX};
  producer.set_deadline_ns(kDeadlines[dice_.below(std::size(kDeadlines))]);
}

// Mostly small ones, now and then one of an eighth of the ring.
std::size_t LaneWriter::some_bytes() { return dice_.any_magnitude(0, *plan().options.ring / 8); }

std::optional<std::span<const std::byte>> LaneWriter::some_key() {
  if (dice_.one_in(2)) return std::nullopt;
  const std::size_t bytes = dice_.any_magnitude(0, key_room_.size());
  for (std::size_t i = 0; i < bytes; ++i) key_room_[i] = static_cast<std::byte>(dice_.below(256));
  return std::span<const std::byte>(key_room_).first(bytes);
}

Identity LaneWriter::next(std::size_t count) noexcept {
  first_ = identity(worker_.number(), worker_.incarnation(), sequence_);
  sequence_ += count;
  worker_.log().attempt(lane_, sequence_);
  return first_;
}

void LaneWriter::refused(std::size_t count) {
  worker_.log().add(
      {EventKind::refused, static_cast<std::uint16_t>(count), static_cast<std::uint16_t>(lane_), 0, 0, first_});
}

void LaneWriter::note(const Appended& appended, std::size_t count) {
  switch (appended.status) {
    case AppendStatus::ok:
      if (dice_.one_in(200)) worker_.linger();
      end_ = appended.end;
      worker_.log().add({EventKind::appended, static_cast<std::uint16_t>(count), static_cast<std::uint16_t>(lane_),
                         appended.position.offset, appended.end, first_});
      return;
    case AppendStatus::full:
      if (plan().options.on_full != OnFull::block) break;
      return refused(count);
    case AppendStatus::no_horizon:  // after a clean stop, while nobody persists
      if (!plan().overwrites()) break;
      return refused(count);
    case AppendStatus::dropped:
      if (plan().options.on_full != OnFull::drop_new) break;
      return refused(count);
    default: break;
  }
  worker_.fault(worker_.plan().lane_name(lane_) + ": a producer was told " + std::string(name_of(appended.status)) +
                " (" + std::string(name_of(appended.blocked)) + ")");
}

template <class Producer>
Appended LaneWriter::append_one(Producer& producer, bool dressed) {
  room_.resize(some_bytes() + (dressed ? 0 : kPlainBytesMin));
  RecordOptions options;
  if (dressed) {
    options.key = some_key();
    options.tombstone = dice_.one_in(10);
    options.commit_time = dice_.one_in(3);
    fill_dressed(room_, next(1), lane_, options);
    const Appended appended = producer.append(room_, options);
    note(appended, 1);
    return appended;
  }
  fill_plain(room_, next(1), lane_);
  const Appended appended = producer.append(room_);
  note(appended, 1);
  return appended;
}

template <class Producer>
Appended LaneWriter::append_batch(Producer& producer, std::size_t count) {
  const std::size_t most = *plan().options.ring / 5 / count;  // a batch is at most a quarter of the ring
  const Identity first = next(count);
  std::vector<std::vector<std::byte>> payloads(count);
  std::vector<RecordInput> inputs(count);
  for (std::size_t i = 0; i < count; ++i) {
    const bool dressed = dice_.one_in(2);
    payloads[i].resize(std::min<std::size_t>(some_bytes(), most > 200 ? most - 200 : 0) +
                       (dressed ? 0 : kPlainBytesMin));
    if (dressed) {
      fill_dressed(payloads[i], first + i, lane_, inputs[i].options);
    } else {
      fill_plain(payloads[i], first + i, lane_);
    }
    inputs[i].payload = payloads[i];
  }
  const Appended appended = producer.append_batch(inputs);
  note(appended, count);
  return appended;
}

// In place: filled in two steps, with a while between them now and then; then committed, aborted, or dropped.
template <class Producer>
std::optional<Appended> LaneWriter::claim_one(Producer& producer) {
  const std::size_t bytes = some_bytes() + kPlainBytesMin;
  const Identity id = next(1);
  auto claim = producer.claim(bytes);
  if (!claim) {
    const Appended none{claim.status(), claim.blocked(), {}, 0};
    note(none, 1);
    return none;
  }
  std::memset(claim.payload().data(), 0xEE, claim.payload().size() / 2);
  if (dice_.one_in(10)) worker_.linger();
  fill_plain(claim.payload(), id, lane_);
  if (dice_.one_in(4)) {
    if (dice_.one_in(2)) claim.abort();
    refused(1);
    return std::nullopt;
  }
  const Appended appended = claim.commit();
  note(appended, 1);
  return appended;
}

void LaneWriter::wait_for_disk(const Appended& appended) {
  const nanoseconds timeout(dice_.any_magnitude(0, 200'000'000));
  const std::uint32_t partition = appended.position.partition;
  if (dice_.one_in(5)) {
    static_cast<void>(topic_.wait_written(partition, appended.end, timeout));
    return;
  }
  const Durable answer = dice_.one_in(2) ? topic_.wait_durable(partition, appended.end, timeout)
                                         : topic_.wait_durable(appended.position, timeout);
  const auto add = [&](EventKind kind) {
    worker_.log().add({kind, 0, static_cast<std::uint16_t>(lane_), appended.position.offset, appended.end, 0});
  };
  switch (answer) {
    case Durable::yes: return add(EventKind::durable);
    case Durable::lost: return add(EventKind::lost);
    case Durable::timed_out: return;
    default: worker_.fault("a wait for the disk was told " + std::string(name_of(answer)));
  }
}

template <class Producer>
void LaneWriter::call(Producer& producer) {
  if (dice_.one_in(8)) set_some_deadline(producer);
  std::optional<Appended> appended;
  switch (dice_.below(8)) {
    case 0: appended = append_batch(producer, dice_.any_magnitude(1, 64)); break;
    case 1: appended = claim_one(producer); break;
    case 2:
    case 3: appended = append_one(producer, true); break;
    default: appended = append_one(producer, false); break;
  }
  if (!appended || !*appended || plan().ephemeral()) return;
  if (dice_.one_in(plan().options.sync == SyncPolicy::every_batch ? 16 : 64)) wait_for_disk(*appended);
}

// What a clean end tells: all that was appended is on disk.
void close_all(Worker& worker, std::vector<LaneWriter>& writers) {
  for (LaneWriter& writer : writers) writer.close();
  for (LaneWriter& writer : writers) {
    const Durable closed = writer.topic().close(nanoseconds(1'000'000'000));
    worker.tell("closed " + worker.plan().lane_name(writer.lane()) + ": " + std::string(name_of(closed)));
    if (closed == Durable::yes && writer.syncs_all() && writer.end() != 0) {
      worker.log().add({EventKind::durable, 0, static_cast<std::uint16_t>(writer.lane()), 0, writer.end(), 0});
    }
  }
}

bool writes(Role role, Writers writers) {
  if (writers == Writers::either) return true;
  return (writers == Writers::exclusive) == (role == Role::exclusive_producer);
}

}  // namespace

void run_producer(Worker& worker) {
  const Domain domain = worker.places().domain(worker.role() == Role::standby_producer ? StandBy::yes : StandBy::never);
  const Plan& plan = worker.plan();
  std::vector<LaneWriter> writers;
  for (std::size_t lane = 0; lane < plan.lanes.size(); ++lane) {
    if (!writes(worker.role(), plan.lanes[lane].writers)) continue;
    writers.emplace_back(worker, domain.open(plan.topic_of(lane).name), lane);
  }
  for (LaneWriter& writer : writers) {
    if (plan.lanes[writer.lane()].writers != Writers::either) static_cast<void>(writer.open());
  }
  worker.ready();
  Dice& dice = worker.dice();
  while (!worker.stopping()) {
    if (const std::uint32_t round = worker.round(); round != 0) {
      worker.rest_in(round);
      // sleep-ok: between two looks at whether the round of rest is over.
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      continue;
    }
    LaneWriter& writer = writers[dice.below(writers.size())];
    if (!writer.open()) {
      idle(worker, 1'000'000);
      continue;
    }
    const std::uint64_t calls = dice.any_magnitude(1, 300);
    const std::uint64_t pause_ns = dice.one_in(3) ? 0 : dice.any_magnitude(1000, 500'000);
    for (std::uint64_t i = 0; i < calls && !worker.stopping() && worker.round() == 0; ++i) {
      writer.one_call();
      if (pause_ns != 0) idle(worker, pause_ns);
    }
    const bool either = plan.lanes[writer.lane()].writers == Writers::either;
    if (either || dice.one_in(20)) writer.close();
  }
  close_all(worker, writers);
}

}  // namespace spillway::soak
