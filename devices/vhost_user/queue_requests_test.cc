// Life of a ring: when it starts and stops, whatever the order of messages.

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/vhost_user/testing/test_session.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::vhost_user {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
constexpr absl::StatusCode kPrecondition =
    absl::StatusCode::kFailedPrecondition;

constexpr MemoryRegion kRam{0, 0x100000, 0x7f0000000000, 0};
constexpr uint64_t kDescriptors = kRam.user_address;

VringAddress Address(uint32_t index = 0) {
  return {index, 0, kDescriptors, kDescriptors + 0x2000, kDescriptors + 0x1000,
          0x5000};
}

// The messages that bring queue 0 to life. SET_FEATURES comes before them, as
// the specification has it.
enum class Step { kMemory, kNum, kAddress, kBase, kKick, kCall, kEnable };

absl::Status Do(TestSession& session, Step step) {
  switch (step) {
    case Step::kMemory:
      return session
          .Send(RequestType::kSetMemTable, MemoryTablePayload({kRam}), 1)
          .status();
    case Step::kNum:
      return session.SendVring(RequestType::kSetVringNum, 0, 128).status();
    case Step::kAddress:
      return session.Send(RequestType::kSetVringAddr, BytesOf(Address()))
          .status();
    case Step::kBase:
      return session.SendVring(RequestType::kSetVringBase, 0, 0).status();
    case Step::kKick:
      return session.SendNumber(RequestType::kSetVringKick, 0, 1).status();
    case Step::kCall:
      return session.SendNumber(RequestType::kSetVringCall, 0, 1).status();
    case Step::kEnable:
      return session.SendVring(RequestType::kSetVringEnable, 0, 1).status();
  }
  return absl::OkStatus();
}

TestSession Fresh() {
  TestSession session;
  EXPECT_OK(
      session.SendNumber(RequestType::kSetFeatures, kFeatureProtocolFeatures));
  return session;
}

TestSession Running() {
  TestSession session = Fresh();
  for (const Step step : {Step::kMemory, Step::kNum, Step::kBase,
                          Step::kAddress, Step::kKick, Step::kEnable}) {
    EXPECT_OK(Do(session, step));
  }
  EXPECT_TRUE(QueueRuns(session.state, 0));
  session.TakeEffects();
  return session;
}

TEST(QueueLife, AnyOrderOfMessagesStartsTheRingExactlyOnce) {
  std::vector<Step> order = {Step::kMemory, Step::kNum,  Step::kAddress,
                             Step::kBase,   Step::kKick, Step::kCall,
                             Step::kEnable};
  size_t orders = 0;
  do {
    TestSession session = Fresh();
    for (size_t i = 0; i < order.size(); ++i) {
      ASSERT_OK(Do(session, order[i]));
      const auto had = [&](Step step) {
        return std::find(order.begin(), order.begin() + i + 1, step) !=
               order.begin() + i + 1;
      };
      const bool startable = had(Step::kMemory) && had(Step::kNum) &&
                             had(Step::kAddress) && had(Step::kKick);
      ASSERT_EQ(session.state.queues[0].started, startable ? 1 : 0);
      ASSERT_EQ(QueueRuns(session.state, 0), startable && had(Step::kEnable));
    }
    ASSERT_THAT(session.TakeEffects(), ElementsAre("prepare 0 fresh"));
    ++orders;
  } while (std::next_permutation(order.begin(), order.end()));
  EXPECT_EQ(orders, 5040u);
}

TEST(QueueLife, OneMissingMessageLeavesTheRingStopped) {
  // The negative control of the test above.
  for (const Step missing :
       {Step::kMemory, Step::kNum, Step::kAddress, Step::kKick}) {
    TestSession session = Fresh();
    for (const Step step : {Step::kMemory, Step::kNum, Step::kAddress,
                            Step::kKick, Step::kEnable}) {
      if (step != missing) {
        ASSERT_OK(Do(session, step));
      }
    }
    EXPECT_FALSE(QueueRuns(session.state, 0));
    EXPECT_THAT(session.TakeEffects(), IsEmpty());
  }
}

TEST(QueueLife, StopDrainsAndAnswersTheNextIndex) {
  TestSession session = Running();
  session.environment.stopped_at = 0xfffe;
  const auto outcome = session.SendVring(RequestType::kGetVringBase, 0, 0);
  ASSERT_OK(outcome);
  EXPECT_EQ(outcome->reply, RawMessage(11, kVersion | kFlagReply, 8,
                                       BytesOf(VringState{0, 0xfffe})));
  EXPECT_THAT(session.TakeEffects(), ElementsAre("quiesce 0"));
  EXPECT_EQ(session.state.queues[0].started, 0);
  EXPECT_EQ(session.state.queues[0].kick, 0);
  EXPECT_EQ(session.state.queues[0].enabled, 1);

  // Asked again it says the same, without touching the ring.
  session.environment.stopped_at = 5;
  const auto again = session.SendVring(RequestType::kGetVringBase, 0, 0);
  ASSERT_OK(again);
  EXPECT_EQ(again->reply, outcome->reply);
  EXPECT_THAT(session.TakeEffects(), IsEmpty());
}

TEST(QueueLife, StoppedRingStaysStoppedUntilTheNextKick) {
  TestSession session = Running();
  ASSERT_OK(session.SendVring(RequestType::kGetVringBase, 0, 0));
  session.TakeEffects();
  // A start by QEMU repeats all of these before the kick.
  for (const Step step :
       {Step::kMemory, Step::kNum, Step::kBase, Step::kAddress, Step::kCall}) {
    ASSERT_OK(Do(session, step));
    EXPECT_EQ(session.state.queues[0].started, 0);
  }
  ASSERT_OK(Do(session, Step::kKick));
  EXPECT_THAT(session.TakeEffects(), ElementsAre("prepare 0 fresh"));
  EXPECT_TRUE(QueueRuns(session.state, 0));
}

TEST(QueueLife, RingThatWasNeverStartedAnswersTheBaseItWasGiven) {
  TestSession session = Fresh();
  ASSERT_OK(session.SendVring(RequestType::kSetVringBase, 1, 77));
  const auto outcome = session.SendVring(RequestType::kGetVringBase, 1, 0);
  ASSERT_OK(outcome);
  EXPECT_EQ(outcome->reply, RawMessage(11, kVersion | kFlagReply, 8,
                                       BytesOf(VringState{1, 77})));
  EXPECT_THAT(session.TakeEffects(), IsEmpty());
}

TEST(QueueLife, DisablingDrainsAndEnablingGoesOn) {
  TestSession session = Running();
  ASSERT_OK(session.SendVring(RequestType::kSetVringEnable, 0, 0));
  EXPECT_THAT(session.TakeEffects(), ElementsAre("quiesce 0"));
  EXPECT_FALSE(QueueRuns(session.state, 0));
  ASSERT_OK(session.SendVring(RequestType::kSetVringEnable, 0, 0));
  ASSERT_OK(session.SendVring(RequestType::kSetVringEnable, 0, 1));
  EXPECT_THAT(session.TakeEffects(), IsEmpty());
  EXPECT_TRUE(QueueRuns(session.state, 0));
}

TEST(QueueLife, SignalsAreReplacedWhileTheRingRuns) {
  TestSession session = Running();
  const store::Slot kick = session.state.queues[0].kick;
  ASSERT_OK(session.SendNumber(RequestType::kSetVringCall, 0, 1));
  const store::Slot call = session.state.queues[0].call;
  ASSERT_OK(session.SendNumber(RequestType::kSetVringCall, 0, 1));
  EXPECT_NE(session.state.queues[0].call, call);
  ASSERT_OK(session.SendNumber(RequestType::kSetVringCall, kVringNoFd));
  EXPECT_EQ(session.state.queues[0].call, kSlotPolled);
  ASSERT_OK(session.SendNumber(RequestType::kSetVringErr, kVringNoFd));
  EXPECT_EQ(session.state.queues[0].err, kSlotPolled);
  ASSERT_OK(session.SendNumber(RequestType::kSetVringErr, 0, 1));
  ASSERT_OK(session.SendNumber(RequestType::kSetVringKick, 0, 1));
  EXPECT_NE(session.state.queues[0].kick, kick);
  EXPECT_TRUE(QueueRuns(session.state, 0));
  EXPECT_THAT(session.TakeEffects(), IsEmpty());
}

TEST(QueueLife, PolledKickIsRefusedClearly) {
  TestSession session = Fresh();
  EXPECT_THAT(session.SendNumber(RequestType::kSetVringKick, kVringNoFd),
              StatusIs(absl::StatusCode::kUnimplemented,
                       HasSubstr("SET_VRING_KICK: polling without a kick")));
}

TEST(QueueLife, RunningRingKeepsItsShape) {
  TestSession session = Running();
  EXPECT_OK(Do(session, Step::kNum));
  EXPECT_OK(Do(session, Step::kBase));
  EXPECT_OK(Do(session, Step::kAddress));
  EXPECT_THAT(
      session.SendVring(RequestType::kSetVringNum, 0, 64),
      StatusIs(kPrecondition, HasSubstr("SET_VRING_NUM: the ring is started")));
  EXPECT_THAT(session.SendVring(RequestType::kSetVringBase, 0, 1),
              StatusIs(kPrecondition, HasSubstr("SET_VRING_BASE")));
  for (const auto member : {&VringAddress::descriptor, &VringAddress::used,
                            &VringAddress::available}) {
    VringAddress moved = Address();
    moved.*member += 0x10000;
    EXPECT_THAT(session.Send(RequestType::kSetVringAddr, BytesOf(moved)),
                StatusIs(kPrecondition, HasSubstr("SET_VRING_ADDR")));
  }
  EXPECT_TRUE(QueueRuns(session.state, 0));
}

TEST(QueueLife, RingOutsideMemoryIsTheGuestsMistakeNotTheConnections) {
  const uint64_t end = kRam.user_address + kRam.size;
  VringAddress bad[] = {Address(), Address(), Address(), Address(),
                        Address(), Address(), Address(), Address()};
  bad[0].descriptor = kRam.user_address - 16;
  bad[1].descriptor = end - 16 * 128 + 16;
  bad[2].used = end - (6 + 8 * 128) + 4;
  bad[3].available = end;
  bad[4].available = ~0ull - 1;
  bad[5].descriptor += 8;  // Alignments of VIRTIO: 16, 4, 2.
  bad[6].used += 2;
  bad[7].available += 1;
  for (const VringAddress& address : bad) {
    TestSession session = Fresh();
    ASSERT_OK(Do(session, Step::kMemory));
    ASSERT_OK(Do(session, Step::kNum));
    ASSERT_OK(session.Send(RequestType::kSetVringAddr, BytesOf(address)));
    ASSERT_OK(Do(session, Step::kKick));
    ASSERT_OK(Do(session, Step::kEnable));
    EXPECT_FALSE(QueueRuns(session.state, 0));
    EXPECT_THAT(session.TakeEffects(), IsEmpty());
    ASSERT_OK(Do(session, Step::kAddress));
    EXPECT_TRUE(QueueRuns(session.state, 0));
  }
}

TEST(QueueLife, LastPlaceInMemoryIsInMemory) {
  TestSession session = Fresh();
  ASSERT_OK(Do(session, Step::kMemory));
  ASSERT_OK(Do(session, Step::kNum));
  ASSERT_OK(Do(session, Step::kKick));
  VringAddress address = Address();
  const uint64_t end = kRam.user_address + kRam.size;
  for (const uint64_t size : {16 * 128, 6 + 2 * 128}) {
    address.descriptor = size == 16 * 128 ? end - size : kRam.user_address;
    address.available = size == 16 * 128 ? kRam.user_address : end - size;
    ASSERT_OK(session.Send(RequestType::kSetVringAddr, BytesOf(address)));
    EXPECT_TRUE(RingIsMapped(session.state, 0));
    ASSERT_OK(session.SendVring(RequestType::kGetVringBase, 0, 0));
  }
}

TEST(QueueLife, AlignmentIsThatOfTheMappingNotOnlyOfTheAddress) {
  TestSession session = Fresh();
  MemoryRegion odd = kRam;
  odd.mmap_offset = 0x1008;
  ASSERT_OK(
      session.Send(RequestType::kSetMemTable, MemoryTablePayload({odd}), 1));
  ASSERT_OK(Do(session, Step::kNum));
  ASSERT_OK(Do(session, Step::kAddress));
  EXPECT_FALSE(RingIsMapped(session.state, 0));
}

TEST(QueueLife, FailedPreparationRefusesTheMessageThatWouldStart) {
  TestSession session = Fresh();
  ASSERT_OK(Do(session, Step::kMemory));
  ASSERT_OK(Do(session, Step::kNum));
  ASSERT_OK(Do(session, Step::kAddress));
  session.environment.prepare_status = absl::UnavailableError("no memory");
  EXPECT_THAT(Do(session, Step::kKick),
              StatusIs(absl::StatusCode::kUnavailable, "no memory"));
  EXPECT_EQ(session.state.queues[0].started, 0);
  session.environment.prepare_status = absl::OkStatus();
  EXPECT_OK(Do(session, Step::kKick));
}

// Neither refused nor done: the front-end waits, and the ring runs on.
TEST(QueueLife, ARingThatCannotBeStoppedYetIsDecidedLater) {
  TestSession session = Fresh();
  for (const Step step :
       {Step::kMemory, Step::kNum, Step::kAddress, Step::kKick}) {
    ASSERT_OK(Do(session, step));
  }
  const SessionState before = session.state;
  session.environment.stop_status = absl::UnavailableError("not yet");
  EXPECT_THAT(session.SendVring(RequestType::kGetVringBase, 0, 0),
              StatusIs(absl::StatusCode::kUnavailable, "not yet"));
  EXPECT_EQ(std::memcmp(&session.state, &before, sizeof(before)), 0);
  session.environment.stop_status = absl::OkStatus();
  EXPECT_OK(session.SendVring(RequestType::kGetVringBase, 0, 0));
  EXPECT_EQ(session.state.queues[0].started, 0);
}

TEST(QueueRequests, QueuesThatDoNotExistAreRefused) {
  for (const uint32_t index : {2u, 15u, 16u, 255u}) {
    TestSession session = Fresh();
    const auto refused = [&](const absl::StatusOr<Outcome>& outcome,
                             const char* name) {
      EXPECT_THAT(outcome, StatusIs(kInvalid, AllOf(HasSubstr(name),
                                                    HasSubstr(" of 2"))));
    };
    refused(session.SendVring(RequestType::kSetVringNum, index, 128),
            "SET_VRING_NUM");
    refused(session.SendVring(RequestType::kSetVringBase, index, 0),
            "SET_VRING_BASE");
    refused(session.SendVring(RequestType::kGetVringBase, index, 0),
            "GET_VRING_BASE");
    refused(session.SendVring(RequestType::kSetVringEnable, index, 1),
            "SET_VRING_ENABLE");
    refused(session.SendVring(RequestType::kSetVringEndian, index, 0),
            "SET_VRING_ENDIAN");
    refused(session.Send(RequestType::kSetVringAddr, BytesOf(Address(index))),
            "SET_VRING_ADDR");
    refused(session.SendNumber(RequestType::kSetVringKick, index, 1),
            "SET_VRING_KICK");
    refused(session.SendNumber(RequestType::kSetVringCall, index, 1),
            "SET_VRING_CALL");
    refused(session.SendNumber(RequestType::kSetVringErr, index, 1),
            "SET_VRING_ERR");
  }
  TestSession session = Fresh();
  EXPECT_THAT(session.SendVring(RequestType::kSetVringNum, 0x10000, 128),
              StatusIs(kInvalid, HasSubstr("queue 65536 of 2")));
}

TEST(QueueRequests, SizesAreBounded) {
  TestSession session = Fresh();
  for (const uint32_t num : {0u, 3u, 129u, 512u, 0x80000000u, 0xffffffffu}) {
    EXPECT_THAT(session.SendVring(RequestType::kSetVringNum, 0, num),
                StatusIs(kInvalid, HasSubstr("a power of two up to 256")));
  }
  for (const uint32_t num : {1u, 2u, 256u}) {
    EXPECT_OK(session.SendVring(RequestType::kSetVringNum, 0, num));
  }
}

TEST(QueueRequests, OddValuesAreRefused) {
  TestSession session = Fresh();
  EXPECT_THAT(session.SendVring(RequestType::kSetVringBase, 0, 0x10000),
              StatusIs(kInvalid, HasSubstr("index 65536 in a split ring")));
  EXPECT_THAT(session.SendVring(RequestType::kSetVringEnable, 0, 2),
              StatusIs(kInvalid, HasSubstr("neither 0 nor 1 but 2")));
  EXPECT_THAT(session.SendNumber(RequestType::kSetVringKick, 0x200, 1),
              StatusIs(kInvalid, HasSubstr("reserved bits")));
}

TEST(QueueRequests, OnlyLittleEndianRingsExist) {
  TestSession session = Fresh();
  EXPECT_OK(session.SendVring(RequestType::kSetVringEndian, 0, 0));
  EXPECT_THAT(session.SendVring(RequestType::kSetVringEndian, 0, 1),
              StatusIs(absl::StatusCode::kUnimplemented,
                       HasSubstr("big-endian rings")));
  EXPECT_THAT(session.SendVring(RequestType::kSetVringEndian, 0, 2),
              StatusIs(kInvalid, HasSubstr("SET_VRING_ENDIAN")));
}

}  // namespace
}  // namespace holdfast::vhost_user
