// Putting one record's bytes into a claim. Used by both kinds of producer.
//
// Thread safety: writes into memory that the caller has claimed.
#pragma once

#include <cstring>

#include "spillway/core/bytes.h"
#include "spillway/core/clock.h"
#include "spillway/ipc/producer_types.h"
#include "spillway/ipc/record_layout.h"

namespace spillway {

// A record's sizes, worked out before it is claimed.
struct RecordPlan {
  RecordMeta meta;
  std::uint32_t extension_bitmap = 0;
  std::uint32_t payload_bytes = 0;
  std::uint64_t bytes = 0;  // in the log; 0: too large for any ring

  static RecordPlan plain(std::size_t payload) noexcept {
    RecordPlan plan;
    if (payload > UINT32_MAX) return plan;
    plan.payload_bytes = static_cast<std::uint32_t>(payload);
    plan.meta.length = plan.payload_bytes;
    plan.bytes = record_bytes(payload);
    return plan;
  }

  static RecordPlan of(std::size_t payload, const RecordOptions& options) noexcept {
    RecordPlan plan;
    std::uint32_t bitmap = 0;
    if (options.event_time_ns) bitmap |= extension::kEventTime;
    if (options.send_time_ns) bitmap |= extension::kSendTime;
    if (options.commit_time) bitmap |= extension::kCommitTime;
    if (options.sequence) bitmap |= extension::kSequence;
    if (options.tag) bitmap |= extension::kTag;
    const std::size_t key = options.key ? options.key->size() : 0;
    const std::uint64_t length = std::uint64_t{payload} + key + extension::bytes_of(bitmap);
    // The payload by itself first: the sum of a claim of 2^64 - 1 bytes and a key is a small number.
    if (payload > UINT32_MAX || key > kKeyBytesMax || length > UINT32_MAX) return plan;
    plan.extension_bitmap = bitmap;
    plan.payload_bytes = static_cast<std::uint32_t>(payload);
    plan.meta.length = static_cast<std::uint32_t>(length);
    plan.meta.key_bytes = static_cast<std::uint16_t>(key);
    plan.meta.flags =
        static_cast<std::uint8_t>((options.key ? flag::kHasKey : 0) | (options.tombstone ? flag::kTombstone : 0) |
                                  (bitmap != 0 ? flag::kHasExtension : 0));
    plan.bytes = record_bytes(length);
    return plan;
  }
};

// Where the payload of a planned record lies, seen from its header.
inline std::byte* payload_of(std::byte* record, const RecordPlan& plan) noexcept {
  return record + kRecordHeaderBytes + extension::bytes_of(plan.extension_bitmap);
}

// Stores extension and key; payload and header are stored by others.
inline void write_extras(std::byte* record, const RecordPlan& plan, const RecordOptions& options) noexcept {
  std::byte* at = record + kRecordHeaderBytes;
  if (plan.extension_bitmap != 0) {
    std::uint64_t words[6] = {};  // 8 bytes of bitmap and tag, at most four times, padding
    const std::uint32_t tag = options.tag.value_or(0);
    words[0] = std::uint64_t{plan.extension_bitmap} | std::uint64_t{tag} << 32;
    std::size_t n = 1;
    if (options.event_time_ns) words[n++] = *options.event_time_ns;
    if (options.send_time_ns) words[n++] = *options.send_time_ns;
    if (options.commit_time) words[n++] = wall_ns();
    if (options.sequence) words[n++] = *options.sequence;
    const std::uint32_t bytes = extension::bytes_of(plan.extension_bitmap);
    copy_to_ring(at, words, bytes);
    at += bytes;
  }
  if (options.key) copy_to_ring(at + plan.payload_bytes, options.key->data(), options.key->size());
}

// The last steps: meta, then the commit word that makes the record visible.
//   tag: R1 (exclusive), R4 (shared), R7 (repair): pairs with W1 and the reader's acquire of the same word.
inline void store_meta(RecordHeader& header, RecordMeta meta) noexcept {
  header.meta.store(meta.pack(), std::memory_order_relaxed);  // relaxed: ordered by the release of the commit word
}
inline void store_commit(RecordHeader& header, std::uint64_t word) noexcept {
  header.commit.store(word, std::memory_order_release);
}

// One padding record over [begin, begin + bytes), which does not cross the ring's end.
inline void write_padding(RecordHeader& header, std::uint64_t bytes, std::uint64_t word) noexcept {
  store_meta(header, {static_cast<std::uint32_t>(bytes / kRecordAlign), 0, RecordKind::padding, 0});
  store_commit(header, word);
}

// All records of a batch into one claim that begins at `begin`: the first one's commit word is stored last, so that they
// show together (INV-4 of record_layout.h).
inline void write_batch(std::byte* at, Offset begin, const CommitMix& mix,
                        std::span<const RecordInput> records) noexcept {
  auto& first = *reinterpret_cast<RecordHeader*>(at);
  Offset offset = begin;
  for (const RecordInput& input : records) {
    RecordPlan plan = RecordPlan::of(input.payload.size(), input.options);
    if (&input != &records.back()) plan.meta.flags = static_cast<std::uint8_t>(plan.meta.flags | flag::kMoreInBatch);
    auto& header = *reinterpret_cast<RecordHeader*>(at);
    copy_to_ring(payload_of(at, plan), input.payload.data(), input.payload.size());
    write_extras(at, plan, input.options);
    store_meta(header, plan.meta);
    if (&header != &first) store_commit(header, mix.word(offset));
    at += plan.bytes;
    offset += plan.bytes;
  }
  store_commit(first, mix.word(begin));
}

}  // namespace spillway
