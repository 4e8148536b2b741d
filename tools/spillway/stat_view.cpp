#include "stat_view.h"

#include <fmt/format.h>

#include "spillway/core/clock.h"
#include "spillway/core/size_text.h"

namespace spillway::command {
namespace {

using Json = nlohmann::ordered_json;

std::optional<double> rate(const PartitionView& view, Offset PartitionStat::* watermark) {
  if (!view.before || !view.now || view.before->incarnation != view.now->incarnation) return std::nullopt;
  const std::uint64_t ns = view.now->taken_ns - view.before->taken_ns;
  const Offset from = (*view.before).*watermark, to = (*view.now).*watermark;
  if (ns == 0 || to < from) return std::nullopt;
  return static_cast<double>(to - from) * 1e9 / static_cast<double>(ns);
}

Json rate_json(const PartitionView& view, Offset PartitionStat::* watermark) {
  const auto per_second = rate(view, watermark);
  return per_second ? Json(static_cast<std::uint64_t>(*per_second)) : Json(nullptr);
}

Json persister_json(const PersisterStat& p) {
  return {{"held", p.held},
          {"state", name_of(p.state)},
          {"path", name_of(p.path)},
          {"pid", p.pid},
          {"daemon", p.daemon},
          {"paused", p.paused},
          {"asked_for", p.asked_for},
          {"error", p.error},
          {"error_text", p.error_text},
          {"since_ns", p.since_ns},
          {"syncs", p.syncs},
          {"records_written", p.records_written}};
}

Json producers_json(const std::vector<ProducerStat>& producers) {
  Json list = Json::array();
  for (const ProducerStat& p : producers) {
    list.push_back({{"slot", p.slot},
                    {"pid", p.pid},
                    {"mode", name_of(p.mode)},
                    {"since_ns", p.since_ns},
                    {"blocked", p.blocked},
                    {"paused", p.paused}});
  }
  return list;
}

Json consumers_json(const std::vector<ConsumerStat>& consumers) {
  Json list = Json::array();
  for (const ConsumerStat& c : consumers) {
    list.push_back({{"slot", c.slot},
                    {"pid", c.pid},
                    {"name", c.name},
                    {"state", name_of(c.state)},
                    {"offset", c.offset},
                    {"lag_bytes", c.lag_bytes},
                    {"gate", c.gate ? Json(*c.gate) : Json(nullptr)},
                    {"since_ns", c.since_ns},
                    {"paused", c.paused}});
  }
  return list;
}

Json partition_json(const PartitionView& view, bool ephemeral) {
  Json json = {{"partition", view.partition}};
  if (!view.now) {
    json["problem"] = view.problem;
    return json;
  }
  const PartitionStat& s = *view.now;
  const auto on_disk = [&](Offset offset) { return ephemeral ? Json(nullptr) : Json(offset); };
  json.update(Json{{"ring", s.ring},
                   {"ring_elsewhere", s.ring_elsewhere},
                   {"locks_known", s.locks_known},
                   {"capacity", s.capacity},
                   {"incarnation", fmt::format("{:016x}", s.incarnation)},
                   {"begin", s.begin},
                   {"retained_begin", s.retained_begin},
                   {"durable_end", on_disk(s.durable_end)},
                   {"written_end", on_disk(s.written_end)},
                   {"committed_end", s.committed_end},
                   {"reserved_end", s.reserved_end},
                   {"horizon", on_disk(s.horizon)},
                   {"reclaimable_end", on_disk(s.reclaimable_end)},
                   {"kept_bytes", s.kept_bytes},
                   {"dropped", s.dropped},
                   {"gap_count", s.gap_count},
                   {"mode", name_of(s.mode)},
                   {"rates",
                    {{"committed", rate_json(view, &PartitionStat::committed_end)},
                     {"written", ephemeral ? Json(nullptr) : rate_json(view, &PartitionStat::written_end)},
                     {"durable", ephemeral ? Json(nullptr) : rate_json(view, &PartitionStat::durable_end)}}},
                   {"persister", ephemeral ? Json(nullptr) : persister_json(s.persister)},
                   {"producers", producers_json(s.producers)},
                   {"consumers", consumers_json(s.consumers)},
                   {"held", nullptr}});
  if (s.held) {
    json["held"] = {{"by", name_of(s.held->by)},
                    {"cause", name_of(s.held->cause)},
                    {"offset", s.held->offset},
                    {"pid", s.held->pid},
                    {"paused", s.held->paused}};
  }
  return json;
}

std::string age(std::uint64_t since_ns) {
  const std::uint64_t now_ns = wall_ns();
  const std::uint64_t seconds = now_ns > since_ns ? (now_ns - since_ns) / 1'000'000'000 : 0;
  if (seconds < 120) return fmt::format("{} s", seconds);
  if (seconds < 7200) return fmt::format("{} min", seconds / 60);
  return fmt::format("{} h", seconds / 3600);
}

std::string rate_text(const PartitionView& view, Offset PartitionStat::* watermark) {
  const auto per_second = rate(view, watermark);
  return per_second ? format_size(static_cast<std::uint64_t>(*per_second)) + "/s" : "";
}

std::string who(const char* what, std::uint32_t pid, bool paused) {
  return fmt::format("{} pid {}{}", what, pid, paused ? " PAUSED" : "");
}

std::string persister_text(const PersisterStat& p) {
  std::string text;
  if (p.held) {
    text = fmt::format("{} by {}, {} for {}, {} syncs", who(p.daemon ? "daemon" : "process", p.pid, p.paused),
                       name_of(p.path), name_of(p.state), age(p.since_ns), p.syncs);
  } else {
    text = "nobody";
  }
  if (p.error != 0) text += "; error: " + p.error_text;
  if (p.asked_for) text += "; a daemon asks for the role";
  return text;
}

void add_watermarks(std::string& text, const PartitionView& view, bool ephemeral) {
  const PartitionStat& s = *view.now;
  const auto line = [&](const char* name, Offset offset, const std::string& remark) {
    text += fmt::format("    {:<15}{:>20}  {}\n", name, offset, remark);
  };
  const auto behind = [&](Offset end, Offset PartitionStat::* watermark) {
    const std::string speed = rate_text(view, watermark);
    const std::string lag = end < s.committed_end ? format_size(s.committed_end - end) + " behind" : "";
    return speed + (speed.empty() || lag.empty() ? "" : ", ") + lag;
  };
  line("retained_begin", s.retained_begin, format_size(s.kept_bytes) + " kept");
  if (!ephemeral) {
    line("durable_end", s.durable_end, behind(s.durable_end, &PartitionStat::durable_end));
    line("written_end", s.written_end, behind(s.written_end, &PartitionStat::written_end));
  }
  line("committed_end", s.committed_end, rate_text(view, &PartitionStat::committed_end));
  line("reserved_end", s.reserved_end, "");
  if (!ephemeral) line("horizon", s.horizon, "");
}

std::string partition_text(const PartitionView& view, bool ephemeral) {
  if (!view.now) return fmt::format("  partition {}: {}\n", view.partition, view.problem);
  const PartitionStat& s = *view.now;
  const std::string ring =
      s.ring             ? "ring of " + format_size(s.capacity)
      : s.ring_elsewhere ? "RING ELSEWHERE: processes write to it with a ring that is not here; see `spillway doctor`"
                         : "no ring; nobody has written since it went";
  std::string text = fmt::format("  partition {}: {}\n", view.partition, ring);
  add_watermarks(text, view, ephemeral);
  if (!ephemeral && s.ring) text += "    persister      " + persister_text(s.persister) + "\n";
  for (const ProducerStat& p : s.producers) {
    text += fmt::format("    producer       {}, {} for {}, waited for room {} times\n",
                        who("", p.pid, p.paused).substr(1), name_of(p.mode), age(p.since_ns), p.blocked);
  }
  for (const ConsumerStat& c : s.consumers) {
    text += fmt::format("    consumer       {}{}{}, {} at {}, {} behind{}\n", c.name, c.name.empty() ? "" : " ",
                        who("", c.pid, c.paused).substr(1), name_of(c.state), c.offset, format_size(c.lag_bytes),
                        c.gate ? ", gating" : "");
  }
  if (s.dropped > 0) text += fmt::format("    dropped        {} records\n", s.dropped);
  if (s.gap_count > 0) text += fmt::format("    overwritten    {} gaps\n", s.gap_count);
  if (s.held) {
    text += fmt::format("    HELD UP        at {} by {}: {}\n", s.held->offset,
                        s.held->pid == 0 ? std::string(name_of(s.held->by))
                                         : who(std::string(name_of(s.held->by)).c_str(), s.held->pid, s.held->paused),
                        name_of(s.held->cause));
  }
  if (!s.locks_known) text += "    (no right to open the lock files: producers and consumers may be dead)\n";
  return text;
}

}  // namespace

Json to_json(const std::vector<TopicView>& topics) {
  Json list = Json::array();
  for (const TopicView& topic : topics) {
    Json json = {{"topic", topic.config.name}};
    if (!topic.problem.empty()) {
      json["problem"] = topic.problem;
    } else {
      json["ephemeral"] = topic.config.ephemeral;
      json["on_full"] = name_of(topic.config.on_full);
      json["sync"] = name_of(topic.config.sync);
      json["partitions"] = Json::array();
      for (const PartitionView& view : topic.partitions) {
        json["partitions"].push_back(partition_json(view, topic.config.ephemeral));
      }
    }
    list.push_back(std::move(json));
  }
  return {{"topics", list}};
}

std::string to_text(const std::vector<TopicView>& topics) {
  std::string text;
  for (const TopicView& topic : topics) {
    text += topic.config.name;
    if (!topic.problem.empty()) {
      text += ": " + topic.problem + "\n";
      continue;
    }
    text += fmt::format("  {}, on-full {}{}\n", topic.config.ephemeral ? "ephemeral" : "persistent",
                        name_of(topic.config.on_full),
                        topic.config.ephemeral ? "" : ", sync " + std::string(name_of(topic.config.sync)));
    for (const PartitionView& view : topic.partitions) text += partition_text(view, topic.config.ephemeral);
  }
  return text;
}

}  // namespace spillway::command
