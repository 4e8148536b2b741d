// Directs the demo: starts its processes, stops one of them and lets it go on, shows a table meanwhile, and collects what
// each has counted.
//
// Thread safety: one thread.
#pragma once

#include <memory>
#include <string>

#include "demo_directories.h"
#include "demo_plan.h"
#include "demo_process.h"
#include "demo_report.h"
#include "output.h"
#include "spillway/ipc/partition.h"
#include "spillway/persist/domain.h"

namespace spillway::command::demo {

// Whoever read the table has gone: not a failure, but no reason to go on either.
struct TableClosed {};

class Director {
 public:
  // `table`: where a line goes every second; null: no table. `directories` must outlive the Director.
  Director(const Directories& directories, const Plan& plan, Output* table);
  ~Director();

  // Runs it all. Throws Failure and Error, also when the user interrupts it; and TableClosed.
  Report run();

 private:
  // The newest report of a process, and the one of the last line of the table.
  template <class Counts>
  struct Seen {
    Counts counts;
    std::uint64_t at_ns = 0;
    Counts shown;
    std::uint64_t shown_at_ns = 0;
    bool final = false;
  };
  struct Reading {
    Consumed telemetry;
    Consumed firehose;
  };
  struct Disk {
    std::uint64_t written = 0;
  };

  void start_persister();
  void start_clients();
  void stop_slow();
  void let_slow_go_on();
  void finish();
  void stop_persister();

  // Takes in reports and shows the table until `done()`.
  template <class Done>
  void direct(Done&& done);
  void wait_for_reports();
  void take_reports();
  void take_report(Process& process, Seen<Produced>& seen, bool firehose);
  void take_report(Process& process, Seen<Reading>& seen);
  void check_alive(Process& process, bool may_have_ended);
  void look_at_disk();
  void check_progress();
  void note_caught_up();
  void show_header();
  void show_row();
  void mark_shown();
  void enter(Phase phase);
  void show(const std::string& text);
  double elapsed_s() const noexcept;
  std::uint64_t slow_behind() const noexcept;

  const Directories& directories_;
  Plan plan_;
  Output* table_;
  Report report_;
  Domain domain_;
  Topic telemetry_topic_;
  Topic firehose_topic_;
  std::shared_ptr<Partition> firehose_ring_;  // null until its producer has made it

  std::unique_ptr<Process> persister_;
  std::unique_ptr<Process> telemetry_;
  std::unique_ptr<Process> firehose_;
  std::unique_ptr<Process> live_;
  std::unique_ptr<Process> slow_;
  Seen<Produced> telemetry_seen_;
  Seen<Produced> firehose_seen_;
  Seen<Reading> live_seen_;
  Seen<Reading> slow_seen_;
  Seen<Disk> disk_seen_;

  std::uint64_t begin_ns_ = 0;
  std::uint64_t rows_ = 0;  // whole seconds of which the table has told
  bool table_begun_ = false;
  bool slow_stopped_ = false;
  std::uint64_t stopped_ns_ = 0;
  std::uint64_t went_on_ns_ = 0;  // 0: not yet
  bool caught_up_ = false;
  std::uint64_t progress_ = 0;
  std::uint64_t progress_ns_ = 0;
};

}  // namespace spillway::command::demo
