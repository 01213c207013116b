#include "launcher/exit_cause.h"

#include <csignal>

#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

TEST(ExitCause, NamesTheExitStatus) {
  EXPECT_EQ(ExitCause(0), "exit status 0");
  EXPECT_EQ(ExitCause(3 << 8), "exit status 3");
}

TEST(ExitCause, NamesTheSignal) {
  EXPECT_EQ(ExitCause(SIGKILL), "SIGKILL");
  EXPECT_EQ(ExitCause(SIGSEGV), "SIGSEGV");
  EXPECT_EQ(ExitCause(SIGBUS | 0x80), "SIGBUS (core dumped)");
}

// As a device's crash handler ends it.
TEST(ExitCause, AFaultThatWasCaughtIsNamedAsItsSignal) {
  EXPECT_EQ(ExitCause((128 + SIGSEGV) << 8), "SIGSEGV");
  EXPECT_EQ(ExitCause((128 + SIGBUS) << 8), "SIGBUS");
  EXPECT_EQ(ExitCause((128 + SIGABRT) << 8), "SIGABRT");
  EXPECT_EQ(ExitCause((128 + SIGKILL) << 8), "exit status 137");
  EXPECT_EQ(ExitCause(128 << 8), "exit status 128");
}

TEST(ExitCause, SandboxViolationIsNamedAsSuch) {
  EXPECT_EQ(ExitCause(SIGSYS), "sandbox violation (SIGSYS)");
  EXPECT_EQ(ExitCause(SIGSYS | 0x80), "sandbox violation (SIGSYS)");
}

TEST(IsOwnFault, OfWhatAProcessDoesToItself) {
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP,
                           SIGSYS, SIGSEGV | 0x80}) {
    EXPECT_TRUE(IsOwnFault(ExitCause(signal))) << signal;
  }
  EXPECT_TRUE(IsOwnFault(ExitCause(1 << 8)));
  EXPECT_TRUE(IsOwnFault(ExitCause((128 + SIGABRT) << 8)));
}

TEST(IsOwnFault, NotOfWhatOthersDoToIt) {
  for (const int signal : {SIGKILL, SIGTERM, SIGINT, SIGHUP, SIGXCPU, 64}) {
    EXPECT_FALSE(IsOwnFault(ExitCause(signal))) << signal;
  }
  EXPECT_FALSE(IsOwnFault(ExitCause(0))) << "told to end, it does";
  EXPECT_FALSE(IsOwnFault("unknown"));
  EXPECT_FALSE(IsOwnFault(""));
}

TEST(ExitCause, SignalWithoutANameHasItsNumber) {
  EXPECT_EQ(ExitCause(64), "signal 64");
}

}  // namespace
}  // namespace holdfast::launcher
