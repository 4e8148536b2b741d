// An order journal that goes on only when power loss can't take the order back.
//
//   example_order_journal               a hundred orders
//   example_order_journal --count N
//   spillway sub example_journal --from earliest      shows what is in the journal
//
// append() puts the order into the log, where live readers see it at once. wait_durable() returns when it is on the disk
// and the disk has confirmed; only then is the order acknowledged. This process writes the segments by itself, on the
// thread that waits, unless a `spillway persist` or another process holds that role.
#include <spillway/spillway.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

enum class Verdict { acknowledged, rejected, unknown };

class OrderJournal {
 public:
  explicit OrderJournal(const spillway::Domain& domain)
      : topic_(domain.open_or_create("example_journal", {.ring = spillway::kMiB, .retain = 256 * spillway::kMiB})),
        producer_(topic_.exclusive_producer()) {}

  Verdict place(const std::string& order) {
    const spillway::Appended sent = producer_.append(order);
    if (!sent) {
      // Nothing was appended, so the order can be refused for certain.
      std::fprintf(stderr, "journal: refused: %s (%s)\n", std::string(name_of(sent.status)).c_str(),
                   std::string(name_of(sent.blocked)).c_str());
      return Verdict::rejected;
    }
    const spillway::Durable durable = topic_.wait_durable(sent.position, std::chrono::seconds(5));
    if (durable == spillway::Durable::yes) return Verdict::acknowledged;
    // It is in the log and may reach the disk later: neither yes nor no. Whoever reads the journal finds out.
    std::fprintf(stderr, "journal: not durable yet: %s (%s)\n", std::string(name_of(durable)).c_str(),
                 std::string(name_of(topic_.blocked(0))).c_str());
    return Verdict::unknown;
  }

  bool close() {
    producer_.close();
    return topic_.close(std::chrono::seconds(30)) == spillway::Durable::yes;
  }

 private:
  spillway::Topic topic_;
  spillway::ExclusiveProducer producer_;
};

}  // namespace

int main(int argc, char** argv) {
  int count = 100;
  if (argc == 3 && std::strcmp(argv[1], "--count") == 0) {
    count = std::max(1, std::atoi(argv[2]));
  } else if (argc != 1) {
    std::fprintf(stderr, "usage: example_order_journal [--count N]\n");
    return 2;
  }
  try {
    const spillway::Domain domain;
    OrderJournal journal(domain);
    std::vector<double> milliseconds;
    for (int i = 1; i <= count; ++i) {
      const auto begin = Clock::now();
      if (journal.place("buy " + std::to_string(i) + " XYZ") != Verdict::acknowledged) return 1;
      milliseconds.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
    }
    std::sort(milliseconds.begin(), milliseconds.end());
    std::printf("%d orders acknowledged, each of them safe from power loss; p50 %.2f ms, worst %.2f ms\n", count,
                milliseconds[milliseconds.size() / 2], milliseconds.back());
    return journal.close() ? 0 : 1;
  } catch (const spillway::Error& error) {
    std::fprintf(stderr, "order_journal: %s\n", error.what());
    return 1;
  }
}
