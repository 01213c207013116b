#include "devices/vhost_user/session.h"

#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/vhost_user/testing/test_session.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::vhost_user {
namespace {

using ::holdfast::testing::IsOk;
using ::holdfast::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
constexpr absl::StatusCode kUnimplemented = absl::StatusCode::kUnimplemented;
constexpr absl::StatusCode kPrecondition =
    absl::StatusCode::kFailedPrecondition;
constexpr bool kNeedReply = true;
constexpr store::Slot kFirst = store::kSlotFirstSession;

constexpr MemoryRegion kRam{0, 0x100000, 0x7f0000000000, 0};
constexpr uint64_t kRings = kRam.user_address;

std::vector<uint8_t> AddressPayload(uint32_t index, uint32_t flags = 0,
                                    uint64_t at = kRings) {
  const uint64_t start = at + index * 0x10000;
  return BytesOf(VringAddress{index, flags, start, start + 0x2000,
                              start + 0x1000, 0x5000});
}

// A session with REPLY_ACK and memory.
TestSession Negotiated() {
  TestSession session;
  EXPECT_OK(session.Send(RequestType::kSetOwner));
  EXPECT_OK(session.SendNumber(RequestType::kSetProtocolFeatures,
                               session.info.protocol_features));
  EXPECT_OK(
      session.SendNumber(RequestType::kSetFeatures,
                         session.info.features | kFeatureProtocolFeatures));
  EXPECT_OK(
      session.Send(RequestType::kSetMemTable, MemoryTablePayload({kRam}), 1));
  return session;
}

// The same with queue 0 running.
TestSession Running() {
  TestSession session = Negotiated();
  EXPECT_OK(session.SendVring(RequestType::kSetVringNum, 0, 128));
  EXPECT_OK(session.SendVring(RequestType::kSetVringBase, 0, 7));
  EXPECT_OK(session.Send(RequestType::kSetVringAddr, AddressPayload(0)));
  EXPECT_OK(session.SendNumber(RequestType::kSetVringKick, 0, 1));
  EXPECT_OK(session.SendNumber(RequestType::kSetVringCall, 0, 1));
  EXPECT_OK(session.SendVring(RequestType::kSetVringEnable, 0, 1));
  EXPECT_TRUE(QueueRuns(session.state, 0));
  session.TakeEffects();
  return session;
}

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

// ---- descriptors ----

TEST(Slots, WrongNumbersOfDescriptorsAreRefused) {
  const struct {
    RequestType type;
    std::vector<uint8_t> payload;
    size_t right;
  } kRows[] = {
      {RequestType::kGetFeatures, {}, 0},
      {RequestType::kSetOwner, {}, 0},
      {RequestType::kSetVringNum, BytesOf(VringState{}), 0},
      {RequestType::kSetMemTable, MemoryTablePayload({}), 0},
      {RequestType::kSetMemTable, MemoryTablePayload({kRam}), 1},
      {RequestType::kSetMemTable, MemoryTablePayload({kRam, kRam, kRam}), 3},
      {RequestType::kAddMemReg, BytesOf(SingleMemoryRegion{0, kRam}), 1},
      {RequestType::kSetLogBase, BytesOf(LogDescription{}), 1},
      {RequestType::kSetLogFd, {}, 1},
      {RequestType::kSetBackendReqFd, {}, 1},
      {RequestType::kSetInflightFd, BytesOf(InflightDescription{}), 1},
      {RequestType::kGetInflightFd, BytesOf(InflightDescription{}), 0},
      {RequestType::kSetVringKick, BytesOf(uint64_t{0}), 1},
      {RequestType::kSetVringCall, BytesOf(uint64_t{1}), 1},
      {RequestType::kSetVringErr, BytesOf(uint64_t{1}), 1},
      {RequestType::kSetVringCall, BytesOf(uint64_t{kVringNoFd}), 0},
      {RequestType::kSetVringErr, BytesOf(uint64_t{kVringNoFd}), 0},
  };
  for (const auto& row : kRows) {
    const auto request = Parse(Message(row.type, row.payload));
    ASSERT_OK(request);
    for (size_t fds = 0; fds <= kMaxMessageFds; ++fds) {
      const auto slots = SlotsFor(SessionState{}, *request, fds);
      if (fds == row.right) {
        ASSERT_OK(slots) << RequestName(row.type);
        EXPECT_EQ(slots->count, fds);
      } else {
        EXPECT_THAT(slots,
                    StatusIs(kInvalid, AllOf(HasSubstr(RequestName(row.type)),
                                             HasSubstr("descriptors"))));
      }
    }
  }
}

TEST(Slots, ToleratedDescriptorsGetNoSlot) {
  const auto remove = Parse(
      Message(RequestType::kRemMemReg, BytesOf(SingleMemoryRegion{0, kRam})));
  ASSERT_OK(remove);
  for (const size_t fds : {0, 1}) {
    const auto slots = SlotsFor(SessionState{}, *remove, fds);
    ASSERT_OK(slots);
    EXPECT_EQ(slots->count, 0u);
  }
  EXPECT_THAT(SlotsFor(SessionState{}, *remove, 2), Not(IsOk()));
  const auto unknown = Parse(Message(RequestType{99}));
  ASSERT_OK(unknown);
  const auto slots = SlotsFor(SessionState{}, *unknown, kMaxMessageFds);
  ASSERT_OK(slots);
  EXPECT_EQ(slots->count, 0u);
}

TEST(Slots, TheLowestFreeSlotsAreChosenEachTimeTheSame) {
  TestSession session = Running();  // Slots 32 to 34: memory, kick, call.
  const auto request =
      Parse(Message(RequestType::kSetMemTable,
                    MemoryTablePayload({kRam, {0x200000, 1, 0x1000, 0}})));
  ASSERT_OK(request);
  for (int i = 0; i < 2; ++i) {
    const auto slots = SlotsFor(session.state, *request, 2);
    ASSERT_OK(slots);
    EXPECT_EQ(slots->slots[0], kFirst + 3);
    EXPECT_EQ(slots->slots[1], kFirst + 4);
  }
  session.state.regions[0].slot = kFirst + 4;
  const auto slots = SlotsFor(session.state, *request, 2);
  ASSERT_OK(slots);
  EXPECT_EQ(slots->slots[0], kFirst);
  EXPECT_EQ(slots->slots[1], kFirst + 3);
}

TEST(Slots, ASessionThatUsesAllItCanLeavesRoomForAMessage) {
  TestSession session = Negotiated();
  session.info.queue_count = kMaxQueues;
  for (uint64_t i = 1; i < kMaxRegions; ++i) {
    ASSERT_OK(session.Send(
        RequestType::kAddMemReg,
        BytesOf(SingleMemoryRegion{0, {i << 32, 0x1000, i << 32, 0}}), 1));
  }
  for (uint64_t q = 0; q < kMaxQueues; ++q) {
    ASSERT_OK(session.SendNumber(RequestType::kSetVringKick, q, 1));
    ASSERT_OK(session.SendNumber(RequestType::kSetVringCall, q, 1));
    ASSERT_OK(session.SendNumber(RequestType::kSetVringErr, q, 1));
  }
  ASSERT_OK(session.Send(RequestType::kSetBackendReqFd, {}, 1));
  ASSERT_OK(session.Send(RequestType::kSetLogFd, {}, 1));
  ASSERT_OK(session.Send(RequestType::kSetLogBase,
                         BytesOf(LogDescription{1ull << 40, 0}), 1));
  ASSERT_OK(session.Send(
      RequestType::kSetInflightFd,
      BytesOf(InflightDescription{1 << 20, 0, kMaxQueues, 256, 0}), 1));
  std::vector<MemoryRegion> eight;
  for (uint64_t i = 0; i < kMaxTableRegions; ++i) {
    eight.push_back({i << 32, 0x1000, i << 32, 0});
  }
  EXPECT_OK(session.Send(RequestType::kSetMemTable, MemoryTablePayload(eight),
                         eight.size()));
}

TEST(Slots, DecideRefusesSlotsThatAreNotThoseOfTheMessage) {
  TestSession session;
  const auto request =
      Parse(Message(RequestType::kSetMemTable, MemoryTablePayload({kRam})));
  ASSERT_OK(request);
  uint8_t reply[kMaxReplySize];
  EXPECT_THAT(Decide(session.state, *request, SlotList{}, session.info,
                     session.environment, reply),
              StatusIs(kInvalid, HasSubstr("0 slots for 1 descriptors")));
}

// ---- memory ----

TEST(Memory, TableReplacesTheOldOne) {
  TestSession session = Negotiated();
  EXPECT_OK(session.Send(RequestType::kSetMemTable,
                         MemoryTablePayload({{0x1000, 0x2000, 0x3000, 0x4000}}),
                         1));
  EXPECT_EQ(RegionCount(session.state), 1u);
  EXPECT_EQ(session.state.regions[0].guest_address, 0x1000u);
  EXPECT_EQ(session.state.regions[0].mmap_offset, 0x4000u);
  EXPECT_EQ(session.state.regions[0].slot, kFirst + 1);
  EXPECT_OK(session.Send(RequestType::kSetMemTable, MemoryTablePayload({})));
  EXPECT_EQ(RegionCount(session.state), 0u);
}

TEST(Memory, BadRegionsAreRefusedByTableAndByAddition) {
  const struct {
    const char* why;
    MemoryRegion region;
  } kRows[] = {
      {"without size", {0x200000, 0, 0x1000, 0}},
      {"wraps around", {~0ull, 2, 0x1000, 0}},
      {"wraps around", {0x200000, 0x1000, ~0ull - 5, 0}},
      {"wraps around", {0x200000, 0x1000, 0x1000, ~0ull}},
      {"wraps around", {0x200000, ~0ull, 0x1000, 0}},
      {"overlap", {0xfffff, 0x1000, 0x1000, 0}},
      {"overlap", {0, 1, 0x1000, 0}},
      {"overlap", {0x200000, 0x1000, kRings + 0xfffff, 0}},
      {"overlap", {0x200000, 0x1000, kRings - 0xfff, 0}},
  };
  for (const auto& row : kRows) {
    TestSession session = Negotiated();
    const auto add =
        session.Send(RequestType::kAddMemReg,
                     BytesOf(SingleMemoryRegion{0, row.region}), 1, kNeedReply);
    ASSERT_OK(add);
    EXPECT_THAT(add->refusal, StatusIs(kInvalid, AllOf(HasSubstr("ADD_MEM_REG"),
                                                       HasSubstr(row.why))));
    const auto table =
        session.Send(RequestType::kSetMemTable,
                     MemoryTablePayload({kRam, row.region}), 2, kNeedReply);
    ASSERT_OK(table);
    EXPECT_THAT(table->refusal,
                StatusIs(kInvalid, AllOf(HasSubstr("SET_MEM_TABLE"),
                                         HasSubstr(row.why))));
    EXPECT_EQ(RegionCount(session.state), 1u);
  }
}

TEST(Memory, NeighboursAndTheVeryEndAreFine) {
  TestSession session = Negotiated();
  EXPECT_OK(session.Send(
      RequestType::kSetMemTable,
      MemoryTablePayload({{0, 0x1000, 0x10000, 0},
                          {0x1000, 0x1000, 0x11000, 0x1000},
                          {~0ull - 0xfff, 0xfff, ~0ull - 0xfff, 0}}),
      3));
}

TEST(Memory, FileThatEndsTooEarlyIsRefused) {
  TestSession session = Negotiated();
  session.environment.file_sizes[kFirst + 1] = 0x1fff;
  EXPECT_THAT(session.Send(RequestType::kAddMemReg,
                           BytesOf(SingleMemoryRegion{
                               0, {0x200000, 0x1000, 0x1000, 0x1000}}),
                           1),
              StatusIs(kInvalid, HasSubstr("the file ends at 8191")));
}

TEST(Memory, RegionsAreLimitedToWhatWasOffered) {
  TestSession session = Negotiated();
  session.info.max_mem_slots = 2;
  EXPECT_OK(session.Send(RequestType::kAddMemReg,
                         BytesOf(SingleMemoryRegion{0, {0x200000, 1, 1, 0}}),
                         1));
  EXPECT_THAT(
      session.Send(RequestType::kAddMemReg,
                   BytesOf(SingleMemoryRegion{0, {0x300000, 1, 2, 0}}), 1),
      StatusIs(absl::StatusCode::kResourceExhausted,
               HasSubstr("ADD_MEM_REG: more than 2 regions")));
}

TEST(Memory, RemovalIgnoresTheOffsetAndClosesTheGap) {
  TestSession session = Negotiated();
  for (uint64_t i = 1; i < 4; ++i) {
    ASSERT_OK(session.Send(
        RequestType::kAddMemReg,
        BytesOf(SingleMemoryRegion{0, {i << 24, 0x1000, i << 24, i}}), 1));
  }
  ASSERT_OK(session.Send(
      RequestType::kRemMemReg,
      BytesOf(SingleMemoryRegion{0, {2 << 24, 0x1000, 2 << 24, 99}}), 1));
  ASSERT_EQ(RegionCount(session.state), 3u);
  EXPECT_EQ(session.state.regions[2].guest_address, 3u << 24);
  // The slot is free again.
  ASSERT_OK(session.Send(
      RequestType::kAddMemReg,
      BytesOf(SingleMemoryRegion{0, {5 << 24, 0x1000, 5 << 24, 0}}), 1));
  EXPECT_EQ(session.state.regions[3].slot, kFirst + 2);
}

TEST(Memory, RemovalOfWhatIsNotThereIsRefused) {
  TestSession session = Negotiated();
  for (const MemoryRegion& wrong :
       {MemoryRegion{1, kRam.size, kRam.user_address, 0},
        MemoryRegion{0, kRam.size - 1, kRam.user_address, 0},
        MemoryRegion{0, kRam.size, kRam.user_address + 1, 0}}) {
    EXPECT_THAT(session.Send(RequestType::kRemMemReg,
                             BytesOf(SingleMemoryRegion{0, wrong})),
                StatusIs(kInvalid, HasSubstr("REM_MEM_REG: no region at")));
  }
}

TEST(Memory, ChangesUnderRunningRingsQuiesceThemFirst) {
  TestSession session = Running();
  ASSERT_OK(
      session.Send(RequestType::kSetMemTable, MemoryTablePayload({kRam}), 1));
  EXPECT_THAT(session.TakeEffects(), ElementsAre("quiesce all"));
  EXPECT_TRUE(QueueRuns(session.state, 0));
  EXPECT_EQ(session.state.regions[0].slot, kFirst + 3);

  ASSERT_OK(session.Send(RequestType::kRemMemReg,
                         BytesOf(SingleMemoryRegion{0, kRam})));
  EXPECT_THAT(session.TakeEffects(), ElementsAre("quiesce all"));
  EXPECT_FALSE(QueueRuns(session.state, 0));
  EXPECT_EQ(session.state.queues[0].started, 1);

  // QEMU takes a region away and adds it again, larger: the ring goes on, with
  // the in-flight record it had.
  ASSERT_OK(session.Send(RequestType::kAddMemReg,
                         BytesOf(SingleMemoryRegion{0, kRam}), 1));
  EXPECT_THAT(session.TakeEffects(), IsEmpty());
  EXPECT_TRUE(QueueRuns(session.state, 0));
}

// ---- log and in-flight region ----

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
