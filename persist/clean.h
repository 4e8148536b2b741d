// What dead processes left behind, and removing it: rings in memory above all.
//
// Nothing that a live process uses is ever removed: each item is carried out under the writers' lock in its exclusive form,
// after another look. Nor are committed bytes that no segment holds: a ring is first written to disk, as by any other writer,
// and one for which that can't be done is set aside under another name, so that it is no longer in the way.
// Thread safety: stateless.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "spillway/persist/domain.h"

namespace spillway {

enum class CleanAction : std::uint8_t {
  persist_and_remove,  // a sound ring nobody uses: everything in it goes to disk, then it goes
  remove,              // holds nothing that is not on disk too, or nothing at all
  set_aside,           // holds bytes, perhaps, that fit into no log or can't be read: renamed to *.aside-<number>
};
std::string_view name_of(CleanAction value) noexcept;

struct CleanItem {
  CleanAction action = CleanAction::remove;
  std::string topic;  // or the directory a topic was given that is being deleted, ".deleted-<number>"
  std::uint32_t partition = 0;
  std::vector<std::string> files;
  std::uint64_t bytes = 0;  // of memory or disk that are freed (or, set aside, not)
  std::string why;
};

struct CleanPlan {
  std::vector<CleanItem> items;
  std::vector<std::string> kept;  // what looks left over and stays, a sentence each: what, why, and what can be done
};

// Looks only: creates, locks and changes nothing.
CleanPlan plan_clean(const Domain& domain);

// Carries one item out. Returns why it was left alone, or nothing when it was done. Writing a ring to disk may take until
// `timeout`. Throws Error as opening for writing does.
std::optional<std::string> apply_clean(const Domain& domain, const CleanItem& item, std::chrono::nanoseconds timeout);

}  // namespace spillway
