// The horizon file: looked at, read, and written, on its own and by a recovery that seals what it found.
//
// Asserted: looking and reading come to the same answer, an Error that says what is wrong or a slot whose values are
// in order; what write() returned 0 for is what is found afterwards; a recovery that finds a usable horizon seals one
// that is usable again, begins at a segment and never takes an offset back.
#include <algorithm>
#include <optional>

#include "fuzz_support.h"
#include "spillway/core/bytes.h"
#include "spillway/core/checksum.h"
#include "spillway/core/error.h"
#include "spillway/persist/horizon_file.h"
#include "spillway/persist/recovery.h"
#include "support/log_builder.h"

using namespace spillway;
using namespace spillway_fuzz;

namespace {

constexpr std::uint64_t kSegment = 64 * kKiB;

LogIdentity log_identity() { return LogIdentity::of(spillway_test::test_config(64 * kKiB, kSegment), 0); }

std::vector<std::byte> good_image() {
  std::vector<std::byte> image(2 * kBlock);
  for (unsigned i = 0; i < 2; ++i) {
    store(image, i * kBlock,
          HorizonSlot{kHorizonMagic, kHorizonVersion, 0, log_identity().topic_id, i + 1U, 7, kSegment,
                      (i + 2) * kSegment, kSegment, 0, 0, 0});
  }
  return image;
}

void mend(std::span<std::byte> image) {
  for (unsigned i = 0; i < 2; ++i) {
    auto slot = load<HorizonSlot>(image, i * kBlock);
    slot.checksum = xxh3(image.subspan(i * kBlock, offsetof(HorizonSlot, checksum)));
    store(image, i * kBlock, slot);
  }
}

std::string path() { return horizon_path(scratch()); }

struct Found {
  std::optional<Code> refused;
  std::optional<HorizonSlot> slot;
};

template <class Look>
Found found_by(Look&& look) {
  try {
    return {std::nullopt, look()};
  } catch (const Error& error) {
    return {error.code(), std::nullopt};
  }
}
Found peeked() {
  return found_by([] { return HorizonFile::peek(path(), log_identity().topic_id, 0); });
}

bool same(const Found& a, const Found& b) {
  if (a.refused != b.refused || a.slot.has_value() != b.slot.has_value()) return false;
  return !a.slot || std::memcmp(&*a.slot, &*b.slot, sizeof *a.slot) == 0;
}

void check_found(const Found& found) {
  if (found.refused) {
    SPILLWAY_ASSERT(*found.refused == Code::corrupt || *found.refused == Code::unsupported);
    return;
  }
  SPILLWAY_ASSERT(found.slot.has_value());
  const HorizonSlot& s = *found.slot;
  SPILLWAY_ASSERT(s.previous_end <= s.begin && s.begin <= s.horizon && s.horizon <= 2 * kOffsetEnd);
  SPILLWAY_ASSERT(is_aligned(s.previous_end | s.begin | s.horizon, kRecordAlign));
  SPILLWAY_ASSERT(s.clean <= 1 && s.previous_cause <= static_cast<std::uint64_t>(GapCause::damaged));
}

void check_written(HorizonFile& file, const HorizonFields& fields) {
  SPILLWAY_ASSERT(file.write(fields) == 0);
  const Found now = peeked();
  check_found(now);
  SPILLWAY_ASSERT(now.slot && now.slot->horizon == fields.horizon && now.slot->begin == fields.begin &&
                  now.slot->incarnation == fields.incarnation && now.slot->previous_end == fields.previous_end &&
                  (now.slot->clean != 0) == fields.clean);
}

// What making the next ring does, in a log without segments.
void check_sealing(HorizonFile& file, const HorizonSlot& before) {
  const RecoveredLog recovered = recover(scratch(), log_identity(), FileIo::buffered);
  SPILLWAY_ASSERT(recovered.begin <= recovered.end && recovered.synced_end <= recovered.end);
  SPILLWAY_ASSERT(recovered.horizon >= recovered.end);
  if (before.horizon > kOffsetEnd) return;  // the log is at its end: no ring is made any more
  const HorizonFields sealed = seal_fields(recovered, kSegment, 8, kGiB);
  SPILLWAY_ASSERT(is_aligned(sealed.begin, kSegment) && sealed.begin >= before.horizon);
  SPILLWAY_ASSERT(sealed.horizon >= sealed.begin && sealed.previous_end <= sealed.begin);
  check_written(file, sealed);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  Source source({data, bytes});
  const std::uint8_t how = source.byte();
  std::vector<std::byte> image = good_image();
  for (unsigned edits = source.byte() % 16; edits > 0 && !source.empty(); --edits) {
    const std::size_t slot = source.byte() % 2 * kBlock;
    edit(source, std::span(image).subspan(slot, (how & 2) != 0 ? kBlock : sizeof(HorizonSlot)));
  }
  if ((how & 1) != 0) mend(image);
  if ((how & 4) != 0) image.resize(source.number<std::uint16_t>() % (image.size() + 1));
  put_file(path(), image);

  const Found looked = peeked();
  check_found(looked);
  HorizonFile file = HorizonFile::open(path(), log_identity().topic_id, 0, Sharing::owner);
  SPILLWAY_ASSERT(same(looked, found_by([&] { return file.read(); })));
  if (!looked.slot) return 0;
  HorizonFields fields = HorizonFields::of(*looked.slot);
  check_written(file, fields);
  fields.horizon = std::clamp(align_down(source.word(), kRecordAlign), fields.begin, 2 * kOffsetEnd);
  fields.clean = (how & 8) != 0;
  check_written(file, fields);
  check_sealing(file, *peeked().slot);
  return 0;
}
