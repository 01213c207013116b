#ifndef HOLDFAST_DEVICES_RUNTIME_EVENT_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_EVENT_SYS_H_

#include "base/unique_fd.h"

namespace holdfast {

// Eventfds, by the calls that the steady state has. Threads: any.

// Makes it readable. Waits while it is full, if its maker wants that: an event
// of the VMM's is looked at before.
void RaiseEvent(BorrowedFd event);

// Empties it and returns whether there was something in it. Never waits, also
// where the other end made it blocking, or has emptied it meanwhile. False for
// no descriptor.
bool DrainEvent(BorrowedFd event);

// Whether RaiseEvent would wait, or do nothing: a signal is left in it.
bool IsEventFull(BorrowedFd event);

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_EVENT_SYS_H_
