// Which descriptors a message may carry, and the slots that they get.

#include <cstdint>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/vhost_user/testing/negotiated_session.h"
#include "devices/vhost_user/testing/test_session.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::vhost_user {
namespace {

using ::holdfast::testing::IsOk;
using ::holdfast::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
constexpr store::Slot kFirst = store::kSlotFirstSession;

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

}  // namespace
}  // namespace holdfast::vhost_user
