#include "devices/runtime/event_sys.h"

#include <poll.h>
#include <sys/eventfd.h>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

bool IsReadable(BorrowedFd event) {
  pollfd poll_fd = {event.get(), POLLIN, 0};
  return poll(&poll_fd, 1, 0) == 1;
}

TEST(Event, IsRaisedUntilItIsDrained) {
  const UniqueFd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  EXPECT_FALSE(DrainEvent(event));
  RaiseEvent(event);
  RaiseEvent(event);
  EXPECT_TRUE(IsReadable(event));
  EXPECT_TRUE(DrainEvent(event));
  EXPECT_FALSE(IsReadable(event));
  EXPECT_FALSE(DrainEvent(event));
}

// As the VMM may have made it: nothing in it is nothing to wait for.
TEST(Event, DrainingNeverWaits) {
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  EXPECT_FALSE(DrainEvent(event));
  RaiseEvent(event);
  EXPECT_TRUE(DrainEvent(event));
  EXPECT_FALSE(DrainEvent(event));
}

TEST(Event, NoDescriptorHoldsNothing) {
  EXPECT_FALSE(DrainEvent(BorrowedFd(-1)));
}

}  // namespace
}  // namespace holdfast
