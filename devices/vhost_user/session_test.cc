#include "devices/vhost_user/session.h"

#include <cstdint>
#include <vector>

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
constexpr absl::StatusCode kUnimplemented = absl::StatusCode::kUnimplemented;
constexpr bool kNeedReply = true;
constexpr store::Slot kFirst = store::kSlotFirstSession;

// ---- negotiation ----

TEST(Session, GettersAnswerWhatIsOffered) {
  TestSession session;
  const auto number = [&session](RequestType type) {
    const auto outcome = session.Send(type);
    EXPECT_OK(outcome);
    return outcome.ok() ? outcome->Number() : 0;
  };
  EXPECT_EQ(number(RequestType::kGetFeatures),
            session.info.features | kFeatureProtocolFeatures | kFeatureLogAll);
  EXPECT_EQ(number(RequestType::kGetProtocolFeatures),
            session.info.protocol_features);
  EXPECT_EQ(number(RequestType::kGetQueueNum), 2u);
  EXPECT_EQ(number(RequestType::kGetMaxMemSlots), kMaxRegions);
  EXPECT_EQ(number(RequestType::kGetStatus), 0u);
}

TEST(Session, DirtyLogIsOfferedOnlyWithItsDescriptor) {
  BackendInfo info;
  EXPECT_EQ(OfferedFeatures(info), kFeatureProtocolFeatures);
  info.protocol_features = kProtocolLogShmfd;
  EXPECT_EQ(OfferedFeatures(info), kFeatureProtocolFeatures | kFeatureLogAll);
}

TEST(Session, FeaturesThatWereNotOfferedAreRefused) {
  TestSession session;
  EXPECT_THAT(session.SendNumber(RequestType::kSetFeatures, 1ull << 40),
              StatusIs(kInvalid, HasSubstr("SET_FEATURES: bits "
                                           "0x10000000000 were not offered")));
  EXPECT_THAT(session.SendNumber(RequestType::kSetProtocolFeatures, 1ull << 14),
              StatusIs(kInvalid, HasSubstr("SET_PROTOCOL_FEATURES: bits "
                                           "0x4000")));
}

TEST(Session, RepeatedNegotiationChangesNothing) {
  TestSession session = Running();
  const SessionState before = session.state;
  EXPECT_OK(session.Send(RequestType::kSetOwner));
  EXPECT_OK(session.SendNumber(RequestType::kSetFeatures, before.features));
  EXPECT_OK(session.SendNumber(RequestType::kSetProtocolFeatures,
                               before.protocol_features));
  EXPECT_OK(session.Send(RequestType::kResetOwner));
  EXPECT_EQ(std::memcmp(&before, &session.state, sizeof(before)), 0);
  EXPECT_THAT(session.TakeEffects(), IsEmpty());
}

TEST(Session, RingsAreEnabledAtOnceWithoutProtocolFeatures) {
  TestSession session;
  EXPECT_OK(session.SendNumber(RequestType::kSetFeatures, 1));
  EXPECT_EQ(session.state.queues[0].enabled, 1);
  EXPECT_EQ(session.state.queues[1].enabled, 1);
  EXPECT_EQ(session.state.queues[2].enabled, 0);  // The device has two.

  TestSession modern;
  EXPECT_OK(
      modern.SendNumber(RequestType::kSetFeatures, kFeatureProtocolFeatures));
  EXPECT_EQ(modern.state.queues[0].enabled, 0);
}

TEST(Session, RequestsOfAFeatureThatIsNotOfferedAreRefused) {
  const struct {
    RequestType type;
    std::vector<uint8_t> payload;
    size_t fds;
  } kRows[] = {
      {RequestType::kSetLogFd, {}, 1},
      {RequestType::kSetLogBase, BytesOf(LogDescription{1, 0}), 1},
      {RequestType::kSetBackendReqFd, {}, 1},
      {RequestType::kGetConfig, ConfigPayload(0, 0, {1}), 0},
      {RequestType::kSetConfig, ConfigPayload(0, 0, {1}), 0},
      {RequestType::kGetInflightFd, BytesOf(InflightDescription{}), 0},
      {RequestType::kSetInflightFd, BytesOf(InflightDescription{}), 1},
      {RequestType::kResetDevice, {}, 0},
      {RequestType::kGetMaxMemSlots, {}, 0},
      {RequestType::kAddMemReg, BytesOf(SingleMemoryRegion{0, kRam}), 1},
      {RequestType::kRemMemReg, BytesOf(SingleMemoryRegion{0, kRam}), 0},
      {RequestType::kSetStatus, BytesOf(uint64_t{1}), 0},
      {RequestType::kGetStatus, {}, 0},
  };
  for (const auto& row : kRows) {
    TestSession session;
    session.info.protocol_features = kProtocolReplyAck;
    ASSERT_OK(session.SendNumber(RequestType::kSetProtocolFeatures,
                                 kProtocolReplyAck));
    const auto outcome =
        session.Send(row.type, row.payload, row.fds, kNeedReply);
    ASSERT_OK(outcome) << RequestName(row.type);
    EXPECT_THAT(outcome->refusal,
                StatusIs(kUnimplemented, HasSubstr(RequestName(row.type))));
  }
}

// ---- REPLY_ACK ----

TEST(ReplyAck, SuccessIsZero) {
  TestSession session = Negotiated();
  const auto outcome =
      session.SendVring(RequestType::kSetVringNum, 0, 64, kNeedReply);
  ASSERT_OK(outcome);
  EXPECT_EQ(outcome->Number(), 0u);
  EXPECT_OK(outcome->refusal);
}

TEST(ReplyAck, NoReplyWhenNoneIsAskedFor) {
  TestSession session = Negotiated();
  const auto outcome = session.SendVring(RequestType::kSetVringNum, 0, 64);
  ASSERT_OK(outcome);
  EXPECT_THAT(outcome->reply, IsEmpty());
}

TEST(ReplyAck, NoReplyWithoutTheFeature) {
  TestSession session;
  const auto outcome = session.Send(RequestType::kSetOwner, {}, 0, kNeedReply);
  ASSERT_OK(outcome);
  EXPECT_THAT(outcome->reply, IsEmpty());
}

TEST(ReplyAck, TheMessageThatNegotiatesItIsAcknowledged) {
  TestSession session;
  const auto outcome = session.SendNumber(RequestType::kSetProtocolFeatures,
                                          kProtocolReplyAck, 0, kNeedReply);
  ASSERT_OK(outcome);
  EXPECT_EQ(outcome->Number(), 0u);
}

TEST(ReplyAck, RefusalIsToldAndTheSessionGoesOn) {
  TestSession session = Negotiated();
  const auto outcome =
      session.SendVring(RequestType::kSetVringNum, 0, 3, kNeedReply);
  ASSERT_OK(outcome);
  EXPECT_EQ(outcome->Number(), 1u);
  EXPECT_THAT(outcome->refusal,
              StatusIs(kInvalid, HasSubstr("SET_VRING_NUM: 3 descriptors")));
  EXPECT_OK(session.SendVring(RequestType::kSetVringNum, 0, 4));
}

TEST(ReplyAck, RefusalWithoutARequestForAReplyEndsTheConnection) {
  TestSession session = Negotiated();
  EXPECT_THAT(session.SendVring(RequestType::kSetVringNum, 0, 3),
              StatusIs(kInvalid, HasSubstr("SET_VRING_NUM")));
}

TEST(ReplyAck, OwnRepliesAreNotAcknowledgedOnTop) {
  TestSession session = Negotiated();
  const auto outcome =
      session.Send(RequestType::kGetQueueNum, {}, 0, kNeedReply);
  ASSERT_OK(outcome);
  EXPECT_EQ(outcome->Number(), 2u);
}

TEST(ReplyAck, UnknownRequestsAreRefusedPolitely) {
  TestSession session = Negotiated();
  for (const uint32_t number : {19u, 22u, 28u, 35u, 42u, 77u, 0xffffffffu}) {
    const RequestType type{number};
    const auto outcome = session.Send(type, {1, 2, 3}, 1, kNeedReply);
    ASSERT_OK(outcome) << number;
    EXPECT_EQ(outcome->Number(), 1u);
    EXPECT_THAT(outcome->refusal,
                StatusIs(kUnimplemented, HasSubstr(RequestName(type))));
    EXPECT_THAT(session.Send(type, {1, 2, 3}, 1),
                StatusIs(kUnimplemented, HasSubstr(RequestName(type))));
  }
}

// ---- configuration space, status, reset ----

TEST(Config, ReadsAreAnsweredInTheSizeThatWasAskedFor) {
  TestSession session = Negotiated();
  for (size_t i = 0; i < 60; ++i) session.environment.config[i] = i + 1;
  const auto outcome = session.Send(
      RequestType::kGetConfig, ConfigPayload(4, 0, std::vector<uint8_t>(8)));
  ASSERT_OK(outcome);
  EXPECT_EQ(outcome->reply,
            RawMessage(24, kVersion | kFlagReply, 20,
                       ConfigPayload(4, 0, {5, 6, 7, 8, 9, 10, 11, 12})));
}

TEST(Config, ReadsBeyondTheSpaceSeeZeros) {
  TestSession session = Negotiated();
  session.environment.config.assign(60, 0xee);
  for (const uint32_t offset : {0u, 59u, 60u, 1000u, 0xffffffffu}) {
    const auto outcome =
        session.Send(RequestType::kGetConfig,
                     ConfigPayload(offset, 0, std::vector<uint8_t>(256)));
    ASSERT_OK(outcome);
    std::vector<uint8_t> want(256, 0);
    for (uint64_t i = 0; i + offset < 60; ++i) want[i] = 0xee;
    EXPECT_EQ(outcome->reply, RawMessage(24, kVersion | kFlagReply, 268,
                                         ConfigPayload(offset, 0, want)));
  }
}

TEST(Config, FailedReadIsAnAnswerWithoutPayload) {
  TestSession session = Negotiated();
  session.environment.config_status = absl::UnavailableError("no");
  const auto outcome =
      session.Send(RequestType::kGetConfig, ConfigPayload(0, 0, {0}));
  ASSERT_OK(outcome);
  EXPECT_EQ(outcome->reply, RawMessage(24, kVersion | kFlagReply, 0, {}));
  EXPECT_THAT(outcome->refusal, StatusIs(absl::StatusCode::kUnavailable, "no"));
}

TEST(Config, WritesReachTheDevice) {
  TestSession session = Negotiated();
  ASSERT_OK(
      session.Send(RequestType::kSetConfig, ConfigPayload(32, 0, {1, 2})));
  ASSERT_OK(session.Send(RequestType::kSetConfig, ConfigPayload(0, 1, {3})));
  EXPECT_EQ(session.environment.config[33], 2);
  EXPECT_THAT(session.TakeEffects(),
              ElementsAre("write config 32+2", "write config 0+1 migration"));
}

TEST(Config, BadWritesAreRefused) {
  TestSession session = Negotiated();
  for (const auto& payload :
       {ConfigPayload(60, 0, {1}), ConfigPayload(59, 0, {1, 2}),
        ConfigPayload(0xffffffff, 0, {1}), ConfigPayload(0, 2, {1})}) {
    EXPECT_THAT(session.Send(RequestType::kSetConfig, payload),
                StatusIs(kInvalid, HasSubstr("SET_CONFIG")));
  }
  session.environment.config_status = absl::PermissionDeniedError("read-only");
  const auto outcome = session.Send(RequestType::kSetConfig,
                                    ConfigPayload(0, 0, {1}), 0, kNeedReply);
  ASSERT_OK(outcome);
  EXPECT_EQ(outcome->Number(), 1u);
}

TEST(Status, IsKeptAndStopsNothing) {
  TestSession session = Running();
  ASSERT_OK(session.SendNumber(RequestType::kSetStatus, 15));
  EXPECT_EQ(session.Send(RequestType::kGetStatus)->Number(), 15u);
  ASSERT_OK(session.SendNumber(RequestType::kSetStatus, 0));
  EXPECT_TRUE(QueueRuns(session.state, 0));
  EXPECT_THAT(session.TakeEffects(), IsEmpty());
  EXPECT_THAT(session.SendNumber(RequestType::kSetStatus, 0x100),
              StatusIs(kInvalid, HasSubstr("SET_STATUS: 0x100")));
}

TEST(Reset, StopsRingsAndKeepsTheConnection) {
  TestSession session = Running();
  ASSERT_OK(session.SendNumber(RequestType::kSetStatus, 15));
  const SessionState before = session.state;
  ASSERT_OK(session.Send(RequestType::kResetDevice));
  EXPECT_THAT(session.TakeEffects(), ElementsAre("quiesce all", "reset"));
  const QueueState& queue = session.state.queues[0];
  EXPECT_EQ(queue.started, 0);
  EXPECT_EQ(queue.enabled, 0);
  EXPECT_EQ(queue.kick, 0);
  EXPECT_EQ(queue.base, 0u);
  EXPECT_EQ(queue.num, 0u);
  EXPECT_EQ(queue.call, before.queues[0].call);
  EXPECT_EQ(session.state.status, 0);
  EXPECT_EQ(session.state.features, before.features);
  EXPECT_EQ(RegionCount(session.state), 1u);
}

TEST(Reset, WithoutProtocolFeaturesRingsAreEnabledAgain) {
  TestSession session = Running();
  ASSERT_OK(session.SendNumber(RequestType::kSetFeatures, 0));
  ASSERT_OK(session.Send(RequestType::kResetDevice));
  EXPECT_EQ(session.state.queues[0].enabled, 1);
}

TEST(BackendChannel, TheLatestOneIsKept) {
  TestSession session;
  ASSERT_OK(session.Send(RequestType::kSetBackendReqFd, {}, 1));
  EXPECT_EQ(session.state.backend_request, kFirst);
  ASSERT_OK(session.Send(RequestType::kSetBackendReqFd, {}, 1));
  EXPECT_EQ(session.state.backend_request, kFirst + 1);
  EXPECT_EQ(ReferencedSlots(session.state)[0], 1ull << (kFirst + 1));
}

}  // namespace
}  // namespace holdfast::vhost_user
