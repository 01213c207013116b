// The memory table: set, added to, taken from, under running rings.

#include <cstdint>

#include "base/testing/matchers.h"
#include "devices/vhost_user/testing/negotiated_session.h"
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
constexpr bool kNeedReply = true;
constexpr store::Slot kFirst = store::kSlotFirstSession;

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

}  // namespace
}  // namespace holdfast::vhost_user
