#include "devices/keeper/backend_requests_sys.h"

#include <sys/eventfd.h>
#include <sys/socket.h>

#include <vector>

#include "base/testing/matchers.h"
#include "base/unix_socket_sys.h"
#include "devices/vhost_user/codec.h"
#include "devices/vhost_user/testing/message_builder.h"
#include "gtest/gtest.h"

namespace holdfast::keeper {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::_;
using vhost_user::BackendRequestType;

constexpr uint32_t kConfigChange =
    static_cast<uint32_t>(BackendRequestType::kConfigChange);

class BackendRequestsTest : public ::testing::Test {
 protected:
  BackendRequestsTest() {
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    ours_ = UniqueFd(pair[0]);
    theirs_ = UniqueFd(pair[1]);
  }
  void Say(const std::vector<uint8_t>& bytes, absl::Span<const int> fds = {}) {
    ASSERT_EQ(SendFds(theirs_, bytes, fds, 0),
              static_cast<ssize_t>(bytes.size()));
  }

  absl::StatusOr<vhost_user::BackendRequest> Take() {
    const auto request = PeekBackendRequest(ours_);
    if (request.ok()) DropBackendRequest(ours_, *request);
    return request;
  }

  UniqueFd ours_;
  UniqueFd theirs_;
};

TEST_F(BackendRequestsTest, NothingIsNotWaitedFor) {
  EXPECT_THAT(Take(), StatusIs(absl::StatusCode::kUnavailable, _));
}

TEST_F(BackendRequestsTest, OneAfterTheOther) {
  Say(vhost_user::RawMessage(kConfigChange, vhost_user::kVersion, 0, {}));
  Say(vhost_user::RawMessage(
      7, vhost_user::kVersion | vhost_user::kFlagNeedReply, 4, {1, 2, 3, 4}));
  const auto first = Take();
  ASSERT_OK(first);
  EXPECT_EQ(first->type, BackendRequestType::kConfigChange);
  EXPECT_FALSE(first->need_reply);
  const auto second = Take();
  ASSERT_OK(second);
  EXPECT_EQ(static_cast<uint32_t>(second->type), 7u);
  EXPECT_TRUE(second->need_reply);
  EXPECT_THAT(Take(), StatusIs(absl::StatusCode::kUnavailable, _));
}

TEST_F(BackendRequestsTest, OneThatIsNotTakenIsFoundAgain) {
  Say(vhost_user::RawMessage(kConfigChange, vhost_user::kVersion, 0, {}));
  EXPECT_OK(PeekBackendRequest(ours_));
  EXPECT_OK(Take());
  EXPECT_THAT(Take(), StatusIs(absl::StatusCode::kUnavailable, _));
}

TEST_F(BackendRequestsTest, DescriptorsAreClosed) {
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  const UniqueFd before(dup(ours_.get()));
  const int next = before.get() + 1;
  const int fd = event.get();
  Say(vhost_user::RawMessage(kConfigChange, vhost_user::kVersion, 0, {}),
      {&fd, 1});
  EXPECT_OK(Take());
  const UniqueFd after(dup(ours_.get()));
  EXPECT_EQ(after.get(), next);
}

TEST_F(BackendRequestsTest, PiecesAreNotWaitedFor) {
  Say({1, 2, 3});
  EXPECT_THAT(Take(), StatusIs(absl::StatusCode::kInvalidArgument, _));
}

TEST_F(BackendRequestsTest, AMissingPayloadIsNotWaitedFor) {
  Say(vhost_user::RawMessage(kConfigChange, vhost_user::kVersion, 8, {}));
  EXPECT_THAT(Take(), StatusIs(absl::StatusCode::kInvalidArgument, _));
}

TEST_F(BackendRequestsTest, AHugeOneIsRefused) {
  Say(vhost_user::RawMessage(kConfigChange, vhost_user::kVersion, 1u << 30,
                             {}));
  EXPECT_THAT(Take(), StatusIs(absl::StatusCode::kInvalidArgument, _));
}

TEST_F(BackendRequestsTest, AClosedChannelIsNotSilence) {
  theirs_.Reset();
  EXPECT_THAT(Take(), StatusIs(absl::StatusCode::kCancelled, _));
}

TEST_F(BackendRequestsTest, TheAnswerIsAReplyToTheSameRequest) {
  const vhost_user::BackendRequest request{BackendRequestType::kConfigChange,
                                           true, 12};
  for (const bool success : {true, false}) {
    ASSERT_OK(AnswerBackendRequest(ours_, request, success));
    uint8_t bytes[64];
    const Received received =
        ReceiveFds(theirs_, absl::MakeSpan(bytes), {}, MSG_DONTWAIT);
    const std::vector<uint8_t> got(bytes, bytes + received.size);
    EXPECT_EQ(
        got,
        vhost_user::RawMessage(
            kConfigChange, vhost_user::kVersion | vhost_user::kFlagReply, 8,
            {uint8_t{success ? uint8_t{0} : uint8_t{1}}, 0, 0, 0, 0, 0, 0, 0}));
  }
}

// A back-end that asks and does not read is not waited for either.
TEST_F(BackendRequestsTest, AnAnswerIsNotWaitedToBeRead) {
  const vhost_user::BackendRequest request{BackendRequestType::kConfigChange,
                                           true, 12};
  absl::Status status;
  for (int i = 0; i < 1 << 20 && status.ok(); ++i) {
    status = AnswerBackendRequest(ours_, request, true);
  }
  EXPECT_FALSE(status.ok());
}

}  // namespace
}  // namespace holdfast::keeper
