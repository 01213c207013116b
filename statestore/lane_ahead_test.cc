// The lane that reads ahead: what it leaves in the socket, when it takes that
// out, and how it goes on with a lane of version 1, which left nothing.
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "base/crc32c.h"
#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/lane.h"
#include "statestore/lane_format.h"
#include "statestore/lane_journal.h"
#include "statestore/testing/lane_fixture_sys.h"
#include "statestore/testing/lane_toy.h"

namespace holdfast {
namespace {

using ::holdfast::testing::ForwardingIo;
using ::holdfast::testing::IsOkAndHolds;
using ::holdfast::testing::LaneTest;
using ::holdfast::testing::StatusIs;
using ::holdfast::testing::ToyBank;
using ::holdfast::testing::ToyExpectedReply;
using ::holdfast::testing::ToyHandler;
using ::holdfast::testing::ToyMessage;
using ::holdfast::testing::ToyReply;
using ::testing::_;

constexpr auto kIdle = Lane::Progress::kIdle;
constexpr auto kClosed = Lane::Progress::kClosed;
constexpr auto kAny = Lane::Waiting::kAny;
constexpr auto kLevel = Lane::Waiting::kLevel;
constexpr auto kEdge = Lane::Waiting::kEdge;

class LaneAheadTest : public LaneTest {
 protected:
  // One request and its reply.
  void Exchange(Lane& lane, const std::vector<uint8_t>& message,
                Lane::Waiting waiting = kEdge) {
    ToyHandler handler = NewHandler();
    Send(message);
    EXPECT_THAT(lane.Run(server_, handler, waiting), IsOkAndHolds(kIdle));
    EXPECT_EQ(handler.executions, 1u);
    EXPECT_EQ(Receive(), Expected(message));
  }

  // Bytes in the receive queue of the server, as the kernel counts them.
  size_t InSocket() {
    std::vector<uint8_t> bytes(1 << 16);
    const int offset = PeekOffset();
    SetPeekOffset(0);
    const ssize_t n = recv(server_.get(), bytes.data(), bytes.size(),
                           MSG_PEEK | MSG_DONTWAIT);
    SetPeekOffset(offset);
    return n < 0 ? 0 : n;
  }
  int PeekOffset() {
    int offset = -1;
    socklen_t size = sizeof(offset);
    getsockopt(server_.get(), SOL_SOCKET, SO_PEEK_OFF, &offset, &size);
    return offset;
  }
  void SetPeekOffset(int offset) {
    setsockopt(server_.get(), SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof(offset));
  }
};

TEST_F(LaneAheadTest, LeavesExecutedBytesAndTakesThemTogether) {
  auto lane = Attach();
  ASSERT_OK(lane);
  size_t most = 0, taken = 0;
  for (uint32_t id = 1; id <= 100; ++id) {
    Exchange(*lane, Message(id));
    EXPECT_EQ(InSocket(), lane->unread());
    most = std::max(most, lane->unread());
    taken += lane->unread() == 0;
  }
  EXPECT_EQ(most, 5u * 24);
  EXPECT_EQ(taken, 100u / 6);
  EXPECT_OK(lane->Settle(server_));
  EXPECT_EQ(InSocket(), 0u);
  EXPECT_EQ(lane->unread(), 0u);
  Exchange(*lane, Message(101));
  EXPECT_EQ(lane->sequence(), 101u);
}

TEST_F(LaneAheadTest, LeavesNothingWhenNotWaitedForEdges) {
  for (const Lane::Waiting waiting : {kAny, kLevel}) {
    auto lane = Attach();
    ASSERT_OK(lane);
    Exchange(*lane, Message(1), waiting);
    EXPECT_EQ(InSocket(), 0u);
    pollfd readable{server_.get(), POLLIN, 0};
    EXPECT_EQ(poll(&readable, 1, 0), 0);
  }
}

TEST_F(LaneAheadTest, OneLookServesManyRequests) {
  class Counting : public ForwardingIo {
   public:
    using ForwardingIo::ForwardingIo;
    absl::StatusOr<Peeked> Peek(absl::Span<uint8_t> into) override {
      ++looks;
      return ForwardingIo::Peek(into);
    }
    absl::Status SetPeekOffset(size_t offset) override {
      ++moves;
      return ForwardingIo::SetPeekOffset(offset);
    }
    absl::StatusOr<Taken> Receive(LaneEntry& entry, LaneVector& vector,
                                  absl::Span<uint8_t> into) override {
      ++takes;
      return ForwardingIo::Receive(entry, vector, into);
    }
    int looks = 0, moves = 0, takes = 0;
  } io(server_);
  auto lane = Attach();
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  std::vector<uint8_t> expected;
  for (uint32_t id = 1; id <= 20; ++id) {
    const auto message = Message(id, 40);
    Send(message);
    const auto reply = Expected(message);
    expected.insert(expected.end(), reply.begin(), reply.end());
  }
  EXPECT_THAT(lane->RunOn(io, handler, kEdge), IsOkAndHolds(kIdle));
  EXPECT_EQ(Receive(), expected);
  EXPECT_EQ(io.looks, 1);
  EXPECT_EQ(io.takes, 1);
  EXPECT_EQ(io.moves, 1);  // A new process.
  const auto message = Message(21);
  Send(message);
  EXPECT_THAT(lane->RunOn(io, handler, kEdge), IsOkAndHolds(kIdle));
  EXPECT_EQ(Receive(), Expected(message));
  EXPECT_EQ(io.looks, 2);
  EXPECT_EQ(io.takes, 1);
  EXPECT_EQ(io.moves, 1);
}

TEST_F(LaneAheadTest, ASuccessorBeginsBehindWhatIsExecuted) {
  for (uint32_t id = 1; id <= 30; ++id) {
    auto lane = Attach(id);
    ASSERT_OK(lane);
    SetPeekOffset(0);
    Exchange(*lane, Message(id, 24 + id % 3));
  }
}

// The control: that offset is what it hangs on.
TEST_F(LaneAheadTest, WithoutTheOffsetASuccessorWouldExecuteAgain) {
  auto lane = Attach(1);
  ASSERT_OK(lane);
  Exchange(*lane, Message(1));
  class Forgetful : public ForwardingIo {
   public:
    using ForwardingIo::ForwardingIo;
    absl::Status SetPeekOffset(size_t) override {
      return ForwardingIo::SetPeekOffset(0);
    }
  } io(server_);
  auto successor = Attach(2);
  ASSERT_OK(successor);
  ToyHandler handler = NewHandler();
  // Later there is nothing to settle, which is noticed, but too late.
  EXPECT_THAT(successor->RunOn(io, handler),
              StatusIs(absl::StatusCode::kDataLoss, _));
  EXPECT_EQ(handler.executions, 1u);
}

TEST_F(LaneAheadTest, DescriptorsAndPartsComeAfterWhatIsLeft) {
  auto lane = Attach();
  ASSERT_OK(lane);
  Exchange(*lane, Message(1));
  EXPECT_NE(lane->unread(), 0u);
  ToyHandler handler = NewHandler();
  const auto with_fds = Message(2, 50, 60, /*fds=*/2);
  Send(with_fds, {gift_.get(), gift_.get()});
  EXPECT_THAT(lane->Run(server_, handler, kEdge), IsOkAndHolds(kIdle));
  EXPECT_EQ(Receive(), Expected(with_fds));
  EXPECT_EQ(handler.escrows, 1u);
  EXPECT_EQ(lane->unread(), 0u);

  Exchange(*lane, Message(3));
  EXPECT_NE(lane->unread(), 0u);
  const auto parts = Message(4, 100);
  for (size_t i = 0; i < parts.size(); ++i) {
    Send(absl::MakeSpan(parts).subspan(i, 1));
    EXPECT_THAT(lane->Run(server_, handler, kEdge), IsOkAndHolds(kIdle));
    EXPECT_EQ(lane->unread(), i + 1 == parts.size() ? 1u : 0u);
  }
  EXPECT_EQ(Receive(), Expected(parts));
}

TEST_F(LaneAheadTest, APeerWithTheSmallestBufferIsNeverHeldUp) {
  const int smallest = 1;
  setsockopt(client_.get(), SOL_SOCKET, SO_SNDBUF, &smallest, sizeof(smallest));
  auto lane = Attach();
  ASSERT_OK(lane);
  for (uint32_t id = 1; id <= 200; ++id) {
    const auto message = Message(id, 24 + id * 37 % 900);
    ASSERT_EQ(send(client_.get(), message.data(), message.size(), MSG_DONTWAIT),
              static_cast<ssize_t>(message.size()));
    ToyHandler handler = NewHandler();
    EXPECT_THAT(lane->Run(server_, handler, kEdge), IsOkAndHolds(kIdle));
    EXPECT_EQ(Receive(), Expected(message));
  }
}

// Such a one, sending what it has before it reads. It waits in its send until a
// quarter of its buffer is in use; executed bytes must not fill that.
TEST_F(LaneAheadTest, APeerThatWaitsForRoomGetsItAfterAPause) {
  const int smallest = 1;
  setsockopt(client_.get(), SOL_SOCKET, SO_SNDBUF, &smallest, sizeof(smallest));
  auto lane = Attach();
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  pollfd room{client_.get(), POLLOUT, 0};
  for (uint32_t id = 1; id <= 3; ++id) {
    Send(Message(id));
    EXPECT_THAT(lane->Run(server_, handler, kEdge), IsOkAndHolds(kIdle));
  }
  EXPECT_EQ(poll(&room, 1, 0), 0);
  EXPECT_NE(lane->unread(), 0u);
  EXPECT_OK(lane->Settle(server_));
  EXPECT_EQ(poll(&room, 1, 0), 1);
}

// Before it reads the reply, that is: executed bytes must not fill its buffer
// while the lane waits. (Requests that are not executed may: a peer that sends
// without reading whatever comes back has nobody to wait for.)
TEST_F(LaneAheadTest, AReplyThatMustWaitLetsThePeerSend) {
  const int smallest = 1;
  setsockopt(client_.get(), SOL_SOCKET, SO_SNDBUF, &smallest, sizeof(smallest));
  setsockopt(server_.get(), SOL_SOCKET, SO_SNDBUF, &smallest, sizeof(smallest));
  auto lane = Attach();
  ASSERT_OK(lane);
  pollfd room{client_.get(), POLLOUT, 0};
  for (uint32_t id = 1; id <= 3; ++id) Exchange(*lane, Message(id));
  EXPECT_EQ(poll(&room, 1, 0), 0);
  const auto large = Message(4, 24, 20000), last = Message(5);
  std::vector<uint8_t> expected = Expected(large);
  const auto last_reply = Expected(last);
  expected.insert(expected.end(), last_reply.begin(), last_reply.end());
  Send(large);

  std::vector<uint8_t> replies(expected.size());
  std::thread peer([&] {
    constexpr int kForeverMs = 10000;
    EXPECT_EQ(poll(&room, 1, kForeverMs), 1) << "the lane keeps the room";
    Send(last);
    recv(client_.get(), replies.data(), replies.size(), MSG_WAITALL);
  });
  ToyHandler handler = NewHandler();
  pollfd readable{server_.get(), POLLIN, 0};
  while (lane->sequence() < 5) {
    poll(&readable, 1, -1);
    ASSERT_THAT(lane->Run(server_, handler, kLevel), IsOkAndHolds(kIdle));
  }
  peer.join();
  EXPECT_EQ(replies, expected);
}

// What the peer sees at the end of the stream.
TEST_F(LaneAheadTest, ClosingAfterSettlingIsAnEndAndNotAnError) {
  for (const bool settle : {true, false}) {
    Connect();
    auto lane = Attach();
    ASSERT_OK(lane);
    ASSERT_OK(lane->ResetConnection());
    model_ = ToyBank{};
    Exchange(*lane, Message(1));
    EXPECT_NE(lane->unread(), 0u);
    if (settle) {
      EXPECT_OK(lane->Settle(server_));
    }
    server_.Reset();
    char byte;
    EXPECT_EQ(recv(client_.get(), &byte, 1, MSG_DONTWAIT), settle ? 0 : -1);
    if (!settle) {
      EXPECT_EQ(errno, ECONNRESET);
    }
  }
}

TEST_F(LaneAheadTest, RunHasSettledWhenTheConnectionIsOver) {
  auto lane = Attach();
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  Exchange(*lane, Message(1));
  Send(Message(2));
  shutdown(client_.get(), SHUT_WR);
  EXPECT_THAT(lane->Run(server_, handler, kAny), IsOkAndHolds(kClosed));
  EXPECT_EQ(lane->unread(), 0u);

  Connect();
  ASSERT_OK(lane->ResetConnection());
  model_ = ToyBank{};
  Exchange(*lane, Message(1));
  Send(Message(2, 24, 48, 0, testing::kToyBadRequest));
  EXPECT_THAT(lane->Run(server_, handler, kEdge),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_EQ(lane->unread(), 0u);
}

TEST_F(LaneAheadTest, RefusesAJournalThatLeavesTooMuch) {
  ASSERT_OK(Attach());
  LaneRecord& record = header().records[0];
  const auto set_unread = [&](size_t bytes) {
    record.flags = PackUnread(bytes);
    record.crc = LaneSum(record, {mapping_.data() + sizeof(LaneHeader),
                                  testing::kToySizes.bank});
  };
  set_unread(kLaneMaxUnread);
  EXPECT_OK(Attach());
  set_unread(kLaneMaxUnread + 1);
  EXPECT_THAT(Attach(), StatusIs(absl::StatusCode::kDataLoss, _));
}

TEST_F(LaneAheadTest, RefusesASocketWithoutTheBytesThatItLeft) {
  auto lane = Attach(1);
  ASSERT_OK(lane);
  Exchange(*lane, Message(1));
  Connect();  // And no ResetConnection.
  auto successor = Attach(2);
  ASSERT_OK(successor);
  ToyHandler handler = NewHandler();
  EXPECT_THAT(successor->Run(server_, handler),
              StatusIs(absl::StatusCode::kDataLoss, _));
}

// ---- Version 1 ----

constexpr LaneSizes kGoldenSizes{64, 512, 512};

// A lane as version 1 left it, with the connection that belongs to it: three
// requests were answered; of the fourth, of 60 bytes, 40 were received, or else
// 30 bytes of its reply were sent.
class LaneV1Test : public LaneAheadTest {
 protected:
  absl::Span<uint8_t> Load(const std::string& name) {
    std::ifstream file("statestore/golden/lane/" + name, std::ios::binary);
    const std::vector<char> image{std::istreambuf_iterator<char>(file),
                                  std::istreambuf_iterator<char>()};
    EXPECT_EQ(image.size(), sizeof(section_));
    std::copy(image.begin(), image.end(), section_);
    for (uint32_t id = 1; id <= 3; ++id) {
      (void)Expected(ToyMessage({24 + 10 * id, id, 56, 0, 0, id * 17}));
    }
    return absl::MakeSpan(section_);
  }
  uint32_t version() const {
    uint32_t value;
    std::memcpy(&value, section_ + 8, sizeof(value));
    return value;
  }

  alignas(4096) uint8_t section_[LaneSize(kGoldenSizes)];
  const std::vector<uint8_t> fourth_ = ToyMessage({60, 4, 100, 0, 0, 68});
};

TEST_F(LaneV1Test, GoesOnReceiving) {
  auto lane = Lane::Attach(Load("v1_receiving.bin"), kGoldenSizes, 6);
  ASSERT_OK(lane);
  EXPECT_EQ(lane->sequence(), 3u);
  ToyHandler handler = NewHandler();
  EXPECT_THAT(lane->Run(server_, handler, kEdge), IsOkAndHolds(kIdle));
  Send(absl::MakeSpan(fourth_).subspan(40));
  EXPECT_THAT(lane->Run(server_, handler, kEdge), IsOkAndHolds(kIdle));
  EXPECT_EQ(Receive(), Expected(fourth_));
}

TEST_F(LaneV1Test, GoesOnReplying) {
  auto lane = Lane::Attach(Load("v1_replying.bin"), kGoldenSizes, 6);
  ASSERT_OK(lane);
  EXPECT_EQ(lane->sequence(), 4u);
  ToyHandler handler = NewHandler();
  EXPECT_THAT(lane->Run(server_, handler, kEdge), IsOkAndHolds(kIdle));
  EXPECT_EQ(handler.executions, 0u);
  auto expected = Expected(fourth_);
  expected.erase(expected.begin(), expected.begin() + 30);
  EXPECT_EQ(Receive(), expected);
}

// So that the version before can still take it back.
TEST_F(LaneV1Test, StaysVersion1UntilTheConnectionEnds) {
  auto lane = Lane::Attach(Load("v1_receiving.bin"), kGoldenSizes, 6);
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  Send(absl::MakeSpan(fourth_).subspan(40));
  EXPECT_THAT(lane->Run(server_, handler, kEdge), IsOkAndHolds(kIdle));
  EXPECT_EQ(Receive(), Expected(fourth_));
  for (uint32_t id = 5; id < 30; ++id) {
    Exchange(*lane, Message(id, 24 + id));
    EXPECT_EQ(InSocket(), 0u);
    EXPECT_EQ(lane->unread(), 0u);
  }
  EXPECT_EQ(version(), 1u);
  const auto& header = *reinterpret_cast<const LaneHeader*>(section_);
  for (const LaneRecord& record : header.records) EXPECT_EQ(record.flags, 0u);

  ASSERT_OK(lane->ResetConnection());
  EXPECT_EQ(version(), 2u);
  Connect();
  model_ = ToyBank{};
  Exchange(*lane, Message(1));
  EXPECT_EQ(lane->unread(), 24u);
  ASSERT_OK(Lane::Attach(absl::MakeSpan(section_), kGoldenSizes, 7));
}

TEST_F(LaneV1Test, FinishesAChangeOfVersionThatWasCut) {
  auto lane = Lane::Attach(Load("v1_receiving.bin"), kGoldenSizes, 6);
  ASSERT_OK(lane);
  ASSERT_OK(lane->ResetConnection());
  const uint32_t second = 1;
  uint32_t crc = Crc32c({section_, 32});
  std::memcpy(section_ + 8, &second, sizeof(second));
  const uint32_t old_crc = Crc32c({section_, 32});
  // After the first store, and after none.
  for (const uint32_t version : {2, 1}) {
    std::memcpy(section_ + 8, &version, sizeof(version));
    std::memcpy(section_ + 32, &old_crc, sizeof(old_crc));
    EXPECT_OK(Lane::Attach(absl::MakeSpan(section_), kGoldenSizes, 6));
  }
  const uint32_t third = 3;
  std::memcpy(section_ + 8, &third, sizeof(third));
  EXPECT_THAT(Lane::Attach(absl::MakeSpan(section_), kGoldenSizes, 6),
              StatusIs(absl::StatusCode::kDataLoss, _));
  crc = Crc32c({section_, 32});
  std::memcpy(section_ + 32, &crc, sizeof(crc));
  EXPECT_THAT(Lane::Attach(absl::MakeSpan(section_), kGoldenSizes, 6),
              StatusIs(absl::StatusCode::kFailedPrecondition, _));
}

}  // namespace
}  // namespace holdfast
