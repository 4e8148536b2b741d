// What the Domains and Topics of a process share: directories, open topics, the persister, the watch over deleted files.
//
// Thread safety: thread-safe.
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

  // The one state of a topic in this process.
  std::shared_ptr<TopicState> open(const TopicConfig& config);
  void forget(const std::string& name);

  // Looks once a second whether the partition's files were deleted, as long as somebody has it open.
  void watch(const std::shared_ptr<Partition>& partition);

 private:
  void watch_loop();

  DomainOptions options_;
  Directories directories_;
  std::unique_ptr<Persister> persister_;
  std::mutex mutex_;  // guards what follows
  std::map<std::string, std::weak_ptr<TopicState>> topics_;
  std::vector<std::weak_ptr<Partition>> watched_;
  std::condition_variable stop_wanted_;
  bool stopping_ = false;
  std::unique_ptr<std::thread> watcher_;  // leaked in a forked child, where it does not run
  ForkMark mark_;
};

}  // namespace spillway
