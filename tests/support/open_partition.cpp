#include "support/open_partition.h"

#include <cstring>
#include <filesystem>

#include "spillway/core/directory.h"
#include "spillway/persist/topic_files.h"

namespace spillway::test {

OpenPlace::OpenPlace(const TopicOptions& options) : config_(make_topic_config("t", options)) {
  make_directory(place_.data() + "/t", Sharing::owner);
  if (!config_.ephemeral) make_directory(cursors_directory(paths()), Sharing::owner);
  Partition::create_locks(paths(), Sharing::owner);
  replace_file(parent_of(paths().data) + "/topic.json", to_json(config_), Sharing::owner);
}

void OpenPlace::lose_ring() const { place_.lose_rings(); }

TopicOptions tiny_topic() { return {.ring = 64 * kKiB, .segment = 128 * kKiB}; }

std::string numbered(std::uint64_t number, std::size_t bytes) {
  std::string text = std::to_string(number) + ":";
  while (text.size() < bytes) text += static_cast<char>('a' + (number * 7 + text.size()) % 26);
  return text;
}

OnDisk read_disk(const OpenPlace& place, std::shared_ptr<const Partition> partition, Offset from) {
  return read_disk(place.paths().data, place.config(), std::move(partition), from);
}

OnDisk read_disk(const std::string& directory, const TopicConfig& config, std::shared_ptr<const Partition> partition,
                 Offset from) {
  SegmentHistory history(directory, config, 0, std::move(partition));
  OnDisk disk;
  Offset at = std::max(from, history.begin());
  for (;;) {
    const HistoryRead read = history.read(at);
    disk.end = at;
    if (read.status == HistoryStatus::gap) {
      if (read.cause != GapCause::none) disk.gaps.push_back({at, read.end, read.cause});
      at = read.end;
      continue;
    }
    if (read.status != HistoryStatus::data) return disk;
    const std::byte* next = read.bytes.data();
    for (Offset record = read.begin; record < read.end;) {
      std::uint64_t meta_word = 0;
      std::memcpy(&meta_word, next + 8, sizeof meta_word);
      const RecordMeta meta = RecordMeta::unpack(meta_word);
      const RecordShape shape = shape_of(meta, read.end - record);
      if (shape.status != ShapeStatus::ok) throw std::runtime_error("history gave a bad record");
      if (meta.kind == RecordKind::data) {
        disk.offsets.push_back(record);
        disk.payloads.emplace_back(reinterpret_cast<const char*>(next + kRecordHeaderBytes), meta.length);
      }
      record += shape.bytes;
      next += shape.bytes;
    }
    at = read.end;
  }
}

}  // namespace spillway::test
