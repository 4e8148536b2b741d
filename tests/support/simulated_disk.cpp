#include "support/simulated_disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "spillway/core/bytes.h"
#include "spillway/core/descriptor.h"
#include "spillway/core/directory.h"
#include "spillway/core/error.h"

namespace spillway::test {
namespace {

constexpr std::size_t kSector = 512;

std::string name_in(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::vector<std::byte> contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const auto* begin = reinterpret_cast<const std::byte*>(text.data());
  return {begin, begin + text.size()};
}

}  // namespace

SimulatedDisk::SimulatedDisk(std::string root) {
  root_ = load(root);
  disk::watch(this);
}

SimulatedDisk::Node SimulatedDisk::add_node(const std::string& path, bool directory) {
  struct stat s;
  if (::lstat(path.c_str(), &s) != 0) throw std::runtime_error("the simulated disk lost " + path);
  origin_.emplace_back();
  origin_.back().directory = directory;
  by_inode_[s.st_ino] = origin_.size() - 1;
  return origin_.size() - 1;
}

SimulatedDisk::Node SimulatedDisk::load(const std::string& path) {
  const bool directory = directory_exists(path);
  const Node node = add_node(path, directory);
  if (directory) {
    for (const std::string& name : list_directory(path)) {
      const Node below = load(path + "/" + name);
      origin_[node].names[name] = below;
    }
  } else {
    origin_[node].bytes = contents(path);
  }
  return node;
}

SimulatedDisk::Node SimulatedDisk::node_of(const std::string& path) const {
  struct stat s;
  if (::lstat(path.c_str(), &s) != 0) return kNone;
  const auto found = by_inode_.find(s.st_ino);
  return found == by_inode_.end() ? kNone : found->second;
}

SimulatedDisk::Node SimulatedDisk::node_of(int fd) const {
  struct stat s;
  if (::fstat(fd, &s) != 0) return kNone;
  const auto found = by_inode_.find(s.st_ino);
  return found == by_inode_.end() ? kNone : found->second;
}

int SimulatedDisk::before(disk::Step& step) noexcept {
  if (step.call == disk::Call::rename || step.call == disk::Call::link) moved_ = node_of(step.path);
  return fail ? fail(step) : 0;
}

void SimulatedDisk::after(const disk::Step& step, int error) noexcept {
  const auto name = [&](const char* removed, const char* added, Node target) {
    const Node parent = node_of(parent_of(added != nullptr ? added : removed));
    if (parent == kNone) return;
    Change change;
    change.kind = Kind::name;
    change.node = parent;
    if (removed != nullptr) change.removed = name_in(removed);
    if (added != nullptr) change.added = name_in(added);
    change.target = target;
    journal_.push_back(std::move(change));
  };
  if (step.call == disk::Call::sync) {
    const Node node = node_of(step.fd);
    if (node == kNone) return;
    if (!origin_[node].directory) {
      synced(step.fd, completed_writes(step.fd), error == 0);
    } else if (error == 0) {
      Change change;
      change.kind = Kind::sync_names;
      change.node = node;
      journal_.push_back(std::move(change));
    }
    return;
  }
  if (error != 0) return;
  switch (step.call) {
    case disk::Call::open:
      if ((step.flags & O_CREAT) == 0 || node_of(parent_of(step.path)) == kNone || node_of(step.fd) != kNone) return;
      name(nullptr, step.path, add_node(step.path, false));
      return;
    case disk::Call::make_directory:
      if (node_of(parent_of(step.path)) == kNone) return;
      name(nullptr, step.path, add_node(step.path, true));
      return;
    case disk::Call::write:
      if (node_of(step.fd) != kNone) {
        completed(submitted(step.fd, static_cast<const std::byte*>(step.from), step.bytes, step.position));
      }
      return;
    case disk::Call::allocate: {
      const Node node = node_of(step.fd);
      if (node == kNone) return;
      Change change;
      change.kind = Kind::size;
      change.node = node;
      change.position = step.bytes;
      change.write = next_write_++;
      writes_[change.write] = {node, true, false, next_write_};
      journal_.push_back(std::move(change));
      return;
    }
    case disk::Call::rename:
      if (moved_ == kNone) return;
      SPILLWAY_ASSERT(parent_of(step.path) == parent_of(step.to));  // one change of one directory
      name(step.path, step.to, moved_);
      return;
    case disk::Call::link:
      if (moved_ != kNone) name(nullptr, step.to, moved_);
      return;
    case disk::Call::unlink:
    case disk::Call::remove_directory: name(step.path, nullptr, kNone); return;
    case disk::Call::sync: return;
  }
}

SimulatedDisk::Write SimulatedDisk::submitted(int fd, const std::byte* from, std::size_t bytes,
                                              std::uint64_t position) {
  Change change;
  change.node = node_of(fd);
  change.position = position;
  change.bytes = std::make_shared<const std::vector<std::byte>>(from, from + bytes);
  change.write = next_write_++;
  writes_[change.write] = {change.node};
  journal_.push_back(std::move(change));
  return next_write_ - 1;
}

void SimulatedDisk::completed(Write write) {
  writes_.at(write).completed = true;
  writes_.at(write).over = next_write_;
}
void SimulatedDisk::failed(Write write) { writes_.at(write).over = next_write_; }

std::vector<SimulatedDisk::Write> SimulatedDisk::completed_writes(int fd) const {
  const Node node = node_of(fd);
  std::vector<Write> found;
  for (const auto& [write, known] : writes_) {
    if (known.node == node && known.completed && !known.covered) found.push_back(write);
  }
  return found;
}

void SimulatedDisk::synced(int fd, const std::vector<Write>& writes, bool well) {
  Change change;
  change.kind = Kind::sync;
  change.node = node_of(fd);
  for (const Write write : writes) {
    Known& known = writes_.at(write);
    if (!known.covered) change.covers.push_back(write);
    known.covered = true;
  }
  if (well) journal_.push_back(std::move(change));
}

std::vector<std::byte> SimulatedDisk::torn(const File& file, const std::vector<Pending>& pending,
                                           std::mt19937_64& random) {
  std::vector<std::byte> bytes = file.bytes;
  const auto how = random() % 4;  // nothing of it, all, whole writes, sectors
  const auto grow = [&](std::size_t size) {
    if (bytes.size() < size) bytes.resize(size);
  };
  if (how == 0) return bytes;
  std::vector<Pending> order = pending;
  // Which of two writes to a sector is the last to land is anybody's guess, unless all of them did.
  if (how == 3) std::shuffle(order.begin(), order.end(), random);
  for (const auto& [change, replaced] : order) {
    if (how == 2 && random() % 2 == 0) continue;
    if (change->kind == Kind::size) {
      if (how != 3 || random() % 2 == 0) grow(change->position);
      continue;
    }
    const std::vector<std::byte>& from = *change->bytes;
    for (std::size_t at = 0; at < from.size();) {
      const std::uint64_t to = change->position + at;
      const std::size_t count = std::min<std::size_t>(from.size() - at, kSector - to % kSector);
      const bool gone = std::any_of(replaced.begin(), replaced.end(),
                                    [&](const auto& range) { return to >= range.first && to < range.second; });
      if (!gone && (how != 3 || random() % 2 == 0)) {
        grow(to + count);
        std::memcpy(bytes.data() + to, from.data() + at, count);
      }
      at += count;
    }
  }
  return bytes;
}

std::map<std::string, SimulatedDisk::Node> SimulatedDisk::some(const File& file, const std::vector<Pending>& pending,
                                                               std::mt19937_64& random) {
  std::map<std::string, Node> names = file.names;
  const auto how = random() % 3;  // nothing of it, all, or as chance has it
  for (const auto& [change, replaced] : pending) {
    if (how == 0 || (how == 2 && random() % 2 == 0)) continue;
    if (!change->removed.empty()) names.erase(change->removed);
    if (!change->added.empty()) names[change->added] = change->target;
  }
  return names;
}

void SimulatedDisk::cut(std::size_t at, std::mt19937_64& random, const std::string& directory) const {
  std::vector<File> files = origin_;
  std::vector<std::vector<Pending>> pending(files.size());
  const auto apply = [&](File& file, const Change& change) {
    if (change.kind == Kind::size) {
      if (file.bytes.size() < change.position) file.bytes.resize(change.position);
    } else {
      if (file.bytes.size() < change.position + change.bytes->size()) {
        file.bytes.resize(change.position + change.bytes->size());
      }
      std::memcpy(file.bytes.data() + change.position, change.bytes->data(), change.bytes->size());
    }
  };
  for (std::size_t i = 0; i < at; ++i) {
    const Change& change = journal_[i];
    auto& open = pending[change.node];
    File& file = files[change.node];
    if (change.kind == Kind::sync) {
      std::vector<const Change*> covered;
      std::erase_if(open, [&](const Pending& p) {
        const bool is = std::binary_search(change.covers.begin(), change.covers.end(), p.change->write);
        if (is) covered.push_back(p.change);
        return is;
      });
      for (const Change* c : covered) {
        apply(file, *c);
        if (c->kind != Kind::write) continue;
        for (Pending& p : open) {
          if (writes_.at(p.change->write).over > c->write) continue;
          p.replaced.emplace_back(c->position, c->position + c->bytes->size());
        }
      }
    } else if (change.kind == Kind::sync_names) {
      for (const auto& [c, replaced] : open) {
        if (!c->removed.empty()) file.names.erase(c->removed);
        if (!c->added.empty()) file.names[c->added] = c->target;
      }
      open.clear();
    } else {
      open.push_back({&change});
    }
  }
  const auto lay = [&](const auto& self, Node node, const std::string& path) -> void {
    if (files[node].directory) {
      std::filesystem::create_directory(path);
      ::chmod(path.c_str(), 0700);
      for (const auto& [name, below] : some(files[node], pending[node], random)) self(self, below, path + "/" + name);
      return;
    }
    const std::vector<std::byte> bytes = torn(files[node], pending[node], random);
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    ::chmod(path.c_str(), 0600);
  };
  lay(lay, root_, directory);
}

std::string SimulatedDisk::story(std::size_t at, std::size_t count) const {
  std::string text;
  for (std::size_t i = at - std::min(at, count); i < at; ++i) {
    const Change& change = journal_[i];
    text += std::to_string(i) + ": node " + std::to_string(change.node);
    switch (change.kind) {
      case Kind::write:
        text += " write " + std::to_string(change.write) + ", " + std::to_string(change.bytes->size()) + " bytes at " +
                std::to_string(change.position);
        break;
      case Kind::size: text += " allocated " + std::to_string(change.position) + " bytes"; break;
      case Kind::sync:
        text += " synced";
        for (const Write write : change.covers) text += " " + std::to_string(write);
        break;
      case Kind::name:
        text += " name " + change.removed + " -> " + change.added + ", node " +
                std::to_string(static_cast<std::ptrdiff_t>(change.target));
        break;
      case Kind::sync_names: text += " synced its names"; break;
    }
    text += "\n";
  }
  return text;
}

bool SimulatedQueue::submit_write(int fd, const std::byte* from, std::size_t bytes, std::uint64_t file_pos,
                                  std::uint64_t tag) noexcept {
  if (operations_.size() >= depth()) return false;
  const auto write = disk_.submitted(fd, from, bytes, file_pos);
  operations_.push_back({Operation::What::write, fd, {from, from + bytes}, nullptr, file_pos, tag, write, {}});
  return true;
}

bool SimulatedQueue::submit_read(int fd, std::byte* to, std::size_t bytes, std::uint64_t file_pos,
                                 std::uint64_t tag) noexcept {
  if (operations_.size() >= depth()) return false;
  operations_.push_back({Operation::What::read, fd, std::vector<std::byte>(bytes), to, file_pos, tag, 0, {}});
  return true;
}

bool SimulatedQueue::submit_sync(int fd, std::uint64_t tag) noexcept {
  if (operations_.size() >= depth()) return false;
  operations_.push_back({Operation::What::sync, fd, {}, nullptr, 0, tag, 0, disk_.completed_writes(fd)});
  return true;
}

int SimulatedQueue::perform(const Operation& o) {
  const int refused = fail && o.what != Operation::What::read ? fail(o.what == Operation::What::sync) : 0;
  switch (o.what) {
    case Operation::What::read: return read_at(o.fd, o.to, o.bytes.size(), o.position);
    case Operation::What::sync: disk_.synced(o.fd, o.covers, refused == 0); return refused;
    case Operation::What::write: break;
  }
  // By another descriptor's rules than the file's own, which may be O_DIRECT: this copy is aligned to nothing.
  const std::string again = "/proc/self/fd/" + std::to_string(o.fd);
  const int plain = ::open(again.c_str(), O_WRONLY | O_CLOEXEC);
  if (plain < 0) return errno;
  const std::size_t landed = refused == 0 ? o.bytes.size() : random_() % (o.bytes.size() + 1);
  const ssize_t written = ::pwrite(plain, o.bytes.data(), landed, static_cast<off_t>(o.position));
  ::close(plain);
  if (written != static_cast<ssize_t>(landed)) return EIO;
  if (refused == 0)
    disk_.completed(o.write);
  else
    disk_.failed(o.write);
  return refused;
}

bool SimulatedQueue::next(Deadline deadline, Completion& completion) noexcept {
  if (operations_.empty()) return false;
  if (order_ == Order::any && deadline.passed() && random_() % 2 == 0) return false;  // not yet
  const std::size_t i = order_ == Order::any ? random_() % operations_.size() : 0;
  const Operation operation = std::move(operations_[i]);
  operations_.erase(operations_.begin() + static_cast<std::ptrdiff_t>(i));
  completion = {operation.tag, perform(operation)};
  return true;
}

void SimulatedQueue::abandon() {
  for (const Operation& operation : operations_) {
    if (operation.what == Operation::What::write) perform(operation);
  }
  operations_.clear();
}

}  // namespace spillway::test
