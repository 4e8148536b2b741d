#include "spillway/persist/topic.h"

#include "spillway/core/error.h"
#include "spillway/ipc/space.h"
#include "spillway/persist/cursor_file.h"
#include "spillway/persist/producer.h"
#include "spillway/persist/topic_state.h"

namespace spillway {

const TopicConfig& Topic::config() const noexcept { return state_->config(); }

ExclusiveProducer Topic::exclusive_producer(const ProducerOptions& options) const {
  return ExclusiveProducer(state_->writing(options.partition), options);
}

SharedProducer Topic::shared_producer(const ProducerOptions& options) const {
  return SharedProducer(state_->writing(options.partition), options);
}

Producer Topic::producer(bool exclusive, std::uint64_t deadline_ns) const {
  return Producer(*this, exclusive, deadline_ns);
}

namespace {

[[noreturn]] void refuse(const std::string& sentence) { throw Error(Code::invalid_argument, sentence); }

void check_consumer(const TopicConfig& config, const ConsumerOptions& options) {
  if (options.partition && *options.partition >= config.partitions) {
    throw Error(Code::not_found, "topic " + config.name + " has partitions 0 to " +
                                     std::to_string(config.partitions - 1) + ", not " +
                                     std::to_string(*options.partition));
  }
  if (options.from == From::offset && !options.partition && config.partitions > 1) {
    refuse("an offset means one partition, and topic " + config.name + " has " + std::to_string(config.partitions) +
           ": name the partition too");
  }
  if (!options.cursor.empty()) {
    if (config.ephemeral) refuse("cursors need a persistent topic, and " + config.name + " is ephemeral");
    if (options.partition) refuse("a cursor covers all partitions, so none can be named beside it");
    if (options.from == From::offset) refuse("a cursor says where to begin, so no offset can be named beside it");
  }
  if (options.read_up_to == ReadUpTo::durable && config.ephemeral) {
    refuse("nothing of the ephemeral topic " + config.name + " is ever durable; read up to committed");
  }
  if (options.read_up_to == ReadUpTo::durable && config.sync == SyncPolicy::none) {
    refuse("topic " + config.name +
           " is never synced (sync none), so that a reader up to durable would wait for ever; read " +
           "up to committed, or use a topic that syncs");
  }
  if (options.gating && (!config.ephemeral || config.on_full != OnFull::block)) {
    refuse("only an ephemeral topic that blocks when full has gates, and " + config.name + " is " +
           (config.ephemeral ? "on-full " + std::string(name_of(config.on_full)) : std::string("persistent")));
  }
}

// Where a cursor stands somebody has read once, unless the data directory was restored from an older copy, or the cursor from a
// newer one: then it would skip without a word what is appended up to there.
void check_cursor(const PartitionReader& reader, const TopicConfig& config, const CursorFile& cursor, Offset stored,
                  Offset end_max) {
  if (stored <= end_max) return;
  throw Error(Code::conflict, "the cursor " + cursor.path() + " stands at offset " + std::to_string(stored) +
                                  ", but partition " + std::to_string(reader.number()) + " of topic " + config.name +
                                  " never got further than " + std::to_string(end_max) +
                                  ": one of the two was restored without the other; restore both, or remove the cursor "
                                  "to begin at the oldest record");
}

void place(PartitionReader& reader, const TopicConfig& config, const ConsumerOptions& options) {
  switch (options.from) {
    case From::earliest: return reader.start_earliest();
    case From::latest: return reader.start_latest();
    case From::offset: break;
  }
  if (!reader.start_at(options.offset)) {
    refuse("offset " + std::to_string(options.offset) + " is beyond the end of partition " +
           std::to_string(reader.number()) + " of topic " + config.name + ", which ends at " +
           std::to_string(reader.end_now()) + "; name an offset up to that, or begin at the latest");
  }
}

}  // namespace

Consumer Topic::consumer(const ConsumerOptions& options) const {
  const TopicConfig& topic_config = config();
  check_consumer(topic_config, options);
  std::unique_ptr<CursorFile> cursor;
  if (!options.cursor.empty()) {
    cursor = CursorFile::open(cursors_directory(state_->domain().directories(), topic_config), options.cursor,
                              topic_config.partitions, topic_config.id, topic_config.sharing);
  }
  std::vector<PartitionReader> readers;
  for (std::uint32_t p = 0; p < topic_config.partitions; ++p) {
    if (options.partition && *options.partition != p) continue;
    // A gate is a word beside the ring. One that came only when it saw somebody else's would come too late for its beginning.
    if (options.gating) state_->make_ring(p);
    readers.emplace_back(p, state_->source(p), state_->finder(p), options.read_up_to);
    PartitionReader& reader = readers.back();
    const std::optional<Offset> stored = cursor ? cursor->offset(p) : std::nullopt;
    if (stored) {
      check_cursor(reader, topic_config, *cursor, *stored, state_->readable_end_max(reader));
      reader.start_at_boundary(*stored);
    } else if (cursor) {
      reader.start_earliest();
    } else {
      place(reader, topic_config, options);
    }
  }
  return Consumer(std::move(readers), std::move(cursor), options);
}

Durable Topic::wait_written(std::uint32_t partition, Offset end, std::chrono::nanoseconds timeout) const {
  return state_->wait(partition, end, timeout, false);
}

Durable Topic::wait_durable(std::uint32_t partition, Offset end, std::chrono::nanoseconds timeout) const {
  return state_->wait(partition, end, timeout, true);
}

Durable Topic::wait_durable_latest(std::chrono::nanoseconds timeout) const {
  const Deadline deadline = Deadline::after_ns(static_cast<std::uint64_t>(std::max<std::int64_t>(timeout.count(), 0)));
  if (state_->forked()) return Durable::forked;
  for (std::uint32_t p = 0; p < config().partitions; ++p) {
    const auto partition = state_->writing_if_open(p);
    if (!partition) continue;
    const std::chrono::nanoseconds left(
        static_cast<std::int64_t>(std::min<std::uint64_t>(deadline.left_ns(), INT64_MAX)));
    const Durable result = state_->wait(p, find_committed_end(*partition).end, left, true);
    if (result != Durable::yes) return result;
  }
  return Durable::yes;
}

Blocked Topic::blocked(std::uint32_t partition) const {
  const auto open = state_->writing_if_open(partition);
  if (!open) return Blocked::none;
  // relaxed: a report.
  return Space(open).cause(open->control().claims.reserved_end.load(std::memory_order_relaxed));
}

Durable Topic::close(std::chrono::nanoseconds timeout) { return state_->close(timeout); }

}  // namespace spillway
