#include "spillway/persist/clean_stop.h"

#include "spillway/core/error.h"
#include "spillway/ipc/ring_walk.h"
#include "spillway/persist/horizon_file.h"

namespace spillway {
namespace {

bool seal(Partition& partition) noexcept try {
  Control& control = partition.control();
  // relaxed and acquire alike: with the exclusive form of the writers' lock nobody else stores here.
  const Offset end = control.claims.reserved_end.load(std::memory_order_acquire);
  if (find_committed_end(partition).end != end) return false;
  if (control.persister.durable_end.load(std::memory_order_acquire) != end) return false;
  HorizonFile file = HorizonFile::open(partition.paths().data + "/horizon", partition.config().id, partition.number(),
                                       partition.config().sharing);
  const auto slot = file.read();
  if (!slot || slot->incarnation != partition.incarnation() || slot->begin != partition.begin()) return false;
  if (end > slot->horizon) return false;
  HorizonFields fields = HorizonFields::of(*slot);
  fields.horizon = end;
  fields.clean = true;
  // The ring's horizon first: whoever attaches to the ring must not find more there than on disk.
  control.persister.horizon.store(end, std::memory_order_release);
  // A failure leaves it trimmed in the ring only: the next holder of the persister role moves both on.
  return file.write(fields) == 0;
} catch (const Error&) {
  return false;
}

}  // namespace

bool seal_if_last(Partition& partition) noexcept {
  if (partition.config().ephemeral || !partition.writers_lock().try_convert(LockMode::exclusive)) return false;
  if (seal(partition)) return true;
  partition.writers_lock().try_convert(LockMode::shared);
  return false;
}

}  // namespace spillway
