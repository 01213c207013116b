// What a life is told without waiting for each acknowledgement: the order, and
// where the keeper waits all the same.

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "base/unix_socket_sys.h"
#include "devices/keeper/testing/keeper_fixture.h"
#include "devices/vhost_user/message.h"
#include "devices/vhost_user/testing/message_builder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::keeper {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using testing::FakeBackend;
using ::testing::HasSubstr;
using testing::KeeperTest;
using ::testing::Not;
using vhost_user::Request;
using vhost_user::RequestType;

void Acknowledge(BorrowedFd socket, RequestType type) {
  constexpr uint32_t kReply = vhost_user::kVersion | vhost_user::kFlagReply;
  (void)SendFds(
      socket,
      vhost_user::RawMessage(static_cast<uint32_t>(type), kReply,
                             sizeof(uint64_t), vhost_user::BytesOf(uint64_t{})),
      {}, MSG_DONTWAIT);
}

class AheadTest : public KeeperTest {
 protected:
  // A life whose successor is to be told of the rings.
  void StartWith(FakeBackend::Options options) {
    first_ = &NewLife();
    spare_ = &NewSpare(std::move(options));
    Start();
    ASSERT_TRUE(Whole(*first_));
    ASSERT_TRUE(spare_->WaitFor("SET_MEM_TABLE +1"));
  }
  std::vector<std::string> ToldOfRings() {
    std::vector<std::string> told = spare_->told();
    while (!told.empty() && told.front() != "SET_INFLIGHT_FD +1") {
      told.erase(told.begin());
    }
    return told;
  }
  // Takes the first one's place, and is given up for this.
  void ExpectGivenUp(const std::string& why) {
    first_->End();
    TakeOver();
    store::BackendVerdict verdict = {};
    AwaitWord(life_, store::BackendVerdict::kUseless, verdict);
    EXPECT_THAT(std::string(verdict.why), HasSubstr(why));
    // The next one is told all of it.
    NewLife();
    EXPECT_TRUE(Whole(*lives_.back()));
  }

  FakeBackend* first_ = nullptr;
  FakeBackend* spare_ = nullptr;
};

TEST_F(AheadTest, TheOrderIsThatOfAFrontEnd) {
  StartWith({});
  first_->End();
  TakeOver();
  ASSERT_TRUE(Whole(*spare_));
  EXPECT_THAT(ToldOfRings(),
              ElementsAre("SET_INFLIGHT_FD +1", "SET_VRING_NUM 0 128",
                          HasSubstr("SET_VRING_BASE 0 "), "SET_VRING_ADDR",
                          "SET_VRING_CALL 0 +1", "SET_VRING_KICK 0 +1",
                          "SET_VRING_ENABLE 0 1"));
}

// It says nothing until it has heard all that is said ahead: the keeper does
// not wait between.
TEST_F(AheadTest, WhatCannotStartTheRingIsSaidAhead) {
  FakeBackend::Options slow;
  std::vector<RequestType> heard;
  slow.instead = [&heard](const Request& request, BorrowedFd socket) {
    if (heard.empty() && request.type != RequestType::kSetInflightFd) {
      return false;
    }
    heard.push_back(request.type);
    if (request.type == RequestType::kSetVringCall) {
      for (const RequestType type : heard) Acknowledge(socket, type);
    }
    return heard.size() <= 5;
  };
  StartWith(slow);
  first_->End();
  TakeOver();
  EXPECT_TRUE(Whole(*spare_));
}

// Or it would work on a ring whose requests in flight nobody has told it.
TEST_F(AheadTest, WhoRefusesOneInTheMiddleIsNotGivenTheKick) {
  for (const RequestType refused :
       {RequestType::kSetInflightFd, RequestType::kSetVringAddr}) {
    FakeBackend::Options options;
    options.verdict = [refused](RequestType type) {
      return type == refused ? uint64_t{7} : uint64_t{0};
    };
    if (first_ == nullptr) {
      StartWith(options);
    } else {
      first_ = lives_.back().get();
      spare_ = &NewSpare(options);
      ASSERT_TRUE(spare_->WaitFor("SET_MEM_TABLE +1"));
    }
    ExpectGivenUp(std::string("refuses ") + vhost_user::RequestName(refused) +
                  " with 7");
    EXPECT_THAT(spare_->told(), Not(Contains(HasSubstr("SET_VRING_KICK"))));
  }
}

TEST_F(AheadTest, WhoAcknowledgesOutOfOrderIsGivenUp) {
  FakeBackend::Options options;
  options.instead = [](const Request& request, BorrowedFd socket) {
    if (request.type != RequestType::kSetVringNum) return false;
    Acknowledge(socket, RequestType::kSetVringBase);
    return true;
  };
  StartWith(options);
  ExpectGivenUp("replies to SET_VRING_BASE instead of SET_VRING_NUM");
  EXPECT_THAT(spare_->told(), Not(Contains(HasSubstr("SET_VRING_KICK"))));
}

TEST_F(AheadTest, WhoAcknowledgesOnceTooOftenIsGivenUp) {
  FakeBackend::Options options;
  options.instead = [](const Request& request, BorrowedFd socket) {
    if (request.type == RequestType::kSetVringEnable) {
      Acknowledge(socket, request.type);
    }
    return false;
  };
  StartWith(options);
  ExpectGivenUp("");
}

}  // namespace
}  // namespace holdfast::keeper
