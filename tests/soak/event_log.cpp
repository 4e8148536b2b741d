#include "event_log.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "spillway/core/error.h"

namespace spillway::soak {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 20;

std::byte* map(int fd, std::size_t begin, std::size_t bytes) {
  void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(begin));
  if (at == MAP_FAILED) throw system_error(errno, "mapping an event log");
  return static_cast<std::byte*>(at);
}

// Where the entry's kind is, as the atomic it is used as.
std::atomic_ref<EventKind> kind_of(Event& event) { return std::atomic_ref<EventKind>(event.kind); }

}  // namespace

std::string EventLog::path(const Places& places, std::size_t worker, std::uint32_t incarnation) {
  return places.logs() + "/" + std::to_string(worker) + "." + std::to_string(incarnation);
}

EventLog::EventLog(const std::string& path) : file_(open_file(path, O_RDWR | O_CREAT | O_EXCL)) {
  if (::ftruncate(file_.get(), kEventLogHeader) != 0) throw system_error(errno, "making room in " + path);
  header_ = reinterpret_cast<EventLogHeader*>(map(file_.get(), 0, kEventLogHeader));
  chunk_begin_ = kEventLogHeader;
  used_ = kChunk;
}

EventLog::~EventLog() {
  if (chunk_ != nullptr) ::munmap(chunk_, kChunk);
  ::munmap(header_, kEventLogHeader);
}

void EventLog::attempt(std::size_t lane, std::uint64_t sequence_end) noexcept {
  header_->attempted_end[lane].store(sequence_end, std::memory_order_release);
}

void EventLog::next_chunk() {
  if (chunk_ != nullptr) {
    ::munmap(chunk_, kChunk);
    chunk_begin_ += kChunk;
  }
  if (::ftruncate(file_.get(), static_cast<off_t>(chunk_begin_ + kChunk)) != 0) {
    throw system_error(errno, "making room in an event log");
  }
  chunk_ = map(file_.get(), chunk_begin_, kChunk);
  used_ = 0;
}

void EventLog::add(const Event& event) {
  if (used_ == kChunk) next_chunk();
  auto& entry = *reinterpret_cast<Event*>(chunk_ + used_);
  entry.stream = event.stream;
  entry.lane = event.lane;
  entry.a = event.a;
  entry.b = event.b;
  entry.c = event.c;
  kind_of(entry).store(event.kind, std::memory_order_release);
  used_ += sizeof(Event);
}

std::uint64_t EventReader::bytes() const {
  struct stat status = {};
  return ::stat(path_.c_str(), &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
}

std::vector<Event> EventReader::take() {
  const FileDescriptor file = try_open_file(path_, O_RDWR);
  if (!file) return {};  // it was killed before it could make one
  std::vector<Event> events;
  std::vector<Event> part(kChunk / sizeof(Event));
  for (;;) {
    const ssize_t got = ::pread(file.get(), part.data(), kChunk, static_cast<off_t>(read_));
    if (got < 0) throw system_error(errno, "reading " + path_);
    std::size_t count = 0;
    const std::size_t whole = static_cast<std::size_t>(got) / sizeof(Event);
    while (count < whole && part[count].kind != EventKind::none) ++count;
    events.insert(events.end(), part.begin(), part.begin() + static_cast<std::ptrdiff_t>(count));
    read_ += count * sizeof(Event);
    if (count < part.size()) break;
  }
  // After the entries: what was tried when the last of them was written is not missed.
  EventLogHeader header{};
  if (::pread(file.get(), static_cast<void*>(&header), sizeof header, 0) == static_cast<ssize_t>(sizeof header)) {
    for (std::size_t i = 0; i < kLanesMax; ++i) attempted_[i] = header.attempted_end[i].load(std::memory_order_relaxed);
  }
  return events;
}

void EventReader::free_taken() const noexcept {
  const std::size_t done = read_ / 4096 * 4096;
  const FileDescriptor file = try_open_file(path_, O_RDWR);
  if (done <= kEventLogHeader || !file) return;
  // A file system that can't keeps them until the end.
  static_cast<void>(::fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, kEventLogHeader,
                                static_cast<off_t>(done - kEventLogHeader)));
}

}  // namespace spillway::soak
