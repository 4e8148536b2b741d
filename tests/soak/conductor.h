// Conducts a soak: lets the workers work, kills, stops and restarts them, and asks the ledger whether all is as it was told.
//
// Thread safety: one thread.
#pragma once

#include <functional>
#include <string>

#include "audit.h"
#include "crew.h"
#include "ledger.h"
#include "plan.h"
#include "stage.h"

namespace spillway::soak {

class Conductor {
 public:
  Conductor(const Places& places, std::uint64_t seed);

  // Throws Broken, or what the library threw.
  void run(std::uint64_t seconds);
  std::string counts(std::uint64_t seconds) const;
  std::string state() const;  // of all lanes, for who has to find out

 private:
  void make_topics();
  void act();
  void pass_time();
  void checkpoint();
  void lose_everybody(bool in_order);
  void lose_rings();
  void audit_all(const std::vector<std::size_t>& lanes, bool with_ring);
  // Until `done`; throws Broken when nothing has moved for a minute.
  void await(const std::string& what, const std::function<bool()>& done);
  bool all_ready() const;
  bool all_rest(std::uint32_t round) const;
  std::string laggards() const;
  std::uint64_t positions() const;
  std::uint64_t progress();

  Plan plan_;
  Places places_;
  Dice dice_;
  Stage& stage_;
  History history_;
  Ledger ledger_;
  Auditor auditor_;
  Watch watch_;
  Crew crew_;
  std::uint32_t round_ = 0;
  std::uint64_t checkpoints_ = 0;
  std::uint64_t longest_wait_ns_ = 0;
};

}  // namespace spillway::soak
