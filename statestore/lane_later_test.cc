// Messages that their handler puts off.
#include <cstdint>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/lane.h"
#include "statestore/testing/lane_fixture_sys.h"
#include "statestore/testing/lane_toy.h"

namespace holdfast {
namespace {

using ::holdfast::testing::IsOkAndHolds;
using ::holdfast::testing::LaneTest;
using ::holdfast::testing::ToyHandler;

constexpr auto kIdle = Lane::Progress::kIdle;
constexpr auto kClosed = Lane::Progress::kClosed;

// Puts every message off, `times` times each.
class PuttingOff final : public ToyHandler {
 public:
  PuttingOff(const ToyHandler& toy, int times)
      : ToyHandler(toy), times_(times), left_(times) {}

  absl::StatusOr<Outcome> Execute(absl::Span<const uint8_t> message,
                                  size_t fd_count,
                                  absl::Span<const uint8_t> old_bank,
                                  absl::Span<uint8_t> new_bank,
                                  absl::Span<uint8_t> reply,
                                  uint32_t attempts) override {
    last_attempts = attempts;
    if (left_ != 0) {
      --left_;
      // What a handler has begun to write counts for nothing.
      for (uint8_t& byte : new_bank) byte = 0xee;
      for (uint8_t& byte : reply) byte = 0xee;
      Outcome outcome;
      outcome.reply_size = 7;
      outcome.later = true;
      return outcome;
    }
    left_ = times_;
    return ToyHandler::Execute(message, fd_count, old_bank, new_bank, reply,
                               attempts);
  }

 private:
  const int times_;
  int left_;
};

class LaneLaterTest : public LaneTest,
                      public ::testing::WithParamInterface<Lane::Waiting> {
 protected:
  PuttingOff NewPuttingOff(int times) {
    return PuttingOff(NewHandler(), times);
  }
};

TEST_P(LaneLaterTest, NothingHappensUntilItIsTaken) {
  auto lane = Attach();
  ASSERT_OK(lane);
  PuttingOff handler = NewPuttingOff(3);
  const auto message = Message(1);
  Send(message);
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(lane->Run(server_, handler, GetParam()), IsOkAndHolds(kIdle));
    EXPECT_EQ(lane->sequence(), 0u);
    EXPECT_EQ(handler.commits_seen, 0u);
    EXPECT_EQ(handler.last_attempts, 1u);
  }
  EXPECT_THAT(lane->Run(server_, handler, GetParam()), IsOkAndHolds(kIdle));
  EXPECT_EQ(Receive(), Expected(message));
  EXPECT_EQ(handler.last_attempts, 1u);
}

// What came before is answered, what follows waits.
TEST_P(LaneLaterTest, TheOthersKeepTheirOrder) {
  auto lane = Attach();
  ASSERT_OK(lane);
  ToyHandler prompt = NewHandler();
  const auto before = Message(1, 60);
  Send(before);
  EXPECT_THAT(lane->Run(server_, prompt, GetParam()), IsOkAndHolds(kIdle));
  EXPECT_EQ(Receive(), Expected(before));
  PuttingOff handler = NewPuttingOff(1);
  std::vector<uint8_t> stream, expected;
  for (uint32_t id = 2; id <= 9; ++id) {
    const auto message = Message(id, 24 + id * 30, id % 3 == 0 ? 0 : 48 + id);
    const auto reply = Expected(message);
    stream.insert(stream.end(), message.begin(), message.end());
    expected.insert(expected.end(), reply.begin(), reply.end());
  }
  Send(stream);
  // Each Run takes what the last one has put off, and puts the next one off.
  for (uint64_t taken = 0; taken < 8; ++taken) {
    EXPECT_THAT(lane->Run(server_, handler, GetParam()), IsOkAndHolds(kIdle));
    EXPECT_EQ(lane->sequence(), 1 + taken);
  }
  EXPECT_THAT(lane->Run(server_, handler, GetParam()), IsOkAndHolds(kIdle));
  EXPECT_EQ(lane->sequence(), 9u);
  EXPECT_EQ(Receive(), expected);
}

TEST_P(LaneLaterTest, ASuccessorFindsItAndItsDescriptors) {
  const auto message = Message(7, 100, 48, /*fds=*/2);
  Send(message, {gift_.get(), gift_.get()});
  for (uint64_t epoch = 1; epoch <= 4; ++epoch) {
    auto lane = Attach(epoch);
    ASSERT_OK(lane);
    PuttingOff handler = NewPuttingOff(2);
    EXPECT_THAT(lane->Run(server_, handler, GetParam()), IsOkAndHolds(kIdle));
    EXPECT_THAT(lane->Run(server_, handler, GetParam()), IsOkAndHolds(kIdle));
    EXPECT_EQ(handler.last_attempts, 1u);
    EXPECT_EQ(lane->sequence(), 0u);
  }
  auto lane = Attach(5);
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  EXPECT_THAT(lane->Run(server_, handler, GetParam()), IsOkAndHolds(kIdle));
  EXPECT_EQ(Receive(), Expected(message));
  EXPECT_EQ(Escrowed().size(), 1u);
}

// A death in the handler counts, a message that was put off does not.
TEST_P(LaneLaterTest, ADeathIsStillCounted) {
  Send(Message(1));
  auto lane = Attach(1);
  ASSERT_OK(lane);
  PuttingOff handler = NewPuttingOff(1);
  EXPECT_THAT(lane->Run(server_, handler, GetParam()), IsOkAndHolds(kIdle));
  header().rx[0].attempts += 1;
  header().rx[1].attempts += 1;
  auto next = Attach(2);
  ASSERT_OK(next);
  ToyHandler taking = NewHandler();
  EXPECT_THAT(next->Run(server_, taking, GetParam()), IsOkAndHolds(kIdle));
  EXPECT_EQ(taking.last_attempts, 2u);
}

TEST_P(LaneLaterTest, AClosedConnectionIsSeenAfterIt) {
  auto lane = Attach();
  ASSERT_OK(lane);
  PuttingOff handler = NewPuttingOff(1);
  Send(Message(1, 24, 0));
  client_.Reset();
  EXPECT_THAT(lane->Run(server_, handler, GetParam()), IsOkAndHolds(kIdle));
  EXPECT_THAT(lane->Run(server_, handler, Lane::Waiting::kAny),
              IsOkAndHolds(kClosed));
  EXPECT_EQ(handler.executions, 1u);
}

INSTANTIATE_TEST_SUITE_P(Waiting, LaneLaterTest,
                         ::testing::Values(Lane::Waiting::kAny,
                                           Lane::Waiting::kLevel,
                                           Lane::Waiting::kEdge));

}  // namespace
}  // namespace holdfast
