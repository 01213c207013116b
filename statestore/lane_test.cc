#include "statestore/lane.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/crc32c.h"
#include "base/testing/matchers.h"
#include "base/unix_socket_sys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/lane_format.h"
#include "statestore/lane_sys.h"
#include "statestore/testing/lane_fixture_sys.h"
#include "statestore/testing/lane_toy.h"

namespace holdfast {
namespace {

using ::holdfast::testing::IsOkAndHolds;
using ::holdfast::testing::kToySizes;
using ::holdfast::testing::kToyWantsFd;
using ::holdfast::testing::LaneTest;
using ::holdfast::testing::StatusIs;
using ::holdfast::testing::ToyAdvance;
using ::holdfast::testing::ToyBank;
using ::holdfast::testing::ToyEscrow;
using ::holdfast::testing::ToyExpectedReply;
using ::holdfast::testing::ToyHandler;
using ::holdfast::testing::ToyMessage;
using ::holdfast::testing::ToyReply;
using ::holdfast::testing::ToyRequest;
using ::testing::_;
using ::testing::HasSubstr;

constexpr auto kIdle = Lane::Progress::kIdle;
constexpr auto kClosed = Lane::Progress::kClosed;

TEST_F(LaneTest, AnswersARequest) {
  auto lane = Attach();
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  const auto message = Message(1);
  Send(message);
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  EXPECT_EQ(Receive(), Expected(message));
  EXPECT_EQ(lane->sequence(), 1u);
  EXPECT_EQ(handler.executions, 1u);
  EXPECT_EQ(handler.commits_seen, 1u);
}

TEST_F(LaneTest, AnswersQueuedRequestsInOrder) {
  auto lane = Attach();
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  std::vector<uint8_t> stream, expected;
  for (uint32_t id = 1; id <= 200; ++id) {
    const auto message = Message(id, 24 + id % 90, id % 7 == 0 ? 0 : 48 + id);
    const auto reply = Expected(message);
    stream.insert(stream.end(), message.begin(), message.end());
    expected.insert(expected.end(), reply.begin(), reply.end());
  }
  Send(stream);
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  EXPECT_EQ(Receive(), expected);
  EXPECT_EQ(lane->sequence(), 200u);
}

TEST_F(LaneTest, AcceptsAMessageByteByByteAndSuccessorsGoOn) {
  const auto message = Message(1, 60);
  for (size_t i = 0; i < message.size(); ++i) {
    auto lane = Attach(i);  // Every byte meets a new incarnation.
    ASSERT_OK(lane);
    ToyHandler handler = NewHandler();
    Send(absl::MakeSpan(message).subspan(i, 1));
    EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
    EXPECT_EQ(handler.executions, i + 1 == message.size() ? 1u : 0u);
  }
  EXPECT_EQ(Receive(), Expected(message));
}

TEST_F(LaneTest, HeaderWithoutTheRestIsIdle) {
  auto lane = Attach();
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  const auto message = Message(1, 100);
  Send(absl::MakeSpan(message).first(24));
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  EXPECT_EQ(handler.executions, 0u);
  client_.Reset();
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kClosed));
}

TEST_F(LaneTest, EscrowsDescriptorsBeforeConsumption) {
  auto lane = Attach();
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  const auto message = Message(7, 100, 48, /*fds=*/2);
  Send(message, {gift_.get(), gift_.get()});
  const int before = OpenDescriptors();
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  EXPECT_EQ(OpenDescriptors(), before);
  EXPECT_EQ(Receive(), Expected(message));
  const auto escrowed = Escrowed();
  ASSERT_EQ(escrowed.size(), 1u);
  EXPECT_EQ(escrowed[0].id, 7u);
  EXPECT_EQ(escrowed[0].fd_count, 2u);
}

TEST_F(LaneTest, DescriptorsGoToTheirMessageOnly) {
  auto lane = Attach();
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  std::vector<uint8_t> expected;
  for (uint32_t id = 1; id <= 9; ++id) {
    const uint16_t fds = id % 3;
    const auto message = Message(id, 24 + id, 48, fds);
    Send(message, std::vector<int>(fds, gift_.get()));
    const auto reply = Expected(message);
    expected.insert(expected.end(), reply.begin(), reply.end());
  }
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  EXPECT_EQ(Receive(), expected);
  const auto escrowed = Escrowed();
  ASSERT_EQ(escrowed.size(), 6u);
  for (const ToyEscrow& note : escrowed) {
    EXPECT_EQ(note.fd_count, note.id % 3) << note.id;
  }
}

TEST_F(LaneTest, OnePieceWithTwoMessagesMayNotCarryDescriptors) {
  auto lane = Attach();
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  auto both = Message(1, 40);
  const auto second = Message(2, 40);
  both.insert(both.end(), second.begin(), second.end());
  Send(both, {gift_.get()});
  EXPECT_THAT(lane->Run(server_, handler),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("bytes of two messages")));
  EXPECT_EQ(handler.executions, 0u);
}

TEST_F(LaneTest, APieceThatEndsInTheNextMessageKeepsEarlierDescriptors) {
  auto lane = Attach();
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  const auto first = Message(1, 60, 48, /*fds=*/1);
  const auto second = Message(2, 60);
  Send(absl::MakeSpan(first).first(30), {gift_.get()});
  std::vector<uint8_t> rest(first.begin() + 30, first.end());
  rest.insert(rest.end(), second.begin(), second.end());
  Send(rest);
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  auto expected = Expected(first);
  const auto more = Expected(second);
  expected.insert(expected.end(), more.begin(), more.end());
  EXPECT_EQ(Receive(), expected);
  EXPECT_EQ(handler.escrows, 1u);
}

TEST_F(LaneTest, WaitsForThePayloadBeforeItTakesDescriptors) {
  auto lane = Attach();
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  const auto message = Message(3, 100, 48, /*fds=*/1);
  Send(absl::MakeSpan(message).first(1), {gift_.get()});
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  Send(absl::MakeSpan(message).subspan(1, 30));
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  EXPECT_EQ(handler.escrows, 0u);
  Send(absl::MakeSpan(message).subspan(31));
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  EXPECT_EQ(handler.escrows, 1u);
  EXPECT_EQ(Receive(), Expected(message));
}

TEST_F(LaneTest, CollectsDescriptorsThatComeInPieces) {
  auto lane = Attach();
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  const auto message = Message(3, 100, 48, /*fds=*/3);
  const auto bytes = absl::MakeSpan(message);
  Send(bytes.first(1));  // Consumed before any descriptor is in sight.
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  Send(bytes.subspan(1, 30), {gift_.get()});
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  Send(bytes.subspan(31, 60), {gift_.get(), gift_.get()});
  Send(bytes.subspan(91));
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  EXPECT_EQ(Receive(), Expected(message));
  EXPECT_EQ(handler.escrows, 1u);
}

TEST_F(LaneTest, SendsDescriptorsWithTheReply) {
  auto lane = Attach();
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  const auto message = Message(1, 24, 48, 0, kToyWantsFd);
  Send(message);
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  std::vector<uint8_t> reply(100);
  ReceivedFds fds;
  auto got = ReceiveWithFds(client_, absl::MakeSpan(reply), fds);
  ASSERT_OK(got);
  reply.resize(got->size);
  EXPECT_EQ(reply, Expected(message));
  EXPECT_EQ(fds.count, 1u);
}

TEST_F(LaneTest, WaitsUntilALargeReplyFits) {
  auto lane = Attach();
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  const int small = 4096;
  setsockopt(server_.get(), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
  const auto message = Message(1, 24, 300 * 1024);
  const auto expected = Expected(message);
  Send(message);
  std::vector<uint8_t> reply(expected.size());
  std::thread reader(
      [&] { recv(client_.get(), reply.data(), reply.size(), MSG_WAITALL); });
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  reader.join();
  EXPECT_EQ(reply, expected);
}

TEST_F(LaneTest, ServesWhatWasSentBeforeThePeerClosed) {
  auto lane = Attach();
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  Send(Message(1, 24, 0));
  Send(Message(2, 24, 0));
  client_.Reset();
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kClosed));
  EXPECT_EQ(handler.executions, 2u);
}

TEST_F(LaneTest, APeerThatLeavesRepliesUnreadIsClosedNotAnError) {
  auto lane = Attach();
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  Send(Message(1));
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  Send(Message(2, 24, 0));
  client_.Reset();
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kClosed));
  EXPECT_EQ(handler.executions, 2u);
}

TEST_F(LaneTest, RefusesImpossibleSizes) {
  for (const uint32_t size : {0u, 23u, 4097u, 0xffffffffu}) {
    auto lane = Attach();
    ASSERT_OK(lane);
    ToyHandler handler = NewHandler();
    auto message = Message(1);
    std::memcpy(message.data(), &size, sizeof(size));
    Send(message);
    EXPECT_THAT(
        lane->Run(server_, handler),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("size")));
    EXPECT_OK(lane->ResetConnection());
    Connect();
  }
}

TEST_F(LaneTest, ResetForgetsEverythingAndServesTheNextConnection) {
  auto lane = Attach();
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  const auto message = Message(1);
  Send(message);
  Send(absl::MakeSpan(message).first(5));
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  Connect();
  EXPECT_OK(lane->ResetConnection());
  EXPECT_OK(lane->ResetConnection());
  EXPECT_EQ(lane->sequence(), 0u);
  EXPECT_EQ(std::count(lane->bank().begin(), lane->bank().end(), 0), 256);
  Send(message);
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  EXPECT_EQ(Receive(), Expected(message));
}

TEST_F(LaneTest, AnOvertakenEpochCannotCommit) {
  auto old = Attach(1);
  ASSERT_OK(old);
  auto successor = Attach(2);
  ASSERT_OK(successor);
  ToyHandler handler = NewHandler();
  Send(Message(1));
  EXPECT_THAT(old->Run(server_, handler),
              StatusIs(absl::StatusCode::kAborted, _));
  EXPECT_THAT(old->ResetConnection(), StatusIs(absl::StatusCode::kAborted, _));
  EXPECT_EQ(successor->sequence(), 0u);
  EXPECT_THAT(Attach(1), StatusIs(absl::StatusCode::kFailedPrecondition, _));
}

TEST_F(LaneTest, CountsAttemptsAcrossIncarnations) {
  const auto message = Message(1);
  Send(message);
  for (uint32_t attempt = 1; attempt <= 3; ++attempt) {
    // An incarnation that dies while it executes: it never commits.
    auto doomed = Attach(2 * attempt);
    ASSERT_OK(doomed);
    class Dies : public ToyHandler {
     public:
      using ToyHandler::ToyHandler;
      absl::StatusOr<Outcome> Execute(absl::Span<const uint8_t>, size_t,
                                      absl::Span<const uint8_t>,
                                      absl::Span<uint8_t> new_bank,
                                      absl::Span<uint8_t>,
                                      uint32_t attempts) override {
        last_attempts = attempts;
        new_bank[0] = 0xee;
        return absl::InternalError("died");
      }
    } handler(store_, gift_);
    EXPECT_FALSE(doomed->Run(server_, handler).ok());
    EXPECT_EQ(handler.last_attempts, attempt);
  }
  auto lane = Attach(9);
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  EXPECT_EQ(handler.last_attempts, 4u);
  EXPECT_EQ(Receive(), Expected(message));
  Send(message);
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  EXPECT_EQ(handler.last_attempts, 1u);
}

// docs/lane-format.md, byte by byte: a layout that moves needs a new version.
TEST(LaneFormat, IsWhatTheDocumentSays) {
  alignas(4096) static uint8_t section[LaneSize({100, 1000, 5000})] = {};
  ASSERT_OK(Lane::Attach(absl::MakeSpan(section), {100, 1000, 5000}, 7));
  const auto word = [](size_t at) {
    uint32_t value;
    std::memcpy(&value, section + at, sizeof(value));
    return value;
  };
  EXPECT_EQ(std::string(section, section + 8), "!HfLane1");
  EXPECT_EQ(word(8), 2u);
  EXPECT_EQ(word(12), 100u);
  EXPECT_EQ(word(16), 1000u);
  EXPECT_EQ(word(20), 5000u);
  EXPECT_EQ(word(24), sizeof(section));
  EXPECT_EQ(word(32), Crc32c({section, 32}));
  EXPECT_EQ(word(64), 0x80000000u);
  EXPECT_EQ(word(68), 7u);
  EXPECT_EQ(word(128 + 16),
            Crc32cExtend(Crc32c({section + 128, 16}), {section + 1536, 100}));
  for (size_t entry = 0; entry < 4; ++entry) {
    EXPECT_EQ(word(256 + 64 * entry + 56), 0xffffffffu);
    EXPECT_EQ(word(896 + 64 * entry + 56), 0xffffffffu);
  }
  EXPECT_EQ(Crc32c(section), 2834499246u) << "the whole image";
  // A new lane of version 1 differs in nothing else, and the sum of a header
  // with its sum is always the same.
  section[8] = 1;
  const uint32_t crc = Crc32c({section, 32});
  std::memcpy(section + 32, &crc, sizeof(crc));
  EXPECT_EQ(Crc32c(section), 2834499246u) << "the whole image of version 1";
}

TEST_F(LaneTest, FinishesAFormatThatWasCut) {
  ASSERT_OK(Attach());
  header().commit = 0;
  header().crc = 0;
  EXPECT_OK(Attach());
}

TEST_F(LaneTest, DoesNotFormatWhatHoldsState) {
  auto lane = Attach();
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  Send(Message(1));
  EXPECT_THAT(lane->Run(server_, handler), IsOkAndHolds(kIdle));
  header().commit = 0;
  EXPECT_THAT(Attach(), StatusIs(absl::StatusCode::kDataLoss, _));
}

TEST_F(LaneTest, RefusesOtherSizesAndDamage) {
  ASSERT_OK(Attach());
  LaneSizes other = kToySizes;
  other.bank -= 8;
  other.max_message += 64;
  ASSERT_EQ(LaneSize(other), mapping_.size());
  EXPECT_THAT(Lane::Attach(mapping_.span(), other, 1),
              StatusIs(absl::StatusCode::kFailedPrecondition, _));
  const LaneWord word = UnpackLaneWord(header().commit);
  mapping_.data()[LayOutLane(256, 4096, 300 * 1024).bank[word.bank] + 100] ^= 1;
  EXPECT_THAT(Attach(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("bank damaged")));
  header().magic ^= 1;
  EXPECT_THAT(Attach(), StatusIs(absl::StatusCode::kDataLoss,
                                 HasSubstr("header damaged")));
  EXPECT_THAT(Lane::Attach(mapping_.span().first(4096), kToySizes, 1),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
}

TEST_F(LaneTest, AWildWriteToTheBankStopsTheNextRequest) {
  auto lane = Attach();
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  mapping_.data()[LayOutLane(256, 4096, 300 * 1024).bank[0]] ^= 1;
  Send(Message(1));
  EXPECT_THAT(lane->Run(server_, handler),
              StatusIs(absl::StatusCode::kDataLoss, _));
  EXPECT_EQ(handler.executions, 0u);
}

// The kernel consumed, but its count did not reach the journal (the page was
// not locked when the kill came): the peek offset is the second witness.
TEST_F(LaneTest, TheSocketRemembersWhatTheJournalLost) {
  const auto message = Message(1, 80);
  // Part of a message, then an executed one.
  for (const size_t size : {30, 50}) {
    auto lane = Attach();
    ASSERT_OK(lane);
    ToyHandler handler = NewHandler();
    Send(absl::MakeSpan(message).subspan(size == 30 ? 0 : 30, size));
    EXPECT_THAT(lane->Run(server_, handler, Lane::Waiting::kLevel),
                IsOkAndHolds(kIdle));
    EXPECT_EQ(handler.executions, size == 30 ? 0u : 1u);
    LaneRxSet& set = header().rx[UnpackLaneWord(header().commit).rx];
    ASSERT_EQ(set.entries[0].length, size);
    set.entries[0].length = kLaneArmed;
  }
  auto successor = Attach(2);
  ASSERT_OK(successor);
  ToyHandler handler = NewHandler();
  Send(message);
  EXPECT_THAT(successor->Run(server_, handler), IsOkAndHolds(kIdle));
  auto expected = Expected(message);
  const auto second = Expected(message);
  expected.insert(expected.end(), second.begin(), second.end());
  EXPECT_EQ(Receive(), expected);
}

TEST_F(LaneTest, ASocketThatTheJournalDoesNotKnowIsRefused) {
  auto first = Attach(1);
  ASSERT_OK(first);
  ToyHandler handler = NewHandler();
  const auto message = Message(1);
  Send(absl::MakeSpan(message).first(10));
  EXPECT_THAT(first->Run(server_, handler), IsOkAndHolds(kIdle));
  // Killed between look and consumption.
  header().rx[0].witness = uint64_t{14} << 32 | 10;
  Connect();  // And no ResetConnection.
  auto successor = Attach(2);
  ASSERT_OK(successor);
  EXPECT_THAT(successor->Run(server_, handler),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("socket")));
}

TEST_F(LaneTest, AnErrorOfTheHandlerEndsTheConnection) {
  auto lane = Attach();
  ASSERT_OK(lane);
  ToyHandler handler = NewHandler();
  Send(Message(1, 24, 48, 0, testing::kToyBadRequest));
  EXPECT_THAT(lane->Run(server_, handler),
              StatusIs(absl::StatusCode::kInvalidArgument, "toy: bad request"));
  EXPECT_EQ(lane->sequence(), 0u);
}

}  // namespace
}  // namespace holdfast
