#include "devices/runtime/event_sys.h"

#include <poll.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdint>

namespace holdfast {

void RaiseEvent(BorrowedFd event) {
  const uint64_t one = 1;
  (void)!write(event.get(), &one, sizeof(one));
}

// preadv2 without an offset, since the steady-state filter has no read.
bool DrainEvent(BorrowedFd event) {
  uint64_t count;
  const iovec part = {&count, sizeof(count)};
  return event.valid() &&
         preadv2(event.get(), &part, 1, -1, RWF_NOWAIT) == sizeof(count);
}

bool IsEventFull(BorrowedFd event) {
  const timespec no_wait = {0, 0};
  pollfd poll = {event.get(), POLLOUT, 0};
  return ppoll(&poll, 1, &no_wait, nullptr) == 0;
}

}  // namespace holdfast
