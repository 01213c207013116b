// Back-ends that lie and flood: the VMM and the keeper go on, the launcher is
// told, and the next life serves.

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#include "base/testing/matchers.h"
#include "base/unique_fd.h"
#include "base/unix_socket_sys.h"
#include "devices/keeper/testing/keeper_fixture.h"
#include "devices/vhost_user/message.h"
#include "devices/vhost_user/testing/message_builder.h"
#include "gtest/gtest.h"

namespace holdfast::keeper {
namespace {

using testing::FakeBackend;
using testing::KeeperTest;
using vhost_user::BytesOf;
using vhost_user::RawMessage;
using vhost_user::Request;
using vhost_user::RequestType;

constexpr uint32_t kReply = vhost_user::kVersion | vhost_user::kFlagReply;

void Say(BorrowedFd socket, const std::vector<uint8_t>& bytes) {
  (void)SendFds(socket, bytes, {}, MSG_DONTWAIT);
}

std::vector<uint8_t> Number(RequestType type, uint64_t value) {
  return RawMessage(static_cast<uint32_t>(type), kReply, sizeof(value),
                    BytesOf(value));
}

// What a back-end says instead of an answer to `type`.
struct Lie {
  const char* name;
  RequestType type;
  std::vector<uint8_t> words;
};

std::vector<uint8_t> LargeConfig() {
  std::vector<uint8_t> payload = BytesOf(vhost_user::ConfigHeader{0, 4000, 0});
  payload.resize(payload.size() + 4000, 0x33);
  return RawMessage(static_cast<uint32_t>(RequestType::kGetConfig), kReply,
                    static_cast<uint32_t>(payload.size()), payload);
}

const std::vector<Lie>& Lies() {
  static const auto* const lies = new std::vector<Lie>{
      {"a reply to something else", RequestType::kGetFeatures,
       Number(RequestType::kGetQueueNum, 1)},
      {"no reply but a request", RequestType::kGetFeatures,
       RawMessage(1, vhost_user::kVersion, 8, std::vector<uint8_t>(8))},
      {"a reply that is too short", RequestType::kGetFeatures,
       RawMessage(1, kReply, 4, {1, 2, 3, 4})},
      {"a reply that is said to be huge", RequestType::kGetFeatures,
       RawMessage(1, kReply, 0xffffffff, {})},
      {"another version", RequestType::kGetProtocolFeatures,
       RawMessage(15, vhost_user::kFlagReply | 2, 8, std::vector<uint8_t>(8))},
      {"no queues", RequestType::kGetQueueNum,
       Number(RequestType::kGetQueueNum, 0)},
      {"no memory", RequestType::kGetMaxMemSlots,
       Number(RequestType::kGetMaxMemSlots, 0)},
      {"more configuration space than was asked for", RequestType::kGetConfig,
       LargeConfig()},
      {"bytes of nothing", RequestType::kSetOwner,
       std::vector<uint8_t>(4096, 0xa5)},
  };
  return *lies;
}

FakeBackend::Options Lying(const Lie& lie) {
  FakeBackend::Options options;
  options.instead = [&lie](const Request& request, BorrowedFd socket) {
    if (request.type != lie.type) return false;
    Say(socket, lie.words);
    return true;
  };
  return options;
}

FakeBackend::Options WithRequests() {
  FakeBackend::Options options;
  options.protocol_features |= vhost_user::kProtocolBackendReq;
  return options;
}

const std::vector<uint8_t>& Notice() {
  static const auto* const notice =
      new std::vector<uint8_t>(RawMessage(2, vhost_user::kVersion, 0, {}));
  return *notice;
}

size_t OpenDescriptors() {
  size_t count = 0;
  for (int fd = 0; fd < 1024; ++fd) count += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  return count;
}

class HostileTest : public KeeperTest {};

// The VMM waits for one that can be believed, whatever came before.
TEST_F(HostileTest, ALiarIsGivenUpBeforeTheVmmHearsOfIt) {
  ASSERT_OK(rig_.Run());
  for (const Lie& lie : Lies()) {
    SCOPED_TRACE(lie.name);
    NewLife(Lying(lie));
    AwaitGivenUp();
  }
  FakeBackend& honest = NewLife();
  vmm_ = rig_.Connect();
  ASSERT_OK(vmm_->Start());
  EXPECT_TRUE(Whole(honest));
}

TEST_F(HostileTest, ALyingSuccessorIsGivenUpWhileTheGuestRuns) {
  FakeBackend& first = NewLife();
  Start();
  ASSERT_TRUE(Whole(first));
  first.End();
  for (const Lie& lie : Lies()) {
    SCOPED_TRACE(lie.name);
    NewLife(Lying(lie));
    AwaitGivenUp();
    // The VMM is answered meanwhile.
    EXPECT_OK(vmm_->GetConfig(0, 8));
  }
  EXPECT_TRUE(Whole(NewLife()));
}

TEST_F(HostileTest, AbsurdNumbersAreCut) {
  FakeBackend::Options options;
  options.queues = UINT64_MAX;
  options.mem_slots = UINT64_MAX;
  options.base = 0xffff0003;
  FakeBackend& life = NewLife(options);
  Start();
  ASSERT_TRUE(Whole(life));
  const auto queues = vmm_->AskNumber(RequestType::kGetQueueNum);
  ASSERT_OK(queues);
  EXPECT_LE(*queues, vhost_user::kMaxQueues);
  const auto base = vmm_->StopQueue(0);
  ASSERT_OK(base);
  EXPECT_EQ(*base, 3u);
}

TEST_F(HostileTest, AnAnswerToNothingEndsIt) {
  BorrowedFd socket(-1);
  FakeBackend::Options options;
  options.instead = [&socket](const Request&, BorrowedFd there) {
    socket = there;
    return false;
  };
  FakeBackend& life = NewLife(options);
  Start();
  ASSERT_TRUE(Whole(life));
  Say(socket, Number(RequestType::kGetFeatures, 7));
  AwaitGivenUp();
  EXPECT_TRUE(Whole(NewLife()));
}

// Those that come with its answers, and with requests of its own.
TEST_F(HostileTest, FloodsOfDescriptorsAreClosed) {
  const UniqueFd gift(eventfd(0, EFD_CLOEXEC));
  const std::vector<int> gifts(8, gift.get());
  FakeBackend::Options options = WithRequests();
  options.instead = [&gifts](const Request& request, BorrowedFd socket) {
    return request.type == RequestType::kGetQueueNum &&
           SendFds(socket, Number(RequestType::kGetQueueNum, 2), gifts, 0) > 0;
  };
  FakeBackend& life = NewLife(options);
  Start();
  ASSERT_TRUE(Whole(life));
  const BorrowedFd channel(life.fd_of(RequestType::kSetBackendReqFd));
  const size_t before = OpenDescriptors();
  for (int i = 0; i < 20; ++i) {
    ASSERT_GT(SendFds(channel, Notice(), gifts, 0), 0);
    ASSERT_OK(vmm_->ReceiveBackendRequest());
    EXPECT_OK(vmm_->GetConfig(0, 8));
  }
  EXPECT_LE(OpenDescriptors(), before + 2);
}

TEST_F(HostileTest, AStormOfNoticesStarvesNobody) {
  FakeBackend& life = NewLife(WithRequests());
  Start();
  ASSERT_TRUE(Whole(life));
  const BorrowedFd channel(life.fd_of(RequestType::kSetBackendReqFd));
  for (int i = 0; i < 2000; ++i) {
    Say(channel, Notice());
    // It reads none of those that are passed on to it.
    if (i % 50 == 0) {
      EXPECT_OK(vmm_->AskNumber(RequestType::kGetFeatures));
    }
  }
  EXPECT_OK(vmm_->StopQueue(0));
}

}  // namespace
}  // namespace holdfast::keeper
