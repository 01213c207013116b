#include "statestore/store/undertaker_sys.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "base/testing/matchers.h"
#include "base/unique_fd.h"
#include "gtest/gtest.h"
#include "statestore/store/actions.h"
#include "statestore/store/testing/slow_close_sys.h"

namespace holdfast::store {
namespace {

using testing::SlowClose;

// One for a process: so is this.
Undertaker& Started() {
  static Undertaker* const undertaker = [] {
    auto* started = new Undertaker;
    EXPECT_OK(started->Start());
    return started;
  }();
  return *undertaker;
}

TEST(Undertaker, ClosesWhatItIsGiven) {
  for (Closer closer : {Closer::kApart, Closer::kPromptly}) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd reader(ends[0]);
    ASSERT_TRUE(Started().Bury(ends[1], closer));
    char byte;
    EXPECT_EQ(read(reader.get(), &byte, 1), 0) << "the end of the stream";
  }
}

// Closed by the caller, it would not return before Allow() is called.
TEST(Undertaker, DoesNotWaitForASlowClose) {
  SlowClose slow;
  ASSERT_TRUE(Started().Bury(slow.Take().Release(), Closer::kApart));
  EXPECT_TRUE(slow.Allow());
}

// What was given to the same thread is the control: it stays open until the
// slow one is done.
TEST(Undertaker, WhatSomebodyWaitsForDoesNotStandBehindASlowClose) {
  SlowClose slow;
  ASSERT_TRUE(Started().Bury(slow.Take().Release(), Closer::kApart));
  int behind[2], beside[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, behind), 0);
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, beside), 0);
  const UniqueFd vmm_behind(behind[0]), vmm_beside(beside[0]);
  ASSERT_TRUE(Started().Bury(behind[1], Closer::kApart));
  ASSERT_TRUE(Started().Bury(beside[1], Closer::kPromptly));
  char byte;
  EXPECT_EQ(read(vmm_beside.get(), &byte, 1), 0);
  EXPECT_EQ(recv(vmm_behind.get(), &byte, 1, MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_TRUE(slow.Allow());
  EXPECT_EQ(read(vmm_behind.get(), &byte, 1), 0);
}

TEST(Undertaker, RefusesWhatFindsNoPlaceAndLeavesItOpen) {
  SlowClose slow;
  ASSERT_TRUE(Started().Bury(slow.Take().Release(), Closer::kApart));
  constexpr int kMany = 5000;
  int taken = 0;
  int refused = -1;
  while (taken < kMany && refused < 0) {
    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    if (Started().Bury(fd, Closer::kApart)) {
      ++taken;
    } else {
      refused = fd;
    }
  }
  EXPECT_GE(taken, 160) << "all slots of a session";
  ASSERT_GE(refused, 0);
  EXPECT_NE(fcntl(refused, F_GETFD), -1);
  close(refused);
  EXPECT_TRUE(slow.Allow());
}

TEST(Undertaker, TakesNothingThatIsTheCallersToClose) {
  const UniqueFd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(Started().Bury(fd.get(), Closer::kHere));
  EXPECT_NE(fcntl(fd.get(), F_GETFD), -1);
}

TEST(Undertaker, TakesNothingBeforeItsStart) {
  Undertaker idle;
  const UniqueFd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(idle.Bury(fd.get(), Closer::kApart));
  EXPECT_NE(fcntl(fd.get(), F_GETFD), -1);
}

}  // namespace
}  // namespace holdfast::store
