// A fresh reader of each lane, the check of what lies on disk, and what can be seen of the lanes from outside.
//
// Everything it opens it closes again, so that between two calls the conductor is nobody to the log.
// Thread safety: one thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ledger.h"
#include "plan.h"
#include "spillway/persist/topic_stat.h"

namespace spillway::soak {

class Auditor {
 public:
  Auditor(const Plan& plan, const Places& places, Ledger& ledger) : plan_(plan), places_(places), ledger_(ledger) {}

  PartitionStat look(std::size_t lane) const;
  void mark(std::size_t lane) const;  // tells the ledger of the lane's watermarks
  // Reads the lane from its earliest record and forgets what is gone by right. `step` is called between polls; it throws when
  // nothing goes on any more.
  void audit(std::size_t lane, bool with_ring, const std::function<void()>& step) const;
  // What `spillway verify` does. Throws Broken when anything is damaged.
  void verify(std::size_t topic) const;
  std::string describe(std::size_t lane) const;  // for who has to find out

 private:
  const Plan& plan_;
  Places places_;
  Ledger& ledger_;
};

// Counts what goes by: take-overs of the persister role, and laps.
class Watch {
 public:
  Watch(const Plan& plan, const Places& places) : plan_(plan), places_(places), lanes_(plan.lanes.size()) {}
  void look();
  void forget_rings();  // they are about to be deleted
  std::uint64_t take_overs() const noexcept { return take_overs_; }
  std::uint64_t laps() const noexcept;
  std::uint64_t progress() const noexcept;  // changes while anything moves on

 private:
  struct Lane {
    std::shared_ptr<Partition> ring;
    std::uint32_t pid = 0;
    std::uint64_t since_ns = 0;
    Offset committed_end = 0;
    std::uint64_t bytes = 0;
    std::uint64_t sum = 0;
  };
  const Plan& plan_;
  Places places_;
  std::vector<Lane> lanes_;
  std::uint64_t take_overs_ = 0;
};

}  // namespace spillway::soak
