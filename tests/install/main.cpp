// What a stranger writes first, against the installed package: one record to disk and back. It touches every layer, so
// that a library, header or dependency missing from the package shows.
#include <spillway/spillway.h>

#include <chrono>
#include <cstdint>
#include <cstdio>

struct Quote {
  std::uint64_t id;
  double price;
};

int main() {
  using namespace std::chrono_literals;

  spillway::Domain domain;  // SPILLWAY_DATA and SPILLWAY_SHM
  auto quotes = domain.open_or_create<Quote>("quotes", {.schema = "quote.v1"});
  auto producer = quotes.exclusive_producer({.partition = 0});
  const auto sent = producer.append(Quote{7, 101.25});
  if (!sent || producer.wait_durable(sent.position, 60s) != spillway::Durable::yes) {
    std::fputs("the record is not durable\n", stderr);
    return 1;
  }

  int seen = 0;
  auto consumer = quotes.consumer({.from = spillway::From::earliest});
  consumer.poll([&](const Quote& quote, const spillway::RecordInfo&) { seen += quote.id == 7; });
  if (seen != 1) {
    std::fprintf(stderr, "read %d records instead of 1\n", seen);
    return 1;
  }
}
