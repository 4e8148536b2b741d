#include "points/scene.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <stdexcept>

#include "spillway/core/clock.h"
#include "spillway/core/points.h"
#include "spillway/persist/topic_files.h"

namespace spillway::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kPatienceNs = 20'000'000'000;

std::string text_of(Writer who, std::uint32_t number, std::size_t bytes) {
  std::string text = std::to_string(who) + "." + std::to_string(number) + ":";
  while (text.size() < bytes) text += static_cast<char>('a' + (number * 7 + who + text.size()) % 26);
  return text;
}

std::string made_directory(std::string name) {
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("can't make the test's directory");
  return name;
}

// "1.23:": the first two numbers of a record's text.
bool parse(std::string_view text, unsigned& who, std::uint32_t& number) {
  const char* const end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, who);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != '.' || who >= kWriters) return false;
  const auto second = std::from_chars(first.ptr + 1, end, number);
  return second.ec == std::errc() && second.ptr != end && *second.ptr == ':' && number < Book::kNumbers;
}

}  // namespace

void fail(const std::string& what) { throw std::runtime_error(what); }

bool eventually(const std::function<bool()>& ready) {
  const Deadline deadline = Deadline::after_ns(kPatienceNs);
  while (!ready()) {
    if (deadline.passed()) return false;
    pause_about(50'000);
  }
  return true;
}

Scene::Scene(const Scenario& scenario, Book& book)
    : scenario_(scenario), book_(book), shm_(made_directory("/dev/shm/spillway-test-XXXXXX")), owner_(::getpid()) {
  const char* const tmp = std::getenv("TMPDIR");
  const std::string disk = tmp != nullptr ? tmp : "/tmp";
  data_ = made_directory((scenario.on_disk ? disk : "/dev/shm") + "/spillway-test-XXXXXX");
  std::memset(static_cast<void*>(&book), 0, sizeof book);
  if (::pipe(begin_) != 0 || ::pipe(end_) != 0) throw std::runtime_error("can't make a pipe");
}

Scene::~Scene() {
  for (const int fd : {begin_[0], begin_[1], end_[0], end_[1]}) {
    if (fd >= 0) ::close(fd);
  }
  if (::getpid() != owner_) return;
  std::error_code ignored;
  std::filesystem::remove_all(data_, ignored);
  std::filesystem::remove_all(shm_, ignored);
}

PartitionPaths Scene::paths() const { return PartitionPaths::of(shm_, data_, config(), 0); }

TopicConfig Scene::config() const { return read_topic({data_, shm_}, "t"); }

void Scene::choose(points::Action action, const points::Point* point) {
  action_ = action;
  point_ = point;
}

void Scene::arm() { points::arm(book_.board, action_, point_); }

Scene::Ticket Scene::begin(Writer who, std::size_t bytes) {
  if (points::is_copy()) return {who, 0, true, text_of(kWriters, 0, bytes)};
  const std::uint32_t number = book_.next[who].fetch_add(1);
  if (number >= Book::kNumbers) fail("too many records");
  Ticket ticket{who, number, false, text_of(who, number, bytes)};
  book_.lines[who][number].entry.store(Entry::begun);
  return ticket;
}

void Scene::end(const Ticket& ticket, const Appended& appended, Offset offset, Offset record_end) {
  if (points::is_copy()) {
    if (ticket.in_copy && appended) fail("the copy of a producer has appended");
    return;
  }
  Book::Line& line = book_.lines[ticket.who][ticket.number];
  line.offset.store(offset);
  line.end.store(record_end);
  line.entry.store(appended ? Entry::acknowledged : Entry::refused);
}

void Scene::refuse(const Ticket& ticket) {
  if (!points::is_copy()) book_.lines[ticket.who][ticket.number].entry.store(Entry::refused);
}

void Scene::fill(std::span<std::byte> payload, const std::string& text) {
  // In the copy of a process a claim's memory is private zeros.
  points::at();
  std::memcpy(payload.data(), text.data(), payload.size() / 2);
  points::at();
  std::memcpy(payload.data() + payload.size() / 2, text.data() + payload.size() / 2,
              payload.size() - payload.size() / 2);
  points::at();
}

void Scene::wait_durable(const Topic& topic, Offset end, std::chrono::nanoseconds timeout) {
  const Durable told = topic.wait_durable(0, end, timeout);
  if (told == Durable::yes && !points::is_copy()) {
    Offset before = book_.durable.load();
    while (before < end && !book_.durable.compare_exchange_weak(before, end)) {
    }
  } else if (!points::is_copy() && timeout > 1s) {
    fail("a wait for the disk answered " + std::string(name_of(told)));
  }
}

void Scene::wait_written(const Topic& topic, Offset end, std::chrono::nanoseconds timeout) {
  const Durable told = topic.wait_written(0, end, timeout);
  if (told != Durable::yes && !points::is_copy() && timeout > 1s) {
    fail("a wait for the segment answered " + std::string(name_of(told)));
  }
}

void Scene::close(Topic& topic) {
  const Durable told = topic.close(30s);
  if (told != Durable::yes && !points::is_copy()) fail("closing answered " + std::string(name_of(told)));
}

void Scene::ready() {
  if (::write(begin_[1], "x", 1) != 1) std::abort();
}
void Scene::let_begin() {
  char c = 0;
  // So that a helper that died before is an end of file.
  ::close(begin_[1]);
  begin_[1] = -1;
  if (::read(begin_[0], &c, 1) != 1) fail(std::string("the helper died: ") + book_.message);
}
void Scene::let_end() {
  if (end_[1] >= 0) ::close(end_[1]);
  end_[1] = -1;
}
void Scene::leave_to_child() {
  ::close(end_[1]);
  end_[1] = -1;
}
void Scene::await_end() {
  char c = 0;
  while (::read(end_[0], &c, 1) < 0 && errno == EINTR) {
  }
}

bool Scene::ended() const {
  pollfd end{end_[0], POLLIN, 0};
  return ::poll(&end, 1, 0) > 0;
}

Scene::Log Scene::read(const Topic& topic, const std::function<bool(const Log&)>& enough) const {
  Log log;
  Consumer consumer = topic.consumer({.partition = 0, .from = From::earliest});
  const Deadline deadline = Deadline::after_ns(kPatienceNs);
  while (!enough(log)) {
    const auto note = [&](const Record& r) {
      unsigned who = 0;
      std::uint32_t number = 0;
      if (!parse(r.text(), who, number) || r.text() != text_of(Writer{who}, number, r.text().size())) {
        fail("the record at " + std::to_string(r.offset()) + " is torn");
      }
      log.records.push_back({Writer{who}, number, r.offset(), r.offset() + record_bytes(r.text().size())});
    };
    const PollResult result = consumer.poll(1ms, note, [&](const Gap& g) { log.gaps.push_back(g); });
    if (result.state == PollState::corrupt || result.state == PollState::unsupported ||
        result.state == PollState::failed) {
      fail("a reader found state " + std::to_string(static_cast<int>(result.state)) + " at offset " +
           std::to_string(consumer.offset(0)));
    }
    if (deadline.passed()) {
      const Ends e = ends();
      fail("a reader waits at offset " + std::to_string(consumer.offset(0)) + " in state " +
           std::to_string(static_cast<int>(result.state)) + " after " + std::to_string(log.records.size()) +
           " records; committed_end is " + std::to_string(e.committed) + ", reserved_end " +
           std::to_string(e.reserved));
    }
  }
  return log;
}

std::vector<std::pair<Writer, std::uint32_t>> Scene::acknowledged() const {
  std::vector<std::pair<Writer, std::uint32_t>> all;
  for (unsigned who = 0; who < kWriters; ++who) {
    for (std::uint32_t n = 0; n < book_.next[who].load() && n < Book::kNumbers; ++n) {
      if (book_.lines[who][n].entry.load() == Entry::acknowledged) all.emplace_back(Writer{who}, n);
    }
  }
  return all;
}

void Scene::check(const Log& log, const std::vector<std::pair<Writer, std::uint32_t>>& wanted, bool rings_lost) const {
  std::map<std::pair<Writer, std::uint32_t>, Offset> seen;
  std::map<Writer, std::uint32_t> next;
  Offset at = 0;
  for (const Read& read : log.records) {
    const std::string name =
        std::to_string(read.who) + "." + std::to_string(read.number) + " at offset " + std::to_string(read.offset);
    if (read.offset < at) fail("record " + name + " comes behind " + std::to_string(at));
    at = read.end;
    const Book::Line& line = book_.lines[read.who][read.number];
    const Entry entry = line.entry.load();
    if (!seen.emplace(std::pair{read.who, read.number}, read.offset).second) fail("record " + name + " was read twice");
    if (read.number < next[read.who]) fail("record " + name + " comes behind a later one");
    next[read.who] = read.number + 1;
    if (entry == Entry::unused || entry == Entry::refused) fail("record " + name + " was never committed");
    if ((entry == Entry::acknowledged || entry == Entry::perhaps_lost) && line.offset.load() != read.offset) {
      fail("record " + name + " was acknowledged at " + std::to_string(line.offset.load()));
    }
  }
  std::set<GapCause> causes = scenario_.gaps;
  if (rings_lost) causes.insert(GapCause::crash);
  for (const Gap& gap : log.gaps) {
    if (!causes.contains(gap.cause)) {
      fail("a gap from " + std::to_string(gap.from) + " to " + std::to_string(gap.to) + " because " +
           std::string(name_of(gap.cause)));
    }
  }
  const Offset first = log.records.empty() ? UINT64_MAX : log.records.front().offset;
  for (const auto& [who, number] : wanted) {
    if (seen.contains({who, number})) continue;
    const Book::Line& line = book_.lines[who][number];
    const Offset offset = line.offset.load();
    const std::string name = std::to_string(who) + "." + std::to_string(number) + " at offset " +
                             std::to_string(offset) + ", which was acknowledged,";
    const auto gap =
        std::find_if(log.gaps.begin(), log.gaps.end(), [&](const Gap& g) { return g.from <= offset && offset < g.to; });
    // Expired: the earliest there is begins behind it.
    if (gap == log.gaps.end() && !(scenario_.gaps.contains(GapCause::expired) && offset < first)) {
      fail("record " + name + " is gone without a gap");
    }
    if (gap != log.gaps.end() && !scenario_.gaps.contains(gap->cause)) fail("record " + name + " is lost");
  }
}

Scene::Ends Scene::ends() const {
  Ends e;
  const int fd = ::open((shm_ + "/t/0.control").c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return e;
  std::vector<std::byte> bytes(sizeof(Control));
  const bool whole = ::pread(fd, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size());
  ::close(fd);
  if (!whole) return e;
  const auto word = [&](std::size_t at) {
    Offset value = 0;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
  };
  constexpr std::size_t area = offsetof(Control, persister);
  e.there = true;
  e.retained = word(area + offsetof(PersisterArea, retained_begin));
  e.durable = word(area + offsetof(PersisterArea, durable_end));
  e.written = word(area + offsetof(PersisterArea, written_end));
  e.horizon = word(area + offsetof(PersisterArea, horizon));
  e.committed = word(offsetof(Control, commits));
  e.reserved = word(offsetof(Control, claims));
  return e;
}

void Scene::check_ends() const {
  if (scenario_.options.ephemeral.value_or(false)) return;
  const Ends e = ends();
  if (!e.there) return;
  // The stored committed_end is a floor: the persister may have walked further.
  if (e.retained > e.durable || e.durable > e.written || e.written > e.reserved || e.committed > e.reserved ||
      e.reserved > e.horizon) {
    fail("watermarks are out of order: retained " + std::to_string(e.retained) + ", durable " +
         std::to_string(e.durable) + ", written " + std::to_string(e.written) + ", committed " +
         std::to_string(e.committed) + ", reserved " + std::to_string(e.reserved) + ", horizon " +
         std::to_string(e.horizon));
  }
}

std::uint32_t Scene::word(const char* file, std::size_t at) const {
  std::uint32_t value = 0;
  const int fd = ::open((shm_ + "/t/0." + file).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  if (::pread(fd, &value, sizeof value, static_cast<off_t>(at)) != sizeof value) value = 0;
  ::close(fd);
  return value;
}

void Scene::lose_rings() const { lose_rings(shm_ + "/t"); }

void Scene::lose_rings(const std::string& directory) const {
  const Offset durable = std::max(book_.durable.load(), ends().durable);
  for (const auto& [who, number] : acknowledged()) {
    Book::Line& line = book_.lines[who][number];
    if (line.end.load() > durable) line.entry.store(Entry::perhaps_lost);
  }
  std::filesystem::remove_all(directory);
}

}  // namespace spillway::test
