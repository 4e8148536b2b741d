// A disk that answers late, or with errors only: what producers are told meanwhile is their topic's policy, the watermarks stay
// where the disk is, the state says why, and once it answers again everything that the ring kept gets there.
#include <map>

#include "support/persister_rig.h"

using namespace spillway;
using namespace spillway::test;

namespace {

enum class Disk { stalls, fails };

void strike(Rig& rig, Disk disk) {
  rig.queue->hold = disk == Disk::stalls;
  rig.queue->fail = [disk](CheckedQueue::What) { return disk == Disk::fails ? EIO : 0; };
}
void heal(Rig& rig) {
  rig.queue->hold = false;
  rig.queue->fail = nullptr;
}

// One try; what became of it.
AppendStatus try_append(Rig& rig, Blocked& blocked) {
  const std::string text = numbered(rig.payloads.size(), 500);
  const Appended appended = rig.appender().append(text);
  blocked = appended.blocked;
  if (appended) {
    rig.payloads.push_back(text);
    rig.offsets.push_back(appended.position.offset);
    rig.end = appended.end;
  }
  rig.persister->ask_sync();
  rig.step();
  return appended.status;
}

}  // namespace

TEST_CASE("while the disk stalls or fails each policy holds, nothing is promised, and all goes on afterwards") {
  for (const Disk disk : {Disk::stalls, Disk::fails}) {
    for (const OnFull on_full : {OnFull::block, OnFull::drop_new, OnFull::overwrite}) {
      CAPTURE(static_cast<int>(disk), static_cast<int>(on_full));
      Rig rig(with(SyncPolicy::interval, on_full));
      rig.append_many(20);
      REQUIRE(rig.sync_all());
      for (int i = 0; i < 3; ++i) rig.step();
      const Offset durable = rig.durable();
      const Offset end_before = rig.end;
      REQUIRE(durable == end_before);

      strike(rig, disk);
      const std::size_t laps = 3 * rig.ring->capacity() / 500;
      std::map<AppendStatus, std::size_t> answers;
      Blocked blocked = Blocked::none;
      for (std::size_t i = 0; i < laps; ++i) {
        ++answers[try_append(rig, blocked)];
        REQUIRE(rig.durable() == durable);
        REQUIRE(rig.written() == durable);
      }
      if (on_full == OnFull::overwrite) {
        CHECK(answers[AppendStatus::ok] == laps);
      } else {
        const AppendStatus refused = on_full == OnFull::block ? AppendStatus::full : AppendStatus::dropped;
        CHECK(answers[AppendStatus::ok] > 0);
        CHECK(answers[AppendStatus::ok] + answers[refused] == laps);
        CHECK(rig.end - durable <= rig.ring->capacity());
      }
      if (on_full == OnFull::block) {
        CHECK(blocked == (disk == Disk::stalls ? Blocked::disk_behind : Blocked::io_error));
      }
      CHECK(rig.area().state.load() == (disk == Disk::stalls ? PersisterState::working : PersisterState::io_error));
      CHECK(rig.area().error.load() == (disk == Disk::stalls ? 0 : EIO));

      heal(rig);
      REQUIRE(rig.sync_all());
      CHECK(rig.area().state.load() == PersisterState::working);
      CHECK(rig.area().error.load() == 0);
      rig.append_many(20);
      REQUIRE(rig.sync_all());
      const OnDisk found = read_disk(rig.place, rig.ring);
      if (on_full != OnFull::overwrite) {
        rig.check_disk(found, rig.payloads.size());
        continue;
      }
      // Every record is there, or in a gap that says so.
      std::map<Offset, std::string> there;
      for (std::size_t i = 0; i < found.offsets.size(); ++i) there[found.offsets[i]] = found.payloads[i];
      std::size_t missing = 0;
      for (std::size_t i = 0; i < rig.offsets.size(); ++i) {
        const Offset at = rig.offsets[i];
        const bool told = std::any_of(found.gaps.begin(), found.gaps.end(), [&](const OnDisk::Gap& gap) {
          return gap.from <= at && at < gap.to && gap.cause == GapCause::overwritten;
        });
        const auto record = there.find(at);
        REQUIRE((record != there.end()) != told);
        if (!told) REQUIRE(record->second == rig.payloads[i]);
        missing += told ? 1U : 0U;
      }
      CHECK(missing > 0);
      CHECK(there.size() + missing == rig.offsets.size());
    }
  }
}
