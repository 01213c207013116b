#include "devices/keeper/probe/attempt_sys.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "base/testing/matchers.h"
#include "base/testing/poll.h"
#include "base/unique_fd.h"
#include "base/unix_socket_sys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::keeper {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr int kLong = 20'000;  // Milliseconds; nothing waits for so long.

std::unique_ptr<Attempt> Shell(const std::string& script,
                               BorrowedFd fd = BorrowedFd(-1)) {
  auto attempt =
      Attempt::Start("/bin/sh", std::vector<std::string>{"-c", script}, fd);
  EXPECT_OK(attempt);
  return attempt.ok() ? *std::move(attempt) : nullptr;
}

bool IsGone(pid_t pid) { return kill(pid, 0) != 0 && errno == ESRCH; }

TEST(Attempt, SaysHowItEndsAndWhatItSaid) {
  const auto attempt = Shell("echo one; echo two >&2; echo; exit 3");
  EXPECT_EQ(attempt->AwaitEnd(kLong), "status 3");
  EXPECT_EQ(attempt->AwaitEnd(kLong), "status 3");
  EXPECT_EQ(attempt->Output(), "one\ntwo\n\n");
  EXPECT_EQ(attempt->LastLine(), "two");
  EXPECT_EQ(Shell("kill -SEGV $$")->AwaitEnd(kLong), "signal 11");
}

TEST(Attempt, GoesOnUntilItIsAsked) {
  const auto attempt = Shell("echo up; exec sleep 1000");
  EXPECT_TRUE(PollUntil([&] { return attempt->LastLine() == "up"; }));
  EXPECT_EQ(attempt->AwaitEnd(0), absl::nullopt);
  attempt->Send(SIGTERM);
  EXPECT_EQ(attempt->AwaitEnd(kLong), "signal 15");
  attempt->Send(SIGTERM);  // To nobody.
}

TEST(Attempt, GetsOneDescriptorAndNoOther) {
  auto pair = StreamPair();
  ASSERT_OK(pair);
  const auto attempt =
      Shell("echo hello >&3; ls /proc/self/fd | wc -l", pair->second);
  pair->second.Reset();
  char words[16] = {};
  EXPECT_EQ(read(pair->first.get(), words, sizeof(words)), 6);
  EXPECT_STREQ(words, "hello\n");
  EXPECT_EQ(read(pair->first.get(), words, sizeof(words)), 0) << "its end";
  EXPECT_EQ(attempt->AwaitEnd(kLong), "status 0");
  // The three, the socket, and what ls has opened.
  EXPECT_EQ(attempt->LastLine(), "5");
}

TEST(Attempt, NothingThatItStartsOutlivesIt) {
  for (const char* end : {"exit 0", "wait"}) {
    auto attempt = Shell(std::string("sleep 1000 & echo $!; ") + end);
    pid_t grandchild = 0;
    EXPECT_TRUE(PollUntil([&] {
      grandchild = static_cast<pid_t>(atoi(attempt->Output().c_str()));
      return grandchild > 0;
    }));
    attempt.reset();
    EXPECT_TRUE(PollUntil([&] { return IsGone(grandchild); })) << end;
  }
}

TEST(Attempt, AFloodIsReadAndMostOfItForgotten) {
  const auto attempt = Shell("yes | head -c 1000000; echo; echo done");
  EXPECT_TRUE(PollUntil([&] {
    attempt->Output();
    return attempt->AwaitEnd(0).has_value();
  }));
  EXPECT_THAT(attempt->Output(), SizeIs(Attempt::kMaxOutput));
}

TEST(Attempt, WhatIsNoProgramIsAnError) {
  const auto attempt = Attempt::Start("/no/such/program", {}, BorrowedFd(-1));
  ASSERT_FALSE(attempt.ok());
  EXPECT_THAT(std::string(attempt.status().message()),
              HasSubstr("/no/such/program"));
}

TEST(ExecutedFile, IsFoundByAText) {
  const auto attempt = Shell("echo up; exec sleep 1000");
  // Before it executes anything it is this test, which has the text, too.
  EXPECT_TRUE(PollUntil([&] {
    return absl::StrContains(ExecutedFileWith(attempt->pid(), "GNU coreutils"),
                             "sleep");
  }));
  EXPECT_EQ(ExecutedFileWith(attempt->pid(), "no program has this text"), "");
  EXPECT_EQ(ExecutedFileWith(-1, "text"), "");
}

}  // namespace
}  // namespace holdfast::keeper
