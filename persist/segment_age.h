// How old segments are, and which of them are too old to be kept.
//
// A segment is as old as its newest record: as the time since the persister took its last bytes, which its last index entry
// has, by the log's clock (ipc/log_clock.h). It goes as a whole. A segment whose index says nothing (damaged, or it can't be
// read) is older than the one behind it, and goes with that: it neither stays for ever nor goes too early.
// Thread safety: stateless.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "spillway/persist/segment_file.h"

namespace spillway {

// The commit time of the newest record before `end`, or little behind, in a segment that nobody writes to any more, as its
// index has it. Nothing: it does not say, or can't be read. Reads some kilobytes; changes and locks nothing.
std::optional<std::uint64_t> newest_commit_ns(const std::string& directory, const LogIdentity& log, Offset base,
                                              Offset end);
// The same of a whole log that nobody writes to and that ends there, before a new ring's clock begins.
struct LogTime {
  std::uint64_t newest_ns = 0;  // 0: nothing tells
  std::uint64_t wall_ahead_ns =
      0;  // by so much the wall clock was ahead of the log's when that segment was begun; 0: it was not
};
LogTime time_of_log(const std::string& directory, const LogIdentity& log, Offset end);

struct AgeQuestion {
  std::span<const Offset> bases;                            // ascending, the oldest first
  std::span<const std::optional<std::uint64_t>> newest_ns;  // of each, newest_commit_ns()
  std::uint64_t segment_bytes = 0;
  std::uint64_t retain_ns = 0;
  std::uint64_t now_ns = 0;  // by the log's clock
  Offset keep_from = 0;      // nothing that reaches past it goes: not durable, being written, or needed by a cursor
};
struct AgePlan {
  std::size_t going = 0;                   // so many of `bases`, the oldest ones
  std::optional<std::uint64_t> due_in_ns;  // when the one behind is too old; nothing: no time tells
};
AgePlan plan_age(const AgeQuestion& question) noexcept;

}  // namespace spillway
