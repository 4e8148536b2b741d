// begin_at TOPIC OFFSET: the persistent topic, which nobody has written to yet, begins at this offset, as if so many bytes had been
// written and expired: the horizon file says so, as a clean stop there leaves it.
#include <cstdio>
#include <cstdlib>

#include "spillway/persist/domain_state.h"
#include "spillway/persist/horizon_file.h"
#include "spillway/persist/topic_state.h"
#include "spillway/spillway.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const spillway::Offset at = std::strtoull(argv[2], nullptr, 10);
  const spillway::Domain domain;
  const spillway::Topic topic = domain.open(argv[1]);
  const auto path = spillway::horizon_path(topic.state().paths(0).data);
  auto file = spillway::HorizonFile::open(path, topic.config().id, 0, topic.config().sharing);
  if (file.read() || file.write({1, at, at, at, spillway::GapCause::none, true}) != 0) {
    std::fprintf(stderr, "begin_at: %s is there already, or can't be written\n", path.c_str());
    return 1;
  }
  return 0;
}
