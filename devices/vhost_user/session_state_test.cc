#include "devices/vhost_user/session_state.h"

#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/vhost_user/message.h"
#include "gtest/gtest.h"

namespace holdfast::vhost_user {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;

std::vector<char> ReadGolden(const std::string& name) {
  std::ifstream file("devices/vhost_user/golden/" + name, std::ios::binary);
  EXPECT_TRUE(file.good()) << name;
  return {std::istreambuf_iterator<char>(file), {}};
}

// The state that golden/session_state_v1.bin holds. The file was written from
// the offsets of the format, not by this program.
SessionState Example() {
  SessionState s{};
  s.version = 1;
  s.owned = 1;
  s.features_acked = 1;
  s.status = 0x0f;
  s.backend_request = 32;
  s.features = 0x170000ff0 | kFeatureProtocolFeatures;
  s.protocol_features = 0x1b22b;
  s.log = {0x1000, 0x2000, 33, 34, {}};
  s.inflight = {0x10c0, 0x40, 2, 128, 35, {}};
  s.regions[0] = {0, 0x80000000, 0x7f0000000000, 0, 36, {}};
  s.regions[1] = {0x100000000, 0x40000000, 0x7f0080000000, 0x80000000, 37, {}};
  QueueState& running = s.queues[0];
  running.descriptor = 0x7f0000001000;
  running.used = 0x7f0000003000;
  running.available = 0x7f0000002000;
  running.log_address = 0x3000;
  running.address_flags = kVringFlagLog;
  running.num = 128;
  running.base = 0xfffe;
  running.kick = 38;
  running.call = 39;
  running.err = 40;
  running.has_address = running.enabled = running.started = running.settled = 1;
  QueueState& waiting = s.queues[1];
  waiting.num = 64;
  waiting.base = 7;
  waiting.call = kSlotPolled;
  waiting.enabled = waiting.adopted = 1;
  return s;
}

TEST(SessionState, GoldenImageIsStillWhatWeWriteAndRead) {
  const std::vector<char> golden = ReadGolden("session_state_v1.bin");
  ASSERT_EQ(golden.size(), sizeof(SessionState));
  const SessionState example = Example();
  const char* bytes = reinterpret_cast<const char*>(&example);
  for (size_t i = 0; i < golden.size(); ++i) {
    ASSERT_EQ(golden[i], bytes[i]) << "the layout has moved at byte " << i;
  }
  SessionState read;
  std::memcpy(&read, golden.data(), sizeof(read));
  EXPECT_OK(CheckInvariants(read));
}

TEST(SessionState, DescriptionIsForPeople) {
  const std::vector<char> golden = ReadGolden("session_state_v1.txt");
  EXPECT_EQ(Describe(Example()), std::string(golden.begin(), golden.end()));
  EXPECT_EQ(Describe(SessionState{}), "no vhost-user session\n");
}

TEST(SessionState, ReferencedSlotsAreAllSlotsOfTheState) {
  const SlotBitmap bitmap = ReferencedSlots(Example());
  EXPECT_EQ(bitmap[0], 0x1ffull << 32);
  EXPECT_EQ(bitmap[1], 0u);
  EXPECT_EQ(bitmap[2], 0u);
  EXPECT_EQ(ReferencedSlots(SessionState{}), SlotBitmap{});

  SessionState last{};
  last.backend_request = store::kSlotEndSession - 1;
  EXPECT_EQ(ReferencedSlots(last)[2], 1ull << 63);
}

TEST(SessionState, QueuesRunWhenStartedEnabledAndMapped) {
  SessionState state = Example();
  EXPECT_TRUE(QueueRuns(state, 0));
  state.queues[0].enabled = 0;
  EXPECT_FALSE(QueueRuns(state, 0));
  state = Example();
  state.queues[0].started = 0;
  EXPECT_FALSE(QueueRuns(state, 0));
  state = Example();
  state.regions[0].size = 0x3000;  // The used ring is beyond it.
  EXPECT_TRUE(state.queues[0].started);
  EXPECT_FALSE(QueueRuns(state, 0));
  EXPECT_FALSE(QueueRuns(Example(), 1));
}

TEST(SessionState, TheTwoStatesThatMustBeFineAre) {
  EXPECT_OK(CheckInvariants(SessionState{}));
  EXPECT_OK(CheckInvariants(Example()));
}

TEST(SessionState, EachBreachIsFoundAndNamed) {
  using Change = std::function<void(SessionState&)>;
  const struct {
    const char* what;
    Change change;
  } kRows[] = {
      {"no version, but content", [](auto& s) { s.version = 0; }},
      {"version 2, this program", [](auto& s) { s.version = 2; }},
      {"a flag is neither", [](auto& s) { s.owned = 2; }},
      {"a flag is neither", [](auto& s) { s.features_acked = 2; }},
      {"a flag is neither", [](auto& s) { s.reserved0 = 1; }},
      {"never acknowledged", [](auto& s) { s.features_acked = 0; }},
      {"slot 31 is out of", [](auto& s) { s.backend_request = 31; }},
      {"slot 192 is out of", [](auto& s) { s.backend_request = 192; }},
      {"slot 1 is out of", [](auto& s) { s.queues[15].call = 1; }},
      {"slot 33 is used twice", [](auto& s) { s.backend_request = 33; }},
      {"slot 36 is used twice", [](auto& s) { s.regions[1].slot = 36; }},
      {"slot 39 is used twice", [](auto& s) { s.queues[0].err = 39; }},
      {"missing", [](auto& s) { s.backend_request = kSlotPolled; }},
      {"missing", [](auto& s) { s.log.event = kSlotPolled; }},
      {"missing", [](auto& s) { s.inflight.slot = kSlotPolled; }},
      {"region is polled", [](auto& s) { s.regions[0].slot = kSlotPolled; }},
      {"region 0 has no", [](auto& s) { s.regions[0].slot = 0; }},
      {"region 1 follows", [](auto& s) { s.regions[0] = {}; }},
      {"region 5 follows", [](auto& s) { s.regions[5].slot = 99; }},
      {"region 0 wraps", [](auto& s) { s.regions[0].guest_address = ~0ull; }},
      {"region 1 wraps", [](auto& s) { s.regions[1].user_address = ~0ull; }},
      {"region 1 wraps", [](auto& s) { s.regions[1].mmap_offset = ~0ull; }},
      {"0 and 1 overlap", [](auto& s) { s.regions[1].guest_address = 5; }},
      {"0 and 1 overlap",
       [](auto& s) { s.regions[1].user_address = 0x7f007fffffff; }},
      {"descriptor or a size", [](auto& s) { s.log.slot = 0; }},
      {"descriptor or a size", [](auto& s) { s.log.size = 0; }},
      {"log wraps", [](auto& s) { s.log.offset = ~0ull; }},
      {"log has a reserved", [](auto& s) { s.log.reserved[3] = 1; }},
      {"has no descriptor", [](auto& s) { s.inflight.slot = 0; }},
      {"for 17 queues", [](auto& s) { s.inflight.queue_count = 17; }},
      {"for 0 queues", [](auto& s) { s.inflight.queue_count = 0; }},
      {"queues of 0", [](auto& s) { s.inflight.queue_size = 0; }},
      {"impossible size", [](auto& s) { s.inflight.size = 0x107f; }},
      {"impossible size", [](auto& s) { s.inflight.offset = ~0ull; }},
      {"in-flight region has a reserved",
       [](auto& s) { s.inflight.reserved[0] = 1; }},
      {"queue 0 has a flag", [](auto& s) { s.queues[0].started = 2; }},
      {"queue 0 has a flag", [](auto& s) { s.queues[0].settled = 2; }},
      {"queue 1 has a flag", [](auto& s) { s.queues[1].enabled = 255; }},
      {"queue 0 has 127", [](auto& s) { s.queues[0].num = 127; }},
      {"queue 1 has 65536", [](auto& s) { s.queues[1].num = 65536; }},
      {"never given", [](auto& s) { s.queues[1].used = 1; }},
      {"never given", [](auto& s) { s.queues[1].address_flags = 1; }},
      {"queue 1 is polled", [](auto& s) { s.queues[1].kick = kSlotPolled; }},
      {"queue 0 is started", [](auto& s) { s.queues[0].kick = 0; }},
      {"queue 0 is started", [](auto& s) { s.queues[0].num = 0; }},
      {"queue 1 is started",
       [](auto& s) {
         s.queues[1].adopted = 0;
         s.queues[1].started = s.queues[1].settled = 1;
       }},
      {"not settled", [](auto& s) { s.queues[0].settled = 0; }},
      {"out of place", [](auto& s) { s.queues[0].adopted = 1; }},
      {"out of place", [](auto& s) { s.queues[2].adopted = 1; }},
      {"queue 15 has a reserved",
       [](auto& s) { s.queues[15].reserved[8] = 1; }},
  };
  for (const auto& row : kRows) {
    SessionState state = Example();
    row.change(state);
    EXPECT_THAT(CheckInvariants(state),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr(row.what)));
  }
}

TEST(SessionState, AnyBytesMayBePassed) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 20000; ++i) {
    SessionState state = Example();
    auto* bytes = reinterpret_cast<uint8_t*>(&state);
    const int edits = i % 100 == 0 ? 4000 : 1 + i % 5;
    for (int k = 0; k < edits; ++k) {
      bytes[random() % sizeof(state)] = static_cast<uint8_t>(random());
    }
    const absl::Status status = CheckInvariants(state);
    const std::string text = Describe(state);
    EXPECT_LT(text.size(), 20000u);
    for (size_t q = 0; q < kMaxQueues; ++q) {
      QueueRuns(state, q);
      TrackedInHandedOverRegion(state, q);
    }
    if (status.ok()) {
      for (const uint64_t word : ReferencedSlots(state)) (void)word;
    }
  }
}

}  // namespace
}  // namespace holdfast::vhost_user
