// What producers and consumers of the demo count, so that it can be proved that the ones got what the others made.
//
// The checksum depends on every byte and on the order: two streams with the same one are the same stream.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>

#include "spillway/core/checksum.h"
#include "spillway/ipc/record.h"

namespace spillway::command::demo {

// An order-sensitive checksum of a stream of records.
class StreamChecksum {
 public:
  void add(std::uint64_t hash_of_record, std::size_t bytes) noexcept {
    value_ = (value_ << 23U | value_ >> 41U) ^ hash_of_record;
    value_ = value_ * 0x9E37'79B9'7F4A'7C15U + bytes;
  }
  std::uint64_t value() const noexcept { return value_; }

 private:
  std::uint64_t value_ = 0;
};

// One topic, as its producer saw it.
struct Produced {
  std::uint64_t records = 0;
  std::uint64_t bytes = 0;  // of payload
  std::uint64_t checksum = 0;
  Offset end = 0;  // where the last record ends
};
void to_json(nlohmann::json& json, const Produced& produced);
void from_json(const nlohmann::json& json, Produced& produced);

// One topic, as one of its consumers saw it.
struct Consumed {
  std::uint64_t records = 0;
  std::uint64_t bytes = 0;
  std::uint64_t checksum = 0;
  std::uint64_t replayed_records = 0;  // read from segments; the others came from the ring
  std::uint64_t replayed_bytes = 0;
  std::uint64_t gaps = 0;
  std::uint64_t torn = 0;          // records whose own checksum does not hold
  std::uint64_t out_of_order = 0;  // records that were not the next one
  std::string first_fault;         // the first of these, in words
  Offset offset = 0;
  std::uint64_t behind = 0;  // bytes of log between the offset and the committed end
  bool replaying = false;
};
void to_json(nlohmann::json& json, const Consumed& consumed);
void from_json(const nlohmann::json& json, Consumed& consumed);

// What a consumer's handlers call for each record and gap of one topic.
class Audit {
 public:
  // `hash` is that of the record's content as it was received, `promised` the one its producer put into it.
  void take(std::uint64_t sequence, std::uint64_t hash, std::uint64_t promised, const Record& record, bool replayed) {
    if (sequence != counts_.records || hash != promised) [[unlikely]] {
      note_fault(sequence, hash == promised, record);
    }
    ++counts_.records;
    counts_.bytes += record.payload().size();
    if (replayed) {
      ++counts_.replayed_records;
      counts_.replayed_bytes += record.payload().size();
    }
    checksum_.add(hash, record.payload().size());
  }
  void take_short(const Record& record);  // too short for any record of this topic
  void take_gap(const Gap& gap);
  // The counts with the reader's place filled in.
  Consumed counts(Offset offset, Offset end, bool replaying) const;

 private:
  void note_fault(std::uint64_t sequence, bool whole, const Record& record);
  void note(const std::string& fault);

  Consumed counts_;
  StreamChecksum checksum_;
};

}  // namespace spillway::command::demo
