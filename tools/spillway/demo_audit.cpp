#include "demo_audit.h"

#include <nlohmann/json.hpp>

namespace spillway::command::demo {

void to_json(nlohmann::json& json, const Produced& produced) {
  json = {
      {"records", produced.records}, {"bytes", produced.bytes}, {"checksum", produced.checksum}, {"end", produced.end}};
}

void from_json(const nlohmann::json& json, Produced& produced) {
  json.at("records").get_to(produced.records);
  json.at("bytes").get_to(produced.bytes);
  json.at("checksum").get_to(produced.checksum);
  json.at("end").get_to(produced.end);
}

void to_json(nlohmann::json& json, const Consumed& consumed) {
  json = {{"records", consumed.records},
          {"bytes", consumed.bytes},
          {"checksum", consumed.checksum},
          {"replayed_records", consumed.replayed_records},
          {"replayed_bytes", consumed.replayed_bytes},
          {"gaps", consumed.gaps},
          {"torn", consumed.torn},
          {"out_of_order", consumed.out_of_order},
          {"first_fault", consumed.first_fault},
          {"offset", consumed.offset},
          {"behind", consumed.behind},
          {"replaying", consumed.replaying}};
}

void from_json(const nlohmann::json& json, Consumed& consumed) {
  json.at("records").get_to(consumed.records);
  json.at("bytes").get_to(consumed.bytes);
  json.at("checksum").get_to(consumed.checksum);
  json.at("replayed_records").get_to(consumed.replayed_records);
  json.at("replayed_bytes").get_to(consumed.replayed_bytes);
  json.at("gaps").get_to(consumed.gaps);
  json.at("torn").get_to(consumed.torn);
  json.at("out_of_order").get_to(consumed.out_of_order);
  json.at("first_fault").get_to(consumed.first_fault);
  json.at("offset").get_to(consumed.offset);
  json.at("behind").get_to(consumed.behind);
  json.at("replaying").get_to(consumed.replaying);
}

void Audit::note(const std::string& fault) {
  if (counts_.first_fault.empty()) counts_.first_fault = fault;
}

void Audit::note_fault(std::uint64_t sequence, bool whole, const Record& record) {
  const std::string at = " at offset " + std::to_string(record.offset());
  if (!whole) {
    ++counts_.torn;
    note("the content of record " + std::to_string(sequence) + at + " does not match its own checksum");
  }
  if (sequence != counts_.records) {
    ++counts_.out_of_order;
    note("record " + std::to_string(sequence) + at + " came where record " + std::to_string(counts_.records) +
         " was due");
  }
}

void Audit::take_short(const Record& record) {
  ++counts_.torn;
  note("the record at offset " + std::to_string(record.offset()) + " has only " +
       std::to_string(record.payload().size()) + " bytes");
}

void Audit::take_gap(const Gap& gap) {
  ++counts_.gaps;
  note("offsets " + std::to_string(gap.from) + " to " + std::to_string(gap.to) + " are a gap (" +
       std::string(name_of(gap.cause)) + ")");
}

Consumed Audit::counts(Offset offset, Offset end, bool replaying) const {
  Consumed counts = counts_;
  counts.checksum = checksum_.value();
  counts.offset = offset;
  counts.behind = end > offset ? end - offset : 0;
  counts.replaying = replaying;
  return counts;
}

}  // namespace spillway::command::demo
