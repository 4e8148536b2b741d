#include "points/run.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <optional>
#include <sstream>
#include <utility>

#include "spillway/core/clock.h"
#include "spillway/core/error.h"
#include "spillway/persist/verify.h"
#include "support/catch.h"
#include "support/place.h"

namespace spillway::test {
namespace {

using namespace std::chrono_literals;
using points::Action;
using points::Point;

// What happens at a point. `cut`: everybody is killed, and the rings are deleted. `stop`: continued once others have gone
// on; `stop_kill`: killed instead.
enum class What : std::uint8_t { nothing, kill, cut, stop, stop_kill, fork };

constexpr unsigned kHungSeconds = 60;
constexpr ProducerOptions kPatience{.partition = 0, .deadline_ns = 20'000'000'000};

std::string_view name_of(What what) {
  constexpr std::string_view names[] = {"nothing", "kill", "cut", "stop", "stop-kill", "fork"};
  return names[static_cast<std::size_t>(what)];
}

Action action_of(What what) {
  switch (what) {
    case What::nothing: return Action::none;
    case What::kill:
    case What::cut: return Action::kill;
    case What::stop:
    case What::stop_kill: return Action::stop;
    case What::fork: return Action::fork;
  }
  return Action::none;
}

// The book, in memory that the test's processes share.
Book& shared_book() {
  static Book* const book = [] {
    // Not by Mapping: that is taken from the child of a fork.
    void* const memory = ::mmap(nullptr, sizeof(Book), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    return new (memory) Book;
  }();
  return *book;
}

void note(Book& book, const std::string& what) { std::snprintf(book.message, sizeof book.message, "%s", what.c_str()); }

// A process that does `work`; what it throws stands in the book.
template <class Work>
int start(Book& book, Work&& work) {
  return in_child([&] {
    ::alarm(kHungSeconds);
    try {
      work();
    } catch (const std::exception& e) {
      note(book, e.what());
      return 1;
    }
    return 0;
  });
}

void expect_well(Book& book, int pid, const std::string& who) {
  const int result = result_of(pid);
  if (result == 0) return;
  if (result == 1) fail(who + ": " + book.message);
  fail(who + " ended with " + std::to_string(result) + (result == 1000 + SIGALRM ? ": it hung" : ""));
}

// One run.
class Run {
 public:
  Run(const Scenario& scenario, What what, const Point* point)
      : book_(shared_book()), scene_(scenario, book_), what_(what) {
    scene_.choose(action_of(what), point);
  }

  ~Run() {
    for (const int pid : {helper_, victim_}) {
      if (pid > 0) kill_and_wait(pid);
    }
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  // False: the victim never got to the point.
  bool operator()() {
    helper_ = start(book_, [&] { help(); });
    scene_.let_begin();
    victim_ = start(book_, [&] { be_victim(); });
    await_victim();
    const bool acted = book_.board.acted.load() != 0;
    const Offset handed_out = scene_.ends().reserved;
    const Scenario& scenario = scene_.scenario();
    if (what_ == What::cut && acted)
      lose();
    else
      end_helper();
    scene_.check_ends();
    expect_well(book_,
                start(book_, [&] { look_last(handed_out, scenario.rings_lost || (acted && what_ == What::cut)); }),
                "the last to look");
    scene_.check_ends();
    return acted;
  }

 private:
  void help() {
    scene_.leave_to_child();
    const Scenario& s = scene_.scenario();
    if (s.before) {
      s.before(scene_);
    } else {
      const Domain domain = scene_.domain();
      const Topic topic = scene_.topic(domain);
      auto producer = topic.shared_producer();
      Appended appended;
      for (int i = 0; i < 3; ++i) appended = scene_.append(producer, kHelper, 100);
      if (!topic.config().ephemeral) scene_.wait_durable(topic, appended.end);
    }
    if (s.beside) {
      s.beside(scene_);
    } else {
      scene_.ready();
    }
  }

  void be_victim() {
    scene_.leave_to_child();
    try {
      scene_.scenario().act(scene_);
    } catch (const Error&) {
      if (!points::is_copy()) throw;  // to a copy it is an answer
    }
    if (!points::is_copy()) return points::disarm();
    live_anew();
  }
  // What the copy of a process does after it was refused everything: it opens the topic like anybody else.
  void live_anew() {
    points::forget_copy();
    try {
      const Domain domain = scene_.domain(StandBy::never);
      auto producer = domain.open("t").shared_producer({.partition = 0, .deadline_ns = 1'000'000});
      scene_.append(producer, kOther, 50);
    } catch (const Error&) {
      // The original may be an exclusive producer, hold the mode lock, or be deleting the topic.
    }
  }
  static void live_anew_and_end() {
    try {
      running_->live_anew();
    } catch (const std::exception& e) {
      note(running_->book_, e.what());
      ::_exit(1);
    }
    ::_exit(0);
  }

  void await_victim() {
    running_ = this;
    int status = 0;
    while (::waitpid(victim_, &status, WUNTRACED) < 0 && errno == EINTR) {
    }
    if (WIFSTOPPED(status)) {
      const int other = start(book_, [&] { look_while_stopped(); });
      expect_well(book_, other, "beside the stopped process another");
      if (what_ == What::stop_kill) {
        kill_and_wait(std::exchange(victim_, 0));
        return;
      }
      ::kill(victim_, SIGCONT);
      return expect_well(book_, std::exchange(victim_, 0), "the process that was stopped and continued");
    }
    victim_ = 0;
    const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (killed && book_.board.acted.load() != 0) return;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
      fail("the victim ended with status " + std::to_string(status) + ": " + book_.message);
    }
    if (const int copy = book_.board.copy.load(); copy != 0) expect_well(book_, copy, "the copy");
  }

  void end_helper() {
    scene_.let_end();
    expect_well(book_, std::exchange(helper_, 0), "the process beside");
  }
  void lose() {
    kill_and_wait(std::exchange(helper_, 0));
    scene_.lose_rings();
  }

  // Whether the topic is there; a scenario that makes or deletes it may be in the middle of that.
  std::optional<Topic> open(const Domain& domain) {
    if (!scene_.scenario().may_not_exist) return domain.open("t");
    if (scene_.scenario().others == Others::append) return scene_.topic(domain);
    try {
      return domain.open("t");
    } catch (const Error& e) {
      if (e.code() != Code::not_found) throw;
      return std::nullopt;
    }
  }

  void look_while_stopped() {
    const Others others = scene_.scenario().others;
    if (others == Others::nothing) return;
    auto known = scene_.acknowledged();
    if (others == Others::read_committed) {
      const Offset end = scene_.ends().committed;
      std::erase_if(known, [&](const auto& k) { return book_.lines[k.first][k.second].offset.load() >= end; });
    }
    const Domain domain = scene_.domain();
    const auto topic = open(domain);
    if (!topic) return;
    const auto log = scene_.read(*topic, [&](const Scene::Log& l) { return has_all(l, known); });
    scene_.check(log, known, scene_.scenario().rings_lost);
    if (others != Others::append) return;
    append(topic->shared_producer(kPatience), kOther);
  }
  // The next record of `who`; where a full ring drops it, once there is room again.
  template <class Producer>
  Appended append(Producer producer, Writer who) {
    Appended appended;
    if (!eventually([&] {
          appended = scene_.append(producer, who, 100);
          return appended.status != AppendStatus::dropped;
        }) ||
        !appended) {
      fail("an append answered " + std::string(spillway::name_of(appended.status)));
    }
    return appended;
  }
  // The records that are there, or told to be gone.
  bool has_all(const Scene::Log& log, const std::vector<std::pair<Writer, std::uint32_t>>& wanted) const {
    Offset newest = 0;
    for (const auto& [who, number] : wanted) newest = std::max(newest, book_.lines[who][number].offset.load());
    const bool read = !log.records.empty() && log.records.back().offset >= newest;
    return wanted.empty() || read || (!log.gaps.empty() && log.gaps.back().to > newest);
  }

  // All others are dead: a fresh process goes on, finds everything, and stops cleanly.
  void look_last(Offset handed_out, bool rings_lost) {
    const Scenario& s = scene_.scenario();
    if (s.after) s.after(scene_);
    const auto known = scene_.acknowledged();
    const Domain domain = scene_.domain();
    Topic topic = scene_.topic(domain);
    const bool ephemeral = topic.config().ephemeral;
    const auto append_last = [&](auto producer) {
      const Appended appended = append(std::move(producer), kLast);
      if (appended.position.offset < handed_out && !s.may_not_exist) {
        fail("offset " + std::to_string(appended.position.offset) + " was handed out again");
      }
      if (!ephemeral) scene_.wait_durable(topic, appended.end);
    };
    if (s.exclusive_end)
      append_last(topic.exclusive_producer(kPatience));
    else
      append_last(topic.shared_producer(kPatience));
    const auto log =
        scene_.read(topic, [&](const Scene::Log& l) { return !l.records.empty() && l.records.back().who == kLast; });
    scene_.check(log, s.may_not_exist ? std::vector<std::pair<Writer, std::uint32_t>>{} : known, rings_lost);
    if (ephemeral) return;
    scene_.close(topic);
    const VerifyResult found = verify_partition(scene_.paths().data, topic.config(), 0, nullptr);
    for (const LogDamage& d : found.damage) fail("verify: " + d.what + " at " + std::to_string(d.from));
    for (const std::string& problem : found.problems) fail("verify: " + problem);
  }

  static inline Run* running_ = nullptr;
  Book& book_;
  Scene scene_;
  What what_;
  int helper_ = 0, victim_ = 0;

 public:
  static void set_up() {
    points::copy_elsewhere = live_anew_and_end;
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);  // copies become ours when the one they are of has ended
  }
  void make_current() { running_ = this; }
};

struct Count {
  std::size_t points = 0, missed = 0;
  std::size_t runs[6] = {};
};

bool one(const Scenario& scenario, What what, const Point* point) {
  const std::string name = scenario.name + ": " + std::string(name_of(what)) +
                           (point != nullptr ? " " + point->place + " " + std::to_string(point->time) : std::string());
  if (std::getenv("SPILLWAY_POINTS_SAY") != nullptr) std::cerr << name << std::endl;
  try {
    Run run(scenario, what, point);
    run.make_current();
    return run();
  } catch (const std::exception& e) {
    FAIL_CHECK(name << ": " << e.what());
    return true;
  }
}

std::vector<Point> points_of(const Scenario& scenario) {
  Run::set_up();
  one(scenario, What::nothing, nullptr);
  return points::choose(shared_book().board);
}

}  // namespace

void run(const Scenario& scenario) {
  const std::uint64_t begin_ns = monotonic_ns();
  std::vector<Point> points = points_of(scenario);
  std::vector<What> actions{What::kill, What::cut, What::stop, What::fork};
  if (scenario.options.ephemeral.value_or(false)) std::erase(actions, What::cut);
  if (const char* const only = std::getenv("SPILLWAY_POINT")) {
    std::istringstream words(only);
    std::string action;
    points.assign(1, {});
    words >> action >> points[0].place >> points[0].time;
    actions.clear();
    for (int i = 1; i <= 5; ++i) {
      if (name_of(static_cast<What>(i)) == action) actions.push_back(static_cast<What>(i));
    }
  }
  REQUIRE_FALSE(points.empty());
  // Which of the runs are made where not all are; all of them by hand.
  const char* const wanted_turn = std::getenv("SPILLWAY_POINTS_TURN");
  const std::size_t turn = wanted_turn == nullptr ? 0 : std::strtoul(wanted_turn, nullptr, 10);
  const unsigned every = std::getenv("SPILLWAY_POINTS_ALL") != nullptr ? 1 : scenario.every;
  Count count;
  for (std::size_t i = 0; i < points.size(); ++i) {
    for (std::size_t a = 0; a < actions.size(); ++a) {
      if ((i + a + turn) % every != 0) continue;
      What what = actions[a];
      if (what == What::stop && i % 2 != 0) what = What::stop_kill;
      // The registry of descriptors keeps forks out while one is opened.
      if (what == What::fork && points[i].place.starts_with("core/fork.cpp")) continue;
      ++count.runs[static_cast<std::size_t>(what)];
      if (!one(scenario, what, &points[i])) ++count.missed;
    }
  }
  std::cout << scenario.name << ": " << points.size() << " points; killed " << count.runs[1]
            << ", killed with the rings lost " << count.runs[2] << ", stopped " << count.runs[3]
            << ", stopped and killed " << count.runs[4] << ", forked " << count.runs[5] << ", not reached again "
            << count.missed << "; " << (monotonic_ns() - begin_ns) / 1'000'000 << " ms\n";
}

void run(const std::string& name) {
  for (const Scenario& scenario : scenarios()) {
    if (scenario.name == name) return run(scenario);
  }
  FAIL("there is no scenario " << name);
}

std::vector<std::string> places_of(const Scenario& scenario) {
  points_of(scenario);
  return points::places(shared_book().board);
}

}  // namespace spillway::test
