#ifndef HOLDFAST_STATESTORE_STORE_UNDERTAKER_SYS_H_
#define HOLDFAST_STATESTORE_STORE_UNDERTAKER_SYS_H_

#include "absl/status/status.h"
#include "statestore/store/actions.h"

namespace holdfast::store {

// Threads that close descriptors, for whom closing takes too long: who drops
// the last reference to a guest's memory frees all of it before close()
// returns, for half a second and more. There are two in a process, for all
// objects: one closes what may take so long, the other what somebody waits for
// to be closed, which must not stand behind it. They live until the process
// ends and make two system calls, recvmmsg and close.
class Undertaker {
 public:
  // Starts the threads, unless they run, and waits until they are in their
  // loops, so that a filter may be applied to them.
  absl::Status Start();

  // Has `handle`, which nobody may use any more, closed by the thread for
  // `closer`, kApart or kPromptly, in the order given. Does not wait. False: it
  // is as it was; too many wait already, Start() was never called, or it is
  // kHere.
  bool Bury(Handle handle, Closer closer);

 private:
  bool started_ = false;
};

}  // namespace holdfast::store

#endif  // HOLDFAST_STATESTORE_STORE_UNDERTAKER_SYS_H_
