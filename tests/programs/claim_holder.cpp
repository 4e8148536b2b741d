// claim_holder TOPIC COUNT: a shared producer of the domain that the environment names, which appends COUNT records (`early 1` ...),
// then claims room for one more and says `holding SLOT OFFSET`; once its standard input has a line it fills the claim (`late`),
// commits it and says `committed`. It persists nothing. It ends with its standard input.
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "spillway/ipc/partition.h"
#include "spillway/persist/topic_state.h"
#include "spillway/spillway.h"

namespace {

// The slot whose note covers the claim.
std::size_t slot_of(const spillway::Partition& partition, spillway::Offset offset) {
  for (std::size_t i = 0; i < spillway::kProducerSlots; ++i) {
    const std::uint64_t note = partition.control().slots[i].start_state.load();
    if ((note & spillway::kNoteStateMask) != 0 && (note & ~spillway::kNoteStateMask) == offset) return i;
  }
  return spillway::kProducerSlots;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  spillway::DomainOptions options;
  options.stand_by = spillway::StandBy::never;
  const spillway::Domain domain(options);
  const spillway::Topic topic = domain.open(argv[1]);
  auto producer = topic.shared_producer();
  spillway::Offset end = 0;
  for (int i = 1; i <= std::atoi(argv[2]); ++i) end = producer.append("early " + std::to_string(i)).end;
  constexpr std::string_view kText = "late";
  auto claim = producer.claim(kText.size());
  if (!claim) return 1;
  std::printf("holding %zu %" PRIu64 "\n", slot_of(*topic.state().writing_if_open(0), end), end);
  std::fflush(stdout);
  if (std::getchar() == EOF) return 0;
  std::memcpy(claim.payload().data(), kText.data(), kText.size());
  if (!claim.commit()) return 1;
  std::printf("committed\n");
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  return 0;
}
