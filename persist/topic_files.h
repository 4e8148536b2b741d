// A topic's directories and configuration file: finding, creating, listing and deleting topics.
//
// Thread safety: stateless; safe to race with other processes as each function says.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "spillway/ipc/partition.h"

namespace spillway {

// The two directories of a domain.
struct Directories {
  std::string data;
  std::string shm;
};

// Throws Error: not_found (naming where it looked and how to create it), corrupt, unsupported, no_permission.
TopicConfig read_topic(const Directories& where, const std::string& name);
// Throws Error (gone) when the topic of this partition is another one by now than `config` was read from, or none.
void check_same_topic(const PartitionPaths& paths, const TopicConfig& config);
// Throws Error (corrupt) when the directory of a persistent topic's partition is missing or empty: it was made with the topic,
// so that what it held is not there to be read is no empty log.
void check_partition_directory(const PartitionPaths& paths, const TopicConfig& config, std::uint32_t partition);
bool topic_exists(const Directories& where, const std::string& name);
// Leaves out what this user may not look into.
std::vector<std::string> list_topics(const Directories& where);

// Creates directories, lock files and, last, topic.json, which appears whole or not at all. Of several who race, one creates
// and the others get its configuration, checked against their options. Over a log that has lost its topic.json the topic is
// made that log's again (lost_config.h). What a failed one made it takes away again. Throws Error: conflict, no_space ...
TopicConfig create_topic(const Directories& where, const std::string& name, const TopicOptions& options);
// Makes the files of an ephemeral topic anew, with the configuration a process still has of it.
void recreate_topic(const Directories& where, const TopicConfig& config);

// <data>/<topic>/cursors
std::string cursors_directory(const Directories& where, const TopicConfig& config);
std::string cursors_directory(const PartitionPaths& paths);  // of the topic that has the partition

struct TopicRemoval {
  std::vector<std::string> files;
  std::uint64_t log_bytes = 0;          // of segments
  std::vector<std::string> live_users;  // named; not empty: it must not be deleted
};
TopicRemoval plan_topic_removal(const Directories& where, const TopicConfig& config);
// Takes every writers' lock in its exclusive form, gives the topic's directories other names, so that nobody opens half a
// topic, and deletes them. Killed half-way it leaves the topic without its rings, or none. Throws Error: busy, naming the
// live users.
void remove_topic(const Directories& where, const TopicConfig& config);
// Directories of deleted topics whose removal was interrupted.
std::vector<std::string> list_deleted(const Directories& where);
// Everything below a directory, deepest first, the directory itself last; and removing such a list.
std::vector<std::string> files_below(const std::string& path);
void remove_files(const std::vector<std::string>& files);

}  // namespace spillway
