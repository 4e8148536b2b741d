#include "ledger.h"

#include <algorithm>

namespace spillway::soak {
namespace {

constexpr Offset kLeast = 16;  // bytes that any record takes

std::string range(Offset from, Offset to) { return "[" + std::to_string(from) + ", " + std::to_string(to) + ")"; }

std::string describe(const std::pair<const Offset, Claim>& claim) {
  return text_of(claim.second.first) + " (" + std::to_string(claim.second.count) + " records at " +
         range(claim.first, claim.second.end) + ")";
}

}  // namespace

Ledger::Ledger(const Plan& plan) : plan_(plan) {}

void Ledger::broken(std::size_t lane, const std::string& what) const {
  throw Broken(plan_.lane_name(lane) + ": " + what);
}

// Where all that lies before durable_end is there; elsewhere there may be gaps before it.
bool Ledger::all_durable(std::size_t lane) const { return !plan_.topic_of(lane).overwrites(); }

void Ledger::appended(const Event& event) {
  Lane& lane = lanes_[event.lane];
  const std::string who = text_of(event.c) + " at " + range(event.a, event.b);
  if (event.b < event.a + kLeast * event.stream) broken(event.lane, "a claim is smaller than its records: " + who);
  if (event.a < lane.used_end) broken(event.lane, "an offset from before the ring was lost was used again: " + who);
  const auto behind = lane.claims.lower_bound(event.a);
  if (behind != lane.claims.end() && behind->first < event.b) {
    broken(event.lane, "offsets were handed out twice: " + who + " and " + describe(*behind));
  }
  if (behind != lane.claims.begin() && std::prev(behind)->second.end > event.a) {
    broken(event.lane, "offsets were handed out twice: " + who + " and " + describe(*std::prev(behind)));
  }
  lane.claims.emplace_hint(behind, event.a, Claim{event.b, event.c, event.stream, false, false});
  lane.acknowledged_end = std::max(lane.acknowledged_end, event.b);
  counts_.acknowledged += event.stream;
}

void Ledger::told_durable(const Event& event) {
  Lane& lane = lanes_[event.lane];
  if (all_durable(event.lane)) {
    lane.durable_end = std::max(lane.durable_end, event.b);
    return;
  }
  const auto claim = lane.claims.find(event.a);
  if (claim != lane.claims.end()) claim->second.durable = true;
}

void Ledger::told_lost(const Event& event) {
  if (all_durable(event.lane))
    broken(event.lane, "a wait for " + range(event.a, event.b) + " was told that it is lost");
  const auto claim = lanes_[event.lane].claims.find(event.a);
  if (claim != lanes_[event.lane].claims.end()) claim->second.told_lost = true;
}

void Ledger::take_producer(const EventReader& reader, std::span<const Event> events) {
  for (const Event& event : events) {
    const std::size_t lane = event.lane;
    Outcome& outcome = outcomes_[{lane, identity(reader.worker(), reader.incarnation(), 0)}];
    switch (event.kind) {
      case EventKind::appended:
        appended(event);
        outcome.told_end = sequence_of(event.c) + event.stream;
        break;
      case EventKind::refused:
        outcome.told_end = sequence_of(event.c) + event.stream;
        counts_.refused += event.stream;
        break;
      case EventKind::durable: told_durable(event); break;
      case EventKind::lost: told_lost(event); break;
      default: broken(lane, "an event of a consumer in a producer's log");
    }
  }
  for (std::size_t lane = 0; lane < plan_.lanes.size(); ++lane) {
    if (reader.attempted_end(lane) == 0) continue;
    outcomes_[{lane, identity(reader.worker(), reader.incarnation(), 0)}].attempted_end = reader.attempted_end(lane);
  }
}

// A record that no producer was told of: one whose outcome is open may be there, once.
void Ledger::check_unknown(std::size_t lane, Offset offset, Identity id) {
  const auto outcome = outcomes_.find({lane, id - sequence_of(id)});
  if (outcome == outcomes_.end()) broken(lane, "nobody sent what is at " + std::to_string(offset) + ": " + text_of(id));
  const std::uint64_t sequence = sequence_of(id);
  if (sequence < outcome->second.told_end) {
    broken(lane, "at " + std::to_string(offset) + " stands " + text_of(id) +
                     ", which was refused or aborted, or is elsewhere by what its producer was told");
  }
  if (sequence >= outcome->second.attempted_end) {
    broken(lane, "at " + std::to_string(offset) + " stands " + text_of(id) + ", which was not sent yet");
  }
  const auto [found, fresh] = lanes_[lane].found.emplace(id, offset);
  if (fresh) ++counts_.unknown;
  if (found->second != offset) {
    broken(lane,
           text_of(id) + " is there twice: at " + std::to_string(found->second) + " and " + std::to_string(offset));
  }
}

// No known claim begins in [stream.next, to).
void Ledger::pass(std::size_t lane, const StreamState& stream, Offset to, const std::string& who) const {
  const auto& claims = lanes_[lane].claims;
  const auto next = claims.lower_bound(stream.next);
  if (next != claims.end() && next->first < to) {
    broken(lane, who + " was never given " + describe(*next) + "; it went on to " + std::to_string(to));
  }
  if (stream.batch_left != 0) {
    broken(lane, who + " was given a part of a batch only: " + text_of(stream.batch_next) + " is missing");
  }
}

void Ledger::deliver(std::size_t lane, StreamState& stream, Offset offset, Identity id, const std::string& who) {
  ++counts_.delivered;
  const bool first = !std::exchange(stream.any, true);
  if (offset < stream.next) broken(lane, who + " went back: " + text_of(id) + " at " + std::to_string(offset));
  if (stream.batch_left != 0) {
    if (id != stream.batch_next || offset >= stream.batch_end) {
      broken(lane, who + " was given " + text_of(id) + " where " + text_of(stream.batch_next) + " was due");
    }
    ++stream.batch_next;
    --stream.batch_left;
    stream.next = stream.batch_left == 0 ? stream.batch_end : offset + kLeast;
    return;
  }
  pass(lane, stream, offset, who);
  auto& claims = lanes_[lane].claims;
  const auto claim_at = [offset](std::map<Offset, Claim>& among) {
    const auto behind = among.upper_bound(offset);
    return behind != among.begin() && offset < std::prev(behind)->second.end ? std::prev(behind) : among.end();
  };
  auto claim = claim_at(claims);
  bool within = claim != claims.end();
  if (auto& gone = lanes_[lane].overwritten; !within) {
    claim = claim_at(gone);
    within = claim != gone.end();
  }
  if (within && claim->first < stream.begin && first) {
    // A cursor may have been stored in the middle of a batch.
    const std::uint64_t index = id - claim->second.first;
    if (index == 0 || index >= claim->second.count) {
      broken(lane,
             who + " was given " + text_of(id) + " at " + std::to_string(offset) + ", inside " + describe(*claim));
    }
    stream.batch_left = claim->second.count - 1 - static_cast<std::uint32_t>(index);
    stream.batch_next = id + 1;
    stream.batch_end = claim->second.end;
    stream.next = stream.batch_left == 0 ? stream.batch_end : offset + kLeast;
    return;
  }
  if (!within || claim->first != offset) {
    check_unknown(lane, offset, id);
    claims.emplace(offset, Claim{offset + kLeast, id, 1, false, false});  // from now on it has to stay
    stream.next = offset + kLeast;
    return;
  }
  const Claim& known = claim->second;
  if (id != known.first) {
    broken(lane, who + " was given " + text_of(id) + " at " + std::to_string(offset) + ", where " + describe(*claim) +
                     " was told to be");
  }
  stream.batch_left = known.count - 1;
  stream.batch_next = id + 1;
  stream.batch_end = known.end;
  stream.next = stream.batch_left == 0 ? known.end : offset + kLeast;
}

void Ledger::check_nothing_durable(std::size_t lane, Offset from, Offset to, const std::string& who) const {
  const Lane& l = lanes_[lane];
  // What was told of a later ring says nothing of a gap before it.
  const auto refute = [&](Offset durable_end) {
    if (from >= durable_end || durable_end > to) return;
    broken(lane, who + " was told of a gap " + range(from, to) + ", and all before " + std::to_string(durable_end) +
                     " was told to be durable");
  };
  if (all_durable(lane)) {
    refute(l.durable_end);
    for (const Offset durable_end : l.durable_at_losses) refute(durable_end);
  }
  for (auto claim = l.claims.lower_bound(from); claim != l.claims.end() && claim->first < to; ++claim) {
    if (claim->second.durable) broken(lane, who + " was told of a gap over the durable " + describe(*claim));
  }
}

void Ledger::check_gap(std::size_t lane, const StreamState& stream, Offset from, Offset to, GapCause cause,
                       const std::string& who) {
  Lane& l = lanes_[lane];
  const TopicPlan& topic = plan_.topic_of(lane);
  const std::string what = who + " was told of a gap " + range(from, to) + ", " + std::string(name_of(cause));
  ++counts_.gaps[std::string(name_of(cause))];
  const bool expired = !topic.ephemeral() && to <= l.marks.retained_begin;
  switch (cause) {
    case GapCause::expired:
      if (!expired) broken(lane, what + ", and " + std::to_string(l.marks.retained_begin) + " is the oldest there is");
      return;
    case GapCause::overwritten:
      if (!topic.overwrites() && !topic.ephemeral()) broken(lane, what + ", where nothing is overwritten");
      if ((stream.flags & kGating) != 0 && stream.any) broken(lane, what + ", behind its gate");
      if (topic.ephemeral()) {
        if (to > l.marks.committed_end) broken(lane, what + ", beyond the end");
        return;
      }
      break;
    case GapCause::crash:
      if (topic.ephemeral()) broken(lane, what);
      break;
    default: broken(lane, what);
  }
  if (expired) return;
  check_nothing_durable(lane, from, to, who);
  l.unproven.emplace_back(from, to);
}

void Ledger::take_consumer(const EventReader& reader, std::span<const Event> events) {
  for (const Event& event : events) {
    const std::size_t lane = event.lane;
    StreamState& stream =
        streams_[{static_cast<std::uint32_t>(reader.worker()), reader.incarnation(), event.stream, event.lane}];
    const std::string who = plan_.workers[reader.worker()].name + "." + std::to_string(reader.incarnation()) +
                            " (stream " + std::to_string(event.stream) + ")";
    Cursor& cursor = cursors_[lane];
    switch (event.kind) {
      case EventKind::began: {
        stream = StreamState{event.b, event.a, event.a, false, 0, 0, 0};
        const bool as_stored = event.a == cursor.committed || event.a == cursor.committing;
        if ((event.b & kCursor) != 0 && cursor.committed && !as_stored) {
          broken(lane, who + " began at " + std::to_string(event.a) + ", and its cursor was stored at " +
                           std::to_string(*cursor.committed));
        }
        // As it was found. One that was never stored begins at the earliest record, which moves on.
        const bool stored = cursor.committed || (cursor.committing == event.a && event.a > 0);
        if ((event.b & kCursor) != 0 && stored) cursor.committed = event.a;
        break;
      }
      case EventKind::record:
        deliver(lane, stream, event.a, event.b, who);
        if ((stream.flags & kReadsDurable) != 0 && all_durable(lane)) {
          lanes_[lane].durable_end = std::max(lanes_[lane].durable_end, event.a + 1);
        }
        break;
      case EventKind::gap: {
        // Who was lapped in a batch goes on behind it.
        const auto cause = static_cast<GapCause>(event.c);
        if (cause == GapCause::overwritten || cause == GapCause::expired) stream.batch_left = 0;
        pass(lane, stream, event.a, who);
        check_gap(lane, stream, event.a, event.b, cause, who);
        stream.next = event.b;
        break;
      }
      case EventKind::at:
        pass(lane, stream, event.a, who);
        stream.next = event.a;
        break;
      case EventKind::committing: cursor.committing = event.a; break;
      case EventKind::committed: cursor.committed = event.a; break;
      default: broken(lane, "an event of a producer in a consumer's log");
    }
  }
}

void Ledger::lose_ring(std::size_t lane) {
  Lane& l = lanes_[lane];
  l.used_end = std::max(l.used_end, l.acknowledged_end);
  for (const auto& [id, offset] : l.found) l.used_end = std::max(l.used_end, offset + kLeast);
  l.durable_at_losses.push_back(l.durable_end);
  ++counts_.ring_losses;
}

void Ledger::forget(std::size_t lane) {
  lanes_[lane] = Lane();
  ++counts_.ring_losses;
}

void Ledger::end_incarnation(std::size_t worker, std::uint32_t incarnation) {
  const auto from = streams_.lower_bound({static_cast<std::uint32_t>(worker), incarnation, 0, 0});
  const auto to = streams_.lower_bound({static_cast<std::uint32_t>(worker), incarnation + 1, 0, 0});
  streams_.erase(from, to);
}

void Ledger::begin_audit(std::size_t lane, Offset position) {
  audited_ = lane;
  audit_ = StreamState{0, position, position, false, 0, 0, 0};
  audit_gaps_.clear();
}

void Ledger::audit_record(Offset offset, Identity id) {
  Lane& lane = lanes_[audited_];
  deliver(audited_, audit_, offset, id, "an audit");
  const auto claim = lane.claims.find(offset);
  if (claim != lane.claims.end() && claim->second.told_lost) {
    broken(audited_, describe(*claim) + " is there, and a wait for it was told that it is lost");
  }
}

void Ledger::audit_gap(Offset from, Offset to, GapCause cause) {
  Lane& lane = lanes_[audited_];
  const std::string what = "an audit was told of a gap " + range(from, to) + ", " + std::string(name_of(cause));
  if (cause == GapCause::expired) {
    // Age goes on under an audit, which then begins where the log does.
    const bool by_age = plan_.topic_of(audited_).options.retain_age_s.has_value();
    if (!by_age || to > lane.marks.retained_begin) broken(audited_, what);
    ++counts_.gaps[std::string(name_of(cause))];
    return begin_audit(audited_, to);
  }
  pass(audited_, audit_, from, "an audit");
  const bool overwritten = cause == GapCause::overwritten && plan_.topic_of(audited_).overwrites();
  if (!overwritten && cause != GapCause::crash) broken(audited_, what);
  check_nothing_durable(audited_, from, to, "an audit");
  const auto first = lane.claims.lower_bound(from), last = lane.claims.lower_bound(to);
  if (last != lane.claims.begin() && std::prev(last)->second.end > to && std::prev(last)->first >= from) {
    broken(audited_, what + ", which ends inside " + describe(*std::prev(last)));
  }
  // Without a ring that was lost: of one whose maker died before it was there, so that nothing was in it.
  if (!overwritten && lane.durable_at_losses.empty() && first != last) {
    broken(audited_, what + ", and no ring was lost that had " + describe(*first));
  }
  if (overwritten) lane.overwritten.insert(first, last);
  lane.claims.erase(first, last);
  audit_gaps_[from] = {to, cause};
  audit_.next = to;
  ++counts_.gaps[std::string(name_of(cause))];
}

// Of what lies in [from, to), neighbours of one cause as one.
std::vector<std::pair<Offset, Ledger::GapRange>> Ledger::merged(const std::map<Offset, GapRange>& gaps, Offset from,
                                                                Offset to) const {
  std::vector<std::pair<Offset, GapRange>> result;
  for (const auto& [begin, gap] : gaps) {
    const Offset first = std::max(begin, from), last = std::min(gap.to, to);
    if (first >= last) continue;
    if (!result.empty() && result.back().second.to == first && result.back().second.cause == gap.cause) {
      result.back().second.to = last;
    } else {
      result.push_back({first, {last, gap.cause}});
    }
  }
  return result;
}

Offset Ledger::end_audit(Offset position, bool whole) {
  Lane& lane = lanes_[audited_];
  pass(audited_, audit_, position, "an audit");
  if (!whole) {
    check_nothing_durable(audited_, position, UINT64_MAX, "an audit without a ring");
    return audit_.begin;
  }
  const auto rest = lane.claims.lower_bound(audit_.next);
  if (rest != lane.claims.end()) {
    broken(audited_, "an audit ended at " + std::to_string(position) + ", before " + describe(*rest));
  }
  // Where the log begins amid what was overwritten, a ring may have the rest of that still, which then is no gap to an audit.
  Offset begin = audit_.begin;
  for (const auto& [from, gap] : lane.gaps) {
    if (from > begin || gap.to <= begin || gap.cause != GapCause::overwritten) continue;
    audit_gaps_.erase(audit_gaps_.lower_bound(from), audit_gaps_.lower_bound(gap.to));
    audit_gaps_[from] = gap;
    begin = gap.to;
  }
  // What was a gap stays one, and nothing else becomes one but the end of a ring that was lost, or of what was overwritten.
  const Offset checked = lane.gaps.empty() ? 0 : std::prev(lane.gaps.end())->second.to;
  const auto before = merged(lane.gaps, begin, checked), now = merged(audit_gaps_, begin, checked);
  const auto same = [](const auto& a, const auto& b) {
    return a.first == b.first && a.second.to == b.second.to && a.second.cause == b.second.cause;
  };
  if (!std::equal(before.begin(), before.end(), now.begin(), now.end(), same)) {
    broken(audited_, "the gaps before " + std::to_string(checked) + " are others than an earlier audit was told of");
  }
  lane.gaps = audit_gaps_;
  lane.acknowledged_end = std::min(lane.acknowledged_end, std::max(position, audit_.next));
  for (const auto& [from, to] : std::exchange(lane.unproven, {})) {
    if (from < audit_.begin && plan_.topic_of(audited_).overwrites()) continue;
    Offset proven = std::max(from, audit_.begin);
    for (const auto& [gap_from, gap] : lane.gaps) {
      if (gap_from <= proven && gap.to > proven) proven = gap.to;
    }
    if (proven < to) {
      broken(audited_, "a reader was told of a gap " + range(from, to) + " that is none to an audit");
    }
  }
  return audit_.begin;
}

void Ledger::prune(std::size_t lane, Offset begin) {
  Lane& l = lanes_[lane];
  const auto end = l.claims.lower_bound(begin);
  for (auto claim = l.claims.begin(); claim != end; ++claim) {
    if (claim->second.durable || claim->second.end <= l.durable_end) counts_.durable += claim->second.count;
  }
  l.claims.erase(l.claims.begin(), end);
  l.overwritten.erase(l.overwritten.begin(), l.overwritten.lower_bound(begin));
  std::erase_if(l.found, [&](const auto& found) { return found.second < begin; });
  std::erase_if(l.gaps, [&](const auto& gap) { return gap.second.to <= begin; });
}

}  // namespace spillway::soak
