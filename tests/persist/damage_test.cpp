// Goal: a bit that flips anywhere on disk is noticed, costs no more than the 64 KiB range it lies in, and is named by
// verify; nothing is ever delivered that was not written.
// Method: a LogBuilder makes a small log and is the model. One bit is flipped, everything is read and verified, and the
// bit is flipped back. What must be told is worked out from the model alone.
#include <algorithm>
#include <cstring>
#include <iostream>
#include <random>
#include <set>

#include "spillway/core/descriptor.h"
#include "spillway/core/error.h"
#include "spillway/persist/cursor_file.h"
#include "spillway/persist/segment_history.h"
#include "spillway/persist/verify.h"
#include "support/catch.h"
#include "support/log_builder.h"
#include "support/place.h"

using namespace spillway;
using namespace spillway_test;

namespace {

constexpr std::uint64_t kRing = 256 * kKiB;
constexpr std::uint64_t kSegment = 256 * kKiB;
constexpr Offset kFourGiB = Offset{1} << 32;
// In memory: ten thousand flips are read back twice each, and no disk need turn for that.
const char* const kFast = "/dev/shm";

// Records of all sizes, batches, padding over whole ranges.
void append_mixed(LogBuilder& log, Offset to, std::mt19937_64& random) {
  const auto text = [&](std::uint64_t bytes) {
    std::string s(bytes, '\0');
    for (char& c : s) c = static_cast<char>(random());
    return s;
  };
  while (log.end() + kRing / 2 < to) {
    const auto kind = random() % 12;
    if (kind == 0) {
      log.append(text(kRing / 4 - 16 - random() % 30000));
    } else if (kind < 4) {
      std::vector<std::string> batch;
      for (std::uint64_t i = 0, n = 2 + random() % 9; i < n; ++i) batch.push_back(text(random() % 2000));
      log.append_batch(batch);
    } else if (kind == 4) {
      log.pad_to(log.end() + std::min<Offset>(kRing - log.end() % kRing, 16 + random() % 9000 * 16));
    } else {
      log.append(text(random() % 700));
    }
  }
  log.fill_to(to, 900);
}

enum class End { clean, unclean };

// Two rings' worth of log: the first was lost in a crash, the second ended cleanly, or lost its power with a part of it
// not known to be synced. On an `overwrite` topic the second has gap records, within a segment and over whole ones.
struct Scene {
  Scene(Offset log_begin, End how, OnFull on_full, std::uint64_t seed)
      : begin(log_begin), end_kind(how), log(directory.path(), test_config(kRing, kSegment, on_full), log_begin) {
    std::mt19937_64 random(seed);
    append_mixed(log, begin + kSegment + 70'000 / 16 * 16, random);
    first_ring_end = log.end();
    log.synced_to(log.end());
    log.flush(0);
    second_ring_begin = begin + 3 * kSegment;
    log.next_ring(first_ring_end, second_ring_begin, GapCause::crash);
    append_mixed(log, second_ring_begin + 100'000 / 16 * 16, random);
    if (on_full == OnFull::overwrite) {
      log.gap_to(log.end() + 50'000 / 16 * 16);
      append_mixed(log, second_ring_begin + kSegment - 9'600, random);
      log.gap_to(second_ring_begin + 3 * kSegment + 10'000 / 16 * 16);
    }
    append_mixed(log, align_down(log.end(), kSegment) + 2 * kSegment + 20'000 / 16 * 16, random);
    durable = how == End::clean ? log.end() : log.boundary_from(log.end() - kSegment / 2);
    // Behind it a few claims and no long padding: the end is what a power cut left.
    log.append_batch({"the", "last", "claim"});
    if (how == End::clean) durable = log.end();
    log.synced_to(durable);
    log.flush(0);
    log.flush(1);
    log.write_horizon(how == End::clean ? log.end() : second_ring_begin + kGiB, how == End::clean);
    for (const LogBuilder::Record& r : log.records()) {
      const Offset last = r.gap ? r.offset : r.end - 1;
      for (Offset range = range_begin_of(r.offset); range <= last; range += kRangeBytes) written_ranges.insert(range);
    }
    for (Offset base = begin; base < log.end(); base += kSegment) {
      if (file_exists(log.path_of(base))) bases.push_back(base);
    }
  }

  // Whether an index entry vouches for the byte.
  bool counts(Offset offset) const {
    return offset < log.end() && written_ranges.contains(range_begin_of(offset)) &&
           (offset < first_ring_end || offset >= second_ring_begin);
  }
  static bool needs(const LogBuilder::Record& r, Offset range) {
    const Offset last = r.padding || r.gap ? r.offset : r.end - 1;
    return r.offset < range + kRangeBytes && last >= range;
  }
  // Where the log is found to end when the range can't be had.
  Offset end_without(Offset range) const {
    if (end_kind == End::clean || range + kRangeBytes <= durable) return log.end();
    if (range <= durable) return durable;
    Offset claim = 0;
    for (const LogBuilder::Record& r : log.records()) {
      if (r.begins_claim) claim = r.offset;
      if (needs(r, range)) return claim;
    }
    return log.end();
  }
  Offset data_end(Offset in_range) const {
    const Offset segment_end = align_down(in_range, kSegment) + kSegment;
    return in_range < first_ring_end ? std::min(segment_end, first_ring_end) : segment_end;
  }
  // What a reader must be told when the range can't be had (kOffsetEnd: none).
  std::vector<Event> expected(Offset bad) const {
    const Offset log_end = end_without(bad);
    std::vector<Event> events;
    const auto gap = [&](Offset from, Offset to, GapCause cause) {
      if (!events.empty() && events.back().what == Event::What::gap && events.back().to == from &&
          events.back().cause == cause) {
        events.back().to = to;
      } else {
        events.push_back({Event::What::gap, from, to, "", cause});
      }
    };
    Offset at = begin;
    bool crossed = false;
    for (const LogBuilder::Record& r : log.records()) {
      if (!crossed && r.offset >= second_ring_begin) {
        gap(first_ring_end, second_ring_begin, GapCause::crash);
        crossed = true;
      }
      if (r.offset < at || r.offset >= log_end) continue;
      at = r.end;
      if (needs(r, bad)) {
        at = std::min(data_end(bad), log_end);
        for (const LogBuilder::Record& next : log.records()) {
          if (next.begins_claim && next.offset >= bad + kRangeBytes) {
            at = std::min(at, next.offset);
            break;
          }
        }
        gap(r.offset, at, GapCause::damaged);
      } else if (r.gap) {
        gap(r.offset, r.end, GapCause::overwritten);
      } else if (!r.padding) {
        events.push_back({Event::What::record, r.offset, r.end, r.payload, GapCause::none});
      }
    }
    return events;
  }
  Drained read() const {
    SegmentHistory history(log.directory(), log.config(), 0, nullptr, FileIo::buffered, IoKind::pwrite);
    return drain(history, history.begin());
  }
  VerifyResult verify() const { return verify_partition(log.directory(), log.config(), 0, nullptr); }
  void flip(Offset offset, unsigned bit) const { flip_bit(log.path_of(offset), log.file_pos(offset), bit); }

  TempDirectory directory{kFast};
  Offset begin;
  End end_kind;
  LogBuilder log;
  Offset first_ring_end = 0;
  Offset second_ring_begin = 0;
  Offset durable = 0;
  std::set<Offset> written_ranges;
  std::vector<Offset> bases;
};

std::string first_difference(const std::vector<Event>& got, const std::vector<Event>& wanted) {
  std::size_t i = 0;
  while (i < got.size() && i < wanted.size() && got[i] == wanted[i]) ++i;
  const auto from = [&](const std::vector<Event>& events) {
    const auto first = events.begin() + static_cast<std::ptrdiff_t>(std::min(i, events.size()));
    return to_string({first, std::min(events.end(), first + 4)});
  };
  return "got\n" + from(got) + "wanted\n" + from(wanted);
}

bool names(const VerifyResult& r, Offset range) {
  return std::any_of(r.damage.begin(), r.damage.end(), [&](const LogDamage& d) {
    return d.segment == align_down(range, kSegment) && d.from < range + kRangeBytes && d.to > range;
  });
}

std::string text_of(const VerifyResult& r) {
  std::string text;
  for (const LogDamage& d : r.damage) {
    text += std::to_string(d.from) + ".." + std::to_string(d.to) + " " + d.what + "\n";
  }
  for (const std::string& p : r.problems) text += p + "\n";
  return text;
}

std::uint64_t seed_of_today() {
  const std::uint64_t seed = std::random_device{}();
  std::cerr << "damage: seed " << seed << "\n";
  return seed;
}

}  // namespace

TEST_CASE("damage: of 12,000 random flips in segment data every one is detected, and costs its range at most") {
  const std::uint64_t seed = seed_of_today();
  std::mt19937_64 random(seed);
  unsigned flips = 0, undetected = 0, harmless = 0, cut = 0, gaps = 0, in_padding = 0;
  for (const Offset begin : {Offset{0}, kFourGiB - 2 * kSegment}) {
    for (const End how : {End::clean, End::unclean}) {
      for (const OnFull on_full : {OnFull::block, OnFull::overwrite}) {
        const Scene scene(begin, how, on_full, seed);
        const std::vector<Event> sound = scene.expected(kOffsetEnd);
        {
          const Drained drained = scene.read();
          if (drained.events != sound) FAIL("undamaged: " << first_difference(drained.events, sound));
          const VerifyResult r = scene.verify();
          INFO(text_of(r));
          REQUIRE(r.sound());
        }
        for (unsigned i = 0; i < 1'500;) {
          const Offset base = scene.bases[random() % scene.bases.size()];
          const Offset offset = base + random() % kSegment;
          const Offset range = range_begin_of(offset);
          const unsigned bit = static_cast<unsigned>(random() % 8);
          const bool counts = scene.counts(offset);
          if (!counts && harmless >= flips / 20) continue;
          INFO("seed " << seed << " begin " << begin << " clean " << (how == End::clean) << " overwrite "
                       << (on_full == OnFull::overwrite) << " offset " << offset << " bit " << bit << " durable "
                       << scene.durable << " end " << scene.log.end());
          scene.flip(offset, bit);
          const Drained drained = scene.read();
          const VerifyResult r = scene.verify();
          scene.flip(offset, bit);
          INFO(text_of(r));
          const std::vector<Event> wanted = counts ? scene.expected(range) : sound;
          if (drained.events != wanted) FAIL(first_difference(drained.events, wanted));
          REQUIRE(drained.last.status == HistoryStatus::end);
          if (!counts) {
            REQUIRE(r.sound());
            ++harmless;
            continue;
          }
          ++i;
          ++flips;
          const Offset end = scene.end_without(range);
          REQUIRE(drained.last.begin == end);
          REQUIRE(r.end == end);
          if (range + kRangeBytes > scene.durable && how == End::unclean) {
            // Behind what is known to be synced a flipped bit and a torn write look the same: the log ends before it.
            ++cut;
            if (end == scene.log.end() && r.sound()) ++undetected;
          } else {
            if (wanted == sound) ++in_padding; else ++gaps;
            if (!names(r, range)) ++undetected;
          }
          REQUIRE(undetected == 0);
        }
      }
    }
  }
  std::cerr << "damage: " << flips << " flips: " << gaps << " gaps, " << in_padding << " in padding, " << cut
            << " at a torn end, " << undetected << " undetected; " << harmless << " where nothing counts\n";
  CHECK(flips == 12'000);
}
