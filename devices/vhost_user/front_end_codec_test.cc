#include "devices/vhost_user/front_end_codec.h"

#include <cstring>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/vhost_user/codec.h"
#include "devices/vhost_user/testing/message_builder.h"
#include "gtest/gtest.h"

namespace holdfast::vhost_user {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::_;
using ::testing::HasSubstr;

constexpr uint32_t kReply = kVersion | kFlagReply;

std::vector<uint8_t> Reply(RequestType type,
                           const std::vector<uint8_t>& payload) {
  return RawMessage(static_cast<uint32_t>(type), kReply,
                    static_cast<uint32_t>(payload.size()), payload);
}

TEST(FrontEndCodec, WhatIsSentIsUnderstood) {
  uint8_t bytes[64];
  const std::vector<uint8_t> payload = BytesOf(VringState{3, 128});
  const auto size =
      EncodeRequest(RequestType::kSetVringNum,
                    /*need_reply=*/true, payload, absl::MakeSpan(bytes));
  ASSERT_OK(size);
  const auto request = Parse({bytes, *size});
  ASSERT_OK(request);
  EXPECT_EQ(request->type, RequestType::kSetVringNum);
  EXPECT_TRUE(request->need_reply);
  EXPECT_EQ(request->vring.index, 3u);
  EXPECT_EQ(request->vring.num, 128u);
}

TEST(FrontEndCodec, ARequestMustFit) {
  uint8_t bytes[16];
  const std::vector<uint8_t> payload(5);
  EXPECT_THAT(EncodeRequest(RequestType::kSetOwner, false, payload,
                            absl::MakeSpan(bytes)),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
}

TEST(FrontEndCodec, ANumberIsRead) {
  const auto answer =
      ParseAnswer(RequestType::kGetFeatures, false,
                  Reply(RequestType::kGetFeatures, BytesOf(uint64_t{42})));
  ASSERT_OK(answer);
  EXPECT_EQ(answer->value, 42u);
}

TEST(FrontEndCodec, ABaseIsRead) {
  const auto answer = ParseAnswer(
      RequestType::kGetVringBase, false,
      Reply(RequestType::kGetVringBase, BytesOf(VringState{1, 99})));
  ASSERT_OK(answer);
  EXPECT_EQ(answer->vring.num, 99u);
}

TEST(FrontEndCodec, AnAcknowledgementIsANumberWhateverTheRequest) {
  const auto answer =
      ParseAnswer(RequestType::kSetMemTable, true,
                  Reply(RequestType::kSetMemTable, BytesOf(uint64_t{1})));
  ASSERT_OK(answer);
  EXPECT_EQ(answer->value, 1u);
}

TEST(FrontEndCodec, ConfigurationSpaceIsRead) {
  std::vector<uint8_t> payload = BytesOf(ConfigHeader{0, 4, 0});
  payload.insert(payload.end(), {1, 2, 3, 4});
  const auto answer = ParseAnswer(RequestType::kGetConfig, false,
                                  Reply(RequestType::kGetConfig, payload));
  ASSERT_OK(answer);
  EXPECT_EQ(answer->config.size, 4u);
  EXPECT_EQ(answer->config_bytes[3], 4);
}

// libvhost-user sends nothing, others the bytes and that there are none.
TEST(FrontEndCodec, ABackEndMayHaveNoSuchBytes) {
  EXPECT_OK(ParseAnswer(RequestType::kGetConfig, false,
                        Reply(RequestType::kGetConfig, {})));
  std::vector<uint8_t> payload = BytesOf(ConfigHeader{0, 0, 0});
  for (const size_t rest : {0u, 60u}) {
    payload.resize(sizeof(ConfigHeader) + rest);
    const auto answer = ParseAnswer(RequestType::kGetConfig, false,
                                    Reply(RequestType::kGetConfig, payload));
    ASSERT_OK(answer);
    EXPECT_EQ(answer->config.size, 0u);
  }
}

TEST(FrontEndCodec, LiesAboutSizesAreRefused) {
  std::vector<uint8_t> payload = BytesOf(ConfigHeader{0, 200, 0});
  EXPECT_THAT(ParseAnswer(RequestType::kGetConfig, false,
                          Reply(RequestType::kGetConfig, payload)),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
  payload = BytesOf(ConfigHeader{0, 4000, 0});
  payload.resize(4012);
  EXPECT_THAT(ParseAnswer(RequestType::kGetConfig, false,
                          Reply(RequestType::kGetConfig, payload)),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_THAT(ParseAnswer(RequestType::kGetFeatures, false,
                          Reply(RequestType::kGetFeatures, {1, 2})),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_THAT(ParseAnswer(RequestType::kGetVringBase, false,
                          Reply(RequestType::kGetVringBase, {})),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
}

TEST(FrontEndCodec, OnlyTheReplyThatWasAskedForIsOne) {
  EXPECT_THAT(
      AnswerSize(RequestType::kGetFeatures,
                 Reply(RequestType::kGetQueueNum, BytesOf(uint64_t{1}))),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("GET_QUEUE_NUM")));
  EXPECT_THAT(AnswerSize(RequestType::kGetFeatures,
                         RawMessage(1, kVersion, 8, BytesOf(uint64_t{1}))),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_THAT(AnswerSize(RequestType::kGetFeatures,
                         RawMessage(1, kReply, 1u << 30, {})),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_THAT(AnswerSize(RequestType::kGetFeatures, {}),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
}

TEST(FrontEndCodec, ARequestOfTheBackEndIsNamed) {
  const auto request =
      ParseBackendRequest(RawMessage(2, kVersion | kFlagNeedReply, 0, {}));
  ASSERT_OK(request);
  EXPECT_EQ(request->type, BackendRequestType::kConfigChange);
  EXPECT_TRUE(request->need_reply);
  EXPECT_THAT(ParseBackendRequest(RawMessage(2, kVersion, 8, {})),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
}

}  // namespace
}  // namespace holdfast::vhost_user
