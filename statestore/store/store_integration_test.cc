// The real holdfast-store with real processes: each message of protocol.h once
// over real sockets, and every way to misbehave.

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/unix_socket_sys.h"
#include "gtest/gtest.h"
#include "statestore/store/child_channel.h"
#include "statestore/store/message_io_sys.h"
#include "statestore/store/testing/fake_device_sys.h"
#include "statestore/store/testing/slow_close_sys.h"
#include "statestore/store/testing/store_fixture.h"
#include "statestore/store/testing/store_process_sys.h"

namespace holdfast::store {
namespace {

using ::holdfast::testing::StatusIs;
using ::holdfast::testing::TempDir;
using ::testing::_;
using testing::Command;
using testing::FakeDevice;
using testing::kDisk;
using testing::MakeToken;
using testing::Note;
using testing::ReadToken;
using testing::SlowClose;
using testing::WaitForEvent;

constexpr InstanceId kOther = 8;

bool HangsUp(BorrowedFd fd, int timeout_ms) {
  pollfd poll_fd = {fd.get(), 0, 0};
  return poll(&poll_fd, 1, timeout_ms) == 1;
}

class StoreIntegration : public testing::StoreTest {};

// ---- life and death ----

TEST_F(StoreIntegration, FirstReadyChildIsPromotedUnderEpochOne) {
  ASSERT_OK(client().SetResource(kDisk, 3, MakeToken(33)));
  auto child = Add(1);
  const auto promotion = child->AwaitEvent(ChildEvent::Kind::kPromote);
  ASSERT_TRUE(promotion.has_value());
  EXPECT_EQ(promotion->epoch, 1u);
  EXPECT_EQ(promotion->death_ns, 0u);
  EXPECT_EQ(promotion->held[3], 33u);
}

TEST_F(StoreIntegration, DeathIsToldWithItsTimes) {
  auto active = Add(1), standby = Add(2);
  active->child().Kill();
  const auto promotion = standby->AwaitEvent(ChildEvent::Kind::kPromote);
  ASSERT_TRUE(promotion.has_value());
  const auto lost = WaitForEvent(client(), Type::kChildLost);
  ASSERT_TRUE(lost.has_value());
  EXPECT_EQ(lost->child, 1u);
  EXPECT_EQ(lost->arg0, promotion->death_ns);
  EXPECT_EQ(lost->arg1, static_cast<uint64_t>(Fence::kSeccompListener));
  const auto promoted = WaitForEvent(client(), Type::kPromoted);
  ASSERT_TRUE(promoted.has_value());
  EXPECT_EQ(promoted->arg0, 2u);
  EXPECT_EQ(promoted->arg2, promotion->death_ns);
  EXPECT_GE(promoted->arg1, promoted->arg2);
}

TEST_F(StoreIntegration, PidfdIsTheFenceWhereTheListenerIsNot) {
  ASSERT_OK(client().CreateInstance(kOther, "old", MakeToken(98), false));
  auto active = Add(1, kOther), standby = Add(2, kOther);
  active->child().Kill();
  ASSERT_TRUE(standby->AwaitEvent(ChildEvent::Kind::kPromote).has_value());
  EXPECT_EQ(WaitForEvent(client(), Type::kChildLost)->arg1,
            static_cast<uint64_t>(Fence::kPidfd));
}

// A descendant of the dead still runs under its filter and may still write to
// guest memory: the process's own death is no fence. Negative control: with
// the pidfd as the fence the standby does not wait.
TEST_F(StoreIntegration, SurvivingDescendantHoldsThePromotionBack) {
  ASSERT_OK(client().CreateInstance(kOther, "old", MakeToken(98), false));
  Command fork;
  fork.kind = Command::Kind::kFork;
  fork.value = 300;
  auto active = Add(1), standby = Add(2);
  auto naive_active = Add(3, kOther), naive_standby = Add(4, kOther);
  ASSERT_TRUE(active->Do(fork));
  ASSERT_TRUE(naive_active->Do(fork));
  active->child().Kill();
  naive_active->child().Kill();
  active->child().Reap();
  const auto naive = naive_standby->AwaitEvent(ChildEvent::Kind::kPromote);
  const auto careful = standby->AwaitEvent(ChildEvent::Kind::kPromote);
  ASSERT_TRUE(naive.has_value());
  ASSERT_TRUE(careful.has_value());
  EXPECT_LT(naive->death_ns, careful->death_ns);
}

TEST_F(StoreIntegration, KillOnRequestAndHoldOfPromotion) {
  auto active = Add(1), standby = Add(2);
  ASSERT_OK(client().HoldPromotion(kDisk, true));
  ASSERT_OK(client().KillChild(kDisk, 1));
  ASSERT_TRUE(WaitForEvent(client(), Type::kChildLost).has_value());
  EXPECT_TRUE(WIFSIGNALED(active->child().Reap()));
  EXPECT_OK(client().HoldPromotion(kDisk, false));
  EXPECT_TRUE(WaitForEvent(client(), Type::kPromoted).has_value());
  EXPECT_THAT(client().KillChild(kDisk, 1),
              StatusIs(absl::StatusCode::kNotFound, _));
}

TEST_F(StoreIntegration, EndsWhenTheLauncherClosesButNotBySignals) {
  for (int signal : {SIGTERM, SIGINT, SIGHUP}) kill(store_->pid(), signal);
  EXPECT_OK(client().PutBlob(kDisk, MakeToken(5)));
  EXPECT_EQ(store_->End(), 0);
}

TEST_F(StoreIntegration, RemovalLeavesNothingBehind) {
  const size_t before = CountDescriptors();
  ASSERT_OK(client().CreateInstance(kOther, "x", MakeToken(1), true));
  auto child = Add(1, kOther);
  ASSERT_OK(client().SetResource(kOther, 1, MakeToken(2)));
  ASSERT_TRUE(child->Escrow(16, 3));
  EXPECT_THAT(client().RemoveInstance(kOther),
              StatusIs(absl::StatusCode::kAlreadyExists, _));
  child->child().Kill();
  ASSERT_TRUE(WaitForEvent(client(), Type::kChildLost).has_value());
  ASSERT_OK(client().RemoveInstance(kOther));
  EXPECT_TRUE(store_->AwaitDescriptors(before));
}

// ---- the VMM ----

class StoreVmm : public StoreIntegration {
 protected:
  void SetUp() override {
    StoreIntegration::SetUp();
    auto listener = ListenAt(path_);
    ASSERT_OK(listener);
    ASSERT_OK(client().SetListener(kDisk, *listener));
  }
  TempDir dir_;
  const std::string path_ = dir_.File("vmm");
};

TEST_F(StoreVmm, ConnectionReachesActiveAndStandby) {
  auto active = Add(1), standby = Add(2);
  auto vmm = ConnectTo(path_);
  ASSERT_OK(vmm);
  for (FakeDevice* device : {active.get(), standby.get()}) {
    const auto forward = device->AwaitEvent(ChildEvent::Kind::kForward);
    ASSERT_TRUE(forward.has_value());
    EXPECT_EQ(forward->slot, kSlotConnection);
    EXPECT_NE(forward->connection, 0u);
  }
  EXPECT_TRUE(WaitForEvent(client(), Type::kVmmConnected).has_value());
  EXPECT_OK(client().GetSlot(kDisk, kSlotConnection));
}

TEST_F(StoreVmm, SecondVmmWaitsUntilTheFirstOneHasLeft) {
  auto active = Add(1);
  auto first = ConnectTo(path_);
  const auto connected = WaitForEvent(client(), Type::kVmmConnected);
  ASSERT_TRUE(connected.has_value());
  auto second = ConnectTo(path_);
  EXPECT_TRUE(WaitForEvent(client(), Type::kVmmWaiting).has_value());
  EXPECT_FALSE(HangsUp(*second, 0));
  EXPECT_EQ(send(first->get(), "x", 1, MSG_NOSIGNAL), 1);
  Command closed;
  closed.kind = Command::Kind::kVmmClosed;
  closed.value = connected->arg0;
  ASSERT_TRUE(active->Do(closed));
  const auto next = WaitForEvent(client(), Type::kVmmConnected);
  ASSERT_TRUE(next.has_value());
  EXPECT_GT(next->arg0, connected->arg0);
  EXPECT_EQ(send(second->get(), "x", 1, MSG_NOSIGNAL), 1);
}

// A VMM that waits costs nothing: the store does not turn in circles.
TEST_F(StoreVmm, StoreSleepsWhileAVmmWaits) {
  auto active = Add(1);
  auto first = ConnectTo(path_), second = ConnectTo(path_);
  ASSERT_TRUE(WaitForEvent(client(), Type::kVmmWaiting).has_value());
  ASSERT_OK(client().HoldPromotion(kDisk, false));
  const uint64_t before = store_->CpuNs();
  poll(nullptr, 0, 100);
  EXPECT_LT(store_->CpuNs() - before, 10'000'000u);
  EXPECT_OK(client().ReadEvents());
  EXPECT_FALSE(client().NextEvent().has_value());
}

TEST_F(StoreVmm, SessionEndsAndTheNextVmmIsAccepted) {
  auto active = Add(1), standby = Add(2);
  auto vmm = ConnectTo(path_);
  const auto forward = active->AwaitEvent(ChildEvent::Kind::kForward);
  ASSERT_TRUE(forward.has_value());
  ASSERT_TRUE(active->Escrow(kSlotFirstSession, 5));
  Command closed;
  closed.kind = Command::Kind::kVmmClosed;
  closed.value = forward->connection;
  ASSERT_TRUE(active->Do(closed));
  EXPECT_TRUE(WaitForEvent(client(), Type::kVmmGone).has_value());
  EXPECT_THAT(client().GetSlot(kDisk, kSlotFirstSession),
              StatusIs(absl::StatusCode::kNotFound, _));
  auto next = ConnectTo(path_);
  const auto connected = WaitForEvent(client(), Type::kVmmConnected);
  ASSERT_TRUE(connected.has_value());
  EXPECT_GT(connected->arg0, forward->connection);
}

// What another VMM had sent is freed meanwhile. Its session's descriptors are
// closed in the order in which they are dropped: the last one is the control.
TEST_F(StoreVmm, SeesItsEndWhileTheMemoryOfAnotherIsFreed) {
  auto active = Add(1);
  auto vmm = ConnectTo(path_);
  const auto connected = WaitForEvent(client(), Type::kVmmConnected);
  ASSERT_TRUE(connected.has_value());
  Create(kOther);
  SlowClose slow;
  ASSERT_OK(client().SetResource(kOther, 1, slow.Take()));
  auto behind = SeqpacketPair();
  ASSERT_OK(behind);
  ASSERT_OK(client().SetResource(kOther, 2, behind->first));
  behind->first.Reset();
  ASSERT_OK(client().RemoveInstance(kOther));
  Command closed;
  closed.kind = Command::Kind::kVmmClosed;
  closed.value = connected->arg0;
  ASSERT_TRUE(active->Do(closed));
  // As a child that has ended its session does.
  active->child().Kill();
  EXPECT_TRUE(HangsUp(*vmm, 10000));
  EXPECT_FALSE(HangsUp(behind->second, 0));
  EXPECT_TRUE(slow.Allow());
  EXPECT_TRUE(HangsUp(behind->second, 10000));
}

TEST_F(StoreVmm, StreamStaysOpenOverTheDeathOfTheActiveChild) {
  auto active = Add(1), standby = Add(2);
  auto vmm = ConnectTo(path_);
  ASSERT_TRUE(standby->AwaitEvent(ChildEvent::Kind::kForward).has_value());
  active->child().Kill();
  active->child().Reap();
  ASSERT_TRUE(standby->AwaitEvent(ChildEvent::Kind::kPromote).has_value());
  EXPECT_EQ(send(vmm->get(), "x", 1, MSG_NOSIGNAL), 1);
  pollfd poll_fd = {vmm->get(), POLLIN, 0};
  EXPECT_EQ(poll(&poll_fd, 1, 0), 0);
}

// ---- misbehaviour ----

struct BadMessage {
  const char* name;
  Type type;
  uint64_t size;
  uint64_t fd_count;
  uint32_t version;
  Slot slot;
};

class StoreMisbehaviour : public StoreIntegration,
                          public ::testing::WithParamInterface<BadMessage> {};

TEST_P(StoreMisbehaviour, CostsTheChildItsLifeAndNobodyElseAnything) {
  auto bystander = Add(1), culprit = Add(2);
  const size_t descriptors = CountDescriptors();
  Command raw;
  raw.kind = Command::Kind::kRaw;
  raw.raw.type = GetParam().type;
  raw.raw.version = GetParam().version;
  raw.raw.slot = GetParam().slot;
  raw.size = GetParam().size;
  raw.value = GetParam().fd_count;
  culprit->Start(raw);
  const auto event = WaitForEvent(client(), Type::kChildMisbehaved);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->child, 2u);
  EXPECT_EQ(event->arg1, 0u);
  EXPECT_EQ(WTERMSIG(culprit->child().Reap()), SIGKILL);
  ASSERT_TRUE(WaitForEvent(client(), Type::kChildLost).has_value());
  EXPECT_TRUE(store_->AwaitDescriptors(descriptors - 4));
  EXPECT_TRUE(bystander->Escrow(40, 1));
}

constexpr uint64_t kWhole = sizeof(Message);
INSTANTIATE_TEST_SUITE_P(
    All, StoreMisbehaviour,
    ::testing::Values(
        BadMessage{"Short", Type::kReady, 5, 0, 1, 0},
        BadMessage{"Long", Type::kReady, kWhole + 8, 0, 1, 0},
        BadMessage{"Version", Type::kReady, kWhole, 0, 9, 0},
        BadMessage{"Launchers", Type::kKillChild, kWhole, 0, 1, 0},
        BadMessage{"TooManyFds", Type::kReady, kWhole, 3, 1, 0},
        BadMessage{"FarTooManyFds", Type::kEscrow, kWhole, 16, 1, 40},
        BadMessage{"NotActive", Type::kEscrow, kWhole, 1, 1, 40},
        BadMessage{"Resource", Type::kEscrow, kWhole, 1, 1, 3},
        BadMessage{"SlotRange", Type::kEscrow, kWhole, 1, 1, 60000}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(StoreIntegration, ClosedChannelCostsTheChildItsLife) {
  auto active = Add(1), standby = Add(2);
  Command hang_up;
  hang_up.kind = Command::Kind::kHangUp;
  active->Start(hang_up);
  EXPECT_TRUE(standby->AwaitEvent(ChildEvent::Kind::kPromote).has_value());
  EXPECT_EQ(WTERMSIG(active->child().Reap()), SIGKILL);
}

TEST_F(StoreIntegration, FloodDoesNotStarveOtherInstances) {
  ASSERT_OK(client().CreateInstance(kOther, "quiet", MakeToken(98), true));
  auto active = Add(1, kOther), standby = Add(2, kOther);
  auto first = Add(11), second = Add(12);
  Command flood;
  flood.kind = Command::Kind::kFlood;
  first->Start(flood);
  second->Start(flood);
  EXPECT_TRUE(active->Escrow(40, 4));
  active->child().Kill();
  const auto promotion = standby->AwaitEvent(ChildEvent::Kind::kPromote);
  ASSERT_TRUE(promotion.has_value());
  EXPECT_EQ(promotion->held[40], 4u);
  EXPECT_OK(client().PutBlob(kOther, MakeToken(5)));
}

TEST_F(StoreIntegration, WrongRequestsOfTheLauncherAreAnsweredAndHarmless) {
  const size_t descriptors = CountDescriptors();
  EXPECT_THAT(client().CreateInstance(kDisk, "again", MakeToken(1), true),
              StatusIs(absl::StatusCode::kAlreadyExists, _));
  EXPECT_THAT(client().SetResource(kDisk, 20, MakeToken(1)),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_THAT(client().PutBlob(1234, MakeToken(1)),
              StatusIs(absl::StatusCode::kNotFound, _));
  EXPECT_THAT(
      client().CreateInstance(9, std::string(40, 'x'), MakeToken(1), true),
      StatusIs(absl::StatusCode::kInvalidArgument, _));
  // A thread of its own closes what came with them.
  EXPECT_TRUE(store_->AwaitDescriptors(descriptors));
}

// ---- a new launcher ----

TEST_F(StoreIntegration, NewLauncherFindsEverything) {
  auto active = Add(1), standby = Add(2);
  ASSERT_OK(client().SetResource(kDisk, 3, MakeToken(33)));
  ASSERT_OK(client().PutBlob(kDisk, MakeToken(55)));
  Client& client = store_->NewClient();
  const auto inventory = client.Hello(4711);
  ASSERT_OK(inventory);
  ASSERT_EQ(inventory->instances.size(), 1u);
  EXPECT_EQ(inventory->instances[0].name, "disk");
  EXPECT_EQ(inventory->instances[0].epoch, 1u);
  EXPECT_EQ(inventory->instances[0].active, 1u);
  EXPECT_EQ(ReadToken(inventory->instances[0].segment), 99u);
  EXPECT_EQ(ReadToken(inventory->instances[0].blob), 55u);
  ASSERT_EQ(inventory->children.size(), 2u);
  EXPECT_EQ(inventory->children[0].pid,
            static_cast<uint32_t>(active->child().pid()));
  EXPECT_EQ(inventory->children[1].state, ChildState::kStandby);
  EXPECT_TRUE(inventory->children[1].pidfd.valid());
  ASSERT_EQ(inventory->slots.size(), 1u);
  EXPECT_EQ(inventory->slots[0].slot, 3);
  const auto resource = client.GetSlot(kDisk, 3);
  ASSERT_OK(resource);
  EXPECT_EQ(ReadToken(*resource), 33u);
  EXPECT_OK(client.GetControl(kDisk, 1));
  EXPECT_OK(client.GetPidfd(kDisk, 2));
}

TEST_F(StoreIntegration, AnswersForADeadLauncherAreNotTakenForOurs) {
  auto child = Add(1);
  Message stale;
  stale.type = Type::kHello;
  stale.arg0 = 1;
  const UniqueFd channel = store_->DupChannel();
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(Send(channel, stale, {}), IoResult::kDone);
  }
  const auto inventory = store_->NewClient().Hello(2);
  ASSERT_OK(inventory);
  EXPECT_EQ(inventory->instances.size(), 1u);
  EXPECT_EQ(inventory->children.size(), 1u);
}

// Nobody reads for long: promotions go on, and the new launcher is told.
TEST_F(StoreIntegration, PromotesWhileNoLauncherReads) {
  auto active = Add(1), standby = Add(2);
  const UniqueFd channel = store_->DupChannel();
  Message request;
  request.type = Type::kGetDescriptor;
  request.instance = kDisk;
  request.child = 1;
  while (Send(channel, request, {}) == IoResult::kDone) {
    // Until both directions are full of answers that nobody reads.
    SCOPED_TRACE("fill");
  }
  active->child().Kill();
  const auto promotion = standby->AwaitEvent(ChildEvent::Kind::kPromote);
  ASSERT_TRUE(promotion.has_value());
  const auto inventory = store_->NewClient().Hello(3);
  ASSERT_OK(inventory);
  EXPECT_EQ(inventory->instances[0].active, 2u);
  EXPECT_EQ(inventory->children.size(), 1u);
}

// ---- a new store ----

class StoreRestart : public testing::StoreTest {};

TEST_F(StoreRestart, ChildrenNoticeAndDepositEverythingAgain) {
  auto active = Add(1), standby = Add(2);
  ASSERT_OK(client().SetConnection(kDisk, MakeToken(1)));
  ASSERT_OK(client().SetResource(kDisk, 3, MakeToken(33)));
  for (Slot slot : {16, 40, 191}) {
    ASSERT_TRUE(active->Escrow(slot, 1000 + slot));
  }
  Restart();
  Reattach(*active, kAddReattached | kAddActive, 1);
  Reattach(*standby, kAddReattached, 1);
  EXPECT_EQ(TokenInStore(kSlotConnection), 1u);
  EXPECT_EQ(TokenInStore(3), 33u);
  for (Slot slot : {16, 40, 191}) EXPECT_EQ(TokenInStore(slot), 1000u + slot);
  ASSERT_TRUE(active->Escrow(41, 41));
  active->child().Kill();
  const auto promotion = standby->AwaitEvent(ChildEvent::Kind::kPromote);
  ASSERT_TRUE(promotion.has_value());
  EXPECT_EQ(promotion->epoch, 2u);
  for (Slot slot : {16, 40, 191}) {
    EXPECT_EQ(promotion->held[slot], 1000u + slot);
  }
  EXPECT_EQ(promotion->held[41], 41u);
}

TEST_F(StoreRestart, StandbyInheritsWhenTheActiveChildDiedWithTheStore) {
  auto active = Add(1), standby = Add(2);
  ASSERT_TRUE(active->Escrow(40, 1040));
  ASSERT_TRUE(standby->AwaitEvent(ChildEvent::Kind::kForward).has_value());
  active->child().Kill();
  active->child().Reap();
  standby->AwaitEvent(ChildEvent::Kind::kPromote);
  Restart();
  Reattach(*standby, kAddReattached, 2);
  const auto promotion = standby->AwaitEvent(ChildEvent::Kind::kPromote);
  ASSERT_TRUE(promotion.has_value());
  EXPECT_EQ(promotion->epoch, 3u);
  EXPECT_EQ(TokenInStore(40), 1040u);
}

TEST_F(StoreRestart, RequestsOfADeadStoreFailAtOnce) {
  auto active = Add(1);
  store_->Kill();
  EXPECT_FALSE(active->Escrow(40, 1));
}

}  // namespace
}  // namespace holdfast::store
