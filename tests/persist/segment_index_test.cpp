// Goal: of each range the newest synced entry survives whatever a power loss does to the block being written, and no
// entry is believed that was not written for its place.
#include "spillway/persist/segment_index.h"

#include <cstring>
#include <iostream>
#include <random>
#include <vector>

#include "support/catch.h"

using namespace spillway;

namespace {

constexpr std::uint64_t kSalt = 0xABCD;
using Home = std::array<std::byte, kBlock>;

IndexEntry entry(Offset range, std::uint64_t bytes, Offset durable_end = 0) {
  IndexEntry e{};
  e.range_begin = range;
  e.bytes = static_cast<std::uint32_t>(bytes);
  e.crc = static_cast<std::uint32_t>(range + bytes);
  e.boundary = range + bytes;
  e.first_boundary = range;
  e.durable_end = durable_end;
  return e;
}

void put(Home& home, Offset base, const IndexEntry& e) {
  const IndexEntry whole = sealed(e, kSalt);
  std::memcpy(home.data() + (e.range_begin - base) / kRangeBytes % 64 * sizeof whole, &whole, sizeof whole);
}

}  // namespace

TEST_CASE("index: an entry is valid in its place only") {
  const Offset range = 7 * kRangeBytes;
  const IndexEntry good = sealed(entry(range, 4096), kSalt);
  CHECK(entry_valid(good, kSalt, range));
  CHECK_FALSE(entry_valid(good, kSalt + 1, range));
  CHECK_FALSE(entry_valid(good, kSalt, range + kRangeBytes));
  CHECK_FALSE(entry_valid(IndexEntry{}, kSalt, 0));
  for (std::size_t bit = 0; bit < sizeof(IndexEntry) * 8; ++bit) {
    IndexEntry flipped = good;
    auto* bytes = reinterpret_cast<unsigned char*>(&flipped);
    bytes[bit / 8] = static_cast<unsigned char>(bytes[bit / 8] ^ (1U << (bit % 8)));
    REQUIRE_FALSE(entry_valid(flipped, kSalt, range));
  }
  // Sealed, but out of range: as a bug, or malice, would write it.
  const auto refused = [&](auto change) {
    IndexEntry e = entry(range, 4096);
    change(e);
    return !entry_valid(sealed(e, kSalt), kSalt, range);
  };
  CHECK(refused([](IndexEntry& e) { e.bytes = 0; }));
  CHECK(refused([](IndexEntry& e) { e.bytes = kRangeBytes + 16; }));
  CHECK(refused([](IndexEntry& e) { e.bytes = 4097; }));
  CHECK(refused([](IndexEntry& e) { e.boundary += 16; }));
  CHECK(refused([](IndexEntry& e) { e.boundary -= 1; }));
  CHECK(refused([](IndexEntry& e) { e.first_boundary -= 16; }));
  CHECK(refused([](IndexEntry& e) { e.first_boundary = e.range_begin + 4096; }));
  CHECK(refused([](IndexEntry& e) { e.durable_end = UINT64_MAX; }));
  CHECK_FALSE(refused([](IndexEntry& e) { e.first_boundary = kNoBoundary; }));
  CHECK_FALSE(refused([](IndexEntry& e) { e.boundary = 0; }));
}

TEST_CASE("index: candidates are sorted by what they cover, and equal ones count once") {
  const Offset base = 128 * kRangeBytes;
  const Offset range = base + 70 * kRangeBytes;  // in the segment's second block
  Home a{}, b{};
  CHECK(candidates(a, b, kSalt, base, range).count == 0);
  put(a, base, entry(range, 100 * 16));
  CHECK(candidates(a, b, kSalt, base, range).count == 1);
  put(b, base, entry(range, 100 * 16, 512));
  const Candidates same = candidates(a, b, kSalt, base, range);
  CHECK(same.count == 1);
  CHECK(same.entries[0].durable_end == 512);
  put(b, base, entry(range, 200 * 16));
  const Candidates two = candidates(a, b, kSalt, base, range);
  REQUIRE(two.count == 2);
  CHECK(two.entries[0].bytes == 200 * 16);
  CHECK(two.entries[1].bytes == 100 * 16);
}

TEST_CASE("index: the homes take turns by what was synced") {
  IndexBlock block(kSalt, 0);
  CHECK_FALSE(block.dirty());
  CHECK(block.settled());
  CHECK(block.home_to_write() == 0U);
  const auto write = [&](bool ok = true) {
    block.write_submitted();
    CHECK_FALSE(block.home_to_write());  // one write of a block at a time
    block.write_completed(ok);
  };
  block.update(entry(0, 16));
  CHECK(block.dirty());
  write();
  CHECK_FALSE(block.dirty());
  CHECK_FALSE(block.settled());        // written, not synced
  CHECK(block.home_to_write() == 0U);  // nothing was ever synced: the same home again
  block.update(entry(0, 32));
  write();
  block.sync_submitted();
  CHECK_FALSE(block.home_to_write());  // must survive if the sync succeeds, and so must the other if it fails
  block.update(entry(0, 48));          // but the image may go on
  block.sync_completed(true);
  CHECK(block.durable_home() == 0U);
  CHECK(block.dirty());
  CHECK(block.home_to_write() == 1U);
  write();
  block.sync_submitted();
  block.sync_completed(false);  // may be lost: the other home stays, this one is written again
  CHECK(block.durable_home() == 0U);
  CHECK(block.dirty());
  CHECK(block.home_to_write() == 1U);
  write(false);
  CHECK(block.dirty());
  block.sync_submitted();
  block.sync_completed(true);  // covered nothing of this block
  CHECK(block.durable_home() == 0U);
  write();
  block.sync_submitted();
  block.sync_completed(true);
  CHECK(block.durable_home() == 1U);
  CHECK(block.settled());
  CHECK(block.home_to_write() == 0U);
}

TEST_CASE("index: a sync submitted while a write is under way does not cover it") {
  IndexBlock block(kSalt, 0);
  block.update(entry(0, 16));
  block.write_submitted();
  block.sync_submitted();
  block.write_completed(true);
  block.sync_completed(true);
  CHECK_FALSE(block.durable_home());
  CHECK_FALSE(block.settled());
  CHECK(block.home_to_write() == 0U);
}

// Method: random steps of a writer; at each a power loss is tried: each home is any mixture, sector by sector, of
// what was on the medium, what completed writes left, and the write under way, which may also tear a sector to
// rubbish. Every entry that a sync covered must still be there with at least its bytes.
TEST_CASE("index: no power loss takes a synced entry") {
  const std::uint64_t seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  std::mt19937_64 random(seed);
  using Coverage = std::array<std::uint64_t, 64>;
  unsigned syncs = 0;
  for (int round = 0; round < 200; ++round) {
    IndexBlock block(kSalt, 0);
    std::array<Home, 2> medium{}, cache{};
    Home under_way{};
    Coverage image{}, in_write{}, completed{}, in_sync{}, synced{};
    unsigned home = 0;
    bool writing = false, syncing = false;
    for (int step = 0; step < 200; ++step) {
      const auto kind = random() % 6;
      if (kind < 2) {
        const std::size_t range = random() % 64;
        image[range] = std::min<std::uint64_t>(kRangeBytes, image[range] + 16 * (1 + random() % 1000));
        block.update(entry(range * kRangeBytes, image[range]));
      } else if (kind == 2 && !writing && block.dirty() && block.home_to_write()) {
        writing = true;
        home = *block.home_to_write();
        std::memcpy(under_way.data(), block.image().data(), kBlock);
        in_write = image;
        block.write_submitted();
      } else if (kind == 3 && writing) {
        writing = false;
        cache[home] = under_way;
        completed = in_write;
        block.write_completed(true);
      } else if (kind == 4 && !syncing && !writing) {
        syncing = true;
        in_sync = completed;
        block.sync_submitted();
      } else if (kind == 5 && syncing) {
        syncing = false;
        if (random() % 4 != 0) {
          // A write that completed meanwhile went to a home that this sync need not have covered.
          const auto before = block.durable_home();
          block.sync_completed(true);
          if (block.durable_home() != before) {
            medium[*block.durable_home()] = cache[*block.durable_home()];
            synced = in_sync;
            ++syncs;
          }
        } else {
          block.sync_completed(false);
          for (unsigned h = 0; h < 2; ++h) {
            if (block.durable_home() != h && !writing) cache[h] = medium[h];
          }
          completed = synced;
        }
      }
      std::array<Home, 2> left{};
      for (unsigned h = 0; h < 2; ++h) {
        for (std::size_t sector = 0; sector < kBlock; sector += 512) {
          const bool torn = writing && home == h;
          const Home& source = torn && random() % 2 == 0 ? under_way : random() % 2 == 0 ? cache[h] : medium[h];
          std::memcpy(left[h].data() + sector, source.data() + sector, 512);
          if (torn && random() % 8 == 0) left[h][sector + random() % 512] = std::byte{0x5A};
        }
      }
      for (std::size_t i = 0; i < 64; ++i) {
        const Candidates found = candidates(left[0], left[1], kSalt, 0, i * kRangeBytes);
        const std::uint64_t bytes = found.count == 0 ? 0 : found.entries[0].bytes;
        REQUIRE(bytes >= synced[i]);
      }
    }
  }
  CHECK(syncs > 100);  // the scene
}

TEST_CASE("index: a take-over keeps the home that covers what is durable") {
  struct Row {
    const char* name;
    std::vector<std::uint64_t> a, b;  // bytes of ranges 0, 1 ...; 0: none
    Offset durable_end, written_end;
    bool entries_prove;
    std::optional<unsigned> kept;
    std::vector<std::uint64_t> image;
    bool dirty;
  };
  constexpr std::uint64_t F = kRangeBytes;
  // clang-format off
  const std::vector<Row> rows = {
      {"nothing",                        {},       {},         0,      0,       false, std::nullopt, {},        false},
      {"one home",                       {F, 160}, {},         F,      F + 160, false, 0U,           {F, 160},  false},
      {"the other is newer and whole",   {F, 160}, {F, 320},   F+160,  F + 320, false, 1U,           {F, 320},  false},
      {"the other is newer and torn",    {F, 160}, {0, 320},   F+160,  F + 320, false, 0U,           {F, 320},  true},
      {"torn behind what is durable",    {F, 160}, {F, 0},     F,      F + 160, false, 0U,           {F, 160},  false},
      {"an entry past what was written", {F, 160}, {F, 320},   F+160,  F + 160, false, 0U,           {F, 160},  false},
      {"the same, its bytes are there",  {F, 160}, {F, 320},   F+320,  F + 160, true,  1U,           {F, 160},  true},
      {"only the other covers as much",  {F, 160}, {F, 320},   F+160,  F + 160, true,  0U,           {F, 160},  false},
      {"a skipped range in both",        {F, 0, 16}, {F, 0, 32}, 2*F+16, 2*F + 32, false, 1U,        {F, 0, 32}, false}};
  // clang-format on
  for (const Row& row : rows) {
    INFO(row.name);
    Home a{}, b{};
    for (std::size_t i = 0; i < row.a.size(); ++i) {
      if (row.a[i] != 0) put(a, 0, entry(i * F, row.a[i]));
    }
    for (std::size_t i = 0; i < row.b.size(); ++i) {
      if (row.b[i] != 0) put(b, 0, entry(i * F, row.b[i]));
    }
    const IndexBlock block = IndexBlock::load(a, b, kSalt, 0, row.durable_end, row.written_end, row.entries_prove);
    CHECK(block.durable_home() == row.kept);
    CHECK(block.dirty() == row.dirty);
    for (std::size_t i = 0; i < row.image.size(); ++i) {
      const auto found = block.entry(i * F);
      CHECK((found ? found->bytes : 0) == row.image[i]);
    }
    if (row.kept) CHECK(block.home_to_write() == 1 - *row.kept);
  }
}
