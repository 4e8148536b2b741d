#include "spillway/persist/lost_config.h"

#include <algorithm>
#include <charconv>

#include "spillway/core/directory.h"
#include "spillway/core/error.h"
#include "spillway/core/size_text.h"
#include "spillway/persist/horizon_file.h"
#include "spillway/persist/segment_file.h"

namespace spillway {
namespace {

constexpr std::string_view kCure = "; put topic.json back from a copy, or move what does not belong there away";

std::optional<std::uint32_t> parse_partition(const std::string& name) noexcept {
  std::uint32_t number = 0;
  const auto parsed = std::from_chars(name.data(), name.data() + name.size(), number);
  const bool whole = parsed.ec == std::errc() && parsed.ptr == name.data() + name.size();
  if (!whole || number >= kPartitionsMax || std::to_string(number) != name) return std::nullopt;
  return number;
}

class Search {
 public:
  void partition(const std::string& directory, std::uint32_t number) {
    partitions_ = std::max(partitions_, number + 1);
    if (const auto slot = HorizonFile::peek_any(horizon_path(directory))) {
      says(horizon_path(directory), slot->topic_id, slot->partition, number);
    }
    for (const std::string& name : list_directory(directory)) {
      const auto base = parse_segment_name(name);
      if (base) segment(directory, *base, number);
    }
  }

  std::optional<FoundLog> result() {
    if (found_) found_->partitions = partitions_;
    return found_;
  }

 private:
  // Whose it is can't be known as yet: a sound header is one of any log.
  void segment(const std::string& directory, Offset base, std::uint32_t number) {
    const std::optional<HeaderRead> read = read_segment_header(directory, LogIdentity{}, base);
    const bool sound = read && (read->status == HeaderStatus::ok || read->status == HeaderStatus::foreign);
    if (!sound) return;
    const SegmentHeader& header = read->header;
    const std::string path = directory + "/" + segment_name(base);
    says(path, header.topic_id, header.partition, number);
    TopicConfig config;
    config.id = header.topic_id;
    if (header.salt != config.salt(number)) disagree(path, "another salt than its id has");
    same(path, "ring", header.ring_bytes, found_->ring_bytes);
    same(path, "segments", header.segment_bytes, found_->segment_bytes);
    if (geometry_source_.empty()) geometry_source_ = path;
  }

  void says(const std::string& path, std::uint64_t id, std::uint32_t partition, std::uint32_t number) {
    if (partition != number) {
      throw Error(Code::conflict, path + " belongs to partition " + std::to_string(partition) +
                                      ", and stands in that of " + std::to_string(number) + std::string(kCure));
    }
    if (!found_) {
      found_.emplace();
      found_->id = id;
      found_->source = path;
    }
    if (found_->id != id) disagree(path, "another id than " + found_->source);
  }

  void same(const std::string& path, const char* what, std::uint64_t bytes, std::optional<std::uint64_t>& known) {
    if (!known) known = bytes;
    if (*known == bytes) return;
    disagree(path, std::string(what) + " of " + format_size(bytes) + ", and " + geometry_source_ + " of " +
                       format_size(*known));
  }

  [[noreturn]] static void disagree(const std::string& path, const std::string& what) {
    throw Error(Code::conflict, path + " has " + what + ", so the two are of different topics" + std::string(kCure));
  }

  std::optional<FoundLog> found_;
  std::uint32_t partitions_ = 0;
  std::string geometry_source_;
};

}  // namespace

std::optional<FoundLog> find_log(const std::string& directory) {
  if (!directory_exists(directory)) return std::nullopt;
  Search search;
  for (const std::string& name : list_directory(directory)) {
    const auto number = parse_partition(name);
    if (number && directory_exists(directory + "/" + name)) search.partition(directory + "/" + name, *number);
  }
  return search.result();
}

TopicConfig config_of_log(const FoundLog& found, const std::string& name, const TopicOptions& options) {
  TopicOptions known = options;
  known.partitions = found.partitions;
  known.ephemeral = false;
  if (found.ring_bytes) known.ring = found.ring_bytes;
  if (found.segment_bytes) known.segment = found.segment_bytes;
  TopicConfig config = make_topic_config(name, known);
  config.id = found.id;
  const std::string differences = differences_of(config, options);
  if (differences.empty()) return config;
  throw Error(Code::conflict, "topic " + name + " has lost its topic.json, and its log is there (" + found.source +
                                  "), with " + differences + "; ask for what the log has, or move it away");
}

}  // namespace spillway
