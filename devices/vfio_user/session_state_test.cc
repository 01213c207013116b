#include "devices/vfio_user/session_state.h"

#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/vfio_user/message.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::vfio_user {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::_;
using ::testing::HasSubstr;

struct Sample {
  SessionState state{};
  std::vector<WindowState> table = std::vector<WindowState>(kMaxWindows);

  absl::Status Check() const { return CheckInvariants(state, table); }
  void AddWindow(size_t i, uint64_t address, uint64_t size, store::Slot slot) {
    WindowState& window = table[i];
    window = WindowState{};
    window.address = address;
    window.size = size;
    window.slot = slot;
    window.access = 3;
    window.crc = WindowCrc(window);
    state.windows[i / 64] |= uint64_t{1} << (i % 64);
  }
};

Sample Good() {
  Sample sample;
  sample.state.version = kSessionStateVersion;
  sample.state.negotiated = 1;
  sample.state.max_transfer = 1 << 20;
  sample.state.vectors[0] = {40, 41, 42, 1, 0};
  sample.state.vectors[95].trigger = 191;
  sample.AddWindow(0, 0x1000, 0x1000, 32);
  sample.AddWindow(2047, 0x2000, 0x1000, 32);
  sample.AddWindow(100, 0x8000, 0x1000, 0);
  sample.state.unused_asks[0] = 0x1000;
  return sample;
}

TEST(SessionState, ZerosAndWhatIsWellFormedAreBelieved) {
  EXPECT_OK(Sample().Check());
  EXPECT_OK(Good().Check());
}

TEST(SessionState, ASecondSocketHasSlotsOfItsOwn) {
  Sample sample = Good();
  sample.state.vectors[95].trigger = 0;
  sample.state.twin_socket = 1;
  EXPECT_OK(sample.Check());
  const auto has = [&sample](store::Slot slot) {
    return (ReferencedSlots(sample.state, sample.table)[slot / 64] >>
                (slot % 64) &
            1) != 0;
  };
  EXPECT_TRUE(has(kTwinSlot));
  EXPECT_FALSE(has(kTwinClientSlot));
  sample.state.reply_region = kReplyTwin;
  EXPECT_OK(sample.Check());
  EXPECT_TRUE(has(kTwinClientSlot));
  sample.state.vectors[3].mask = kTwinClientSlot;
  EXPECT_THAT(sample.Check(), StatusIs(absl::StatusCode::kDataLoss, _));
  sample.state.vectors[3].mask = kTwinSlot;
  EXPECT_THAT(sample.Check(), StatusIs(absl::StatusCode::kDataLoss, _));
  sample.state.vectors[3].mask = 0;
  sample.state.twin_socket = 0;
  EXPECT_THAT(sample.Check(), StatusIs(absl::StatusCode::kDataLoss, _));
  sample.state.reply_region = 0;
  sample.state.version = 2;
  EXPECT_OK(sample.Check());
  sample.state.twin_socket = 1;
  EXPECT_THAT(sample.Check(), StatusIs(absl::StatusCode::kDataLoss, _));
}

TEST(SessionState, KnowsItsSlots) {
  const Sample sample = Good();
  const SlotBitmap slots = ReferencedSlots(sample.state, sample.table);
  EXPECT_EQ(slots[0], (1ull << 32) | (7ull << 40));
  EXPECT_EQ(slots[1], 0u);
  EXPECT_EQ(slots[2], 1ull << (191 - 128));
  EXPECT_EQ(WindowCount(sample.state), 3u);
}

// What is wrong, and a part of what is said about it.
struct Damage {
  const char* says;
  std::function<void(Sample&)> apply;
};

TEST(SessionState, DamageIsFoundAndNamed) {
  const std::vector<Damage> damages = {
      {"version 4", [](Sample& s) { s.state.version = 4; }},
      {"no version", [](Sample& s) { s.state.version = 0; }},
      {"flag", [](Sample& s) { s.state.negotiated = 2; }},
      {"flag", [](Sample& s) { s.state.lost = 9; }},
      {"flag", [](Sample& s) { s.state.logging = 2; }},
      {"flag", [](Sample& s) { s.state.after_kind = 3; }},
      {"flag", [](Sample& s) { s.state.migration_state = 8; }},
      {"transfers", [](Sample& s) { s.state.max_transfer = (1 << 20) + 1; }},
      {"vector 0", [](Sample& s) { s.state.vectors[0].masked = 2; }},
      {"vector 3", [](Sample& s) { s.state.vectors[3].reserved = 1; }},
      {"slot 31", [](Sample& s) { s.state.vectors[7].unmask = 31; }},
      {"slot 192", [](Sample& s) { s.state.vectors[7].mask = 192; }},
      {"slot 65535", [](Sample& s) { s.state.vectors[7].trigger = 0xffff; }},
      {"slot 40", [](Sample& s) { s.state.vectors[9].trigger = 40; }},
      {"slot 32",
       [](Sample& s) {
         s.AddWindow(5, 0, 4096, 41);
         s.AddWindow(5, 0, 4096, 32);
         s.state.vectors[5].mask = 32;
       }},
      {"slot 5", [](Sample& s) { s.AddWindow(5, 0, 4096, 5); }},
      {"slot 300", [](Sample& s) { s.AddWindow(5, 0, 4096, 300); }},
      {"damaged", [](Sample& s) { s.table[0].offset = 1; }},
      {"damaged", [](Sample& s) { s.state.windows[1] |= 1ull << 63; }},
      {"empty", [](Sample& s) { s.AddWindow(5, 0x100000, 0, 0); }},
      {"wraps", [](Sample& s) { s.AddWindow(5, ~0ull - 4094, 4097, 0); }},
      {"overlap", [](Sample& s) { s.AddWindow(5, 0x1800, 4096, 0); }},
      {"overlap", [](Sample& s) { s.AddWindow(5, 0, 0x100000, 0); }},
      {"access",
       [](Sample& s) {
         s.AddWindow(5, 0, 4096, 0);
         s.table[5].access = 4;
         s.table[5].crc = WindowCrc(s.table[5]);
       }},
  };
  for (const Damage& damage : damages) {
    Sample sample = Good();
    damage.apply(sample);
    EXPECT_THAT(sample.Check(),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr(damage.says)))
        << damage.says;
  }
}

TEST(SessionState, ATableOfAnotherSizeIsRefused) {
  Sample sample = Good();
  sample.table.pop_back();
  EXPECT_THAT(sample.Check(), StatusIs(absl::StatusCode::kDataLoss, _));
}

// A state with something in every field of version 1.
SessionState GoldenState() {
  SessionState state{};
  state.version = 1;
  state.negotiated = 1;
  state.minor = 1;
  state.unused_ask = 9;
  state.max_message_fds = 8;
  state.max_transfer = 1 << 20;
  state.accesses = 77;
  state.reply_region = 3;
  state.migration_state = 3 ^ kMigrationRunning;
  state.logging = 1;
  state.log_page_size = 4096;
  state.migrated = 60;
  state.unused_asks[0] = 0x1000;
  state.unused_asks[1] = uint64_t{11} << 48 | uint64_t{3} << 32 | 8;
  state.windows[0] = 1;
  state.windows[31] = 1ull << 63;
  state.vectors[0] = {40, 41, 42, 1, 0};
  state.vectors[95].trigger = 191;
  return state;
}

// The files were written from the offsets of the format, not by this program.
void CompareWithGolden(const std::string& name, const SessionState& state) {
  std::ifstream file("devices/vfio_user/golden/" + name, std::ios::binary);
  const std::vector<char> golden{std::istreambuf_iterator<char>(file), {}};
  ASSERT_EQ(golden.size(), sizeof(state));
  const char* bytes = reinterpret_cast<const char*>(&state);
  for (size_t i = 0; i < golden.size(); ++i) {
    ASSERT_EQ(golden[i], bytes[i]) << "the layout has moved at byte " << i;
  }
  Sample sample = Good();
  std::memcpy(&sample.state, golden.data(), golden.size());
  EXPECT_OK(sample.Check());
}

// And in every field that came with version 2.
SessionState GoldenState2() {
  SessionState state = GoldenState();
  state.version = 2;
  state.after_kind = 1;
  state.after_irq = 2;
  state.after_start = 3;
  state.after_count = 4;
  return state;
}

TEST(SessionState, GoldenImageIsStillWhatWeWrite) {
  SessionState state = GoldenState2();
  state.version = 3;
  state.twin_socket = 1;
  state.vectors[95].trigger = 189;
  CompareWithGolden("session_state_v3.bin", state);
}

TEST(SessionState, Version2IsStillRead) {
  CompareWithGolden("session_state_v2.bin", GoldenState2());
}

TEST(SessionState, Version1IsStillRead) {
  CompareWithGolden("session_state_v1.bin", GoldenState());
  Sample sample = Good();
  sample.state.version = 1;
  EXPECT_OK(sample.Check());
  sample.state.after_irq = 1;  // Was reserved.
  EXPECT_THAT(sample.Check(), StatusIs(absl::StatusCode::kDataLoss, _));
}

// Entries that do not count may hold anything: half of a window, for example.
TEST(SessionState, WhatDoesNotCountIsNotLookedAt) {
  Sample sample = Good();
  std::memset(&sample.table[9], 0xee, sizeof(WindowState));
  EXPECT_OK(sample.Check());
}

TEST(SessionState, AnyBytesAreCheckedAndDescribed) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 300; ++round) {
    Sample sample = Good();
    auto* bytes = reinterpret_cast<uint8_t*>(&sample.state);
    const size_t flips = round % 3 == 0 ? sizeof(sample.state) : 3;
    for (size_t i = 0; i < flips; ++i) {
      bytes[random() % sizeof(sample.state)] = static_cast<uint8_t>(random());
    }
    (void)CheckInvariants(sample.state, sample.table);
    (void)ReferencedSlots(sample.state, sample.table);
    EXPECT_FALSE(Describe(sample.state, sample.table).empty());
  }
}

TEST(SessionState, IsDescribedForPeople) {
  const Sample sample = Good();
  EXPECT_EQ(Describe(sample.state, sample.table),
            "vfio-user 0.0, 0 accesses, 0 descriptors and 1048576 bytes a "
            "message\n"
            "window 0: 0x1000 + 0x1000, rw, slot 32 at 0\n"
            "window 100: 0x8000 + 0x1000, rw\n"
            "window 2047: 0x2000 + 0x1000, rw, slot 32 at 0\n"
            "vector 0: trigger 40, mask 41, unmask 42, masked\n"
            "vector 95: trigger 191, mask 0, unmask 0\n");
}

}  // namespace
}  // namespace holdfast::vfio_user
