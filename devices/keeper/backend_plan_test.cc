#include "devices/keeper/backend_plan.h"

#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "devices/vhost_user/codec.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::keeper {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using vhost_user::kSlotPolled;
using vhost_user::SessionState;

constexpr uint64_t kUser = 0x7f0000000000;

// A step as text: what is sent, and with which slots.
std::string TextOf(const Step& step) {
  std::vector<uint8_t> message(sizeof(vhost_user::MessageHeader));
  const vhost_user::MessageHeader header{
      static_cast<uint32_t>(step.type), vhost_user::kVersion,
      static_cast<uint32_t>(step.payload_size)};
  std::memcpy(message.data(), &header, sizeof(header));
  message.insert(message.end(), step.bytes().begin(), step.bytes().end());
  // The back-end's side of the house must understand it.
  const auto request = vhost_user::Parse(message);
  if (!request.ok()) return std::string(request.status().message());
  std::string text = vhost_user::RequestName(step.type);
  switch (step.type) {
    case vhost_user::RequestType::kSetVringNum:
    case vhost_user::RequestType::kSetVringBase:
    case vhost_user::RequestType::kSetVringEnable:
      absl::StrAppend(&text, " ", request->vring.index, " ",
                      request->vring.num);
      break;
    case vhost_user::RequestType::kSetFeatures:
      absl::StrAppend(&text, " ", absl::Hex(request->value));
      break;
    case vhost_user::RequestType::kSetMemTable:
      absl::StrAppend(&text, " ", request->region_count);
      break;
    case vhost_user::RequestType::kSetVringKick:
    case vhost_user::RequestType::kSetVringCall:
    case vhost_user::RequestType::kSetVringErr:
      absl::StrAppend(&text, " ", request->vring_index(),
                      request->vring_has_fd() ? "" : " none");
      break;
    case vhost_user::RequestType::kSetVringAddr:
      absl::StrAppend(&text, " ", request->address.index, " flags ",
                      request->address.flags);
      break;
    case vhost_user::RequestType::kSetInflightFd:
      absl::StrAppend(&text, " ", request->inflight.queue_count, "x",
                      request->inflight.queue_size);
      break;
    case vhost_user::RequestType::kAddMemReg:
    case vhost_user::RequestType::kRemMemReg:
      absl::StrAppend(&text, " ", absl::Hex(request->regions[0].guest_address));
      break;
    default:
      break;
  }
  for (size_t i = 0; i < step.fd_count; ++i) {
    absl::StrAppend(&text, " <",
                    step.fds[i].from == StepFd::From::kInflight
                        ? std::string("own")
                        : absl::StrCat(step.fds[i].slot),
                    ">");
  }
  return text;
}

class PlanTest : public ::testing::Test {
 protected:
  PlanTest() {
    agreement_.features = vhost_user::kFeatureProtocolFeatures | 0x3;
    agreement_.protocol_features = vhost_user::kProtocolReplyAck;
  }

  static SessionState Negotiated() {
    SessionState session = {};
    session.version = vhost_user::kSessionStateVersion;
    session.owned = 1;
    session.features = 0x3;
    session.features_acked = 1;
    AddRegion(session, 0, 40);
    return session;
  }
  static void AddRegion(SessionState& session, size_t index, store::Slot slot) {
    constexpr uint64_t kSize = 0x100000;
    session.regions[index] = {index * kSize, kSize, kUser + index * kSize, 0,
                              slot,          {}};
  }
  static void Start(SessionState& session, uint16_t queue) {
    vhost_user::QueueState& state = session.queues[queue];
    state.descriptor = kUser + queue * 0x10000;
    state.available = state.descriptor + 0x1000;
    state.used = state.descriptor + 0x2000;
    state.num = 128;
    state.kick = static_cast<store::Slot>(50 + 2 * queue);
    state.call = static_cast<store::Slot>(51 + 2 * queue);
    state.has_address = 1;
    state.started = 1;
    state.enabled = 1;
  }
  static SessionState Running() {
    SessionState session = Negotiated();
    Start(session, 0);
    return session;
  }

  std::vector<std::string> Plan(const SessionState& done,
                                const SessionState& session) {
    std::vector<std::string> text;
    for (const Step& step : PlanSteps(done, session, agreement_, bases_)) {
      text.push_back(TextOf(step));
    }
    return text;
  }

  Agreement agreement_;
  RingBases bases_ = {};
};

TEST_F(PlanTest, NothingIsSaidOfNothing) {
  EXPECT_THAT(Plan({}, {}), IsEmpty());
}

TEST_F(PlanTest, NothingIsSaidTwice) {
  EXPECT_THAT(Plan(Running(), Running()), IsEmpty());
}

// The order that every known back-end is content with.
TEST_F(PlanTest, ANewLifeIsToldTheWholeSession) {
  bases_[0] = 7;
  EXPECT_THAT(Plan({}, Running()),
              ElementsAre("SET_FEATURES 40000003", "SET_MEM_TABLE 1 <40>",
                          "SET_VRING_NUM 0 128", "SET_VRING_BASE 0 7",
                          "SET_VRING_ADDR 0 flags 0", "SET_VRING_CALL 0 <51>",
                          "SET_VRING_KICK 0 <50>", "SET_VRING_ENABLE 0 1"));
}

TEST_F(PlanTest, NoRingIsEnabledBeforeAllAreThere) {
  SessionState session = Running();
  Start(session, 3);
  const std::vector<std::string> steps = Plan({}, session);
  ASSERT_GE(steps.size(), 2u);
  EXPECT_EQ(steps[steps.size() - 2], "SET_VRING_ENABLE 0 1");
  EXPECT_EQ(steps.back(), "SET_VRING_ENABLE 3 1");
}

TEST_F(PlanTest, TheInFlightRegionComesBeforeTheFirstKick) {
  agreement_.protocol_features |= vhost_user::kProtocolInflightShmfd;
  agreement_.inflight_size = 4096;
  agreement_.inflight_queues = 16;
  agreement_.inflight_queue_size = 1024;
  const std::vector<std::string> steps = Plan({}, Running());
  ASSERT_GE(steps.size(), 3u);
  EXPECT_EQ(steps[2], "SET_INFLIGHT_FD 16x1024 <own>");
  // Memory alone starts nothing yet.
  EXPECT_THAT(Plan({}, Negotiated()), Not(Contains(HasSubstr("INFLIGHT"))));
}

TEST_F(PlanTest, ARegionOfTheVmmIsPassedOn) {
  agreement_.protocol_features |= vhost_user::kProtocolInflightShmfd;
  agreement_.inflight_size = 4096;
  agreement_.inflight_queues = 2;
  SessionState session = Running();
  session.inflight = {8192, 0, 1, 128, 60, {}};
  EXPECT_THAT(Plan({}, session), Contains("SET_INFLIGHT_FD 1x128 <60>"));
  // Not as one for more queues than the back-end has: it would believe that.
  session.inflight.queue_count = 16;
  EXPECT_THAT(Plan({}, session), Contains("SET_INFLIGHT_FD 2x128 <60>"));
}

TEST_F(PlanTest, WithoutTheBitThereIsNoRegion) {
  agreement_.inflight_size = 4096;
  EXPECT_THAT(Plan({}, Running()), Not(Contains(HasSubstr("INFLIGHT"))));
}

// A guest that masks an interrupt has its VMM replace the descriptor.
TEST_F(PlanTest, AChangedSignalIsToldAlone) {
  SessionState session = Running();
  session.queues[0].call = 77;
  EXPECT_THAT(Plan(Running(), session), ElementsAre("SET_VRING_CALL 0 <77>"));
  session.queues[0].call = kSlotPolled;
  EXPECT_THAT(Plan(Running(), session), ElementsAre("SET_VRING_CALL 0 none"));
}

TEST_F(PlanTest, ARingThatIsDisabledIsToldAlone) {
  SessionState session = Running();
  session.queues[0].enabled = 0;
  EXPECT_THAT(Plan(Running(), session), ElementsAre("SET_VRING_ENABLE 0 0"));
  EXPECT_THAT(Plan(session, Running()), ElementsAre("SET_VRING_ENABLE 0 1"));
}

TEST_F(PlanTest, ADisabledRingStartsDisabled) {
  SessionState session = Running();
  session.queues[0].enabled = 0;
  EXPECT_THAT(Plan({}, session), Not(Contains(HasSubstr("ENABLE"))));
}

TEST_F(PlanTest, WithoutProtocolFeaturesNothingIsEnabled) {
  agreement_.features = 0x3;
  const std::vector<std::string> steps = Plan({}, Running());
  EXPECT_EQ(steps[0], "SET_FEATURES 3");
  EXPECT_THAT(steps, Not(Contains(HasSubstr("ENABLE"))));
}

// The guest's mistake is not the back-end's, which would end of it.
TEST_F(PlanTest, ARingOutsideMemoryIsNotMentioned) {
  SessionState session = Running();
  session.queues[0].used = kUser + 0x200000;
  EXPECT_FALSE(RingStarts(session, 0));
  EXPECT_THAT(Plan({}, session), Not(Contains(HasSubstr("VRING"))));
}

TEST_F(PlanTest, OtherMemoryIsToldWhole) {
  SessionState session = Running();
  AddRegion(session, 1, 41);
  EXPECT_THAT(Plan(Running(), session),
              ElementsAre("SET_MEM_TABLE 2 <40> <41>"));
}

// libvhost-user unmaps all that it had, under the requests in flight.
TEST_F(PlanTest, ALifeThatWorksIsToldTheDifference) {
  agreement_.protocol_features |= vhost_user::kProtocolConfigureMemSlots;
  SessionState session = Running();
  AddRegion(session, 1, 41);
  EXPECT_THAT(Plan(Running(), session), ElementsAre("ADD_MEM_REG 100000 <41>"));
  EXPECT_THAT(Plan(session, Running()), ElementsAre("REM_MEM_REG 100000"));
  EXPECT_THAT(Plan({}, session), Contains("SET_MEM_TABLE 2 <40> <41>"));
}

TEST_F(PlanTest, MoreMemoryThanATableHoldsIsToldOneByOne) {
  SessionState eight = Running();
  for (size_t i = 1; i < 8; ++i) {
    AddRegion(eight, i, static_cast<store::Slot>(40 + i));
  }
  SessionState nine = eight;
  AddRegion(nine, 8, 48);
  EXPECT_THAT(Plan(eight, nine), ElementsAre("ADD_MEM_REG 800000 <48>"));
  SessionState other = nine;
  AddRegion(other, 8, 49);
  EXPECT_THAT(Plan(nine, other),
              ElementsAre("REM_MEM_REG 800000", "ADD_MEM_REG 800000 <49>"));
  EXPECT_THAT(Plan({}, nine), Contains("ADD_MEM_REG 0 <40>"));
}

TEST_F(PlanTest, TheDirtyLogIsToldWhenItCanBe) {
  SessionState session = Running();
  session.log = {4096, 0, 70, 0, {}};
  session.queues[0].address_flags = vhost_user::kVringFlagLog;
  EXPECT_THAT(Plan(Running(), session),
              ElementsAre("SET_VRING_ADDR 0 flags 1"));
  agreement_.protocol_features |= vhost_user::kProtocolLogShmfd;
  EXPECT_THAT(Plan(Running(), session),
              ElementsAre("SET_LOG_BASE <70>", "SET_VRING_ADDR 0 flags 1"));
}

TEST_F(PlanTest, StatusComesLast) {
  SessionState session = Running();
  session.status = 15;
  EXPECT_THAT(Plan({}, session), Not(Contains("SET_STATUS")));
  agreement_.protocol_features |= vhost_user::kProtocolStatus;
  EXPECT_EQ(Plan({}, session).back(), "SET_STATUS");
}

// The long way and the short ways lead to the same: whatever was told before,
// the whole session from nothing mentions each ring's parts once.
TEST_F(PlanTest, AStoppedRingStartsAnewAtItsBase) {
  SessionState stopped = Running();
  stopped.queues[0].started = 0;
  bases_[0] = 9;
  EXPECT_THAT(Plan(stopped, Running()),
              ElementsAre("SET_VRING_NUM 0 128", "SET_VRING_BASE 0 9",
                          "SET_VRING_ADDR 0 flags 0", "SET_VRING_CALL 0 <51>",
                          "SET_VRING_KICK 0 <50>", "SET_VRING_ENABLE 0 1"));
}

}  // namespace
}  // namespace holdfast::keeper
