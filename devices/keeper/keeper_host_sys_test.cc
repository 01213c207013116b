#include "devices/keeper/keeper_host_sys.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/shm_sys.h"
#include "base/testing/matchers.h"
#include "devices/keeper/testing/keeper_fixture.h"
#include "devices/vhost_user/testing/message_builder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/schema.h"
#include "statestore/segment.h"
#include "statestore/transaction.h"

namespace holdfast::keeper {
namespace {

using ::testing::Contains;
using testing::FakeBackend;
using testing::kBackendSlot;
using testing::KeeperTest;
using ::testing::Not;
using vhost_user::RequestType;

TEST_F(KeeperTest, TheBackEndIsToldWhatTheVmmSays) {
  FakeBackend& life = NewLife();
  Start();
  EXPECT_TRUE(Whole(life));
  const std::vector<std::string> told = life.told();
  EXPECT_THAT(told, Contains("SET_MEM_TABLE +1"));
  EXPECT_THAT(told, Contains("SET_INFLIGHT_FD +1"));
  EXPECT_THAT(told, Contains("SET_VRING_NUM 0 128"));
  EXPECT_THAT(told, Contains("SET_VRING_KICK 0 +1"));
  // Memory before rings, and kicks before they are enabled.
  const auto at = [&](const char* what) {
    return std::find(told.begin(), told.end(), what) - told.begin();
  };
  EXPECT_LT(at("SET_MEM_TABLE +1"), at("SET_VRING_NUM 0 128"));
  EXPECT_LT(at("SET_INFLIGHT_FD +1"), at("SET_VRING_KICK 0 +1"));
}

// The guest's kick and interrupt are those of the VMM, not the keeper's.
TEST_F(KeeperTest, TheDataPathDoesNotPassThroughTheKeeper) {
  FakeBackend& life = NewLife();
  Start();
  ASSERT_TRUE(Whole(life));
  ASSERT_OK(vmm_->Kick(0));
  eventfd_t count = 0;
  ASSERT_EQ(eventfd_read(life.fd_of(RequestType::kSetVringKick), &count), 0);
  EXPECT_GE(count, 1u);
  ASSERT_EQ(eventfd_write(life.fd_of(RequestType::kSetVringCall), 1), 0);
  EXPECT_OK(vmm_->WaitForCall(0));
}

TEST_F(KeeperTest, TheNextLifeIsToldEverything) {
  FakeBackend& first = NewLife();
  Start();
  ASSERT_TRUE(Whole(first));
  first.End();
  FakeBackend& second = NewLife();
  EXPECT_TRUE(Whole(second));
  EXPECT_THAT(second.told(), Contains("SET_INFLIGHT_FD +1"));
  ExpectBothLook(second);
}

TEST_F(KeeperTest, TheVmmIsAnsweredWhileNoBackEndLives) {
  FakeBackend& first = NewLife();
  ASSERT_OK(rig_.Run());
  vmm_ = rig_.Connect();
  ASSERT_OK(vmm_->Negotiate());
  first.End();
  first.WaitForEnd();
  EXPECT_OK(vmm_->AskNumber(RequestType::kGetFeatures));
  EXPECT_OK(vmm_->GetConfig(0, 8));
  // And the next life is told what was said meanwhile.
  ASSERT_OK(vmm_->ShareInflight());
  ASSERT_OK(vmm_->ShareMemory());
  FakeBackend& second = NewLife();
  EXPECT_TRUE(second.WaitFor("SET_MEM_TABLE +1"));
}

TEST_F(KeeperTest, AVmmThatIsEarlyWaitsForTheFirstLife) {
  ASSERT_OK(rig_.Run());
  vmm_ = rig_.Connect();
  ASSERT_OK(vmm_->SendRaw(
      vhost_user::RawMessage(static_cast<uint32_t>(RequestType::kGetFeatures),
                             vhost_user::kVersion, 0, {})));
  NewLife();
  EXPECT_OK(vmm_->Receive());
}

TEST_F(KeeperTest, StoppingAsksTheBackEndForTheBase) {
  FakeBackend& life = NewLife();
  Start();
  ASSERT_TRUE(Whole(life));
  const auto base = vmm_->StopQueue(0);
  ASSERT_OK(base);
  EXPECT_EQ(*base, 5u);
  EXPECT_THAT(life.told(), Contains("GET_VRING_BASE 0"));
}

// What is in flight is for the next life to finish: the VMM waits for it, and
// the others of its requests are answered before.
TEST_F(KeeperTest, StoppingWaitsForTheNextLife) {
  FakeBackend& first = NewLife();
  Start();
  ASSERT_TRUE(Whole(first));
  first.End();
  first.WaitForEnd();
  ASSERT_OK(vmm_->AskNumber(RequestType::kGetFeatures));
  ASSERT_OK(vmm_->SendRaw(vhost_user::RawMessage(
      static_cast<uint32_t>(RequestType::kGetVringBase), vhost_user::kVersion,
      8, std::vector<uint8_t>(8))));
  // However often it is looked at.
  pollfd answer = {vmm_->socket().get(), POLLIN, 0};
  EXPECT_EQ(poll(&answer, 1, 100), 0);
  FakeBackend& second = NewLife();
  const auto reply = vmm_->Receive();
  ASSERT_OK(reply);
  EXPECT_EQ(reply->payload, std::vector<uint8_t>({0, 0, 0, 0, 5, 0, 0, 0}));
  // It was told of the ring, and then to stop it.
  const std::vector<std::string> told = second.told();
  const auto kick = std::find(told.begin(), told.end(), "SET_VRING_KICK 0 +1");
  EXPECT_THAT(std::vector<std::string>(kick, told.end()),
              Contains("GET_VRING_BASE 0"));
}

// A guest that masks an interrupt: nothing else is said, and nothing stops.
TEST_F(KeeperTest, AnotherCallIsToldAlone) {
  FakeBackend& life = NewLife();
  Start();
  ASSERT_TRUE(Whole(life));
  const size_t before = life.told().size();
  ASSERT_OK(vmm_->ReplaceCall(0));
  const std::vector<std::string> told = life.told();
  ASSERT_EQ(told.size(), before + 1);
  EXPECT_EQ(told.back(), "SET_VRING_CALL 0 +1");
}

TEST_F(KeeperTest, WhatTheGuestHasWrittenIsWrittenAgain) {
  FakeBackend& first = NewLife();
  Start();
  ASSERT_TRUE(Whole(first));
  ASSERT_OK(vmm_->SetConfig(32, {0}));
  EXPECT_TRUE(first.WaitFor("SET_CONFIG 32 0"));
  first.End();
  FakeBackend& second = NewLife();
  EXPECT_TRUE(second.WaitFor("SET_CONFIG 32 0"));
  EXPECT_TRUE(Whole(second));
}

TEST_F(KeeperTest, ALesserSuccessorIsGivenUp) {
  FakeBackend& first = NewLife();
  Start();
  ASSERT_TRUE(Whole(first));
  first.End();
  FakeBackend::Options lesser;
  lesser.config = std::vector<uint8_t>(60, 0x22);
  FakeBackend& second = NewLife(lesser);
  AwaitGivenUp();
  EXPECT_THAT(second.told(), Not(Contains("SET_MEM_TABLE +1")));
  // The guest waits for one that will do.
  EXPECT_TRUE(Whole(NewLife()));
}

TEST_F(KeeperTest, ABackEndThatRefusesIsGivenUp) {
  FakeBackend::Options options;
  options.verdict = [](RequestType type) {
    return type == RequestType::kSetVringKick ? uint64_t{1} : uint64_t{0};
  };
  NewLife(options);
  Start();
  AwaitGivenUp();
  EXPECT_TRUE(Whole(NewLife()));
}

TEST_F(KeeperTest, ABackEndThatDiesWhileItIsToldIsFollowed) {
  for (const RequestType last :
       {RequestType::kSetOwner, RequestType::kGetConfig,
        RequestType::kSetMemTable, RequestType::kSetVringKick}) {
    FakeBackend::Options options;
    options.go_on = [last](RequestType type) { return type != last; };
    NewLife(options);
  }
  Start();
  EXPECT_TRUE(Whole(NewLife()));
}

TEST_F(KeeperTest, AChangedConfigIsReadAndToldOf) {
  FakeBackend::Options options;
  options.protocol_features |= vhost_user::kProtocolBackendReq;
  FakeBackend& life = NewLife(options);
  Start();
  ASSERT_TRUE(Whole(life));
  life.SetConfig(std::vector<uint8_t>(60, 0x77));
  const std::vector<uint8_t> notice =
      vhost_user::RawMessage(2, vhost_user::kVersion, 0, {});
  ASSERT_EQ(write(life.fd_of(RequestType::kSetBackendReqFd), notice.data(),
                  notice.size()),
            static_cast<ssize_t>(notice.size()));
  ASSERT_OK(vmm_->ReceiveBackendRequest());
  const auto config = vmm_->GetConfig(0, 8);
  ASSERT_OK(config);
  EXPECT_EQ(*config, std::vector<uint8_t>(8, 0x77));
  // The next life is measured by that.
  life.End();
  FakeBackend::Options next = options;
  next.config = std::vector<uint8_t>(60, 0x77);
  EXPECT_TRUE(Whole(NewLife(next)));
}

TEST_F(KeeperTest, ABackEndThatTalksNonsenseIsGivenUp) {
  FakeBackend::Options options;
  options.protocol_features |= vhost_user::kProtocolBackendReq;
  FakeBackend& life = NewLife(options);
  Start();
  ASSERT_TRUE(Whole(life));
  ASSERT_EQ(write(life.fd_of(RequestType::kSetBackendReqFd), "nonsense", 8), 8);
  AwaitGivenUp();
  EXPECT_TRUE(Whole(NewLife(options)));
}

// The launcher has died with the verdict unread.
TEST_F(KeeperTest, ANewLauncherIsToldTheVerdictAgain) {
  FakeBackend::Options options;
  options.verdict = [](RequestType type) {
    return type == RequestType::kSetVringKick ? uint64_t{1} : uint64_t{0};
  };
  NewLife(options);
  Start();
  AwaitVerdict();
  NewLauncher();
  AwaitGivenUp();
  EXPECT_TRUE(Whole(NewLife()));
}

// The keeper's successor knows what this life knows, and says nothing again.
TEST_F(KeeperTest, ANewKeeperGoesOnWithTheSameLife) {
  FakeBackend& life = NewLife();
  Start();
  ASSERT_TRUE(Whole(life));
  const size_t before = life.told().size();
  rig_.Die();
  ASSERT_OK(rig_.Run());
  ASSERT_OK(vmm_->ReplaceCall(0));
  const std::vector<std::string> told = life.told();
  ASSERT_EQ(told.size(), before + 1);
  EXPECT_EQ(told.back(), "SET_VRING_CALL 0 +1");
}

// As a store does that was started again.
TEST_F(KeeperTest, TheSameConnectionOnceMoreIsNoNews) {
  FakeBackend& life = NewLife();
  Start();
  ASSERT_TRUE(Whole(life));
  const size_t before = life.told().size();
  rig_.GiveResource(kBackendSlot, rig_.keeper().Duplicate(kBackendSlot));
  ASSERT_OK(vmm_->ReplaceCall(0));
  EXPECT_EQ(life.told().size(), before + 1);
}

TEST_F(KeeperTest, ANewKeeperFindsALifeThatHasEnded) {
  FakeBackend& first = NewLife();
  Start();
  ASSERT_TRUE(Whole(first));
  rig_.Die();
  first.End();
  ASSERT_OK(rig_.Run());
  EXPECT_TRUE(Whole(NewLife()));
}

// Its predecessor may have said anything: that life is not to be trusted.
TEST_F(KeeperTest, ALifeThatWasSpokenToInTheEndIsGivenUp) {
  FakeBackend& first = NewLife();
  Start();
  ASSERT_TRUE(Whole(first));
  rig_.Die();
  {
    // As a keeper leaves it that dies in the middle of a word.
    const auto mapping =
        MapShared(rig_.segment(), 0, 1 << 20, MapAccess::kReadWrite);
    ASSERT_OK(mapping);
    const auto segment = Segment::Attach(mapping->span());
    ASSERT_OK(segment);
    auto bank = StateBank::Attach(segment->section(SectionType::kState), 1);
    ASSERT_OK(bank);
    const auto cells = BindState<KeeperState>(segment->schema());
    ASSERT_OK(cells);
    StateTxn txn = bank->Begin();
    txn.Set(cells->life.talking, true);
    ASSERT_OK(bank->Commit(txn));
  }
  ASSERT_OK(rig_.Run());
  AwaitGivenUp();
  EXPECT_TRUE(Whole(NewLife()));
}

TEST_F(KeeperTest, TheNextVmmGetsAnotherLife) {
  FakeBackend& first = NewLife();
  Start();
  ASSERT_TRUE(Whole(first));
  vmm_.reset();
  AwaitGivenUp(store::BackendVerdict::kFinished);
  FakeBackend& second = NewLife();
  vmm_ = rig_.Connect();
  ASSERT_OK(vmm_->Start());
  EXPECT_TRUE(Whole(second));
}

}  // namespace
}  // namespace holdfast::keeper
