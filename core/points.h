// Kill points: the instants at which a test stops, kills or forks a process. Every store to shared memory is one, because
// shared words are `Shared`, and so is every call of core/disk.h and every submission and completion of an I/O queue. A
// store of another kind says points::at() beside itself.
//
// Only the tests in tests/points are compiled with SPILLWAY_POINTS, and with sources of their own. For everybody else
// Shared is std::atomic and a point is nothing.
#pragma once

#include <atomic>

#if defined(SPILLWAY_POINTS)
#include <source_location>
#endif

namespace spillway {

#if defined(SPILLWAY_POINTS)

namespace points {
using Where = std::source_location;
void at(Where where = Where::current()) noexcept;  // tests/points/points.cpp
}  // namespace points

// As std::atomic; a point before every store.
template <class T>
class Shared : public std::atomic<T> {
  using Base = std::atomic<T>;
  using Order = std::memory_order;
  using Where = points::Where;

 public:
  using Base::Base;
  using Base::operator=;

  void store(T value, Order order = std::memory_order_seq_cst, Where where = Where::current()) noexcept {
    points::at(where);
    Base::store(value, order);
  }
  T exchange(T value, Order order = std::memory_order_seq_cst, Where where = Where::current()) noexcept {
    points::at(where);
    return Base::exchange(value, order);
  }
  T fetch_add(T value, Order order = std::memory_order_seq_cst, Where where = Where::current()) noexcept {
    points::at(where);
    return Base::fetch_add(value, order);
  }
  bool compare_exchange_strong(T& expected, T value, Order well, Order failed,
                               Where where = Where::current()) noexcept {
    points::at(where);
    return Base::compare_exchange_strong(expected, value, well, failed);
  }
  bool compare_exchange_strong(T& expected, T value, Order order, Where where = Where::current()) noexcept {
    points::at(where);
    return Base::compare_exchange_strong(expected, value, order);
  }
  bool compare_exchange_weak(T& expected, T value, Order well, Order failed, Where where = Where::current()) noexcept {
    points::at(where);
    return Base::compare_exchange_weak(expected, value, well, failed);
  }
};
static_assert(sizeof(Shared<char>) == 1 && sizeof(Shared<unsigned long>) == sizeof(unsigned long));

#else

namespace points {
struct Where {
  static constexpr Where current() noexcept { return {}; }
};
constexpr void at(Where = {}) noexcept {}
}  // namespace points

template <class T>
using Shared = std::atomic<T>;

#endif

}  // namespace spillway
