#include "devices/runtime/poller_sys.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <thread>
#include <utility>

#include "base/testing/matchers.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using Source = Poller::Source;

struct Pair {
  UniqueFd ours;
  UniqueFd theirs;
};

Pair SocketPair() {
  int fds[2];
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

UniqueFd Event() { return UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

class PollerTest : public ::testing::Test {
 protected:
  PollerTest() { EXPECT_OK(poller_.Open(Lane::Waiting::kEdge)); }

  // Something is ready that need not be waited for.
  bool Look() { return poller_.Wait(0); }
  void Say(const Pair& pair) {
    ASSERT_EQ(send(pair.theirs.get(), "x", 1, MSG_NOSIGNAL), 1);
  }

  Poller poller_;
};

TEST_F(PollerTest, FindsNothing) {
  EXPECT_FALSE(Look());
  const UniqueFd event = Event();
  ASSERT_OK(poller_.Watch(Source::kEvent, event));
  EXPECT_FALSE(Look());
  EXPECT_FALSE(poller_.Wait(1));
  EXPECT_FALSE(poller_.ready(Source::kEvent));
}

TEST_F(PollerTest, SaysWhatIsReadyUntilItIsTaken) {
  const UniqueFd event = Event();
  const UniqueFd other = Event();
  ASSERT_OK(poller_.Watch(Source::kEvent, event));
  ASSERT_OK(poller_.Watch(Source::kOtherEvent, other));
  eventfd_write(event.get(), 1);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(Look());
    EXPECT_TRUE(poller_.ready(Source::kEvent));
    EXPECT_FALSE(poller_.ready(Source::kOtherEvent));
  }
  eventfd_t count;
  eventfd_read(event.get(), &count);
  EXPECT_FALSE(Look());
  EXPECT_FALSE(poller_.ready(Source::kEvent));
}

// What a lane has executed may stay there.
TEST_F(PollerTest, TellsOfEveryArrivalOfTheVmmOnce) {
  const Pair vmm = SocketPair();
  ASSERT_OK(poller_.Watch(Source::kVmm, vmm.ours));
  EXPECT_FALSE(Look());
  for (int i = 0; i < 3; ++i) {
    Say(vmm);
    EXPECT_TRUE(Look());
    EXPECT_TRUE(poller_.ready(Source::kVmm));
    EXPECT_FALSE(Look());
  }
}

// As a successor does, or whoever is given a connection that already speaks.
TEST_F(PollerTest, TellsOfWhatWasThereBefore) {
  const Pair vmm = SocketPair();
  Say(vmm);
  ASSERT_OK(poller_.Watch(Source::kVmm, vmm.ours));
  EXPECT_TRUE(Look());
  EXPECT_FALSE(Look());
  Poller successor;
  ASSERT_OK(successor.Open(Lane::Waiting::kEdge));
  ASSERT_OK(successor.Watch(Source::kVmm, vmm.ours));
  EXPECT_TRUE(successor.Wait(0));
}

// Between the look that finds nothing and the wait.
TEST_F(PollerTest, AnArrivalWhileNobodyWaitsIsKept) {
  const Pair vmm = SocketPair();
  ASSERT_OK(poller_.Watch(Source::kVmm, vmm.ours));
  Say(vmm);
  EXPECT_TRUE(Look());
  char byte;
  ASSERT_EQ(recv(vmm.ours.get(), &byte, 1, 0), 1);
  Say(vmm);
  EXPECT_TRUE(poller_.Wait(-1));
}

TEST_F(PollerTest, AHangUpIsRememberedUntilThereIsAnotherVmm) {
  Pair vmm = SocketPair();
  ASSERT_OK(poller_.Watch(Source::kVmm, vmm.ours));
  EXPECT_EQ(poller_.waiting(), Lane::Waiting::kEdge);
  vmm.theirs.Reset();
  EXPECT_TRUE(Look());
  EXPECT_EQ(poller_.waiting(), Lane::Waiting::kAny);
  EXPECT_FALSE(Look());
  EXPECT_EQ(poller_.waiting(), Lane::Waiting::kAny);
  const Pair next = SocketPair();
  ASSERT_OK(poller_.Watch(Source::kVmm, next.ours));
  EXPECT_EQ(poller_.waiting(), Lane::Waiting::kEdge);
}

TEST_F(PollerTest, AVmmThatOnlyStopsToSpeakHasHungUp) {
  const Pair vmm = SocketPair();
  Say(vmm);
  shutdown(vmm.theirs.get(), SHUT_WR);
  ASSERT_OK(poller_.Watch(Source::kVmm, vmm.ours));
  EXPECT_TRUE(Look());
  EXPECT_EQ(poller_.waiting(), Lane::Waiting::kAny);
}

// Somebody else holds the file, and the next one gets the same number.
TEST_F(PollerTest, WhatIsClosedIsForgotten) {
  Pair vmm = SocketPair();
  const UniqueFd held(dup(vmm.ours.get()));
  ASSERT_OK(poller_.Watch(Source::kVmm, vmm.ours));
  Say(vmm);
  EXPECT_TRUE(Look());
  poller_.BeforeClose(vmm.ours);
  EXPECT_FALSE(poller_.ready(Source::kVmm));
  const int number = vmm.ours.Release();
  close(number);
  Say(vmm);
  EXPECT_FALSE(Look());

  const Pair next = SocketPair();
  if (next.ours.get() != number) {
    ASSERT_EQ(dup2(next.ours.get(), number), number);
  }
  ASSERT_OK(poller_.Watch(Source::kVmm, BorrowedFd(number)));
  Say(next);
  EXPECT_TRUE(Look());
  poller_.BeforeClose(BorrowedFd(number));
  if (next.ours.get() != number) close(number);
}

// The reason for it.
TEST_F(PollerTest, WhatIsClosedUntoldHauntsTheSet) {
  const UniqueFd event = Event();
  const int number = dup(event.get());
  ASSERT_OK(poller_.Watch(Source::kEvent, BorrowedFd(number)));
  close(number);
  eventfd_write(event.get(), 1);
  EXPECT_TRUE(Look());
}

TEST_F(PollerTest, SlotsTellWhatTheyClose) {
  DescriptorSlots slots;
  slots.SetObserver(poller_);
  Pair vmm = SocketPair();
  const UniqueFd held(dup(vmm.ours.get()));
  slots.SetConnection(std::move(vmm.ours), 1);
  ASSERT_OK(poller_.Watch(Source::kVmm, slots.Get(store::kSlotConnection)));
  Say(vmm);
  slots.SetConnection(UniqueFd(), 0);
  EXPECT_FALSE(Look());

  UniqueFd event = Event();
  const UniqueFd theirs(dup(event.get()));
  slots.Set(store::kSlotFirstSession, std::move(event));
  ASSERT_OK(poller_.Watch(Source::kEvent, slots.Get(store::kSlotFirstSession)));
  eventfd_write(theirs.get(), 1);
  EXPECT_TRUE(Look());
  const uint64_t none[store::kSlotCount / 64] = {};
  slots.RetainSession(none);
  EXPECT_FALSE(Look());
}

TEST_F(PollerTest, NothingIsWatchedInsteadOfSomething) {
  const UniqueFd event = Event();
  ASSERT_OK(poller_.Watch(Source::kEvent, event));
  eventfd_write(event.get(), 1);
  ASSERT_OK(poller_.Watch(Source::kEvent, BorrowedFd(-1)));
  EXPECT_FALSE(Look());
  ASSERT_OK(poller_.Watch(Source::kEvent, event));
  EXPECT_TRUE(Look());
}

// An interrupt's descriptor may be anything: a regular file, an epoll set.
TEST_F(PollerTest, WhatCannotBeWaitedForIsNeverReady) {
  const UniqueFd file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  ASSERT_OK(poller_.Watch(Source::kEvent, file));
  EXPECT_FALSE(Look());
  ASSERT_OK(poller_.Watch(Source::kEvent, BorrowedFd(-1)));
  const UniqueFd set(epoll_create1(EPOLL_CLOEXEC));
  ASSERT_OK(poller_.Watch(Source::kEvent, set));
  EXPECT_FALSE(Look());
}

TEST_F(PollerTest, APipeThatNobodyWritesToIsReadyOnce) {
  int fds[2];
  ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
  const UniqueFd reader(fds[0]);
  close(fds[1]);
  for (const Source source :
       {Source::kOtherEvent, Source::kThirdEvent, Source::kFourthEvent}) {
    ASSERT_OK(poller_.Watch(source, reader));
    EXPECT_TRUE(Look());
    EXPECT_TRUE(poller_.HasEvent());
    EXPECT_FALSE(Look());
    EXPECT_FALSE(poller_.HasEvent());
    poller_.BeforeClose(reader);
  }
}

// ---- Silence ----

constexpr int kSilenceMs = 10;

double Seconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) +
         1e-9 * static_cast<double>(now.tv_nsec);
}

// A VMM that does not speak breaks no silence, whatever else there is.
TEST_F(PollerTest, SilenceEndsTheWait) {
  const Pair vmm = SocketPair();
  ASSERT_OK(poller_.Watch(Source::kVmm, vmm.ours));
  for (int i = 0; i < 3; ++i) {
    const double start = Seconds();
    EXPECT_FALSE(poller_.WaitUnlessSilent(kSilenceMs));
    EXPECT_GE(Seconds() - start, 1e-3 * kSilenceMs);
    EXPECT_FALSE(poller_.ready(Source::kVmm));
  }
}

// The timer runs on from the first wait, and what it says at its end is of no
// interest: the VMM has spoken meanwhile.
TEST_F(PollerTest, AVmmThatHasSpokenIsNotSilent) {
  const Pair vmm = SocketPair();
  ASSERT_OK(poller_.Watch(Source::kVmm, vmm.ours));
  for (int i = 0; i < 3; ++i) {
    Say(vmm);
    EXPECT_TRUE(poller_.WaitUnlessSilent(kSilenceMs));
    EXPECT_TRUE(poller_.ready(Source::kVmm));
    const double heard = Seconds();
    EXPECT_FALSE(poller_.WaitUnlessSilent(kSilenceMs));
    EXPECT_GE(Seconds() - heard, 1e-3 * kSilenceMs);
  }
}

TEST_F(PollerTest, ATimerThatNobodyNeedsIsNotNoticed) {
  const Pair vmm = SocketPair();
  ASSERT_OK(poller_.Watch(Source::kVmm, vmm.ours));
  Say(vmm);
  EXPECT_TRUE(poller_.WaitUnlessSilent(kSilenceMs));
  usleep(2000 * kSilenceMs);
  EXPECT_FALSE(Look());
  EXPECT_FALSE(poller_.Wait(1));
  // And is set anew when it is needed.
  EXPECT_FALSE(poller_.WaitUnlessSilent(kSilenceMs));
  Say(vmm);
  EXPECT_TRUE(poller_.WaitUnlessSilent(kSilenceMs));
  // It expires while somebody waits for ever.
  const UniqueFd event = Event();
  ASSERT_OK(poller_.Watch(Source::kEvent, event));
  std::thread later([&event] {
    usleep(3000 * kSilenceMs);
    eventfd_write(event.get(), 1);
  });
  EXPECT_TRUE(poller_.Wait(-1));
  EXPECT_TRUE(poller_.ready(Source::kEvent));
  later.join();
}

TEST_F(PollerTest, WithoutALimitSilenceIsNoEnd) {
  const UniqueFd event = Event();
  ASSERT_OK(poller_.Watch(Source::kEvent, event));
  std::thread later([&event] {
    usleep(3000 * kSilenceMs);
    eventfd_write(event.get(), 1);
  });
  EXPECT_TRUE(poller_.WaitUnlessSilent(-1));
  EXPECT_TRUE(poller_.ready(Source::kEvent));
  later.join();
}

TEST(PollerByLevel, SilenceEndsTheWait) {
  Poller poller;
  ASSERT_OK(poller.Open(Lane::Waiting::kLevel));
  const Pair vmm = SocketPair();
  ASSERT_OK(poller.Watch(Source::kVmm, vmm.ours));
  EXPECT_FALSE(poller.WaitUnlessSilent(1));
  ASSERT_EQ(send(vmm.theirs.get(), "x", 1, MSG_NOSIGNAL), 1);
  EXPECT_TRUE(poller.WaitUnlessSilent(kSilenceMs));
}

TEST(PollerByLevel, SaysWhatIsReadyUntilItIsTaken) {
  Poller poller;
  ASSERT_OK(poller.Open(Lane::Waiting::kLevel));
  EXPECT_EQ(poller.waiting(), Lane::Waiting::kLevel);
  Pair vmm = SocketPair();
  ASSERT_OK(poller.Watch(Source::kVmm, vmm.ours));
  EXPECT_FALSE(poller.Wait(0));
  EXPECT_FALSE(poller.Wait(1));
  ASSERT_EQ(send(vmm.theirs.get(), "x", 1, MSG_NOSIGNAL), 1);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(poller.Wait(-1));
    EXPECT_TRUE(poller.ready(Source::kVmm));
    EXPECT_FALSE(poller.ready(Source::kEvent));
  }
  char byte;
  ASSERT_EQ(recv(vmm.ours.get(), &byte, 1, 0), 1);
  EXPECT_FALSE(poller.Wait(0));
  EXPECT_FALSE(poller.ready(Source::kVmm));
  vmm.theirs.Reset();
  EXPECT_TRUE(poller.Wait(0));
  poller.BeforeClose(vmm.ours);
  EXPECT_FALSE(poller.Wait(0));
}

}  // namespace
}  // namespace holdfast
