// What a worker was told, in a file mapping of its own: it is there however the worker dies, and up to the last thing told.
//
// An entry counts once its `kind` is not 0, which is stored last; one is written only after the call it tells of has returned.
// Thread safety: one writer, which is one thread; one reader, in another process.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "plan.h"
#include "spillway/core/descriptor.h"

namespace spillway::soak {

enum class EventKind : std::uint32_t {
  none,
  // Of producers. `stream` is the number of records.
  appended,  // a: offset, b: end of the claim, c: the first record's identity
  refused,   // c: the first record's identity; nothing of it was appended
  durable,   // [a, b) is on disk, they were told
  lost,      // [a, b) never will be
  // Of consumers.
  began,       // a: the first offset wanted, b: StreamFlags
  record,      // a: offset, b: identity
  gap,         // [a, b), c: GapCause
  at,          // a: the next offset wanted, after a poll found nothing more
  committing,  // a cursor is about to be stored at a
  committed,   // it is
};

struct Event {
  EventKind kind = EventKind::none;
  std::uint16_t stream = 0;
  std::uint16_t lane = 0;
  std::uint64_t a = 0;
  std::uint64_t b = 0;
  std::uint64_t c = 0;
};
static_assert(sizeof(Event) == 32);

// What kind of reading a stream of records is.
enum StreamFlags : std::uint64_t {
  kReadsDurable = 1,  // read_up_to durable
  kGating = 2,
  kCursor = 4,
};

inline constexpr std::size_t kEventLogHeader = 4096;
struct EventLogHeader {
  // By lane: every record of a sequence number before this one was tried, or will be.
  std::array<std::atomic<std::uint64_t>, kLanesMax> attempted_end;
};
static_assert(sizeof(EventLogHeader) <= kEventLogHeader);

class EventLog {
 public:
  explicit EventLog(const std::string& path);  // created; throws
  ~EventLog();
  EventLog(const EventLog&) = delete;
  EventLog& operator=(const EventLog&) = delete;

  // Before a call that may put records into the lane's log.
  void attempt(std::size_t lane, std::uint64_t sequence_end) noexcept;
  void add(const Event& event);

  static std::string path(const Places& places, std::size_t worker, std::uint32_t incarnation);

 private:
  void next_chunk();

  FileDescriptor file_;
  EventLogHeader* header_ = nullptr;
  std::byte* chunk_ = nullptr;
  std::size_t chunk_begin_ = 0;
  std::size_t used_ = 0;  // bytes of the chunk
};

// The other side: what has been added since the last look.
class EventReader {
 public:
  EventReader(std::string path, std::size_t worker, std::uint32_t incarnation)
      : path_(std::move(path)), worker_(worker), incarnation_(incarnation) {}

  std::vector<Event> take();
  void free_taken() const noexcept;  // gives up the room of what has been taken
  std::uint64_t attempted_end(std::size_t lane) const noexcept { return attempted_[lane]; }  // as of take()
  std::uint64_t bytes() const;                                                               // of the file, by now
  std::size_t worker() const noexcept { return worker_; }
  std::uint32_t incarnation() const noexcept { return incarnation_; }
  const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
  std::size_t worker_;
  std::uint32_t incarnation_;
  std::size_t read_ = kEventLogHeader;
  std::array<std::uint64_t, kLanesMax> attempted_{};
};

}  // namespace spillway::soak
