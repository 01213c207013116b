#include "devices/vfio_user/answers.h"

#include <cerrno>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/testing/matchers.h"
#include "devices/vfio_user/testing/message_builder.h"
#include "gtest/gtest.h"

namespace holdfast::vfio_user {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::_;

// Remembers answers; waits for those with an even number.
class Listener final : public ServerEnvironment {
 public:
  struct Got {
    uint16_t id;
    uint32_t error;
    Bytes data;
  };
  std::vector<Got> got;
  std::vector<std::string> refused;

  bool Take(const Answer& answer) override {
    if (answer.id % 2 != 0) return false;
    got.push_back(
        {answer.id, answer.error, {answer.data.begin(), answer.data.end()}});
    return true;
  }
  void Refused(const absl::Status& refusal) override {
    refused.emplace_back(refusal.message());
  }

  absl::StatusOr<FileId> IdentifyFile(store::Slot) override { return FileId(); }
  absl::Status CheckFile(store::Slot, uint32_t, uint64_t, uint64_t) override {
    return absl::OkStatus();
  }
  absl::Status ReleaseWindow(const WindowState&) override {
    return absl::OkStatus();
  }
  absl::Status ResetDevice() override { return absl::OkStatus(); }
  absl::Status Escrow(store::Slot, UniqueFd) override {
    return absl::OkStatus();
  }
  void Apply(const SessionState&, ConstWindowTable) override {}
  void Do(const Afterwards&) override {}
};

class AnswerReaderTest : public ::testing::Test {
 protected:
  absl::Status Deliver(const Bytes& message, size_t fd_count = 0) {
    const auto size = reader_.MessageSize(message);
    EXPECT_OK(size);
    EXPECT_LE(*size, message.size());
    uint8_t bank[8] = {};
    uint8_t reply[8];
    const auto outcome = reader_.Execute(
        absl::MakeConstSpan(message).first(*size), fd_count, bank,
        absl::MakeSpan(bank), absl::MakeSpan(reply), /*attempts=*/1);
    if (outcome.ok()) {
      EXPECT_EQ(outcome->reply_size, 0u);
    }
    return outcome.status();
  }

  Listener listener_;
  AnswerReader reader_{listener_};
};

TEST_F(AnswerReaderTest, HandsAnswersOver) {
  const uint32_t data = 0x04030201;
  EXPECT_OK(Deliver(
      ReplyMessage(Command::kDmaRead, Join(DmaAccess{0x1000, 4}, data), 2)));
  EXPECT_OK(Deliver(ReplyMessage(Command::kDmaWrite, {}, 4)));
  EXPECT_OK(Deliver(ErrorMessage(Command::kDmaRead, EFAULT, 6)));
  ASSERT_EQ(listener_.got.size(), 3u);
  EXPECT_EQ(listener_.got[0].data, (Bytes{1, 2, 3, 4}));
  EXPECT_EQ(listener_.got[1].error, 0u);
  EXPECT_EQ(listener_.got[2].error, static_cast<uint32_t>(EFAULT));
  EXPECT_TRUE(listener_.refused.empty());
}

TEST_F(AnswerReaderTest, WhatNobodyWaitsForIsDroppedAndSaid) {
  EXPECT_OK(Deliver(ReplyMessage(Command::kDmaWrite, {}, 5)));
  EXPECT_TRUE(listener_.got.empty());
  EXPECT_EQ(listener_.refused.size(), 1u);
}

// Malformed, it counts as an error for whoever asked.
TEST_F(AnswerReaderTest, AMalformedAnswerIsAnError) {
  EXPECT_OK(Deliver(ReplyMessage(Command::kDmaRead, Bytes(7), 2)));
  EXPECT_OK(Deliver(ReplyMessage(Command::kDmaWrite, {}, 4), /*fd_count=*/1));
  ASSERT_EQ(listener_.got.size(), 2u);
  EXPECT_NE(listener_.got[0].error, 0u);
  EXPECT_NE(listener_.got[1].error, 0u);
}

TEST_F(AnswerReaderTest, WhatIsNoAnswerEndsIt) {
  EXPECT_THAT(Deliver(CommandMessage(Command::kRegionRead,
                                     Join(RegionAccess{0, 0, 4}))),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_THAT(Deliver(VersionMessage(0, 1, "{}")),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
  Bytes lost = ReplyMessage(Command::kDmaWrite, {}, 2);
  lost[4] = 3;  // Its size.
  EXPECT_THAT(Deliver(lost), StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_TRUE(listener_.got.empty());
}

}  // namespace
}  // namespace holdfast::vfio_user
