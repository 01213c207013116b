// The proof of exactly-once.md, section 2, by experiment: servers of a lane are
// killed 120,000 times, and a client that believes nothing sees nothing. Then
// the same with one rule of the lane broken at a time, which it must see.
// HOLDFAST_KILLS=<n> scales the whole suite to n kills, HOLDFAST_LONG=1 to a
// million.

#include <cstdio>

#include "gtest/gtest.h"
#include "statestore/testing/lane_kill_sys.h"

namespace holdfast::testing {
namespace {

constexpr uint32_t kBigReply = 300 * 1024;

KillOptions Options(const char* name, KillMode mode, uint64_t kills) {
  KillOptions options;
  options.name = name;
  options.mode = mode;
  options.kills = ScaledKills(kills);
  options.client.pipeline = 3;
  options.waiting = Lane::Waiting::kEdge;
  return options;
}

// Requests in pieces, replies up to 300 KB through an 8 KiB buffer, three
// requests under way.
KillOptions SplitAndBig(KillOptions options) {
  options.client.split = true;
  options.client.max_request = 3000;
  options.client.max_reply = kBigReply;
  options.send_buffer = 8192;
  return options;
}

KillOptions WithDescriptors(KillOptions options) {
  options.client.descriptors = true;
  options.client.max_request = 400;
  return options;
}

KillOptions Split(KillOptions options) {
  options.client.split = true;
  return options;
}

// What all tests of this process have done, told at the end.
class Total : public ::testing::Environment {
 public:
  static KillReport& Sum() {
    static KillReport sum;
    return sum;
  }
  void TearDown() override {
    std::printf("%llu kills, %llu requests in all\n",
                static_cast<unsigned long long>(Sum().kills),
                static_cast<unsigned long long>(Sum().requests));
    PrintStates(Sum());
  }
};
const ::testing::Environment* const kTotal =
    ::testing::AddGlobalTestEnvironment(new Total);

KillReport ExpectExactlyOnce(const KillOptions& options) {
  const KillReport report = RunKills(options);
  PrintReport(options, report);
  Total::Sum().Add(report);
  EXPECT_EQ(report.violation, "");
  EXPECT_EQ(report.kills, options.kills);
  return report;
}

TEST(LaneKill, AtRandomInstants) {
  ExpectExactlyOnce(Options("random", KillMode::kRandom, 22000));
}

TEST(LaneKill, AtRandomInstantsWithSplitRequestsAndBigReplies) {
  ExpectExactlyOnce(SplitAndBig(
      Options("random, split, big, 3 pipelined", KillMode::kRandom, 8000)));
}

TEST(LaneKill, AtRandomInstantsWithDescriptors) {
  ExpectExactlyOnce(WithDescriptors(
      Options("random, descriptors", KillMode::kRandom, 12000)));
}

TEST(LaneKill, AfterStopsAndInterruptions) {
  KillOptions options = SplitAndBig(
      Options("random, stopped, interrupted", KillMode::kRandom, 1000));
  options.pauses = 10;
  ExpectExactlyOnce(options);
}

TEST(LaneKill, AtNumberedPoints) {
  ExpectExactlyOnce(Options("points", KillMode::kPoints, 32000));
}

// Waiting in other ways, which leave nothing in the socket.
TEST(LaneKill, AtNumberedPointsWhenNothingIsLeft) {
  KillOptions options = Options("points, any", KillMode::kPoints, 4000);
  options.waiting = Lane::Waiting::kAny;
  ExpectExactlyOnce(options);
  options.name = "points, level";
  options.waiting = Lane::Waiting::kLevel;
  ExpectExactlyOnce(options);
}

// Requests come faster than they are executed, many in one look.
TEST(LaneKill, AtNumberedPointsWithManyRequestsUnderWay) {
  KillOptions options =
      Options("points, 12 pipelined", KillMode::kPoints, 4000);
  options.client.pipeline = 12;
  options.max_points = 120;
  ExpectExactlyOnce(options);
}

TEST(LaneKill, AtNumberedPointsWithSplitRequestsAndBigReplies) {
  ExpectExactlyOnce(SplitAndBig(
      Options("points, split, big, 3 pipelined", KillMode::kPoints, 12000)));
}

TEST(LaneKill, AtNumberedPointsWithSplitDescriptors) {
  ExpectExactlyOnce(Split(WithDescriptors(
      Options("points, descriptors, split", KillMode::kPoints, 22000))));
}

// Instruction by instruction, from random points on; nowhere are two points
// further apart.
KillOptions Stepped(KillOptions options) {
  options.max_points = 40;
  options.max_steps = 2000;
  options.step_stride = 7;
  return options;
}

TEST(LaneKill, AfterEveryInstruction) {
  ExpectExactlyOnce(Stepped(Options("steps", KillMode::kSteps, 600)));
}

TEST(LaneKill, AfterEveryInstructionWithSplitDescriptors) {
  ExpectExactlyOnce(Stepped(Split(WithDescriptors(
      Options("steps, descriptors, split", KillMode::kSteps, 600)))));
}

TEST(LaneKill, AfterEveryInstructionUnderATracer) {
  KillOptions options =
      Stepped(Options("traced steps", KillMode::kTraced, 100));
  options.max_steps = 500;
  options.step_stride = 11;
  ExpectExactlyOnce(options);
}

// ---- The client must notice when a rule is broken ----

KillOptions Broken(const char* name, LaneFault fault) {
  KillOptions options;
  options.name = name;
  options.mode = KillMode::kPoints;
  options.kills = 2000;
  options.max_points = 40;
  options.kills_per_judgement = 20;
  options.client.pipeline = 3;
  options.waiting = Lane::Waiting::kEdge;
  options.fault = fault;
  return options;
}

void ExpectNoticed(const KillOptions& options) {
  const KillReport report = RunKills(options);
  PrintReport(options, report);
  EXPECT_NE(report.violation, "") << "in " << report.kills << " kills";
}

TEST(LaneKillControl, CountOfReceivedBytesStoredByUserCode) {
  ExpectNoticed(Broken("control: received, user store",
                       LaneFault::kUserStoresReceivedNoWitness));
}

TEST(LaneKillControl, CountOfSentBytesStoredByUserCode) {
  ExpectNoticed(
      Broken("control: sent, user store", LaneFault::kUserStoresSent));
}

TEST(LaneKillControl, CommitBeforeTheBankIsWritten) {
  ExpectNoticed(Broken("control: commit first", LaneFault::kCommitBeforeBank));
}

TEST(LaneKillControl, EscrowAfterConsumption) {
  ExpectNoticed(WithDescriptors(
      Broken("control: late escrow", LaneFault::kEscrowAfterConsumption)));
}

TEST(LaneKillControl, PositionWrittenAfterTheCommit) {
  ExpectNoticed(
      Broken("control: late position", LaneFault::kPositionAfterCommit));
}

TEST(LaneKillControl, PeekOffsetNotRestored) {
  ExpectNoticed(Broken("control: no offset", LaneFault::kOffsetNotRestored));
}

TEST(LaneKillControl, AlwaysSendsTheReplyAgain) {
  ExpectNoticed(Broken("control: resends", LaneFault::kAlwaysResends));
}

TEST(LaneKillControl, NeverSendsTheReplyAgain) {
  ExpectNoticed(Broken("control: does not resend", LaneFault::kNeverResends));
}

TEST(LaneKillControl, AlsoNoticedAtRandomInstants) {
  KillOptions options =
      Broken("control: sent, random", LaneFault::kUserStoresSent);
  options.mode = KillMode::kRandom;
  options.kills = 20000;
  ExpectNoticed(options);
}

TEST(LaneKillControl, AlsoNoticedWhenStepping) {
  KillOptions options =
      Broken("control: sent, steps", LaneFault::kUserStoresSent);
  options.mode = KillMode::kSteps;
  options.max_steps = 300;
  options.step_stride = 7;
  ExpectNoticed(options);
}

// The witness in the socket makes up for a count that never reached the
// journal: what the first control shows does not happen.
TEST(LaneKill, TheWitnessMakesUpForALostCount) {
  KillOptions options =
      Split(Broken("witness only", LaneFault::kUserStoresReceived));
  options.kills = ScaledKills(1500);
  ExpectExactlyOnce(options);
}

}  // namespace
}  // namespace holdfast::testing
