#include "devices/vfio_user/session.h"

#include <cerrno>
#include <string>

#include "base/testing/matchers.h"
#include "devices/vfio_user/testing/test_session.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::vfio_user {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string JsonOf(const Outcome& outcome) {
  const Bytes payload = outcome.payload();
  return std::string(payload.begin() + sizeof(Version), payload.end());
}

// ---- VERSION ----

TEST(SessionVersion, IsNegotiated) {
  TestSession session;
  const auto outcome = session.Deliver(VersionMessage(0, 1, "{}"));
  ASSERT_OK(outcome);
  EXPECT_EQ(outcome->header().id, 7);
  EXPECT_EQ(outcome->header().flags, kFlagReply);
  EXPECT_EQ(outcome->As<Version>().minor, 1);
  EXPECT_EQ(JsonOf(*outcome),
            std::string("{\"capabilities\":{\"max_msg_fds\":16,"
                        "\"max_data_xfer_size\":1048576,"
                        "\"max_dma_maps\":2048,\"pgsizes\":4096,"
                        "\"write_multiple\":true}}") +
                '\0');
  EXPECT_EQ(session.state.negotiated, 1);
}

TEST(SessionVersion, TheSmallerMinorIsSpoken) {
  for (const auto& [proposed, spoken] :
       {std::pair<uint16_t, uint16_t>{0, 0}, {1, 1}, {2, 2}, {99, 2}}) {
    TestSession session;
    EXPECT_EQ(
        session.Deliver(VersionMessage(0, proposed, "{}"))->As<Version>().minor,
        spoken);
  }
}

TEST(SessionVersion, WhatTheClientTakesIsKept) {
  TestSession session;
  ASSERT_OK(session.Deliver(VersionMessage(
      0, 1,
      "{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":512}}")));
  EXPECT_EQ(session.state.max_message_fds, 8u);
  EXPECT_EQ(session.state.max_transfer, 512u);
}

TEST(SessionVersion, WithoutDataTheDefaultsHold) {
  TestSession session;
  ASSERT_OK(session.Send(Command::kVersion, Join(Version{0, 0})));
  EXPECT_EQ(session.state.max_message_fds, 1u);
  EXPECT_EQ(session.state.max_transfer, 1048576u);
}

TEST(SessionVersion, LimitsAreTheSmallerOnes) {
  TestSession session;
  session.serving.max_transfer = 4096;
  ASSERT_OK(session.Deliver(
      VersionMessage(0, 1, "{\"capabilities\":{\"max_msg_fds\":5000}}")));
  EXPECT_EQ(session.state.max_message_fds, kMaxMessageFds);
  EXPECT_EQ(session.state.max_transfer, 4096u);
}

constexpr char kTakesTwin[] =
    "{\"capabilities\":{\"twin_socket\":{\"supported\":true}}}";

TEST(SessionVersion, ASecondSocketComesWithTheReply) {
  TestSession session;
  const auto outcome = session.Deliver(VersionMessage(0, 1, kTakesTwin));
  ASSERT_OK(outcome);
  EXPECT_NE(JsonOf(*outcome).find(
                "\"twin_socket\":{\"supported\":true,\"fd_index\":0}"),
            std::string::npos);
  EXPECT_EQ(session.state.twin_socket, 1);
  EXPECT_EQ(session.state.reply_region, kReplyTwin);
  EXPECT_OK(CheckInvariants(session.state, session.table));
  // The client has its end when it says something more.
  ASSERT_OK(
      session.Send(Command::kDeviceGetInfo, Join(DeviceInfo{16, 0, 0, 0})));
  EXPECT_EQ(session.state.twin_socket, 1);
  EXPECT_EQ(session.state.reply_region, 0);
}

TEST(SessionVersion, ASecondSocketIsForWhoTakesItAndCan) {
  const auto negotiated = [](const char* json, uint32_t flags, bool has_twin) {
    TestSession session;
    session.environment.has_twin = has_twin;
    Bytes message = VersionMessage(0, 1, json);
    message[8] |= static_cast<uint8_t>(flags);
    const auto outcome = session.Deliver(message);
    EXPECT_OK(outcome);
    EXPECT_EQ(session.state.negotiated, 1);
    EXPECT_EQ(session.state.reply_region, 0);
    return session.state.twin_socket;
  };
  EXPECT_EQ(negotiated("{}", 0, true), 0);
  EXPECT_EQ(negotiated(kTakesTwin, 0, false), 0);
  EXPECT_EQ(negotiated(kTakesTwin, kFlagNoReply, true), 0);
  EXPECT_EQ(negotiated("{\"capabilities\":{\"max_msg_fds\":0,"
                       "\"twin_socket\":{\"supported\":true}}}",
                       0, true),
            0);
}

TEST(SessionVersion, AnotherMajorIsRefusedAndMayBeProposedAgain) {
  TestSession session;
  EXPECT_EQ(session.Deliver(VersionMessage(1, 0, "{}"))->error(), EINVAL);
  EXPECT_EQ(session.state.negotiated, 0);
  EXPECT_EQ(session.Deliver(VersionMessage(0, 0, "{}"))->error(), 0u);
}

TEST(SessionVersion, BadDataIsRefused) {
  for (const char* json : {"", "{", "[]", "{\"capabilities\":1}",
                           "{\"capabilities\":{\"max_msg_fds\":\"many\"}}",
                           "{\"capabilities\":{\"max_data_xfer_size\":0}}",
                           "{\"a\":[[[[[[[[[[1]]]]]]]]]]}"}) {
    TestSession session;
    EXPECT_EQ(session.Deliver(VersionMessage(0, 1, json))->error(), EINVAL)
        << json;
    EXPECT_EQ(session.state.negotiated, 0);
  }
}

TEST(SessionVersion, ComesOnce) {
  TestSession session;
  ASSERT_OK(session.Negotiate());
  EXPECT_EQ(session.Deliver(VersionMessage(0, 1, "{}"))->error(), EINVAL);
}

TEST(SessionVersion, ComesFirst) {
  for (const Command command :
       {Command::kDeviceReset, Command::kRegionRead, Command::kDmaMap}) {
    TestSession session;
    const Bytes payload =
        command == Command::kRegionRead ? Join(RegionAccess{0, 0, 8})
        : command == Command::kDmaMap   ? Join(DmaMap{32, 3, 0, 0, 4096})
                                        : Bytes();
    EXPECT_EQ(session.ErrorOf(command, payload), EINVAL);
    EXPECT_EQ(session.device.done, 0u);
  }
}

// ---- What every command has in common ----

TEST(Session, RepliesCarryTheIdAndCommandOfTheRequest) {
  TestSession session;
  ASSERT_OK(session.Negotiate());
  const auto outcome =
      session.Deliver(CommandMessage(Command::kDeviceReset, {}, 0, 0xbeef));
  EXPECT_EQ(outcome->header().id, 0xbeef);
  EXPECT_EQ(outcome->header().command, 13);
  EXPECT_EQ(outcome->header().size, 16u);
}

TEST(Session, AnErrorIsAHeaderAlone) {
  TestSession session;
  ASSERT_OK(session.Negotiate());
  const auto outcome =
      session.Send(Command::kRegionRead, Join(RegionAccess{0, 55, 8}));
  EXPECT_EQ(outcome->reply.size(), sizeof(MessageHeader));
  EXPECT_EQ(outcome->header().flags, kFlagReply | kFlagError);
  EXPECT_EQ(outcome->header().error, static_cast<uint32_t>(EINVAL));
  EXPECT_THAT(outcome->decision.refusal,
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("REGION_READ: no region 55")));
}

TEST(Session, NoReplyMeansNoneNotEvenAnError) {
  TestSession session;
  ASSERT_OK(session.Negotiate());
  const auto good = session.Send(Command::kDeviceReset, {}, 0, kFlagNoReply);
  EXPECT_TRUE(good->reply.empty());
  EXPECT_OK(good->decision.refusal);
  const auto bad = session.Send(Command{99}, {}, 0, kFlagNoReply);
  EXPECT_TRUE(bad->reply.empty());
  EXPECT_FALSE(bad->decision.refusal.ok());
}

TEST(Session, UnknownCommandsAreRefusedAndTheSessionGoesOn) {
  TestSession session;
  ASSERT_OK(session.Negotiate());
  for (const uint16_t number : {0, 11, 12, 19, 1000}) {
    EXPECT_EQ(session.ErrorOf(Command{number}, Join(DmaAccess{0, 8})), EINVAL);
  }
  EXPECT_EQ(session.ErrorOf(Command::kUserDirtyPages, Bytes(8)), ENOTSUP);
  EXPECT_EQ(session.ErrorOf(Command::kDeviceReset, {}), 0u);
}

TEST(Session, AnImpossibleSizeIsAnsweredAndEndsTheConnection) {
  TestSession session;
  ASSERT_OK(session.Negotiate());
  const auto outcome =
      session.Deliver(Join(MessageHeader{3, 9, 0xfffffff0, 0, 0}));
  EXPECT_EQ(outcome->error(), EINVAL);
  EXPECT_EQ(outcome->header().id, 3);
  EXPECT_THAT(session.Send(Command::kDeviceReset),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
}

TEST(Session, ARefusedRequestLeavesTheStateAsItWas) {
  TestSession session;
  ASSERT_OK(session.Negotiate());
  const SessionState before = session.state;
  EXPECT_EQ(session.ErrorOf(Command::kDmaMap, Join(DmaMap{32, 8, 0, 0, 4096})),
            EINVAL);
  EXPECT_EQ(std::memcmp(&before, &session.state, sizeof(before)), 0);
}

// ---- DEVICE_GET_INFO, DEVICE_RESET ----

TEST(SlotsFor, AreNoMoreThanOneMessageMayBring) {
  TestSession session;
  Request request;
  request.fd_count = 253;  // As many as a socket delivers at once.
  const SlotList slots = SlotsFor(session.state, session.table, request);
  ASSERT_EQ(slots.count, kMaxMessageFds);
  for (size_t i = 0; i < slots.count; ++i) {
    EXPECT_EQ(slots.slots[i], store::kSlotFirstSession + i);
  }
}

TEST(SessionInfo, IsThatOfAPciDevice) {
  TestSession session;
  ASSERT_OK(session.Negotiate());
  const auto outcome =
      session.Send(Command::kDeviceGetInfo, Join(DeviceInfo{16, 0, 0, 0}));
  EXPECT_EQ(outcome->payload(),
            Join(DeviceInfo{16, kDeviceCanReset | kDeviceIsPci, 9, 5}));
}

TEST(SessionReset, ResetsTheDeviceAndKeepsWindowsAndInterrupts) {
  TestSession session;
  ASSERT_OK(session.Negotiate());
  ASSERT_EQ(session.ErrorOf(Command::kDmaMap, Join(DmaMap{32, 3, 0, 0, 4096})),
            0u);
  EXPECT_EQ(session.ErrorOf(Command::kDeviceReset, {}), 0u);
  EXPECT_EQ(session.device.bank().resets, 1u);
  EXPECT_THAT(session.TakeEffects(), ElementsAre("reset"));
  EXPECT_EQ(WindowCount(session.state), 1u);
}

TEST(SessionReset, FailuresAreTold) {
  TestSession session;
  ASSERT_OK(session.Negotiate());
  session.environment.reset_status = absl::UnavailableError("busy");
  EXPECT_EQ(session.ErrorOf(Command::kDeviceReset, {}), EBUSY);
  session.environment.reset_status = absl::AbortedError("another epoch");
  EXPECT_THAT(session.Send(Command::kDeviceReset),
              StatusIs(absl::StatusCode::kAborted, _));
}

// ---- Requests of ours ----

TEST(SessionAsk, WhatAnAnswerSaysIsPassedOn) {
  TestSession session;
  ASSERT_OK(session.Negotiate());
  const auto read = session.Deliver(ReplyMessage(
      Command::kDmaRead, Join(DmaAccess{0x1000, 4}, uint32_t{77}), 5));
  ASSERT_OK(read);
  EXPECT_TRUE(read->reply.empty());
  ASSERT_TRUE(read->decision.answered);
  EXPECT_EQ(read->decision.answer.id, 5);
  EXPECT_EQ(read->decision.answer.error, 0u);
  EXPECT_EQ(read->decision.answer.data.size(), 4u);
  const auto write = session.Deliver(ReplyMessage(Command::kDmaWrite, {}, 0));
  ASSERT_TRUE(write->decision.answered);
  EXPECT_EQ(write->decision.answer.command, Command::kDmaWrite);
}

TEST(SessionAsk, ErrorsAndMalformedAnswersAreErrors) {
  TestSession session;
  ASSERT_OK(session.Negotiate());
  EXPECT_EQ(session.Deliver(ErrorMessage(Command::kDmaRead, ENOENT, 0))
                ->decision.answer.error,
            static_cast<uint32_t>(ENOENT));
  const auto malformed =
      session.Deliver(ReplyMessage(Command::kDmaRead, Bytes(3), 2));
  EXPECT_EQ(malformed->decision.answer.error, static_cast<uint32_t>(EINVAL));
  EXPECT_TRUE(malformed->decision.answer.data.empty());
}

TEST(SessionAsk, AnAnswerIsNeverAnswered) {
  TestSession session;
  for (const Command command : {Command::kVersion, Command::kRegionRead,
                                Command::kDmaRead, Command{500}}) {
    const auto outcome = session.Deliver(ReplyMessage(command, Bytes(9)));
    ASSERT_OK(outcome);
    EXPECT_TRUE(outcome->reply.empty());
  }
}

// ---- What can be served ----

class OddDevice : public TortureDevice {
 public:
  OddDevice(Memory& memory, std::vector<holdfast::RegionInfo> regions,
            std::vector<holdfast::IrqInfo> irqs)
      : TortureDevice(memory), regions_(std::move(regions)), irqs_(irqs) {}
  absl::Span<const holdfast::RegionInfo> regions() const override {
    return regions_;
  }
  absl::Span<const holdfast::IrqInfo> irqs() const override { return irqs_; }

 private:
  std::vector<holdfast::RegionInfo> regions_;
  std::vector<holdfast::IrqInfo> irqs_;
};

TEST(CheckDevice, RefusesWhatDoesNotFitTheState) {
  TortureDevice::Memory memory{};
  EXPECT_OK(CheckDevice(TortureDevice(memory)));
  EXPECT_OK(CheckDevice(OddDevice(memory, {}, {{96, false}})));
  EXPECT_THAT(CheckDevice(OddDevice(memory, {}, {{90, false}, {7, false}})),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("97 interrupt vectors")));
  EXPECT_FALSE(
      CheckDevice(
          OddDevice(memory, {}, {{0xffffffff, false}, {0xffffffff, false}}))
          .ok());
  EXPECT_FALSE(
      CheckDevice(OddDevice(memory, std::vector<holdfast::RegionInfo>(33), {}))
          .ok());
  EXPECT_THAT(
      CheckDevice(OddDevice(memory, {{8192, true, true, {{0, 4096}}}}, {})),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no memory")));
}

}  // namespace
}  // namespace holdfast::vfio_user
