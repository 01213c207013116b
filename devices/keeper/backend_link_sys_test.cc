#include "devices/keeper/backend_link_sys.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <thread>
#include <utility>
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
using ::testing::HasSubstr;
using vhost_user::BytesOf;
using vhost_user::RawMessage;
using vhost_user::RequestType;

constexpr uint32_t kReply = vhost_user::kVersion | vhost_user::kFlagReply;

std::vector<uint8_t> Number(RequestType type, uint64_t value) {
  return RawMessage(static_cast<uint32_t>(type), kReply, sizeof(value),
                    BytesOf(value));
}

// The test is the back-end: what it is going to say is in the socket already.
class LinkTest : public ::testing::Test {
 protected:
  LinkTest() : link_(BorrowedFd(-1)) {
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    ours_ = UniqueFd(pair[0]);
    theirs_ = UniqueFd(pair[1]);
    link_ = BackendLink(BorrowedFd(ours_));
  }
  void Say(const std::vector<uint8_t>& bytes) {
    EXPECT_EQ(write(theirs_.get(), bytes.data(), bytes.size()),
              static_cast<ssize_t>(bytes.size()));
  }
  absl::StatusOr<vhost_user::Request> Hear() {
    std::vector<uint8_t> bytes(sizeof(vhost_user::MessageHeader));
    Take(bytes, 0);
    const auto size = vhost_user::MessageSize(bytes);
    if (!size.ok()) return size.status();
    const size_t head = bytes.size();
    bytes.resize(*size);
    Take(bytes, head);
    return vhost_user::Parse(bytes);
  }
  void Take(std::vector<uint8_t>& bytes, size_t from) {
    if (from == bytes.size()) return;
    EXPECT_EQ(recv(theirs_.get(), bytes.data() + from, bytes.size() - from,
                   MSG_DONTWAIT),
              static_cast<ssize_t>(bytes.size() - from));
  }
  // Three commands, none of which was acknowledged yet.
  void SayThreeAhead() {
    link_.SetAcknowledges(true);
    for (const RequestType type : kThree) {
      ASSERT_OK(link_.CommandAhead(type, BytesOf(uint64_t{0})));
    }
  }
  static constexpr RequestType kThree[] = {RequestType::kSetFeatures,
                                           RequestType::kSetStatus,
                                           RequestType::kSetVringErr};

  UniqueFd ours_;
  UniqueFd theirs_;
  BackendLink link_;
};

TEST_F(LinkTest, AQuestionIsAnswered) {
  Say(Number(RequestType::kGetQueueNum, 4));
  const auto answer = link_.Ask(RequestType::kGetQueueNum);
  ASSERT_OK(answer);
  EXPECT_EQ(answer->value, 4u);
  const auto heard = Hear();
  ASSERT_OK(heard);
  EXPECT_EQ(heard->type, RequestType::kGetQueueNum);
}

TEST_F(LinkTest, AnAnswerMayComeInPieces) {
  const std::vector<uint8_t> whole = Number(RequestType::kGetFeatures, 0x123);
  std::thread slow([&] {
    for (const uint8_t byte : whole) {
      Say({byte});
      usleep(100);
    }
  });
  const auto answer = link_.Ask(RequestType::kGetFeatures);
  slow.join();
  ASSERT_OK(answer);
  EXPECT_EQ(answer->value, 0x123u);
}

TEST_F(LinkTest, ACommandAsksForAnAcknowledgementWhereThereIsOne) {
  EXPECT_OK(link_.Command(RequestType::kSetOwner));
  auto heard = Hear();
  ASSERT_OK(heard);
  EXPECT_FALSE(heard->need_reply);
  link_.SetAcknowledges(true);
  Say(Number(RequestType::kSetOwner, 0));
  EXPECT_OK(link_.Command(RequestType::kSetOwner));
  heard = Hear();
  ASSERT_OK(heard);
  EXPECT_TRUE(heard->need_reply);
  Say(Number(RequestType::kSetOwner, 9));
  EXPECT_THAT(link_.Command(RequestType::kSetOwner),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("with 9")));
}

// Without acknowledgements one question shows that all before it were taken.
TEST_F(LinkTest, SyncAsksWhereNothingIsAcknowledged) {
  Say(Number(RequestType::kGetFeatures, 1));
  EXPECT_OK(link_.Sync());
  EXPECT_OK(Hear());
  link_.SetAcknowledges(true);
  EXPECT_OK(link_.Sync());
  pollfd silent = {theirs_.get(), POLLIN, 0};
  EXPECT_EQ(poll(&silent, 1, 0), 0);
}

TEST_F(LinkTest, ALogIsAnsweredInAnyCase) {
  Say(Number(RequestType::kSetLogBase, 77));
  EXPECT_OK(link_.Command(RequestType::kSetLogBase,
                          BytesOf(vhost_user::LogDescription{4096, 0})));
}

TEST_F(LinkTest, DescriptorsGoWithTheRequest) {
  const UniqueFd file(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int fd = file.get();
  EXPECT_OK(link_.Command(RequestType::kSetVringKick, BytesOf(uint64_t{0}),
                          {&fd, 1}));
  uint8_t bytes[64];
  UniqueFd arrived[2];
  const Received got = ReceiveFds(theirs_, absl::MakeSpan(bytes), arrived, 0);
  EXPECT_GT(got.size, 0);
  EXPECT_EQ(got.fd_count, 1u);
}

TEST_F(LinkTest, CommandsGoAheadOfTheirAcknowledgements) {
  SayThreeAhead();
  for (const RequestType type : kThree) {
    const auto heard = Hear();
    ASSERT_OK(heard);
    EXPECT_EQ(heard->type, type);
    EXPECT_TRUE(heard->need_reply);
    Say(Number(type, 0));
  }
  EXPECT_OK(link_.Collect());
  EXPECT_FALSE(link_.IsOver());
}

TEST_F(LinkTest, ARefusalInTheMiddleIsNamed) {
  SayThreeAhead();
  Say(Number(kThree[0], 0));
  Say(Number(kThree[1], 7));
  Say(Number(kThree[2], 0));
  EXPECT_THAT(link_.Collect(),
              StatusIs(absl::StatusCode::kAborted,
                       HasSubstr("refuses SET_STATUS with 7")));
}

TEST_F(LinkTest, AcknowledgementsComeInOrder) {
  SayThreeAhead();
  Say(Number(kThree[1], 0));
  EXPECT_THAT(link_.Collect(), StatusIs(absl::StatusCode::kInvalidArgument, _));
}

TEST_F(LinkTest, OneAcknowledgementTooManyIsNotTaken) {
  SayThreeAhead();
  for (const RequestType type : kThree) Say(Number(type, 0));
  Say(Number(kThree[2], 0));
  EXPECT_OK(link_.Collect());
  EXPECT_TRUE(link_.IsOver());
}

// What is not read must fit into the sockets, however much there is to say.
TEST_F(LinkTest, OnlySoManyCommandsGoAhead) {
  link_.SetAcknowledges(true);
  link_.SetPatience(1);
  for (size_t i = 0; i < BackendLink::kMostAhead; ++i) {
    ASSERT_OK(link_.CommandAhead(RequestType::kSetOwner));
  }
  EXPECT_THAT(link_.CommandAhead(RequestType::kSetOwner),
              StatusIs(absl::StatusCode::kDeadlineExceeded, _));
}

TEST_F(LinkTest, NonsenseIsAnError) {
  Say(Number(RequestType::kGetQueueNum, 4));
  EXPECT_THAT(link_.Ask(RequestType::kGetFeatures),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
}

// Descriptors that nobody has asked for are closed, and the answer counts.
TEST_F(LinkTest, DescriptorsWithAnAnswerAreDropped) {
  const std::vector<uint8_t> answer = Number(RequestType::kGetQueueNum, 4);
  const UniqueFd file(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const std::vector<int> flood(8, file.get());
  ASSERT_GT(SendFds(theirs_, answer, flood, 0), 0);
  const UniqueFd before(open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_OK(link_.Ask(RequestType::kGetQueueNum));
  const UniqueFd after(open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(after.get(), before.get() + 1);
}

TEST_F(LinkTest, TheEndIsAnError) {
  Say({1, 2, 3});
  theirs_.Reset();
  EXPECT_FALSE(link_.Ask(RequestType::kGetFeatures).ok());
}

TEST_F(LinkTest, WhoClosesOrSpeaksUnaskedIsOver) {
  EXPECT_FALSE(link_.IsOver());
  Say({1});
  EXPECT_TRUE(link_.IsOver());
}

}  // namespace
}  // namespace holdfast::keeper
