// A cursor's file: looked at, opened, and moved on.
//
// Asserted: looking and opening come to the same answer, which is an Error that says what is wrong, or offsets that
// can be; an offset never goes backward; what commit() returned 0 for is what is found afterwards, by looking and by
// opening.
#include <algorithm>
#include <optional>

#include "fuzz_support.h"
#include "spillway/core/bytes.h"
#include "spillway/core/checksum.h"
#include "spillway/core/error.h"
#include "spillway/persist/cursor_file.h"

using namespace spillway;
using namespace spillway_fuzz;

namespace {

constexpr std::uint64_t kTopic = 0x1234'5678'9ABC'DEF1U;
constexpr char kName[] = "c";

std::vector<std::byte> good_image(std::uint32_t partitions) {
  std::vector<std::byte> image(kCursorFileBytes);
  for (unsigned i = 0; i < 2; ++i) {
    store(image, i * kCursorSlotBytes, CursorSlot{kCursorMagic, kCursorVersion, partitions, kTopic, i + 1U, 1, 0});
    for (std::uint32_t p = 0; p < partitions; ++p) {
      store(image, i * kCursorSlotBytes + sizeof(CursorSlot) + p * sizeof(Offset),
            p % 3 == 2 ? kNoCursorOffset : Offset{p + i} * kRecordAlign);
    }
  }
  return image;
}

void mend(std::span<std::byte> image) {
  for (unsigned i = 0; i < 2; ++i) {
    const std::span<std::byte> place = image.subspan(i * kCursorSlotBytes, kCursorSlotBytes);
    auto slot = load<CursorSlot>(place, 0);
    slot.checksum = 0;
    store(place, 0, slot);
    const std::size_t offsets = std::min(slot.partitions, kPartitionsMax) * sizeof(Offset);
    slot.checksum = xxh3(place.first(sizeof slot + offsets));
    store(place, 0, slot);
  }
  auto owner = load<CursorOwner>(image, kCursorOwnerPos);
  owner.checksum = xxh3(image.subspan(kCursorOwnerPos, offsetof(CursorOwner, checksum)));
  store(image, kCursorOwnerPos, owner);
}

struct Found {
  std::optional<Code> refused;
  std::vector<std::optional<Offset>> offsets;
  bool operator==(const Found&) const = default;
};

Found look(std::uint32_t partitions) {
  try {
    return {std::nullopt, CursorFile::peek(scratch(), kName, partitions, kTopic).offsets};
  } catch (const Error& error) {
    return {error.code(), {}};
  }
}

Found offsets_of(const CursorFile& cursor, std::uint32_t partitions) {
  Found found;
  for (std::uint32_t p = 0; p < partitions; ++p) found.offsets.push_back(cursor.offset(p));
  SPILLWAY_ASSERT(!cursor.offset(partitions));
  return found;
}

void check_found(const Found& found, std::uint32_t partitions) {
  if (found.refused) {
    SPILLWAY_ASSERT(*found.refused == Code::corrupt || *found.refused == Code::unsupported ||
                    *found.refused == Code::conflict);
    return;
  }
  SPILLWAY_ASSERT(found.offsets.size() == partitions);
  for (const auto& offset : found.offsets) {
    SPILLWAY_ASSERT(!offset || (is_aligned(*offset, kRecordAlign) && *offset <= kOffsetEnd));
  }
}

// Moves the cursor on twice as the input says, and returns what must be found then.
Found move_on(CursorFile& cursor, Found at, Source& source) {
  for (int round = 0; round < 2; ++round) {
    std::vector<Offset> wanted(at.offsets.size(), kNoCursorOffset);
    for (std::size_t i = 0; i < std::min<std::size_t>(wanted.size(), 4); ++i) {
      const Offset to = std::min(align_down(source.word(), kRecordAlign), kOffsetEnd);
      wanted[i] = source.byte() % 4 == 3 ? kNoCursorOffset : to;
      if (wanted[i] != kNoCursorOffset) at.offsets[i] = std::max(at.offsets[i].value_or(0), to);
    }
    SPILLWAY_ASSERT(cursor.commit(wanted) == 0);
    SPILLWAY_ASSERT(offsets_of(cursor, static_cast<std::uint32_t>(wanted.size())) == at);
  }
  return at;
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  Source source({data, bytes});
  const std::uint8_t how = source.byte();
  const std::uint32_t partitions = (how & 6) == 6 ? kPartitionsMax : 1U + (how >> 1 & 3);
  std::vector<std::byte> image = good_image(partitions);
  for (unsigned edits = source.byte() % 16; edits > 0 && !source.empty(); --edits) {
    edit(source, std::span(image).first((how & 8) != 0 ? image.size() : sizeof(CursorSlot) + 64));
  }
  if ((how & 1) != 0) mend(image);
  if ((how & 16) != 0) image.resize(source.number<std::uint16_t>() % (image.size() + 1));
  put_file(scratch() + "/" + kName, image);

  const Found looked = look(partitions);
  check_found(looked, partitions);
  std::unique_ptr<CursorFile> cursor;
  try {
    cursor = CursorFile::open(scratch(), kName, partitions, kTopic, Sharing::owner);
  } catch (const Error& error) {
    SPILLWAY_ASSERT(looked.refused == error.code());
    return 0;
  }
  SPILLWAY_ASSERT(offsets_of(*cursor, partitions) == looked);
  const Found wanted = move_on(*cursor, looked, source);
  SPILLWAY_ASSERT(look(partitions) == wanted);
  cursor.reset();
  cursor = CursorFile::open(scratch(), kName, partitions, kTopic, Sharing::owner);
  SPILLWAY_ASSERT(offsets_of(*cursor, partitions) == wanted);
  return 0;
}
