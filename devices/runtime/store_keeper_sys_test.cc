#include "devices/runtime/store_keeper_sys.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "base/unix_socket_sys.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using store::Message;
using store::Type;

template <typename T>
absl::Span<const uint8_t> BytesOf(const T& value) {
  return {reinterpret_cast<const uint8_t*>(&value), sizeof(value)};
}

// The store's end of a channel: the test plays the store.
class FakeStore {
 public:
  explicit FakeStore(UniqueFd channel) : channel_(std::move(channel)) {}

  struct Heard {
    Message message;
    ReceivedFds fds;
  };
  Heard Hear() {
    Heard heard;
    const auto got = ReceiveWithFds(
        channel_,
        {reinterpret_cast<uint8_t*>(&heard.message), sizeof(heard.message)},
        heard.fds);
    EXPECT_OK(got);
    return heard;
  }
  void Say(const Message& message, BorrowedFd fd) {
    EXPECT_OK(SendWithFds(channel_, BytesOf(message), {fd.get()}));
  }
  void Ack(const Heard& heard) {
    Message ack;
    ack.type = Type::kAck;
    ack.tag = heard.message.tag;
    EXPECT_OK(SendWithFds(channel_, BytesOf(ack), {}));
  }
  Heard HearAndAck() {
    Heard heard = Hear();
    Ack(heard);
    return heard;
  }
  void Die() { channel_.Reset(); }

 private:
  UniqueFd channel_;
};

class StoreKeeperTest : public ::testing::Test {
 protected:
  StoreKeeperTest() {
    auto control = SeqpacketPair();
    launcher_ = std::move(control->first);
    auto [child, store] = Channel();
    store_.emplace(std::move(store));
    keeper_.emplace(std::move(child), std::move(control->second), descriptors_);
  }

  static std::pair<UniqueFd, UniqueFd> Channel() { return *SeqpacketPair(); }
  static UniqueFd Event() { return UniqueFd(eventfd(0, EFD_CLOEXEC)); }

  void Say(ControlMessage::Type type, std::vector<int> fds = {},
           uint32_t version = ControlMessage().version) {
    ControlMessage message;
    message.type = type;
    message.version = version;
    ASSERT_OK(SendWithFds(launcher_, BytesOf(message), fds));
  }
  // The launcher has started a new store and hands its channel over.
  FakeStore NewStore() {
    auto [child, store] = Channel();
    Say(ControlMessage::Type::kStoreChannel, {child.get()});
    return FakeStore(std::move(store));
  }

  DescriptorSlots descriptors_;
  UniqueFd launcher_;
  std::optional<FakeStore> store_;
  std::optional<StoreKeeper> keeper_;
};

using Control = StoreKeeper::Control;

TEST_F(StoreKeeperTest, HearsTheLauncher) {
  EXPECT_EQ(keeper_->ReceiveControl(), Control::kNone);
  Say(ControlMessage::Type::kResourceChanged);
  Say(ControlMessage::Type::kStop);
  EXPECT_EQ(keeper_->ReceiveControl(), Control::kResourceChanged);
  EXPECT_EQ(keeper_->ReceiveControl(), Control::kStop);
  EXPECT_EQ(keeper_->ReceiveControl(), Control::kNone);
}

TEST_F(StoreKeeperTest, GoesOnWithoutALauncher) {
  launcher_.Reset();
  EXPECT_EQ(keeper_->ReceiveControl(), Control::kLauncherGone);
  EXPECT_EQ(keeper_->ReceiveControl(), Control::kNone);
  EXPECT_FALSE(keeper_->control().valid());
}

TEST_F(StoreKeeperTest, IgnoresWhatItDoesNotUnderstand) {
  Say(ControlMessage::Type::kStop, {}, /*version=*/99);
  EXPECT_EQ(keeper_->ReceiveControl(), Control::kNone);
  Say(static_cast<ControlMessage::Type>(77));
  EXPECT_EQ(keeper_->ReceiveControl(), Control::kNone);
  const uint8_t byte = 1;
  ASSERT_OK(SendWithFds(launcher_, {&byte, 1}, {}));
  EXPECT_EQ(keeper_->ReceiveControl(), Control::kNone);
  Say(ControlMessage::Type::kStoreChannel);  // Without a descriptor.
  EXPECT_EQ(keeper_->ReceiveControl(), Control::kNone);
  EXPECT_FALSE(keeper_->channel().gone());
}

// A descriptor that nobody wants must not stay open.
TEST_F(StoreKeeperTest, ClosesDescriptorsThatItDoesNotKeep) {
  int pipe_ends[2];
  ASSERT_EQ(pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd reader(pipe_ends[0]);
  UniqueFd writer(pipe_ends[1]);
  Say(ControlMessage::Type::kResourceChanged, {writer.get()});
  writer.Reset();
  EXPECT_EQ(keeper_->ReceiveControl(), Control::kResourceChanged);
  char byte;
  EXPECT_EQ(read(reader.get(), &byte, 1), 0);  // End of file: all closed.
}

TEST_F(StoreKeeperTest, EscrowReturnsWhenTheStoreHoldsIt) {
  const UniqueFd event = Event();
  std::thread store([&] {
    FakeStore::Heard heard = store_->HearAndAck();
    EXPECT_EQ(heard.message.type, Type::kEscrow);
    EXPECT_EQ(heard.message.slot, 40);
    ASSERT_EQ(heard.fds.count, 1u);
    EXPECT_EQ(eventfd_write(heard.fds.fds[0].get(), 3), 0);
  });
  EXPECT_OK(keeper_->Escrow(40, event));
  store.join();
  eventfd_t value = 0;
  eventfd_read(event.get(), &value);
  EXPECT_EQ(value, 3u);  // The very same.
}

// The store dies in the middle of a deposit: the device waits for the next one,
// gives it all that it holds, and deposits again.
TEST_F(StoreKeeperTest, EscrowOutlivesTheStore) {
  const UniqueFd event = Event();
  descriptors_.Set(store::kSlotFirstResource, Event());
  descriptors_.SetConnection(Event(), 11);
  std::thread world([&] {
    store_->Hear();
    store_->Die();
    FakeStore next = NewStore();
    bool connection = false, resource = false;
    for (int i = 0; i < 2; ++i) {
      const FakeStore::Heard heard = next.HearAndAck();
      EXPECT_EQ(heard.message.type, Type::kEscrow);
      connection |= heard.message.slot == store::kSlotConnection &&
                    heard.message.arg0 == 11;
      resource |= heard.message.slot == store::kSlotFirstResource;
    }
    EXPECT_TRUE(connection && resource);
    EXPECT_EQ(next.Hear().message.type, Type::kReady);
    const FakeStore::Heard again = next.HearAndAck();
    EXPECT_EQ(again.message.type, Type::kEscrow);
    EXPECT_EQ(again.message.slot, 40);
  });
  EXPECT_OK(keeper_->Escrow(40, event));
  world.join();
}

// What the launcher says meanwhile is not lost.
TEST_F(StoreKeeperTest, WhatIsSaidWhileItWaitsForAStoreIsHeardLater) {
  store_->Die();
  std::thread world([&] {
    Say(ControlMessage::Type::kStop);
    Say(ControlMessage::Type::kResourceChanged);
    FakeStore next = NewStore();
    EXPECT_EQ(next.Hear().message.type, Type::kReady);
    next.HearAndAck();
  });
  const UniqueFd event = Event();
  EXPECT_OK(keeper_->Escrow(40, event));
  world.join();
  EXPECT_TRUE(keeper_->HasControl());
  EXPECT_EQ(keeper_->ReceiveControl(), Control::kStop);
  EXPECT_EQ(keeper_->ReceiveControl(), Control::kResourceChanged);
  EXPECT_FALSE(keeper_->HasControl());
  EXPECT_EQ(keeper_->ReceiveControl(), Control::kNone);
}

// The old store's last forward is newer than what this process would deposit.
TEST_F(StoreKeeperTest, OldStoresLastWordsCanBeHeardBeforeTheNewOneIsTold) {
  EXPECT_OK(keeper_->Reattach());  // There is none yet: nothing to do.
  Message forward;
  forward.type = Type::kForward;
  forward.slot = 40;
  const UniqueFd event = Event();
  store_->Say(forward, event);
  store_->Die();
  FakeStore next = NewStore();
  EXPECT_EQ(keeper_->ReceiveControl(), Control::kNewStore);
  store::ChildEvent heard;
  ASSERT_EQ(keeper_->channel().Receive(heard),
            store::ChildChannel::Received::kEvent);
  descriptors_.Set(heard.slot, std::move(heard.fd));
  std::thread world([&] {
    EXPECT_EQ(next.HearAndAck().message.slot, 40);
    EXPECT_EQ(next.Hear().message.type, Type::kReady);
  });
  EXPECT_OK(keeper_->Reattach());
  world.join();
}

// It was promoted by the old store's last word and deposits at once: the new
// store's channel has come already.
TEST_F(StoreKeeperTest, DepositFindsTheNewStoreThatHasBeenHeardOf) {
  store_->Die();
  FakeStore next = NewStore();
  EXPECT_EQ(keeper_->ReceiveControl(), Control::kNewStore);
  std::thread world([&] {
    EXPECT_EQ(next.Hear().message.type, Type::kReady);
    EXPECT_EQ(next.HearAndAck().message.slot, 41);
  });
  const UniqueFd event = Event();
  EXPECT_OK(keeper_->Escrow(41, event));
  world.join();
  EXPECT_OK(keeper_->Reattach());
  EXPECT_FALSE(keeper_->channel().gone());
}

TEST_F(StoreKeeperTest, SaysSoWhenThereIsNobodyLeftToAsk) {
  store_->Die();
  launcher_.Reset();
  const UniqueFd event = Event();
  EXPECT_FALSE(keeper_->Escrow(40, event).ok());
  keeper_->VmmClosed(1);  // Returns.
}

TEST_F(StoreKeeperTest, TellsTheEndOfAConnectionAgainToANewStore) {
  std::thread world([&] {
    FakeStore::Heard heard = store_->Hear();
    EXPECT_EQ(heard.message.type, Type::kVmmClosed);
    EXPECT_EQ(heard.message.arg0, 5u);
    store_->Die();
    FakeStore next = NewStore();
    EXPECT_EQ(next.Hear().message.type, Type::kReady);
    heard = next.HearAndAck();
    EXPECT_EQ(heard.message.type, Type::kVmmClosed);
    EXPECT_EQ(heard.message.arg0, 5u);
  });
  keeper_->VmmClosed(5);
  world.join();
}

TEST_F(StoreKeeperTest, RetainDoesNotWait) {
  std::array<uint64_t, store::kSlotCount / 64> bitmap{};
  bitmap[0] = 1ull << 40;
  keeper_->Retain(bitmap);
  const FakeStore::Heard heard = store_->Hear();
  EXPECT_EQ(heard.message.type, Type::kRetain);
  EXPECT_EQ(heard.message.bitmap[0], 1ull << 40);
  store_->Die();
  keeper_->Retain(bitmap);  // Not an error, either.
}

TEST(NoKeeper, KeepsNothing) {
  NoKeeper keeper;
  EXPECT_OK(keeper.Escrow(40, BorrowedFd(-1)));
  keeper.Retain({});
  keeper.VmmClosed(1);
}

}  // namespace
}  // namespace holdfast
