// One run of a scenario: a topic in directories of its own, the processes that use it, and the book in which they note what
// they were told, so that whoever looks afterwards knows what must be there.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "points/points.h"
#include "spillway/ipc/control_layout.h"
#include "spillway/persist/domain.h"

namespace spillway::test {

// Who appends. Each numbers its records from 0 on.
enum Writer : unsigned { kHelper, kVictim, kOther, kLast, kWriters };

enum class Entry : std::uint32_t { unused, begun, acknowledged, refused, perhaps_lost };

// In memory that all processes of a test share. An entry is stored after the call returned.
struct Book {
  static constexpr std::size_t kNumbers = 2048;
  struct Line {
    std::atomic<Entry> entry;
    std::atomic<Offset> offset;
    std::atomic<Offset> end;
  };
  Line lines[kWriters][kNumbers];
  std::atomic<std::uint32_t> next[kWriters];
  std::atomic<Offset> durable;  // a wait for the disk said yes up to here
  std::atomic<std::uint64_t> cursor, cursor_wanted;
  char message[4096];
  points::Board board;
};

// While there is one, a process that is forked goes on as two in the middle of a call: on the running path that must do no
// harm. Of other calls the copy is what another thread would have made: it goes on elsewhere.
class AsTwo {
 public:
  AsTwo() noexcept { points::goes_on_as_two = true; }
  ~AsTwo() { points::goes_on_as_two = false; }
  AsTwo(const AsTwo&) = delete;
  AsTwo& operator=(const AsTwo&) = delete;
};

class Scene;

enum class Others : std::uint8_t {
  append,          // while the victim is stopped, a fresh process reads everything acknowledged, and appends
  read,            // ... reads; who appends may have to wait
  read_committed,  // ... reads what committed_end has passed: behind it is a claim that the victim would have to close
  nothing,         // ... may have to wait for either
};

struct Scenario {
  std::string name;
  TopicOptions options = {};
  // What the victim does; it calls scene.arm() when it begins to be of interest.
  std::function<void(Scene&)> act;
  // Before, in another process. Default: the topic is made, and has three records.
  std::function<void(Scene&)> before = nullptr;
  // What that process does beside the victim, until `scene.await_end()` returns. Default: it has ended.
  std::function<void(Scene&)> beside = nullptr;
  // More checks in the end, in a process of its own, before others append.
  std::function<void(Scene&)> after = nullptr;
  Others others = Others::append;
  std::set<GapCause> gaps = {};  // that a reader may be told of
  bool on_disk = false;          // its data directory is no tmpfs
  bool exclusive_end = false;    // the last one to append is an exclusive producer
  bool may_not_exist = false;    // the topic
  bool rings_lost = false;       // before, with what was not durable
  unsigned every = 1;            // one of so many runs is made
};

class Scene {
 public:
  Scene(const Scenario& scenario, Book& book);
  ~Scene();
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;

  const Scenario& scenario() const { return scenario_; }
  Book& book() const { return book_; }
  DomainOptions where(StandBy stand_by) const { return {data_, shm_, stand_by}; }
  Domain domain(StandBy stand_by = StandBy::yes) const { return Domain(where(stand_by)); }
  Topic topic(const Domain& domain) const { return domain.open_or_create("t", scenario_.options); }
  const std::string& shm() const { return shm_; }
  const std::string& data() const { return data_; }
  // All processes that have been are dead, and the host dies: what was not durable may be lost.
  void lose_rings() const;
  void lose_rings(const std::string& directory) const;
  // The 32-bit word at `at` of the topic's control or consumers file; 0 if there is none.
  std::uint32_t word(const char* file, std::size_t at) const;
  PartitionPaths paths() const;
  TopicConfig config() const;

  // The victim is of interest from here on.
  void arm();
  void disarm() { points::disarm(); }
  void choose(points::Action action, const points::Point* point);

  // Appends the writer's next record and notes what came of it.
  template <class Producer>
  Appended append(Producer& producer, Writer who, std::size_t bytes, const RecordOptions& options = {}) {
    const Ticket ticket = begin(who, bytes);
    const AsTwo two;
    const Appended appended =
        options.key ? producer.append(bytes_of(ticket.text), options) : producer.append(bytes_of(ticket.text));
    end(ticket, appended, appended.position.offset, appended.end);
    return appended;
  }
  template <class Producer>
  void append_batch(Producer& producer, Writer who, const std::vector<std::size_t>& sizes) {
    std::vector<Ticket> tickets;
    std::vector<RecordInput> inputs;
    for (const std::size_t bytes : sizes) tickets.push_back(begin(who, bytes));
    for (const Ticket& ticket : tickets) inputs.push_back({bytes_of(ticket.text), {}});
    const AsTwo two;
    const Appended appended = producer.append_batch(inputs);
    Offset at = appended.position.offset;
    for (const Ticket& ticket : tickets) {
      end(ticket, appended, at, at + record_bytes(ticket.text.size()));
      at += record_bytes(ticket.text.size());
    }
  }
  template <class Producer>
  void claim(Producer& producer, Writer who, std::size_t bytes, bool keep) {
    const Ticket ticket = begin(who, bytes);
    const AsTwo two;
    auto claim = producer.claim(ticket.text.size());
    if (claim) fill(claim.payload(), ticket.text);
    if (!keep) {
      refuse(ticket);
      claim.abort();
      return;
    }
    const Appended appended = claim ? claim.commit() : Appended{claim.status(), Blocked::none, {}, 0};
    end(ticket, appended, appended.position.offset, appended.end);
  }

  void wait_durable(const Topic& topic, Offset end, std::chrono::nanoseconds timeout = std::chrono::seconds(30));
  void wait_written(const Topic& topic, Offset end, std::chrono::nanoseconds timeout = std::chrono::seconds(30));
  void close(Topic& topic);

  // In the process beside: `ready()` lets the victim begin.
  void ready();
  void await_end();
  bool ended() const;
  // In the test.
  void let_begin();  // waits for ready()
  void let_end();
  void leave_to_child();

  struct Read {
    Writer who;
    std::uint32_t number;
    Offset offset, end;
  };
  struct Log {
    std::vector<Read> records;
    std::vector<Gap> gaps;
  };
  // Reads from the earliest until `enough` says so, and fails if that takes too long.
  Log read(const Topic& topic, const std::function<bool(const Log&)>& enough) const;
  // What everybody who was told that a record is in the log must find.
  void check(const Log& log, const std::vector<std::pair<Writer, std::uint32_t>>& wanted, bool rings_lost) const;
  std::vector<std::pair<Writer, std::uint32_t>> acknowledged() const;
  // Control as it lies in memory; empty when there is none.
  struct Ends {
    bool there = false;
    Offset retained = 0, durable = 0, written = 0, committed = 0, reserved = 0, horizon = 0;
  };
  Ends ends() const;
  void check_ends() const;

 private:
  struct Ticket {
    Writer who;
    std::uint32_t number;
    bool in_copy;
    std::string text;
  };
  Ticket begin(Writer who, std::size_t bytes);
  void end(const Ticket& ticket, const Appended& appended, Offset offset, Offset record_end);
  void refuse(const Ticket& ticket);
  static void fill(std::span<std::byte> payload, const std::string& text);

  const Scenario& scenario_;
  Book& book_;
  points::Action action_ = points::Action::none;
  const points::Point* point_ = nullptr;
  std::string shm_, data_;
  int begin_[2], end_[2];
  pid_t owner_;
};

[[noreturn]] void fail(const std::string& what);
bool eventually(const std::function<bool()>& ready);

}  // namespace spillway::test
