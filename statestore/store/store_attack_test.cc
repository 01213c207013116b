// What children, VMMs and a confused launcher can do to a real holdfast-store:
// whoever does it bears the cost, it is told, others notice nothing, and no
// descriptor is left.

#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/unix_socket_sys.h"
#include "gtest/gtest.h"
#include "statestore/store/message_io_sys.h"
#include "statestore/store/tables.h"
#include "statestore/store/testing/store_fixture.h"

namespace holdfast::store {
namespace {

using ::holdfast::testing::StatusIs;
using ::holdfast::testing::TempDir;
using ::testing::_;
using testing::Command;
using testing::FakeChild;
using testing::FakeDevice;
using testing::kDisk;
using testing::MakeToken;
using testing::Note;
using testing::ReadToken;
using testing::WaitForEvent;

constexpr InstanceId kOther = 8;

// The attacks come from kDisk; kOther is the neighbour with a session.
class StoreAttack : public testing::StoreTest {
 protected:
  void SetUp() override {
    StoreTest::SetUp();
    Create(kOther);
    neighbour_ = Add(101, kOther);
    ASSERT_TRUE(neighbour_->Escrow(40, 4040));
  }
  void TearDown() override {
    if (store_->pid() <= 0) return;
    EXPECT_TRUE(neighbour_->Escrow(41, 4141));
    EXPECT_EQ(TokenOfNeighbour(40), 4040u);
    EXPECT_EQ(TokenOfNeighbour(41), 4141u);
  }
  uint64_t TokenOfNeighbour(Slot slot) {
    const auto fd = client().GetSlot(kOther, slot);
    return fd.ok() ? ReadToken(*fd) : 0;
  }
  std::optional<Message> Misbehaved(ChildId child) {
    std::optional<Message> event;
    do {
      event = WaitForEvent(client(), Type::kChildMisbehaved);
    } while (event.has_value() && event->child != child);
    return event;
  }
  std::unique_ptr<FakeDevice> neighbour_;
};

// ---- no descriptor left ----

class StoreStarved : public StoreAttack {
 protected:
  void SetUp() override {
    StoreAttack::SetUp();
    auto listener = ListenAt(path_);
    ASSERT_OK(listener);
    ASSERT_OK(client().SetListener(kDisk, *listener));
  }
  void LimitDescriptors(rlim_t limit) {
    rlimit old;
    ASSERT_EQ(prlimit(store_->pid(), RLIMIT_NOFILE, nullptr, &old), 0);
    const rlimit next = {limit, old.rlim_max};
    ASSERT_EQ(prlimit(store_->pid(), RLIMIT_NOFILE, &next, nullptr), 0);
  }
  TempDir dir_;
  const std::string path_ = dir_.File("vmm");
};

// A VMM that cannot be accepted stays readable for ever.
TEST_F(StoreStarved, VmmThatCannotBeAcceptedCostsNothingAndIsServedLater) {
  auto active = Add(1), standby = Add(2);
  LimitDescriptors(3);
  auto vmm = ConnectTo(path_);
  ASSERT_OK(vmm);
  const auto told = WaitForEvent(client(), Type::kVmmWaiting);
  ASSERT_TRUE(told.has_value());
  EXPECT_EQ(told->instance, kDisk);
  EXPECT_EQ(told->arg0, static_cast<uint64_t>(EMFILE));
  const uint64_t before = store_->CpuNs();
  poll(nullptr, 0, 300);  // Some attempts.
  EXPECT_LT(store_->CpuNs() - before, 10'000'000u);
  EXPECT_OK(client().ReadEvents());
  EXPECT_FALSE(client().NextEvent().has_value()) << "told once";
  // Nothing new is needed for a promotion.
  active->child().Kill();
  ASSERT_TRUE(standby->AwaitEvent(ChildEvent::Kind::kPromote).has_value());

  LimitDescriptors(1000);
  ASSERT_TRUE(WaitForEvent(client(), Type::kVmmConnected).has_value());
  const auto forward = standby->AwaitEvent(ChildEvent::Kind::kForward);
  ASSERT_TRUE(forward.has_value());
  EXPECT_EQ(forward->slot, kSlotConnection);
}

// A store with few descriptors takes few instances, instead of failing those
// that it has when one of them deposits all that it may.
TEST(StoreFewDescriptors, HoldsOnlyInstancesThatItCanHoldWhole) {
  testing::StoreProcess store(testing::kStoreBinary, {"--no-filter"},
                              BorrowedFd(-1), [] {
                                const rlimit limit = {600, 600};
                                setrlimit(RLIMIT_NOFILE, &limit);
                              });
  Client& client = store.client();
  InstanceId taken = 0;
  while (client.CreateInstance(taken + 1, "disk", MakeToken(1), true).ok()) {
    ++taken;
  }
  EXPECT_EQ(taken, (600u - 64) / (kSlotCount + 3 + 16));
  EXPECT_THAT(client.CreateInstance(99, "disk", MakeToken(1), true),
              StatusIs(absl::StatusCode::kResourceExhausted, _));
  std::vector<std::unique_ptr<FakeDevice>> devices;
  for (InstanceId id = 1; id <= taken; ++id) {
    devices.push_back(std::make_unique<FakeDevice>(id));
    ASSERT_OK(devices.back()->child().AddTo(client, id));
    ASSERT_TRUE(WaitForEvent(client, Type::kPromoted).has_value());
    for (Slot slot = kSlotFirstDevice; slot < kSlotEndSession; ++slot) {
      ASSERT_TRUE(devices.back()->Escrow(slot, 1 + slot)) << slot;
    }
  }
  for (InstanceId id = 1; id <= taken; ++id) {
    const auto fd = client.GetSlot(id, kSlotEndSession - 1);
    ASSERT_OK(fd);
    EXPECT_EQ(ReadToken(*fd), uint64_t{kSlotEndSession});
  }
}

// ---- floods ----

// Says `count` things at random that no child may say, among them things that
// only look wrong, with as many descriptors as a message can carry.
void Spam(BorrowedFd store, unsigned seed, int count) {
  std::mt19937 random(seed);
  const int null = memfd_create("spam", MFD_CLOEXEC);
  for (int i = 0; i < count; ++i) {
    uint8_t bytes[4 * sizeof(Message)] = {};
    Message message;
    message.type = Type::kEscrow;
    message.slot = static_cast<Slot>(random() % 400);
    message.instance = random() % 2 ? kOther : 0xffffffff;
    message.child = 101;
    message.tag = random();
    message.arg0 = ~uint64_t{0};  // An epoch, a connection, a time.
    size_t size = sizeof(Message);
    std::vector<int> fds(random() % 2, null);
    switch (random() % 6) {
      case 0:  // Half a message, none, a huge one.
        size = random() % sizeof(bytes);
        break;
      case 1:
        fds.assign(1 + random() % 16, null);
        break;
      case 2:  // The launcher's words, the store's, nobody's.
        message.type = static_cast<Type>(random() % 200);
        break;
      case 3:
        message.version = static_cast<uint32_t>(random());
        break;
      case 4:
        memset(message.name, 'x', sizeof(message.name));
        break;
      default:  // Right but for its addressee.
        message.slot = kSlotFirstSession;
    }
    memcpy(bytes, &message, sizeof(message));
    (void)SendFds(store, {bytes, size}, fds, MSG_DONTWAIT);
  }
}

TEST_F(StoreAttack, ThousandsOfWrongMessagesCostOnlyTheirSenders) {
  constexpr int kChildren = 40, kMessages = 250;
  auto active = Add(1);
  const size_t descriptors = CountDescriptors();
  for (ChildId id = 2; id < 2 + kChildren; ++id) {
    FakeChild culprit(id, [id](UniqueFd store, UniqueFd) {
      Spam(store, id, kMessages);
      pause();
    });
    ASSERT_OK(culprit.AddTo(client(), kDisk));
    ASSERT_TRUE(Misbehaved(id).has_value());
    EXPECT_EQ(WTERMSIG(culprit.Reap()), SIGKILL);
    ASSERT_TRUE(WaitForEvent(client(), Type::kChildLost).has_value());
  }
  EXPECT_TRUE(store_->AwaitDescriptors(descriptors));
  EXPECT_TRUE(active->Escrow(50, 5050));
  EXPECT_EQ(TokenInStore(50), 5050u);
}

// What a message says about instance and child means nothing: the channel does.
TEST_F(StoreAttack, DepositInAnothersNameIsOnesOwn) {
  auto active = Add(1);
  Command raw;
  raw.kind = Command::Kind::kRaw;
  raw.raw.type = Type::kEscrow;
  raw.raw.instance = kOther;
  raw.raw.child = 101;
  raw.raw.slot = 40;
  raw.value = 1;
  ASSERT_TRUE(active->Do(raw));
  EXPECT_TRUE(active->Escrow(41, 1));  // After that, so it is done.
  EXPECT_OK(client().GetSlot(kDisk, 40));
  EXPECT_EQ(TokenOfNeighbour(40), 4040u);
}

TEST_F(StoreAttack, EndlessDepositsHoldNoMoreThanTheSlots) {
  auto progress = testing::NewProgress();
  progress->silent_forwards = true;
  auto active = Add(1, kDisk, progress), standby = Add(2, kDisk, progress);
  const size_t descriptors = CountDescriptors();
  Command churn;
  churn.kind = Command::Kind::kChurn;
  active->Start(churn);
  while (progress->next < 3000) usleep(1000);
  EXPECT_TRUE(store_->AwaitAtMostDescriptors(
      descriptors + testing::Progress::kChurnSlots + kMaxFds));
  EXPECT_TRUE(neighbour_->Escrow(42, 4242));
}

// ---- those who read nothing, or do nothing ----

// How many messages a channel holds that nobody reads.
size_t RoomOfAChannel() {
  const auto pair = SeqpacketPair();
  EXPECT_OK(pair);
  const UniqueFd token = MakeToken(1);
  size_t room = 0;
  while (Send(pair->first, Message(), {token.get()}) == IoResult::kDone) ++room;
  return room;
}

// What is too much for the socket of a standby costs neither it nor the active
// child anything: of each slot it is told the last.
class StoreSlowStandby : public StoreStarved {
 protected:
  void SetUp() override {
    StoreStarved::SetUp();
    active_ = Add(1);
    progress_->silent_forwards = true;
    standby_ = Add(2, kDisk, progress_);
    descriptors_ = CountDescriptors();
  }
  bool AnybodyMisbehaved() {
    EXPECT_OK(client().ReadEvents());
    while (const auto event = client().NextEvent()) {
      if (event->type == Type::kChildMisbehaved) return true;
    }
    return false;
  }
  // A VMM that connects, sets up some slots and leaves; or stays.
  void Session(uint64_t token, bool leaves) {
    auto vmm = ConnectTo(path_);
    ASSERT_OK(vmm);
    const auto forward = active_->AwaitEvent(ChildEvent::Kind::kForward);
    ASSERT_TRUE(forward.has_value());
    ASSERT_NE(forward->connection, 0u);
    for (Slot slot = 40; slot < 43; ++slot) {
      ASSERT_TRUE(active_->Escrow(slot, token));
    }
    if (!leaves) {
      connection_ = forward->connection;
      return;
    }
    Command closed;
    closed.kind = Command::Kind::kVmmClosed;
    closed.value = forward->connection;
    ASSERT_TRUE(active_->Do(closed));
  }
  // The standby takes over with the session `token`.
  void ExpectSuccession(uint64_t token) {
    active_->child().Kill();
    const auto promotion = standby_->AwaitEvent(ChildEvent::Kind::kPromote);
    ASSERT_TRUE(promotion.has_value());
    EXPECT_EQ(promotion->epoch, 2u);
    for (Slot slot = 40; slot < 43; ++slot) {
      EXPECT_EQ(promotion->held[slot], token) << slot;
    }
  }

  testing::Progress* const progress_ = testing::NewProgress();
  std::unique_ptr<FakeDevice> active_, standby_;
  size_t descriptors_ = 0;
  uint64_t connection_ = 0;
};

TEST_F(StoreSlowStandby, FloodOfConnectionsCostsItNothing) {
  constexpr int kSessions = 300;
  progress_->credit = 0;
  for (int i = 1; i <= kSessions; ++i) {
    ASSERT_NO_FATAL_FAILURE(Session(i, /*leaves=*/true));
    ++progress_->credit;  // It reads one message of nine.
  }
  EXPECT_FALSE(AnybodyMisbehaved());
  // In the socket and lingering for the standby's sake, whatever was sent.
  EXPECT_TRUE(store_->AwaitAtMostDescriptors(descriptors_ + kMaxLingering));
  ASSERT_NO_FATAL_FAILURE(Session(7777, /*leaves=*/false));
  EXPECT_GT(kSessions * 8u, RoomOfAChannel()) << "nothing was too much";
  progress_->credit = ~uint64_t{0};
  ExpectSuccession(7777);
  EXPECT_FALSE(AnybodyMisbehaved());
}

TEST_F(StoreSlowStandby, OneThatIsStoppedForLongGoesOnWithTheLastOfEachSlot) {
  const size_t room = RoomOfAChannel();
  EXPECT_GT(room, size_t{kSlotCount}) << "all slots at once fit";
  kill(standby_->child().pid(), SIGSTOP);
  ASSERT_NO_FATAL_FAILURE(Session(1, /*leaves=*/false));
  for (uint64_t i = 2; i <= room; ++i) {
    for (Slot slot = 40; slot < 43; ++slot) {
      ASSERT_TRUE(active_->Escrow(slot, i)) << "the active child waits";
    }
  }
  EXPECT_TRUE(store_->AwaitAtMostDescriptors(descriptors_ + 4));
  EXPECT_FALSE(AnybodyMisbehaved());
  kill(standby_->child().pid(), SIGCONT);
  ExpectSuccession(room);
}

// The kernel bounds how many descriptors of one user are under way, unless it
// has capabilities that the store has not: what is too much for that waits as
// well, although there is room in the channel.
TEST(StoreWithoutCapabilities, TooManyDescriptorsUnderWayWait) {
  constexpr rlim_t kUnderWay = 150;
  testing::StoreProcess store(
      testing::kStoreBinary, {"--no-filter"}, BorrowedFd(-1), [] {
        const rlimit limit = {315, 315};  // One instance.
        setrlimit(RLIMIT_NOFILE, &limit);
        for (int capability : {CAP_SYS_ADMIN, CAP_SYS_RESOURCE}) {
          prctl(PR_CAPBSET_DROP, capability);
        }
      });
  Client& client = store.client();
  ASSERT_OK(client.CreateInstance(kDisk, "disk", MakeToken(1), true));
  testing::Progress* const progress = testing::NewProgress();
  progress->silent_forwards = true;
  FakeDevice active(1), standby(2, progress);
  for (FakeDevice* device : {&active, &standby}) {
    ASSERT_OK(device->child().AddTo(client, kDisk));
    ASSERT_TRUE(WaitForEvent(client, Type::kChildReady).has_value());
  }
  kill(standby.child().pid(), SIGSTOP);
  const rlimit limit = {kUnderWay, 315};
  ASSERT_EQ(prlimit(store.pid(), RLIMIT_NOFILE, &limit, nullptr), 0);
  for (uint64_t i = 1; i <= kUnderWay + 50; ++i) {
    ASSERT_TRUE(active.Escrow(40, i)) << i;
  }
  EXPECT_GT(RoomOfAChannel(), kUnderWay + 60) << "the channel was the limit";
  kill(standby.child().pid(), SIGCONT);
  active.child().Kill();
  const auto promotion = standby.AwaitEvent(ChildEvent::Kind::kPromote);
  ASSERT_TRUE(promotion.has_value());
  EXPECT_EQ(promotion->held[40], kUnderWay + 50);
}

// It asks and never reads an answer.
TEST_F(StoreAttack, ActiveChildThatReadsNoAnswerIsKilled) {
  FakeChild active(1, [](UniqueFd store, UniqueFd) {
    Message message;
    message.type = Type::kReady;
    Send(store, message, {});
    message.type = Type::kEscrow;
    message.slot = kSlotFirstSession;
    while (Send(store, message, {}) != IoResult::kGone) {
    }
    pause();
  });
  ASSERT_OK(active.AddTo(client(), kDisk));
  const auto event = Misbehaved(1);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->arg0, static_cast<uint64_t>(Error::kLimit));
  EXPECT_EQ(WTERMSIG(active.Reap()), SIGKILL);
}

// Promoted and asleep: nobody else is, before its fence.
TEST_F(StoreAttack, StoppedSuccessorIsFencedBeforeTheNext) {
  auto active = Add(1), sleeper = Add(2), next = Add(3);
  ASSERT_TRUE(active->Escrow(40, 1040));
  kill(sleeper->child().pid(), SIGSTOP);
  active->child().Kill();
  auto promoted = WaitForEvent(client(), Type::kPromoted);
  while (promoted.has_value() && promoted->arg0 < 2) {
    promoted = WaitForEvent(client(), Type::kPromoted);
  }
  ASSERT_TRUE(promoted.has_value());
  ASSERT_EQ(promoted->child, 2u);
  // Whatever else happens, it is the active one.
  ASSERT_OK(client().HoldPromotion(kDisk, true));
  ASSERT_OK(client().HoldPromotion(kDisk, false));
  ASSERT_OK(client().ReadEvents());
  while (const auto event = client().NextEvent()) {
    EXPECT_NE(event->type, Type::kPromoted);
  }
  // The launcher loses patience.
  ASSERT_OK(client().KillChild(kDisk, 2));
  const auto promotion = next->AwaitEvent(ChildEvent::Kind::kPromote);
  ASSERT_TRUE(promotion.has_value());
  EXPECT_EQ(promotion->epoch, 3u);
  EXPECT_EQ(promotion->held[40], 1040u);
  EXPECT_EQ(WTERMSIG(sleeper->child().Reap()), SIGKILL);
}

// Stopped with its socket full, it cannot even be told: a guest waits, so it is
// not waited for as long as a standby is.
TEST_F(StoreAttack, SuccessorThatCannotBeToldIsKilledAndTheNextPromoted) {
  auto active = Add(1), sleeper = Add(2);
  kill(sleeper->child().pid(), SIGSTOP);
  Command retain;  // Fills its socket with kSync.
  retain.kind = Command::Kind::kRetain;
  for (size_t i = RoomOfAChannel() + 10; i != 0; --i) {
    ASSERT_TRUE(active->Do(retain));
  }
  ASSERT_TRUE(active->Escrow(40, 1040));  // After that.
  active->child().Kill();
  const auto event = Misbehaved(2);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->arg0, static_cast<uint64_t>(Error::kLimit));
  EXPECT_EQ(WTERMSIG(sleeper->child().Reap()), SIGKILL);
  auto next = Add(3);
  const auto promotion = next->AwaitEvent(ChildEvent::Kind::kPromote);
  ASSERT_TRUE(promotion.has_value());
  EXPECT_EQ(promotion->epoch, 3u);
  EXPECT_EQ(promotion->held[40], 1040u);
}

TEST_F(StoreAttack, StoreThatIsStoppedAndGoesOnLosesNothing) {
  std::mt19937 random(3);
  auto progress = testing::NewProgress();
  progress->silent_forwards = true;
  auto active = Add(1, kDisk, progress), standby = Add(2, kDisk, progress);
  const size_t descriptors = CountDescriptors();
  for (ChildId id = 3; id < 33; ++id) {
    Command churn;
    churn.kind = Command::Kind::kChurn;
    const uint64_t next = progress->next;
    progress->end = next + 200;
    active->Start(churn);
    while (progress->next < next + random() % 100) usleep(10);
    kill(store_->pid(), SIGSTOP);
    usleep(random() % 500);
    active->child().Kill();
    if (id % 2 == 0) active->child().Reap();
    kill(store_->pid(), SIGCONT);
    const auto note = standby->AwaitEvent(ChildEvent::Kind::kPromote);
    ASSERT_TRUE(note.has_value());
    for (Slot i = 0; i < testing::Progress::kChurnSlots; ++i) {
      const uint64_t token = note->held[kSlotFirstSession + i];
      ASSERT_TRUE(token == progress->acknowledged[i] ||
                  token == progress->begun[i])
          << "slot " << i << " of child " << id;
      progress->acknowledged[i] = progress->begun[i] = token;
    }
    active = std::move(standby);
    standby = Add(id, kDisk, progress);
  }
  EXPECT_TRUE(store_->AwaitAtMostDescriptors(descriptors +
                                             testing::Progress::kChurnSlots));
}

// ---- a confused launcher ----

TEST_F(StoreAttack, WrongMessagesOfTheLauncherAreAnsweredAndLeaveNothing) {
  const size_t descriptors = CountDescriptors();
  const UniqueFd channel = store_->DupChannel();
  const std::vector<int> many(16, channel.get());
  Message hello;
  hello.type = Type::kHello;
  uint8_t bytes[4096] = {};
  memcpy(bytes, &hello, sizeof(hello));
  int asked = 0;
  for (size_t size : {size_t{1}, size_t{8}, sizeof(hello) - 1,
                      sizeof(hello) + 1, sizeof(bytes)}) {
    ASSERT_EQ(SendFds(channel, {bytes, size}, {}, 0),
              static_cast<ssize_t>(size));
    ++asked;
  }
  ASSERT_GT(SendFds(channel, {bytes, sizeof(hello)}, many, 0), 0);
  ++asked;
  for (int i = 0; i < asked; ++i) {
    Incoming answer;
    ASSERT_EQ(WaitFor(channel, Readiness::kReadable, 10'000), IoResult::kDone);
    ASSERT_EQ(Receive(channel, answer), IoResult::kDone);
    EXPECT_EQ(answer.message.type, Type::kError) << i;
    EXPECT_EQ(answer.message.arg0, static_cast<uint64_t>(Error::kBadMessage));
  }
  EXPECT_TRUE(store_->AwaitDescriptors(descriptors));
}

// The launcher says nothing more but still listens: it has ended.
TEST_F(StoreAttack, LauncherThatClosedItsHalfEndsTheStore) {
  const UniqueFd channel = store_->DupChannel();
  ASSERT_EQ(shutdown(channel.get(), SHUT_WR), 0);
  siginfo_t info = {};
  ASSERT_EQ(
      waitid(P_PID, static_cast<id_t>(store_->pid()), &info, WEXITED | WNOWAIT),
      0);
  EXPECT_EQ(info.si_code, CLD_EXITED);
  EXPECT_EQ(info.si_status, 0);
  store_->End();
}

// The other half: it hears nothing more. Promotions go on, without circles.
TEST_F(StoreAttack, LauncherThatDoesNotListenStopsNoPromotion) {
  auto active = Add(1), standby = Add(2);
  ASSERT_EQ(shutdown(store_->DupChannel().get(), SHUT_RD), 0);
  active->child().Kill();
  ASSERT_TRUE(standby->AwaitEvent(ChildEvent::Kind::kPromote).has_value());
  const uint64_t before = store_->CpuNs();
  poll(nullptr, 0, 100);
  EXPECT_LT(store_->CpuNs() - before, 10'000'000u);
  EXPECT_TRUE(neighbour_->Escrow(41, 4141));
  store_->End();
}

}  // namespace
}  // namespace holdfast::store
