#ifndef HOLDFAST_BASE_STATUS_MACROS_H_
#define HOLDFAST_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns from the enclosing function when `expr`, an absl::Status, is not OK.
#define RETURN_IF_ERROR(expr)                                           \
  do {                                                                  \
    if (absl::Status holdfast_status = (expr); !holdfast_status.ok()) { \
      return holdfast_status;                                           \
    }                                                                   \
  } while (false)

#define HOLDFAST_CONCAT_INNER(a, b) a##b
#define HOLDFAST_CONCAT(a, b) HOLDFAST_CONCAT_INNER(a, b)

// ASSIGN_OR_RETURN(auto value, FunctionThatReturnsStatusOr());
#define ASSIGN_OR_RETURN(lhs, expr) \
  HOLDFAST_ASSIGN_OR_RETURN(HOLDFAST_CONCAT(holdfast_or_, __LINE__), lhs, expr)

#define HOLDFAST_ASSIGN_OR_RETURN(tmp, lhs, expr) \
  auto tmp = (expr);                              \
  if (!tmp.ok()) return tmp.status();             \
  lhs = std::move(tmp).value()

#endif  // HOLDFAST_BASE_STATUS_MACROS_H_
