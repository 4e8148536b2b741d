// Goal: a bit that flips anywhere on disk is noticed, costs no more than the 64 KiB range it lies in, and is named by
// verify; nothing is ever delivered that was not written.
// Method: a LogBuilder makes a small log and is the model. One bit is flipped, everything is read and verified, and the
// bit is flipped back. What must be told is worked out from the model alone.
#include <fcntl.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <random>
#include <set>

#include "spillway/core/descriptor.h"
#include "spillway/core/error.h"
#include "spillway/ipc/topic_config.h"
#include "spillway/persist/cursor_file.h"
#include "spillway/persist/segment_history.h"
#include "spillway/persist/verify.h"
#include "support/catch.h"
#include "support/log_builder.h"
#include "support/tried_less.h"

using namespace spillway;
using namespace spillway_test;

namespace {

constexpr std::uint64_t kRing = 128 * kKiB;
constexpr std::uint64_t kSegment = 128 * kKiB;
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
  while (log.end() + kRing / 2 + 1024 < to) {
    const auto kind = random() % 12;
    if (kind == 0) {
      log.append(text(kRing / 4 - 16 - random() % 30000));
    } else if (kind < 4) {
      std::vector<std::string> batch;
      for (std::uint64_t i = 0, n = 2 + random() % 9; i < n; ++i) batch.push_back(text(random() % 2000));
      log.append_batch(batch);
    } else if (kind == 4) {
      const Offset room = std::min(kRing - log.end() % kRing, to - log.end());
      log.pad_to(log.end() + std::min<Offset>(room, 16 + random() % 7000 * 16));
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
    append_mixed(log, second_ring_begin + 50'000 / 16 * 16, random);
    if (on_full == OnFull::overwrite) {
      log.gap_to(log.end() + 30'000 / 16 * 16);
      append_mixed(log, second_ring_begin + kSegment - 9'600, random);
      log.gap_to(second_ring_begin + 3 * kSegment + 10'000 / 16 * 16);
    }
    append_mixed(log, align_down(log.end(), kSegment) + 2 * kSegment + 20'000 / 16 * 16, random);
    log.append_batch({"the", "last", "claim"});
    durable = how == End::clean ? log.end() : log.boundary_from(log.end() - kSegment / 2);
    log.synced_to(durable);
    log.flush(0);
    log.flush(1);
    log.write_horizon(how == End::clean ? log.end() : second_ring_begin + kGiB, how == End::clean);
    for (const LogBuilder::Record& r : log.records()) {
      if (!file_exists(log.path_of(r.offset))) continue;  // wholly inside a gap
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

// Another one in each run; SPILLWAY_SEED repeats one.
std::uint64_t seed_of_today() {
  const char* const wanted = std::getenv("SPILLWAY_SEED");
  const std::uint64_t seed = wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : std::random_device{}();
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
        for (unsigned i = 0; i < 1'500 / spillway_test::tried_less();) {
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
            if (wanted == sound)
              ++in_padding;
            else
              ++gaps;
            if (!names(r, range)) ++undetected;
          }
          REQUIRE(undetected == 0);
        }
      }
    }
  }
  std::cerr << "damage: " << flips << " flips: " << gaps << " gaps, " << in_padding << " in padding, " << cut
            << " at a torn end, " << undetected << " undetected; " << harmless << " where nothing counts\n";
  CHECK(flips == 8 * (1'500 / spillway_test::tried_less()));
}

TEST_CASE("damage: the body of padding at the end of a log, or of a ring that was lost, is not forgotten by verify") {
  const Offset begin = GENERATE(Offset{0}, kFourGiB - kSegment, kFourGiB - 3 * kSegment);
  const bool lost = GENERATE(false, true);
  const TempDirectory directory(kFast);
  LogBuilder log(directory.path(), test_config(kRing, kSegment), begin);
  log.append("before");
  log.pad_to(begin + kRangeBytes + 20'000 / 16 * 16);  // its last range is not full: nothing follows
  if (lost) {
    log.synced_to(log.end());
    log.flush();
    log.next_ring(log.end(), begin + 3 * kSegment, GapCause::crash);
    log.append("behind");
  }
  log.synced_to(log.end());
  log.flush();
  log.write_horizon(log.end(), true);
  const auto verify = [&] { return verify_partition(directory.path(), log.config(), 0, nullptr); };
  REQUIRE(verify().sound());
  flip_bit(log.path_of(begin), log.file_pos(begin + kRangeBytes + 300));
  const VerifyResult r = verify();
  INFO(text_of(r));
  CHECK(names(r, begin + kRangeBytes));
  CHECK(r.records == (lost ? 2 : 1));
}

TEST_CASE("damage: behind an older index entry that holds, padding is not taken for sound") {
  const TempDirectory directory(kFast);
  LogBuilder log(directory.path(), test_config(kRing, kSegment));
  log.append("before");
  log.pad_to(kRangeBytes + 4096);
  log.flush(1);  // home B knows a part of the range only
  LogBuilder longer(directory.path() + "/longer", test_config(kRing, kSegment));
  std::filesystem::create_directory(directory.path() + "/longer");
  longer.append("before");
  longer.pad_to(kSegment);
  longer.synced_to(kSegment);
  longer.flush(0);
  longer.write_horizon(kSegment, true);
  std::vector<char> home(kBlock);
  const FileDescriptor from = open_file(log.path_of(0), O_RDONLY);
  const FileDescriptor to = open_file(longer.path_of(0), O_RDWR);
  REQUIRE(read_at(from.get(), home.data(), kBlock, index_block_pos(kSegment, 0, 1)) == 0);
  REQUIRE(write_at(to.get(), home.data(), kBlock, index_block_pos(kSegment, 0, 1)) == 0);
  const auto verify = [&] { return verify_partition(longer.directory(), longer.config(), 0, nullptr); };
  REQUIRE(verify().sound());
  flip_bit(longer.path_of(0), longer.file_pos(kRangeBytes + 50'000));
  CHECK(names(verify(), kRangeBytes));
}

TEST_CASE("damage: each bit of a segment's header costs nothing and is named") {
  const Offset begin = GENERATE(Offset{0}, kFourGiB - 2 * kSegment);
  const Scene scene(begin, End::clean, OnFull::block, 5);
  const std::vector<Event> sound = scene.expected(kOffsetEnd);
  for (const Offset base : {begin, scene.second_ring_begin}) {
    const std::string path = scene.log.path_of(base);
    for (std::uint64_t byte = 0; byte < sizeof(SegmentHeader) + 8; ++byte) {
      for (unsigned bit = 0; bit < 8; ++bit) {
        INFO("segment " << base << " byte " << byte << " bit " << bit);
        flip_bit(path, byte, bit);
        const Drained drained = scene.read();
        const VerifyResult r = scene.verify();
        flip_bit(path, byte, bit);
        INFO(text_of(r));
        if (drained.events != sound) FAIL(first_difference(drained.events, sound));
        if (byte >= sizeof(SegmentHeader)) {
          REQUIRE(r.sound());
          continue;
        }
        REQUIRE(r.damage.size() == 1);
        REQUIRE(r.damage[0].segment == base);
        REQUIRE(r.damage[0].what.find(path) != std::string::npos);
      }
    }
  }
}

TEST_CASE("damage: each bit of an index costs nothing while its other home is intact, and is named") {
  const Scene scene(kFourGiB - 2 * kSegment, GENERATE(End::clean, End::unclean), OnFull::block, 6);
  const std::vector<Event> sound = scene.expected(kOffsetEnd);
  const std::uint64_t records = scene.verify().records;
  const Offset base = GENERATE(false, true) ? scene.bases.back() : scene.second_ring_begin;
  const std::string path = scene.log.path_of(base);
  const std::uint64_t used = kSegment / kRangeBytes * sizeof(IndexEntry);
  for (unsigned home = 0; home < 2; ++home) {
    const std::uint64_t begin = index_block_pos(kSegment, 0, home);
    for (std::uint64_t byte = 0; byte < used; ++byte) {
      const unsigned bit = static_cast<unsigned>((byte * 5 + home) % 8);
      INFO("segment " << base << " home " << home << " byte " << byte << " bit " << bit);
      flip_bit(path, begin + byte, bit);
      const VerifyResult r = scene.verify();
      if (byte % 4 == 0) REQUIRE(scene.read().events == sound);
      flip_bit(path, begin + byte, bit);
      INFO(text_of(r));
      REQUIRE(r.damage.empty());
      REQUIRE(r.records == records);
      REQUIRE(r.end == scene.log.end());
      REQUIRE(r.problems.size() == 1);
      REQUIRE(r.problems[0].find(path) != std::string::npos);
    }
  }
}

TEST_CASE("damage: an index entry that is damaged in both homes costs its range, or what was not known to be synced") {
  const std::uint64_t seed = seed_of_today();
  std::mt19937_64 random(seed);
  const Scene scene(GENERATE(Offset{0}, kFourGiB - 2 * kSegment), GENERATE(End::clean, End::unclean),
                    GENERATE(OnFull::block, OnFull::overwrite), seed);
  for (const Offset range : scene.written_ranges) {
    if (!scene.counts(range)) continue;
    const Offset base = align_down(range, kSegment);
    const std::uint64_t slot = (range - base) / kRangeBytes * sizeof(IndexEntry);
    for (int i = 0; i < 8; ++i) {
      std::uint64_t at[2];
      unsigned bit[2];
      for (unsigned home = 0; home < 2; ++home) {
        at[home] = index_block_pos(kSegment, 0, home) + slot + random() % sizeof(IndexEntry);
        bit[home] = static_cast<unsigned>(random() % 8);
        flip_bit(scene.log.path_of(range), at[home], bit[home]);
      }
      const Drained drained = scene.read();
      const VerifyResult r = scene.verify();
      for (unsigned home = 0; home < 2; ++home) flip_bit(scene.log.path_of(range), at[home], bit[home]);
      INFO("seed " << seed << " range " << range << " of " << scene.log.end() << " durable " << scene.durable);
      INFO(text_of(r));
      const std::vector<Event> wanted = scene.expected(range);
      if (drained.events != wanted) FAIL(first_difference(drained.events, wanted));
      REQUIRE(r.problems.size() == 2);
      REQUIRE(r.end == scene.end_without(range));
    }
  }
}

TEST_CASE("damage: each bit of a horizon slot changes nothing and is named, and both slots damaged are refused") {
  const End how = GENERATE(End::clean, End::unclean);
  const Scene scene(kFourGiB - 2 * kSegment, how, OnFull::block, 7);
  const std::string path = horizon_path(scene.directory.path());
  const RecoveredLog sound = recover(scene.directory.path(), scene.log.log());
  for (unsigned slot = 0; slot < 2; ++slot) {
    for (std::uint64_t byte = 0; byte < sizeof(HorizonSlot); ++byte) {
      for (unsigned bit = 0; bit < 8; ++bit) {
        INFO("slot " << slot << " byte " << byte << " bit " << bit);
        flip_bit(path, slot * kBlock + byte, bit);
        const RecoveredLog r = recover(scene.directory.path(), scene.log.log());
        REQUIRE(r.end == sound.end);
        REQUIRE(r.horizon == sound.horizon);
        REQUIRE(r.clean == sound.clean);
        REQUIRE(r.slot->begin == sound.slot->begin);
        if (bit == byte % 8) {
          const VerifyResult v = scene.verify();
          REQUIRE(v.damage.empty());
          REQUIRE(v.problems.size() == 1);
          REQUIRE(v.problems[0].find(path) != std::string::npos);
          const std::uint64_t other = (1 - slot) * kBlock + byte * 3 % sizeof(HorizonSlot);
          flip_bit(path, other, bit);
          REQUIRE_THROWS_AS(recover(scene.directory.path(), scene.log.log()), Error);
          const VerifyResult refused = scene.verify();
          REQUIRE(refused.damage.empty());
          REQUIRE(refused.problems.size() == 1);
          REQUIRE(refused.problems[0].find("restore it from a backup") != std::string::npos);
          flip_bit(path, other, bit);
        }
        flip_bit(path, slot * kBlock + byte, bit);
      }
    }
  }
}

// A horizon that is too small would hand offsets out again.
TEST_CASE("damage: a flipped bit in the newest horizon does not bring an older one back") {
  const TempDirectory directory(kFast);
  const std::string path = horizon_path(directory.path());
  HorizonFile file = HorizonFile::open(path, 7, 0, Sharing::owner);
  for (Offset step = 1; step <= 4; ++step) {
    HorizonFields fields;
    fields.incarnation = step;
    fields.horizon = step * kGiB;
    REQUIRE(file.write(fields) == 0);
    for (unsigned slot = 0; slot < 2; ++slot) {
      flip_bit(path, slot * kBlock + 48 + step, 1);
      REQUIRE(HorizonFile::peek(path, 7, 0)->horizon == step * kGiB);
      REQUIRE(HorizonFile::peek(path, 7, 0)->incarnation == step);
      flip_bit(path, slot * kBlock + 48 + step, 1);
    }
  }
}

TEST_CASE(
    "damage: each bit of a cursor costs at most its last step, and is named, and both slots damaged are refused") {
  const TempDirectory directory(kFast);
  const TopicConfig config = [] {
    TopicConfig c = test_config(kRing, kSegment);
    c.partitions = 3;
    return c;
  }();
  const Offset older = GENERATE(Offset{0}, kFourGiB - 16);
  const std::vector<Offset> first = {older, older + 16, kNoCursorOffset}, second = {older + 64, older + 32, 160};
  const std::string path = directory.path() + "/c";
  {
    const auto cursor = CursorFile::open(directory.path(), "c", 3, config.id, Sharing::owner);
    REQUIRE(cursor->commit(first) == 0);
    REQUIRE(cursor->commit(second) == 0);
  }
  const auto peek = [&] {
    std::vector<Offset> offsets;
    for (const auto& o : CursorFile::peek(directory.path(), "c", 3, config.id).offsets) {
      offsets.push_back(o.value_or(kNoCursorOffset));
    }
    return offsets;
  };
  REQUIRE(peek() == second);
  const std::uint64_t slot_bytes = sizeof(CursorSlot) + 3 * sizeof(Offset);
  unsigned fell_back = 0;
  for (unsigned slot = 0; slot < 2; ++slot) {
    for (std::uint64_t at = 0; at < slot_bytes * 8; ++at) {
      INFO("slot " << slot << " bit " << at);
      flip_bit(path, slot * kCursorSlotBytes + at / 8, at % 8);
      const std::vector<Offset> got = peek();
      REQUIRE((got == second || got == first));
      fell_back += got == first;
      const auto problems = verify_cursors(directory.path(), config);
      REQUIRE(problems.size() == 1);
      REQUIRE(problems[0].find(path) != std::string::npos);
      const std::uint64_t other = (1 - slot) * kCursorSlotBytes + at * 7 % slot_bytes;
      flip_bit(path, other, 3);
      std::string sentence;
      try {
        static_cast<void>(peek());
      } catch (const Error& error) {
        sentence = error.what();
      }
      REQUIRE(sentence.find(path) != std::string::npos);
      REQUIRE(sentence.find("delete it to begin again") != std::string::npos);
      REQUIRE(verify_cursors(directory.path(), config).size() == 1);
      flip_bit(path, other, 3);
      flip_bit(path, slot * kCursorSlotBytes + at / 8, at % 8);
    }
  }
  CHECK(fell_back == slot_bytes * 8);  // the newer slot's bits
  // Who owns it is for display only.
  for (std::uint64_t at = 0; at < sizeof(CursorOwner) * 8; ++at) {
    flip_bit(path, kCursorOwnerPos + at / 8, at % 8);
    REQUIRE(peek() == second);
    REQUIRE(CursorFile::open(directory.path(), "c", 3, config.id, Sharing::owner)->offset(0) == second[0]);
  }
}

TEST_CASE("damage: each bit of topic.json is refused by name, or the configuration is the same") {
  TopicOptions options;
  options.partitions = GENERATE(1U, 3U);
  options.ring = 64 * kKiB;
  options.segment = 128 * kKiB;
  options.retain = kMiB;
  options.on_full = OnFull::overwrite;
  options.sync = SyncPolicy::every_batch;
  options.schema = "quote.v1";
  const TopicConfig config = make_topic_config("quotes", options);
  const std::vector<std::byte> text = to_json(config);
  unsigned same = 0, refused = 0;
  for (std::size_t at = 0; at < text.size() * 8; ++at) {
    std::vector<std::byte> flipped = text;
    flipped[at / 8] ^= std::byte{1} << (at % 8);
    INFO("byte " << at / 8 << " bit " << at % 8);
    try {
      const TopicConfig read = topic_config_from_json(flipped, "/data/quotes/topic.json");
      REQUIRE(to_json(read) == text);
      ++same;
    } catch (const Error& error) {
      INFO(error.what());
      REQUIRE(error.code() == Code::corrupt);
      const std::string sentence = error.what();
      REQUIRE(sentence.find("/data/quotes/topic.json") != std::string::npos);
      REQUIRE(sentence.find("restore it from a copy") != std::string::npos);
      ++refused;
    }
  }
  std::cerr << "damage: topic.json: " << refused << " flips refused, " << same << " harmless of " << text.size() * 8
            << "\n";
  CHECK(refused > same * 10);
}
