#include "launcher/instance_record.h"

#include <cstring>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

using ::holdfast::testing::StatusIs;

LaunchSpec Spec() {
  LaunchSpec spec;
  spec.name = "disk0";
  spec.binary = "/bin/device";
  spec.uid = 12345;
  return spec;
}

RecordCounters Counters() {
  RecordCounters counters;
  counters.next_child = 17;
  counters.accepted_ns = 1000;
  counters.recoveries = 5;
  counters.last_recovery_us = 90;
  counters.max_recovery_us = 900;
  counters.recovery_us = {90, 900, 80};
  counters.last_exit = {"SIGKILL", 4000, 1234567};
  counters.stopping = true;
  counters.epoch = 6;
  counters.oom_kills = 2;
  counters.forks_refused = 3;
  counters.policy = {1.5, 4, absl::Seconds(77), true, absl::Seconds(99)};
  counters.denied = true;
  counters.children = {{15, 4000}, {16, 4001}};
  counters.restarts = {{"SIGKILL", 4}, {"sandbox violation (SIGSYS)", 1}};
  return counters;
}

TEST(InstanceRecord, ReadsBackWhatWasWritten) {
  std::vector<uint8_t> memory(kRecordSize);
  WriteRecord(absl::MakeSpan(memory), Spec(), Counters());
  const auto record = ReadRecord(memory);
  ASSERT_OK(record);
  EXPECT_EQ(record->spec.name, "disk0");
  EXPECT_EQ(record->spec.uid, 12345u);
  EXPECT_EQ(record->counters.next_child, 17u);
  EXPECT_EQ(record->counters.max_recovery_us, 900u);
  EXPECT_EQ(record->counters.recovery_us, Counters().recovery_us);
  EXPECT_EQ(record->counters.last_exit.cause, "SIGKILL");
  EXPECT_EQ(record->counters.last_exit.pid, 4000);
  EXPECT_EQ(record->counters.last_exit.unix_ns, 1234567);
  EXPECT_TRUE(record->counters.stopping);
  EXPECT_EQ(record->counters.epoch, 6u);
  EXPECT_EQ(record->counters.oom_kills, 2u);
  EXPECT_EQ(record->counters.forks_refused, 3u);
  EXPECT_EQ(record->counters.policy.tokens, 1.5);
  EXPECT_EQ(record->counters.policy.in_a_row, 4u);
  EXPECT_EQ(record->counters.policy.last_loss, absl::Seconds(77));
  EXPECT_TRUE(record->counters.policy.serving);
  EXPECT_EQ(record->counters.policy.credited_until, absl::Seconds(99));
  EXPECT_TRUE(record->counters.denied);
  ASSERT_EQ(record->counters.children.size(), 2u);
  EXPECT_EQ(record->counters.children[1].number, 16u);
  EXPECT_EQ(record->counters.children[1].pid, 4001);
  EXPECT_EQ(record->counters.restarts, Counters().restarts);
}

TEST(InstanceRecord, UpdateLeavesTheSpecAlone) {
  std::vector<uint8_t> memory(kRecordSize);
  WriteRecord(absl::MakeSpan(memory), Spec(), Counters());
  UpdateRecord(absl::MakeSpan(memory), RecordCounters());
  const auto record = ReadRecord(memory);
  ASSERT_OK(record);
  EXPECT_EQ(record->spec.name, "disk0");
  EXPECT_EQ(record->counters.recoveries, 0u);
  EXPECT_TRUE(record->counters.restarts.empty());
}

TEST(InstanceRecord, NoLossIsReadBackAsNone) {
  std::vector<uint8_t> memory(kRecordSize);
  WriteRecord(absl::MakeSpan(memory), Spec(), RecordCounters());
  EXPECT_EQ(ReadRecord(memory)->counters.policy.last_loss,
            -absl::InfiniteDuration());
}

TEST(InstanceRecord, GarbageIsRefused) {
  EXPECT_FALSE(ReadRecord({}).ok());
  EXPECT_FALSE(ReadRecord(std::vector<uint8_t>(kRecordSize)).ok());
  EXPECT_FALSE(ReadRecord(std::vector<uint8_t>(kRecordSize, 0xff)).ok());
}

// The store holds the bytes: whatever stands there, reading is safe, and what
// is accepted is a valid spec.
TEST(InstanceRecord, EveryFlippedByteIsRefusedOrHarmless) {
  std::vector<uint8_t> memory(kRecordSize);
  WriteRecord(absl::MakeSpan(memory), Spec(), Counters());
  for (size_t i = 0; i < 1100; ++i) {
    std::vector<uint8_t> flipped = memory;
    flipped[i] ^= 0xff;
    const auto record = ReadRecord(flipped);
    EXPECT_TRUE(!record.ok() || ValidateSpec(record->spec).ok());
  }
}

// What earlier versions wrote: the same head without its last fields, then the
// spec.
std::vector<uint8_t> OfVersion(uint8_t version,
                               const std::vector<uint8_t>& memory) {
  constexpr size_t kHead3 = 592, kHead4 = 912, kHead5 = 968, kHead6 = 1008;
  std::vector<uint8_t> old = memory;
  old.erase(old.begin() + (version == 3   ? kHead3
                           : version == 4 ? kHead4
                                          : kHead5),
            old.begin() + kHead6);
  old.resize(kRecordSize);
  old[4] = version;
  return old;
}

TEST(InstanceRecord, Version4IsRead) {
  std::vector<uint8_t> memory(kRecordSize);
  WriteRecord(absl::MakeSpan(memory), Spec(), Counters());
  const auto record = ReadRecord(OfVersion(4, memory));
  ASSERT_OK(record);
  EXPECT_EQ(EncodeSpec(record->spec), EncodeSpec(Spec()));
  EXPECT_EQ(record->counters.last_exit.cause, Counters().last_exit.cause);
  EXPECT_TRUE(record->counters.backend.lives.empty());
  EXPECT_EQ(record->counters.backend.next_life, 1u);
}

RecordCounters WithBackend() {
  RecordCounters counters = Counters();
  counters.backend.lives = {{7, 4321, 99, 1000}, {8, 4322, 100, 1001}};
  counters.backend.next_life = 9;
  counters.backend.since = 8;
  counters.backend.policy = {0.5, 3, absl::Seconds(7), false, absl::Seconds(9)};
  counters.backend.denied = true;
  return counters;
}

TEST(InstanceRecord, WhatIsKnownOfABackEndIsKept) {
  std::vector<uint8_t> memory(kRecordSize);
  WriteRecord(absl::MakeSpan(memory), Spec(), WithBackend());
  const auto record = ReadRecord(memory);
  ASSERT_OK(record);
  const RecordedBackend& backend = record->counters.backend;
  ASSERT_EQ(backend.lives.size(), 2u);
  EXPECT_EQ(backend.lives[0].number, 7u);
  EXPECT_EQ(backend.lives[0].pid, 4321);
  EXPECT_EQ(backend.lives[0].started, 99u);
  EXPECT_EQ(backend.lives[0].cookie, 1000u);
  EXPECT_EQ(backend.lives[1].number, 8u);
  EXPECT_EQ(backend.next_life, 9u);
  EXPECT_EQ(backend.since, 8u);
  EXPECT_TRUE(backend.denied);
  EXPECT_TRUE(backend.has_policy);
  EXPECT_EQ(backend.policy.tokens, 0.5);
  EXPECT_EQ(backend.policy.in_a_row, 3u);
  EXPECT_EQ(backend.policy.last_loss, absl::Seconds(7));
  EXPECT_EQ(backend.policy.credited_until, absl::Seconds(9));
}

// A full budget, not an empty one, is what is not known.
TEST(InstanceRecord, Version5HasNoBudgetOfABackEnd) {
  std::vector<uint8_t> memory(kRecordSize);
  WriteRecord(absl::MakeSpan(memory), Spec(), WithBackend());
  const auto record = ReadRecord(OfVersion(5, memory));
  ASSERT_OK(record);
  EXPECT_EQ(EncodeSpec(record->spec), EncodeSpec(Spec()));
  const RecordedBackend& backend = record->counters.backend;
  EXPECT_EQ(backend.lives.size(), 2u);
  EXPECT_EQ(backend.next_life, 9u);
  EXPECT_FALSE(backend.has_policy);
  EXPECT_FALSE(backend.denied);
  EXPECT_EQ(backend.since, 0u);
}

TEST(InstanceRecord, Version3IsRead) {
  std::vector<uint8_t> memory(kRecordSize);
  WriteRecord(absl::MakeSpan(memory), Spec(), Counters());
  const auto record = ReadRecord(OfVersion(3, memory));
  ASSERT_OK(record);
  EXPECT_EQ(EncodeSpec(record->spec), EncodeSpec(Spec()));
  EXPECT_EQ(record->counters.next_child, 17u);
  EXPECT_EQ(record->counters.restarts, Counters().restarts);
  EXPECT_EQ(record->counters.children.size(), 2u);
  EXPECT_TRUE(record->counters.stopping);
  EXPECT_TRUE(record->counters.recovery_us.empty());
  EXPECT_EQ(record->counters.last_exit.cause, "");
}

// The record lies in the store: it is changed where it is, by a launcher that
// may die at any moment.
TEST(InstanceRecord, TheVersionsBeforeAreUpdatedAsTheyAre) {
  std::vector<uint8_t> memory(kRecordSize);
  WriteRecord(absl::MakeSpan(memory), Spec(), Counters());
  for (const uint8_t version : {3, 4, 5}) {
    std::vector<uint8_t> old = OfVersion(version, memory);
    RecordCounters counters = Counters();
    counters.next_child = 99;
    counters.backend.lives = {{7, 4321, 99, 1000}};
    UpdateRecord(absl::MakeSpan(old), counters);
    const auto record = ReadRecord(old);
    ASSERT_OK(record);
    EXPECT_EQ(old[4], version);
    EXPECT_EQ(EncodeSpec(record->spec), EncodeSpec(Spec()));
    EXPECT_EQ(record->counters.next_child, 99u);
    EXPECT_EQ(record->counters.backend.lives.empty(), version < 5);
  }
}

TEST(InstanceRecord, OtherVersionsAreRefusedAndLeftAlone) {
  std::vector<uint8_t> memory(kRecordSize);
  WriteRecord(absl::MakeSpan(memory), Spec(), Counters());
  for (int version : {0, 1, 2, 7, 255}) {
    std::vector<uint8_t> other = memory;
    other[4] = static_cast<uint8_t>(version);
    EXPECT_THAT(ReadRecord(other),
                StatusIs(absl::StatusCode::kDataLoss, ::testing::_));
    const std::vector<uint8_t> before = other;
    UpdateRecord(absl::MakeSpan(other), RecordCounters());
    EXPECT_EQ(other, before) << version;
  }
}

TEST(InstanceRecord, EveryShorterRecordIsRefused) {
  std::vector<uint8_t> memory(kRecordSize);
  WriteRecord(absl::MakeSpan(memory), Spec(), Counters());
  for (size_t size = 0; size < kRecordSize; size += 37) {
    EXPECT_THAT(ReadRecord(absl::MakeConstSpan(memory).first(size)),
                StatusIs(absl::StatusCode::kDataLoss, ::testing::_));
  }
}

TEST(InstanceRecord, ANameWithoutAnEndIsCut) {
  std::vector<uint8_t> memory(kRecordSize);
  RecordCounters counters = Counters();
  counters.last_exit.cause = std::string(500, 'x');
  counters.restarts = {{std::string(500, 'y'), 1}};
  WriteRecord(absl::MakeSpan(memory), Spec(), counters);
  const auto record = ReadRecord(memory);
  ASSERT_OK(record);
  EXPECT_EQ(record->counters.last_exit.cause, std::string(kMaxCauseName, 'x'));
  EXPECT_EQ(record->counters.restarts[0].first,
            std::string(kMaxCauseName, 'y'));
}

TEST(InstanceRecord, AChildWithoutANumberOrAProcessIsNone) {
  std::vector<uint8_t> memory(kRecordSize);
  RecordCounters counters;
  counters.children = {{0, 4000}, {15, 0}, {16, -1}, {17, 4001}};
  WriteRecord(absl::MakeSpan(memory), Spec(), counters);
  const auto record = ReadRecord(memory);
  ASSERT_OK(record);
  ASSERT_EQ(record->counters.children.size(), 1u);
  EXPECT_EQ(record->counters.children[0].number, 17u);
}

TEST(InstanceRecord, MedianIsOfTheLastRecoveries) {
  RecordCounters counters;
  EXPECT_EQ(MedianRecovery(counters), 0u);
  for (uint64_t us : {50, 70, 1000000}) CountRecovery(counters, us);
  EXPECT_EQ(MedianRecovery(counters), 70u);
  EXPECT_EQ(counters.last_recovery_us, 1000000u);
  for (size_t i = 0; i < kMaxRecordedRecoveries; ++i) {
    CountRecovery(counters, 60);
  }
  EXPECT_EQ(counters.recovery_us.size(), kMaxRecordedRecoveries);
  EXPECT_EQ(MedianRecovery(counters), 60u);
  EXPECT_EQ(counters.recoveries, 3 + kMaxRecordedRecoveries);
  EXPECT_EQ(counters.max_recovery_us, 1000000u);
  CountRecovery(counters, UINT64_MAX);
  EXPECT_EQ(counters.recovery_us.back(), UINT32_MAX);
}

TEST(InstanceRecord, ACountThatIsNoneReadsNothingBeyondItsTable) {
  std::vector<uint8_t> memory(kRecordSize);
  RecordCounters counters;
  counters.recovery_us = {0x12345678};
  WriteRecord(absl::MakeSpan(memory), Spec(), counters);
  // The count stands behind the table, whose first entry is that number.
  size_t at = 0;
  uint32_t word = 0;
  while (word != 0x12345678) std::memcpy(&word, &memory[at += 4], sizeof(word));
  std::memset(&memory[at + 4 * kMaxRecordedRecoveries], 0xff, 4);
  const auto record = ReadRecord(memory);
  ASSERT_OK(record);
  EXPECT_EQ(record->counters.recovery_us.size(), kMaxRecordedRecoveries);
}

TEST(InstanceRecord, CausesBeyondTheTableAreCountedTogether) {
  std::vector<CauseCount> restarts;
  for (int i = 0; i < 20; ++i) {
    CountCause(restarts, "exit status " + std::to_string(i));
  }
  EXPECT_EQ(restarts.size(), kMaxCauses);
  EXPECT_EQ(restarts.back(), CauseCount("other", 13));
  CountCause(restarts, "exit status 0");
  EXPECT_EQ(restarts.front().second, 2u);
}

}  // namespace
}  // namespace holdfast::launcher
