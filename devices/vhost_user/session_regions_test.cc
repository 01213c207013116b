// The dirty log and the in-flight region.

#include <cstdint>
#include <string>

#include "base/testing/matchers.h"
#include "devices/vhost_user/testing/negotiated_session.h"
#include "devices/vhost_user/testing/test_session.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::vhost_user {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
constexpr absl::StatusCode kPrecondition =
    absl::StatusCode::kFailedPrecondition;
constexpr store::Slot kFirst = store::kSlotFirstSession;

TEST(Log, BaseIsAnsweredAndKept) {
  TestSession session = Running();
  const auto outcome = session.Send(RequestType::kSetLogBase,
                                    BytesOf(LogDescription{32, 4096}), 1);
  ASSERT_OK(outcome);
  EXPECT_EQ(outcome->Number(), 0u);
  EXPECT_EQ(session.state.log.size, 32u);
  EXPECT_EQ(session.state.log.offset, 4096u);
  EXPECT_EQ(session.state.log.slot, kFirst + 3);
  EXPECT_THAT(session.TakeEffects(), ElementsAre("quiesce all"));
  ASSERT_OK(session.Send(RequestType::kSetLogFd, {}, 1));
  EXPECT_EQ(session.state.log.event, kFirst + 4);
}

TEST(Log, OneThatCannotHoldTheMemoryIsRefusedInTheReply) {
  // 1 MiB of guest memory needs 32 bytes.
  for (const LogDescription& log : {LogDescription{31, 0}, LogDescription{0, 0},
                                    LogDescription{64, ~0ull - 10}}) {
    TestSession session = Negotiated();
    const auto outcome =
        session.Send(RequestType::kSetLogBase, BytesOf(log), 1);
    ASSERT_OK(outcome);
    EXPECT_EQ(outcome->Number(), 1u);
    EXPECT_THAT(outcome->refusal,
                StatusIs(kInvalid, HasSubstr("SET_LOG_BASE: a log of")));
    EXPECT_EQ(session.state.log.slot, 0);
  }
  TestSession session = Negotiated();
  session.environment.file_sizes[kFirst + 1] = 31;
  const auto outcome =
      session.Send(RequestType::kSetLogBase, BytesOf(LogDescription{32, 0}), 1);
  ASSERT_OK(outcome);
  EXPECT_EQ(outcome->Number(), 1u);
}

TEST(Log, TurningItOnAndOffQuiescesRunningRings) {
  TestSession session = Running();
  ASSERT_OK(session.SendNumber(RequestType::kSetFeatures,
                               session.state.features | kFeatureLogAll));
  EXPECT_THAT(session.TakeEffects(), ElementsAre("quiesce all"));
  ASSERT_OK(session.Send(RequestType::kSetVringAddr,
                         AddressPayload(0, kVringFlagLog)));
  EXPECT_THAT(session.TakeEffects(), ElementsAre("quiesce 0"));
  EXPECT_EQ(session.state.queues[0].address_flags, kVringFlagLog);
  EXPECT_TRUE(QueueRuns(session.state, 0));
}

InflightDescription GetInflight(const Outcome& outcome) {
  InflightDescription value{};
  if (outcome.reply.size() == sizeof(MessageHeader) + sizeof(value)) {
    std::memcpy(&value, outcome.reply.data() + sizeof(MessageHeader),
                sizeof(value));
  }
  return value;
}

TEST(Inflight, RegionSizesAreThoseOfOtherBackEnds) {
  EXPECT_EQ(InflightSize(1, 128), 2112u);
  EXPECT_EQ(InflightSize(1, 256), 4160u);
  EXPECT_EQ(InflightSize(1, 1024), 16448u);
  EXPECT_EQ(InflightSize(3, 128), 3 * 2112u);
}

TEST(Inflight, RegionIsHandedOutCleared) {
  TestSession session = Negotiated();
  const auto outcome =
      session.Send(RequestType::kGetInflightFd,
                   BytesOf(InflightDescription{0, 0, 2, 128, 0}));
  ASSERT_OK(outcome);
  EXPECT_EQ(outcome->reply_slot, store::kSlotFirstDevice);
  const InflightDescription answer = GetInflight(*outcome);
  EXPECT_EQ(answer.mmap_size, 2 * 2112u);
  EXPECT_EQ(answer.mmap_offset, 0u);
  EXPECT_EQ(answer.queue_count, 2);
  EXPECT_EQ(answer.queue_size, 128);
  EXPECT_THAT(session.TakeEffects(), ElementsAre("clear in-flight"));
}

TEST(Inflight, WhenThereIsNoneTheAnswerHasNoSize) {
  const auto refuse = [](TestSession& session, InflightDescription wanted) {
    const auto outcome =
        session.Send(RequestType::kGetInflightFd, BytesOf(wanted));
    EXPECT_OK(outcome);
    EXPECT_EQ(outcome->reply.size(),
              sizeof(MessageHeader) + sizeof(InflightDescription));
    EXPECT_EQ(GetInflight(*outcome).mmap_size, 0u);
    EXPECT_EQ(outcome->reply_slot, 0);
    EXPECT_THAT(std::string(outcome->refusal.message()),
                HasSubstr("GET_INFLIGHT_FD"));
    EXPECT_THAT(session.TakeEffects(), IsEmpty());
  };
  TestSession session = Negotiated();
  refuse(session, {0, 0, 0, 128, 0});
  refuse(session, {0, 0, 3, 128, 0});
  refuse(session, {0, 0, 1, 0, 0});
  refuse(session, {0, 0, 1, 257, 0});
  session.info.inflight_size = 2111;
  refuse(session, {0, 0, 1, 128, 0});
  session.info.inflight_size = 2112;
  session.info.inflight_slot = 0;
  refuse(session, {0, 0, 1, 128, 0});
  TestSession running = Running();
  refuse(running, {0, 0, 1, 128, 0});
}

TEST(Inflight, HandedOverRegionIsAdoptedByTheNextStartOnly) {
  TestSession session = Negotiated();
  ASSERT_OK(session.Send(RequestType::kSetInflightFd,
                         BytesOf(InflightDescription{4224, 0, 1, 256, 0}), 1));
  EXPECT_TRUE(TrackedInHandedOverRegion(session.state, 0));
  EXPECT_FALSE(TrackedInHandedOverRegion(session.state, 1));
  for (const uint32_t q : {0u, 1u}) {
    ASSERT_OK(session.SendVring(RequestType::kSetVringNum, q, 128));
    ASSERT_OK(session.Send(RequestType::kSetVringAddr, AddressPayload(q)));
    ASSERT_OK(session.SendNumber(RequestType::kSetVringKick, q, 1));
  }
  EXPECT_THAT(session.TakeEffects(),
              ElementsAre("prepare 0 adopt", "prepare 1 fresh"));
  ASSERT_OK(session.SendVring(RequestType::kGetVringBase, 0, 0));
  ASSERT_OK(session.SendNumber(RequestType::kSetVringKick, 0, 1));
  EXPECT_THAT(session.TakeEffects(),
              ElementsAre("quiesce 0", "prepare 0 fresh"));
}

TEST(Inflight, RingLargerThanTheRegionIsNotTrackedThere) {
  TestSession session = Negotiated();
  ASSERT_OK(session.Send(RequestType::kSetInflightFd,
                         BytesOf(InflightDescription{1088, 0, 1, 64, 0}), 1));
  ASSERT_OK(session.SendVring(RequestType::kSetVringNum, 0, 128));
  EXPECT_FALSE(TrackedInHandedOverRegion(session.state, 0));
  ASSERT_OK(session.Send(RequestType::kSetVringAddr, AddressPayload(0)));
  ASSERT_OK(session.SendNumber(RequestType::kSetVringKick, 0, 1));
  EXPECT_THAT(session.TakeEffects(), ElementsAre("prepare 0 fresh"));
}

TEST(Inflight, ImpossibleRegionsAreRefused) {
  const struct {
    InflightDescription inflight;
    absl::StatusCode code;
  } kRows[] = {
      {{2111, 0, 1, 128, 0}, kInvalid},
      {{2112, ~0ull - 100, 1, 128, 0}, kInvalid},
      {{1 << 20, 0, 3, 128, 0}, kInvalid},
      {{1 << 20, 0, 0, 128, 0}, kInvalid},
      {{1 << 20, 0, 1, 0, 0}, kInvalid},
      {{1 << 20, 0, 1, 512, 0}, kInvalid},
  };
  for (const auto& row : kRows) {
    TestSession session = Negotiated();
    EXPECT_THAT(
        session.Send(RequestType::kSetInflightFd, BytesOf(row.inflight), 1),
        StatusIs(row.code, HasSubstr("SET_INFLIGHT_FD")));
  }
  TestSession session = Running();
  EXPECT_THAT(
      session.Send(RequestType::kSetInflightFd,
                   BytesOf(InflightDescription{1 << 20, 0, 1, 128, 0}), 1),
      StatusIs(kPrecondition, HasSubstr("a ring is started")));
}

}  // namespace
}  // namespace holdfast::vhost_user
