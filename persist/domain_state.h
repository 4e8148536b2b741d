// What the Domains and Topics of a process share: directories, open topics, the persister, and the watch: over deleted
// files, and over what dead producers left in ephemeral topics.
//
// Thread safety: thread-safe. In a forked child everything but destroying it throws Error (forked).
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "spillway/core/fork.h"
#include "spillway/persist/domain.h"
#include "spillway/persist/persister.h"
#include "spillway/persist/topic_files.h"

namespace spillway {

class DomainState : public std::enable_shared_from_this<DomainState> {
 public:
  explicit DomainState(DomainOptions options);
  ~DomainState();

  const DomainOptions& options() const noexcept { return options_; }
  const Directories& directories() const noexcept { return directories_; }
  Persister& persister() noexcept { return *persister_; }

  void check_fork() const;
  // The one state of a topic in this process.
  std::shared_ptr<TopicState> open(const TopicConfig& config);
  void forget(const std::string& name);

  // As long as somebody has the partition open: looks once a second whether its files were deleted, and, where this
  // process writes to an ephemeral one, more often whether a dead producer's claim holds up its readers.
  void watch(const std::shared_ptr<Partition>& partition);

 private:
  struct Watched {
    std::weak_ptr<Partition> partition;
    Offset committed_end = 0;  // at the last look
  };
  // What a mutex guards, and whom it keeps asleep. In a forked child any of it may be half-changed, or waited for by a
  // thread that is not there: it is leaked.
  struct Guarded {
    std::mutex mutex;
    std::map<std::string, std::weak_ptr<TopicState>> topics;
    std::vector<Watched> watched;
    std::condition_variable changed;
    bool stopping = false;
    std::unique_ptr<std::thread> watcher;
  };
  void watch_loop();

  DomainOptions options_;
  Directories directories_;
  std::unique_ptr<Persister> persister_;
  std::unique_ptr<Guarded> guarded_ = std::make_unique<Guarded>();
  ForkMark mark_;
};

}  // namespace spillway
