// The consumers of every kind: they check each record and its place as they read, and write down what they were given.
#include <grp.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <deque>
#include <thread>

#include "record_code.h"
#include "spillway/core/error.h"
#include "worker.h"

namespace spillway::soak {
namespace {

using std::chrono::nanoseconds;

// One Consumer, and what must hold for each of the lanes that it reads.
class Stream {
 public:
  Stream(Worker& worker, std::uint16_t number, const Topic& topic, const ConsumerOptions& options);

  PollResult poll(nanoseconds timeout);
  bool has_cursor() const noexcept { return cursor_; }
  void ack();
  Consumer& consumer() noexcept { return consumer_; }
  const std::vector<std::size_t>& lanes() const noexcept { return lanes_; }
  Offset position(std::size_t lane) const { return consumer_.offset(worker_.plan().lanes[lane].partition); }

 private:
  struct Place {
    Offset least = 0;  // no record or gap may begin before
    Offset told = 0;   // the last `at`
    std::optional<Identity> batch_next;
    std::array<Identity, kWorkersMax> last{};
    std::array<bool, kWorkersMax> any{};
  };
  void take(const Record& record);
  void take(const Gap& gap);
  void add(EventKind kind, std::size_t lane, std::uint64_t a, std::uint64_t b = 0, std::uint64_t c = 0);
  [[noreturn]] void fault(std::size_t lane, Offset offset, const std::string& what) const;

  Worker& worker_;
  std::uint16_t number_;
  bool cursor_;
  std::vector<std::size_t> by_partition_;
  std::vector<std::size_t> lanes_;
  std::array<Place, kLanesMax> places_{};
  Consumer consumer_;
};

Stream::Stream(Worker& worker, std::uint16_t number, const Topic& topic, const ConsumerOptions& options)
    : worker_(worker), number_(number), cursor_(!options.cursor.empty()), consumer_(topic.consumer(options)) {
  for (std::uint32_t p = 0; p < topic.config().partitions; ++p) {
    by_partition_.push_back(worker.plan().lane_of(topic.name(), p));
    if (!options.partition || *options.partition == p) lanes_.push_back(by_partition_.back());
  }
  const std::uint64_t flags = (options.read_up_to == ReadUpTo::durable ? std::uint64_t{kReadsDurable} : 0) |
                              (options.gating ? std::uint64_t{kGating} : 0) | (cursor_ ? std::uint64_t{kCursor} : 0);
  for (const std::size_t lane : lanes_) {
    places_[lane].least = places_[lane].told = position(lane);
    add(EventKind::began, lane, position(lane), flags);
  }
}

void Stream::add(EventKind kind, std::size_t lane, std::uint64_t a, std::uint64_t b, std::uint64_t c) {
  worker_.log().add({kind, number_, static_cast<std::uint16_t>(lane), a, b, c});
}

void Stream::fault(std::size_t lane, Offset offset, const std::string& what) const {
  worker_.fault("stream " + std::to_string(number_) + " of " + worker_.plan().lane_name(lane) + " at offset " +
                std::to_string(offset) + ": " + what);
}

void Stream::take(const Record& record) {
  const std::size_t lane = by_partition_.at(record.partition());
  Place& place = places_[lane];
  const Offset offset = record.offset();
  const auto id = check(record, lane);
  if (!id || worker_of(*id) >= kWorkersMax) {
    fault(lane, offset, "a record of " + std::to_string(record.payload().size()) + " bytes that nobody sent");
  }
  if (offset < place.least) fault(lane, offset, "a record before " + std::to_string(place.least));
  if (place.batch_next && *place.batch_next != *id) {
    fault(lane, offset, text_of(*id) + " in the middle of a batch, where " + text_of(*place.batch_next) + " was due");
  }
  const std::size_t sender = worker_of(*id);
  if (place.any[sender] && *id <= place.last[sender]) {
    fault(lane, offset, text_of(*id) + " behind " + text_of(place.last[sender]));
  }
  place.any[sender] = true;
  place.last[sender] = *id;
  place.batch_next = record.more_in_batch() ? std::optional(*id + 1) : std::nullopt;
  place.least = offset + record_bytes(record.payload().size() + record.key().size());
  add(EventKind::record, lane, offset, *id);
}

void Stream::take(const Gap& gap) {
  const std::size_t lane = by_partition_.at(gap.partition);
  Place& place = places_[lane];
  worker_.tell("stream " + std::to_string(number_) + " of " + worker_.plan().lane_name(lane) + ": gap " +
               std::to_string(gap.from) + " to " + std::to_string(gap.to) + ", " + std::string(name_of(gap.cause)));
  if (gap.from < place.least || gap.to <= gap.from) {
    fault(lane, gap.from, "a gap to " + std::to_string(gap.to) + ", where " + std::to_string(place.least) + " was due");
  }
  place.least = gap.to;
  place.batch_next.reset();
  add(EventKind::gap, lane, gap.from, gap.to, static_cast<std::uint64_t>(gap.cause));
}

PollResult Stream::poll(nanoseconds timeout) {
  const PollResult result =
      consumer_.poll(timeout, [this](const Record& record) { take(record); }, [this](const Gap& gap) { take(gap); });
  switch (result.state) {
    case PollState::gone:
    case PollState::corrupt:
    case PollState::unsupported:
    case PollState::failed:
    case PollState::forked:
      fault(lanes_.front(), position(lanes_.front()),
            "a poll was told " + std::string(name_of(result.state)) + ", errno " + std::to_string(result.error));
    default: break;
  }
  if (result.records != 0) return result;
  for (const std::size_t lane : lanes_) {
    const Offset now = position(lane);
    if (now < places_[lane].least) fault(lane, now, "it went back from " + std::to_string(places_[lane].least));
    if (now == places_[lane].told || places_[lane].batch_next) continue;  // lapped within a batch: more of it may come
    places_[lane].told = places_[lane].least = now;
    add(EventKind::at, lane, now);
  }
  return result;
}

void Stream::ack() {
  for (const std::size_t lane : lanes_) add(EventKind::committing, lane, position(lane));
  if (const int error = consumer_.ack(); error != 0)
    fault(lanes_.front(), 0, "ack failed, errno " + std::to_string(error));
  for (const std::size_t lane : lanes_) add(EventKind::committed, lane, position(lane));
}

// All that a consumer process reads.
class Reading {
 public:
  explicit Reading(Worker& worker);
  void open_all();
  void run();

 private:
  ConsumerOptions options_for(const TopicPlan& topic);
  bool reads(const TopicPlan& topic) const;
  void show_positions();
  void run_in_turn();
  void run_wait_set();
  void run_replay();
  void replay_once(std::size_t topic);
  nanoseconds patience() { return nanoseconds(dice_.any_magnitude(0, worker_.round() == 0 ? 10'000'000 : 100'000)); }

  Worker& worker_;
  Dice& dice_;
  Domain domain_;
  std::deque<Stream> streams_;
  std::uint16_t next_number_ = 0;
};

Reading::Reading(Worker& worker)
    : worker_(worker), dice_(worker.dice()), domain_(worker.places().domain(StandBy::never)) {}

bool Reading::reads(const TopicPlan& topic) const {
  switch (worker_.role()) {
    case Role::spinner: return topic.name == "blocking" || topic.name == "rushing" || topic.name == "overwriting";
    case Role::yielder: return topic.name == "interval" || topic.name == "gated" || topic.name == "dropping";
    case Role::durable: return !topic.ephemeral() && *topic.options.sync != SyncPolicy::none;
    case Role::cursor:
    case Role::replayer: return !topic.ephemeral();
    case Role::gate: return topic.name == "gated";
    default: return true;
  }
}

ConsumerOptions Reading::options_for(const TopicPlan& topic) {
  ConsumerOptions options;
  options.from = dice_.one_in(2) ? From::earliest : From::latest;
  options.records_max = dice_.one_in(2) ? 4096 : dice_.any_magnitude(16, 4096);
  switch (worker_.role()) {
    case Role::spinner: options.wait = Wait::spin; break;
    case Role::yielder: options.wait = dice_.one_in(2) ? Wait::yield : Wait::back_off; break;
    case Role::durable: options.read_up_to = ReadUpTo::durable; break;
    case Role::cursor:
      options.cursor = "soak";
      options.from = From::latest;
      if (*topic.options.sync != SyncPolicy::none && topic.name != "blocking") options.read_up_to = ReadUpTo::durable;
      break;
    case Role::gate:
      options.gating = true;
      options.wait = dice_.one_in(2) ? Wait::block : Wait::back_off;
      break;
    default: break;
  }
  return options;
}

void Reading::open_all() {
  for (const TopicPlan& topic : worker_.plan().topics) {
    if (reads(topic)) streams_.emplace_back(worker_, next_number_++, domain_.open(topic.name), options_for(topic));
  }
  show_positions();
  worker_.ready();
}

void Reading::show_positions() {
  std::array<std::uint64_t, kLanesMax> least;
  least.fill(kNotReading);
  for (const Stream& stream : streams_) {
    for (const std::size_t lane : stream.lanes()) least[lane] = std::min(least[lane], stream.position(lane));
  }
  for (std::size_t lane = 0; lane < worker_.plan().lanes.size(); ++lane) worker_.show_position(lane, least[lane]);
}

void Reading::run() {
  if (worker_.role() == Role::replayer) return run_replay();
  open_all();
  if (worker_.role() == Role::wait_set) {
    run_wait_set();
  } else {
    run_in_turn();
  }
  for (Stream& stream : streams_) {
    if (stream.has_cursor()) stream.ack();
  }
}

void Reading::run_in_turn() {
  while (!worker_.stopping()) {
    for (Stream& stream : streams_) {
      stream.poll(patience());
      if (stream.has_cursor() && dice_.one_in(8)) stream.ack();
    }
    show_positions();
    worker_.rest_in(worker_.round());
    // Slow for a while, so that it is lapped.
    if (dice_.one_in(100)) idle(worker_, dice_.any_magnitude(1'000'000, 300'000'000));
    if (dice_.one_in(500) && worker_.round() == 0) {
      streams_.clear();
      open_all();
    }
  }
}

void Reading::run_wait_set() {
  WaitSet set;
  for (Stream& stream : streams_) set.add(stream.consumer());
  while (!worker_.stopping()) {
    bool more = true;
    while (more) {
      more = false;
      for (Stream& stream : streams_) more = stream.poll(nanoseconds(0)).records != 0 || more;
      show_positions();
    }
    worker_.rest_in(worker_.round());
    set.clear();
    struct pollfd ready = {set.descriptor(), POLLIN, 0};
    ::poll(&ready, 1, 1000);
  }
  for (Stream& stream : streams_) set.remove(stream.consumer());
}

void Reading::replay_once(std::size_t topic) {
  const TopicPlan& plan = worker_.plan().topics[topic];
  ConsumerOptions options = options_for(plan);
  options.from = From::earliest;
  Stream stream(worker_, next_number_, domain_.open(plan.name), options);
  while (!worker_.stopping()) {
    const PollResult result = stream.poll(nanoseconds(0));
    if (result.records == 0 && result.state != PollState::replay) break;
  }
}

void Reading::run_replay() {
  worker_.ready();
  while (!worker_.stopping()) {
    if (const std::uint32_t round = worker_.round(); round != 0) {
      worker_.rest_in(round);
      // sleep-ok: between two looks at whether the round of rest is over.
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      continue;
    }
    const std::size_t topic = dice_.below(worker_.plan().topics.size());
    if (!reads(worker_.plan().topics[topic])) continue;
    replay_once(topic);
    idle(worker_, dice_.any_magnitude(1'000'000, 50'000'000));
  }
}

// From here on with a stranger's rights, but for the group's right to read: what it has open already stays.
void become_observer(const Worker& worker) {
  if (::geteuid() != 0) return;
  constexpr uid_t kNobody = 65534;
  if (::setgroups(0, nullptr) != 0 || ::setgid(0) != 0 || ::setuid(kNobody) != 0) {
    worker.tell("it can't become an observer, errno " + std::to_string(errno));
  }
  die_with_conductor();
}

}  // namespace

void run_consumer(Worker& worker) {
  if (worker.role() == Role::observer) become_observer(worker);
  Reading(worker).run();
}

}  // namespace spillway::soak
