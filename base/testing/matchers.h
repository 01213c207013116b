#ifndef HOLDFAST_BASE_TESTING_MATCHERS_H_
#define HOLDFAST_BASE_TESTING_MATCHERS_H_

#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"

namespace holdfast::testing {

inline const absl::Status& StatusOf(const absl::Status& status) {
  return status;
}
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& status_or) {
  return status_or.status();
}

// Matches an absl::Status or absl::StatusOr<T> that is OK.
MATCHER(IsOk, negation ? "is not OK" : "is OK") {
  const absl::Status& status = StatusOf(arg);
  if (!status.ok()) *result_listener << status.ToString();
  return status.ok();
}

// Matches an OK StatusOr whose value matches `value_matcher`.
MATCHER_P(IsOkAndHolds, value_matcher, "is OK and holds a matching value") {
  if (!arg.ok()) {
    *result_listener << arg.status().ToString();
    return false;
  }
  return ::testing::ExplainMatchResult(value_matcher, *arg, result_listener);
}

// Matches an error with this code and a message that matches.
MATCHER_P2(StatusIs, code, message_matcher, "has the code and message") {
  const absl::Status& status = StatusOf(arg);
  *result_listener << status.ToString();
  return status.code() == code &&
         ::testing::ExplainMatchResult(
             message_matcher, std::string(status.message()), result_listener);
}

}  // namespace holdfast::testing

#define ASSERT_OK(expr) ASSERT_THAT(expr, ::holdfast::testing::IsOk())
#define EXPECT_OK(expr) EXPECT_THAT(expr, ::holdfast::testing::IsOk())

#endif  // HOLDFAST_BASE_TESTING_MATCHERS_H_
