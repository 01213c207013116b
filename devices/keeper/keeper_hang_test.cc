// A back-end that hangs, and those that only look so.

#include <poll.h>

#include <chrono>

#include "base/testing/matchers.h"
#include "devices/keeper/testing/keeper_fixture.h"
#include "devices/virtqueue/testing/fake_driver.h"
#include "gtest/gtest.h"

namespace holdfast::keeper {
namespace {

using DriverBuffer = ::holdfast::testing::FakeDriver::Buffer;
using testing::FakeBackend;
using testing::KeeperTest;

BackendTraits WithLimit(std::chrono::milliseconds limit) {
  BackendTraits traits;
  traits.hang_limit = limit;
  return traits;
}

class KeeperHangTest : public KeeperTest {
 protected:
  explicit KeeperHangTest(
      std::chrono::milliseconds limit = std::chrono::milliseconds(40))
      : KeeperTest(WithLimit(limit)) {}

  // A request that no life takes: this one runs no ring.
  void Post() {
    const auto posted = vmm_->driver(0).Post({DriverBuffer::Writable(4)});
    ASSERT_TRUE(posted.has_value());
  }
  // Whether a life is given up in many times the limit. That none is, nothing
  // can show sooner.
  bool GivesUp() {
    pollfd said = {verdicts_.get(), POLLIN, 0};
    while (poll(&said, 1, /*timeout=*/400) == 1) {
      store::BackendVerdict verdict = {};
      (void)!read(verdicts_.get(), &verdict, sizeof(verdict));
      if (verdict.kind == store::BackendVerdict::kUseless) return true;
    }
    return false;
  }
};

TEST_F(KeeperHangTest, ALifeThatAnswersNothingIsGivenUp) {
  FakeBackend& life = NewLife();
  Start();
  ASSERT_TRUE(Whole(life));
  Post();
  AwaitGivenUp();
  EXPECT_TRUE(Whole(NewLife())) << "and the next one told everything";
  AwaitGivenUp();
}

TEST_F(KeeperHangTest, AKeeperThatTakesOverLooks) {
  FakeBackend& life = NewLife();
  Start();
  ASSERT_TRUE(Whole(life));
  rig_.Die();
  Post();
  ASSERT_OK(rig_.Run());
  AwaitGivenUp();
}

TEST_F(KeeperHangTest, ALifeThatHasNothingToDoIsNot) {
  FakeBackend& life = NewLife();
  Start();
  ASSERT_TRUE(Whole(life));
  EXPECT_FALSE(GivesUp());
  // Nor one whose ring was stopped.
  ASSERT_OK(vmm_->StopQueue(0));
  Post();
  EXPECT_FALSE(GivesUp());
}

class NobodyLooks : public KeeperHangTest {
 protected:
  NobodyLooks() : KeeperHangTest(std::chrono::milliseconds(0)) {}
};

TEST_F(NobodyLooks, ALifeMayHangForEver) {
  FakeBackend& life = NewLife();
  Start();
  ASSERT_TRUE(Whole(life));
  Post();
  EXPECT_FALSE(GivesUp());
}

}  // namespace
}  // namespace holdfast::keeper
