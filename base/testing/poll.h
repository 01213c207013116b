#ifndef HOLDFAST_BASE_TESTING_POLL_H_
#define HOLDFAST_BASE_TESTING_POLL_H_

#include <chrono>
#include <thread>

namespace holdfast {

// Calls `condition` every few milliseconds until it returns something true,
// or until `limit` has passed, and returns what it returned last. Tests wait
// with this instead of sleeping for what they hope is long enough: on a busy
// machine nothing is.
template <typename Condition>
auto PollUntil(Condition condition,
               std::chrono::milliseconds limit = std::chrono::seconds(20))
    -> decltype(condition()) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (true) {
    auto value = condition();
    if (value || std::chrono::steady_clock::now() >= end) return value;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

}  // namespace holdfast

#endif  // HOLDFAST_BASE_TESTING_POLL_H_
