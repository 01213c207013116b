// Queues whose process dies: by SIGKILL, and by a request.
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <new>
#include <string>

#include "base/testing/matchers.h"
#include "devices/runtime/crash_handler_sys.h"
#include "devices/runtime/queue_runner_sys.h"
#include "devices/runtime/testing/queue_rig_sys.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::QueueRig;
using ::holdfast::testing::ScriptedDevice;
using ::testing::ElementsAre;

// A process of its own that runs the queue until it dies.
class Victim {
 public:
  Victim(QueueRig& rig, ScriptedDevice& device) {
    StateBank& bank = rig.Bank();
    pid_ = fork();
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    InstallCrashHandler();
    const auto runner = rig.Runner(device, /*workers=*/2);
    if (!rig.Start(*runner, bank).ok()) _exit(1);
    for (;;) pause();
  }
  int Kill() {
    kill(pid_, SIGKILL);
    return Reap();
  }
  int Reap() {
    int status = 0;
    waitpid(pid_, &status, 0);
    return status;
  }

 private:
  pid_t pid_;
};

// In shared memory: what several processes count.
std::atomic<int>& SharedCounter() {
  static auto* const counter =
      new (mmap(nullptr, 4096, PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS, -1, 0)) std::atomic<int>(0);
  return *counter;
}

class QueueDeathTest : public ::testing::Test {
 protected:
  void TearDown() override {
    EXPECT_THAT(rig_.driver().violations(), ::testing::IsEmpty());
  }

  // Other processes keep what they execute until they are killed. Returns how
  // many executions there were.
  std::atomic<int>& AnswerInThisProcessOnly() {
    std::atomic<int>& executions = SharedCounter();
    executions = 0;
    device_.handler = [&executions, test = getpid()](
                          uint8_t first, Request& request, Txn& txn) {
      ++executions;
      while (getpid() != test) pause();
      txn.Complete(request, request.Write({&first, 1}));
      return absl::OkStatus();
    };
    return executions;
  }

  QueueRig rig_;
  ScriptedDevice device_;
};

TEST_F(QueueDeathTest, KillsFromOutsideBlameNobody) {
  std::atomic<int>& executions = AnswerInThisProcessOnly();
  rig_.Post('a');
  for (int death = 1; death <= 4; ++death) {
    Victim victim(rig_, device_);
    while (executions < death) usleep(200);
    EXPECT_TRUE(WIFSIGNALED(victim.Kill()));
  }
  const auto runner = rig_.Runner(device_);
  ASSERT_OK(rig_.Start(*runner));
  EXPECT_THAT(rig_.Answers(1), ElementsAre("a"));
  runner->Stop();
  EXPECT_EQ(rig_.stats->poisoned, 0u);
  EXPECT_EQ(rig_.stats->resubmitted, 4u);
}

TEST_F(QueueDeathTest, ARequestThatCrashedTwiceIsPoisonedAndNoOther) {
  device_.handler = [&](uint8_t first, Request& request, Txn& txn) {
    volatile uintptr_t nowhere = 8;  // Else gcc sees it, and warns.
    if (first == 'X') *reinterpret_cast<volatile int*>(nowhere) = 1;
    txn.Complete(request, request.Write({&first, 1}));
    return absl::OkStatus();
  };
  for (char first : {'X', 'b'}) rig_.Post(first);
  for (int death = 0; death < 2; ++death) {
    Victim victim(rig_, device_);
    const int status = victim.Reap();
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), kCrashExitBase + SIGSEGV);
  }
  const auto runner = rig_.Runner(device_);
  ASSERT_OK(rig_.Start(*runner));
  auto answers = rig_.Answers(2);
  std::sort(answers.begin(), answers.end());
  EXPECT_THAT(answers, ElementsAre("!?", "b"));
  runner->Stop();
  EXPECT_EQ(rig_.stats->poisoned, 1u);
  EXPECT_EQ(rig_.stamp->poisoned_deaths, 2u);
  EXPECT_GT(rig_.stamp->poisoned_ns, 0u);
}

TEST_F(QueueDeathTest, WhatADeadProcessLeftIsInFlightUntilItIsAnswered) {
  std::atomic<int>& executions = AnswerInThisProcessOnly();
  rig_.Post('a');
  rig_.Post('b');
  Victim victim(rig_, device_);
  while (executions < 2) usleep(200);
  EXPECT_EQ(rig_.stamp->in_flight, 2u);
  EXPECT_EQ(rig_.stamp->progress_ns, 0u);
  victim.Kill();
  EXPECT_EQ(rig_.stamp->in_flight, 2u);
  const auto runner = rig_.Runner(device_);
  ASSERT_OK(rig_.Start(*runner));
  rig_.Answers(2);
  runner->Stop();
  EXPECT_EQ(rig_.stamp->in_flight, 0u);
  EXPECT_GT(rig_.stamp->progress_ns, 0u);
}

// There is nowhere to write the blame to, and the process still ends in order.
TEST_F(QueueDeathTest, WithoutATableACrashBlamesNobody) {
  const pid_t test = getpid();
  device_.handler = [&](uint8_t first, Request& request, Txn& txn) {
    if (getpid() != test) raise(SIGSEGV);
    txn.Complete(request, request.Write({&first, 1}));
    return absl::OkStatus();
  };
  rig_.tracked = false;
  rig_.Post('X');
  for (int death = 0; death < 3; ++death) {
    const int status = Victim(rig_, device_).Reap();
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), kCrashExitBase + SIGSEGV);
  }
  const auto runner = rig_.Runner(device_);
  ASSERT_OK(rig_.Start(*runner));
  EXPECT_THAT(rig_.Answers(1), ElementsAre("X"));
  runner->Stop();
  EXPECT_EQ(rig_.stats->poisoned, 0u);
}

// The control: what blames is the handler.
TEST_F(QueueDeathTest, WithoutTheCrashHandlerNobodyIsBlamed) {
  const pid_t test = getpid();
  device_.handler = [&](uint8_t first, Request& request, Txn& txn) {
    if (getpid() != test) {
      ObserveCrashes(nullptr);
      raise(SIGSEGV);
    }
    txn.Complete(request, request.Write({&first, 1}));
    return absl::OkStatus();
  };
  rig_.Post('X');
  for (int death = 0; death < 3; ++death) Victim(rig_, device_).Reap();
  const auto runner = rig_.Runner(device_);
  ASSERT_OK(rig_.Start(*runner));
  EXPECT_THAT(rig_.Answers(1), ElementsAre("X"));
  runner->Stop();
  EXPECT_EQ(rig_.stats->poisoned, 0u);
}

}  // namespace
}  // namespace holdfast
