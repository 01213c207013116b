#ifndef HOLDFAST_STATESTORE_STORE_TESTING_SLOW_CLOSE_SYS_H_
#define HOLDFAST_STATESTORE_STORE_TESTING_SLOW_CLOSE_SYS_H_

#include <cstddef>
#include <utility>

#include "base/unique_fd.h"

namespace holdfast::store::testing {

// A descriptor whose last close() does not return before somebody wants it to,
// as that of a guest's memory does not for half a second: a TCP connection over
// loopback with a full buffer and SO_LINGER.
class SlowClose {
 public:
  SlowClose();

  BorrowedFd fd() const { return near_; }
  // The only descriptor; its close() waits for Allow(), for 30000 s at most.
  UniqueFd Take() { return std::move(near_); }
  // Waits for the close() to be called, and lets it return. False: there was
  // none, or it did not wait.
  bool Allow();

 private:
  UniqueFd near_;
  UniqueFd far_;
  size_t sent_ = 0;
};

}  // namespace holdfast::store::testing

#endif  // HOLDFAST_STATESTORE_STORE_TESTING_SLOW_CLOSE_SYS_H_
