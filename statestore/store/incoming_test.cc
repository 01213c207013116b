#include "statestore/store/incoming.h"

#include <cstring>

#include "gtest/gtest.h"

namespace holdfast::store {
namespace {

Incoming Good(Type type, size_t fd_count = 0) {
  Incoming incoming;
  incoming.message.type = type;
  incoming.size = sizeof(Message);
  incoming.fd_count = fd_count;
  for (size_t i = 0; i < fd_count; ++i) incoming.fds[i] = 10 + i;
  return incoming;
}

TEST(Check, EveryTypeBelongsToOneSender) {
  for (int raw = 0; raw < 65536; ++raw) {
    const Type type = static_cast<Type>(raw);
    int senders = 0;
    for (Sender sender : {Sender::kLauncher, Sender::kChild, Sender::kStore}) {
      if (Check(Good(type, FdsOf(type).least), sender) == Error::kNone) {
        ++senders;
      }
    }
    const bool known = (raw >= 1 && raw <= 11) || (raw >= 64 && raw <= 78) ||
                       (raw >= 128 && raw <= 132) || (raw >= 192 && raw <= 196);
    EXPECT_EQ(senders, known ? 1 : 0) << raw;
  }
}

TEST(Check, SizeMustBeExact) {
  for (size_t size : {size_t{0}, size_t{1}, sizeof(Message) - 1}) {
    Incoming incoming = Good(Type::kReady);
    incoming.size = size;
    EXPECT_EQ(Check(incoming, Sender::kChild), Error::kBadMessage);
  }
  Incoming larger = Good(Type::kReady);
  larger.truncated = true;
  EXPECT_EQ(Check(larger, Sender::kChild), Error::kBadMessage);
}

TEST(Check, VersionSlotAndNameAreValidated) {
  Incoming incoming = Good(Type::kReady);
  incoming.message.version = 2;
  EXPECT_EQ(Check(incoming, Sender::kChild), Error::kBadMessage);
  incoming = Good(Type::kReady);
  incoming.message.slot = kSlotCount;
  EXPECT_EQ(Check(incoming, Sender::kChild), Error::kBadMessage);
  incoming = Good(Type::kReady);
  std::memset(incoming.message.name, 'x', sizeof(incoming.message.name));
  EXPECT_EQ(Check(incoming, Sender::kChild), Error::kBadMessage);
}

TEST(Check, DescriptorCountIsThatOfTheType) {
  EXPECT_EQ(Check(Good(Type::kAddChild, 4), Sender::kLauncher), Error::kNone);
  EXPECT_EQ(Check(Good(Type::kAddChild, 3), Sender::kLauncher),
            Error::kBadMessage);
  EXPECT_EQ(Check(Good(Type::kReady, 1), Sender::kChild), Error::kBadMessage);
  EXPECT_EQ(Check(Good(Type::kEscrow, 0), Sender::kChild), Error::kNone);
  EXPECT_EQ(Check(Good(Type::kEscrow, 1), Sender::kChild), Error::kNone);
  EXPECT_EQ(Check(Good(Type::kEscrow, 2), Sender::kChild), Error::kBadMessage);
}

TEST(CloseRest, ClosesWhatNobodyTook) {
  Incoming incoming = Good(Type::kAddChild, 4);
  EXPECT_EQ(Take(incoming, 1), 11);
  ActionList actions;
  CloseRest(incoming, actions);
  CloseRest(incoming, actions);
  ASSERT_EQ(actions.size(), 3u);
  EXPECT_EQ(actions.begin()[0].handle, 10);
  EXPECT_EQ(actions.begin()[1].handle, 12);
  EXPECT_EQ(actions.begin()[2].handle, 13);
}

TEST(Key, SurvivesPacking) {
  const Key key = {Watch::kPidfd, 31, 3, 0xfedcba98};
  const Key back = Unpack(Pack(key));
  EXPECT_EQ(back.watch, key.watch);
  EXPECT_EQ(back.instance, key.instance);
  EXPECT_EQ(back.child, key.child);
  EXPECT_EQ(back.generation, key.generation);
}

TEST(Ranges, CoverEverySlotOnce) {
  for (Slot slot = 0; slot < kSlotCount; ++slot) {
    EXPECT_EQ((slot == kSlotConnection) + IsResource(slot) + IsDevice(slot) +
                  IsSession(slot),
              1)
        << slot;
  }
  EXPECT_FALSE(IsSession(kSlotCount));
}

TEST(ActionList, OverflowIsNotedAndHarmless) {
  ActionList actions;
  for (size_t i = 0; i <= ActionList::kCapacity; ++i) {
    EXPECT_EQ(actions.overflowed(), false);
    actions.Add(Action::Kind::kClose).handle = static_cast<Handle>(i);
  }
  EXPECT_TRUE(actions.overflowed());
  EXPECT_EQ(actions.size(), ActionList::kCapacity);
}

}  // namespace
}  // namespace holdfast::store
