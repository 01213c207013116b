#ifndef HOLDFAST_STATESTORE_STORE_UNDERTAKER_SYS_H_
#define HOLDFAST_STATESTORE_STORE_UNDERTAKER_SYS_H_

#include "absl/status/status.h"
#include "statestore/store/actions.h"

namespace holdfast::store {

// A thread that closes descriptors, for whom closing takes too long: who drops
// the last reference to a guest's memory frees all of it before close()
// returns, for half a second and more. There is one in a process, for all
// objects; it lives until the process ends and makes two system calls, recvmmsg
// and close.
class Undertaker {
 public:
  // Starts the thread, unless it runs, and waits until it is in its loop, so
  // that a filter may be applied to it.
  absl::Status Start();

  // Has `handle`, which nobody may use any more, closed. Does not wait. False:
  // it is as it was; too many wait already, or Start() was never called.
  bool Bury(Handle handle);

 private:
  bool started_ = false;
};

}  // namespace holdfast::store

#endif  // HOLDFAST_STATESTORE_STORE_UNDERTAKER_SYS_H_
