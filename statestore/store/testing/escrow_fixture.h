#ifndef HOLDFAST_STATESTORE_STORE_TESTING_ESCROW_FIXTURE_H_
#define HOLDFAST_STATESTORE_STORE_TESTING_ESCROW_FIXTURE_H_

#include <cstdint>
#include <memory>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/store/actions.h"
#include "statestore/store/protocol.h"
#include "statestore/store/tables.h"
#include "statestore/store/testing/escrow_scene.h"

namespace holdfast::store::testing {

inline constexpr InstanceId kDisk = 7;

inline Message Of(Type type, InstanceId instance = kDisk) {
  Message message;
  message.type = type;
  message.instance = instance;
  return message;
}

inline Message WithSlot(Type type, Slot slot) {
  Message message = Of(type);
  message.slot = slot;
  return message;
}

inline Message WithChild(Type type, ChildId child) {
  Message message = Of(type);
  message.child = child;
  return message;
}

inline Message WithArg(Type type, uint64_t arg0) {
  Message message = Of(type);
  message.arg0 = arg0;
  return message;
}

inline bool IsError(const Message& answer, Error error) {
  return answer.type == Type::kError &&
         answer.arg0 == static_cast<uint64_t>(error);
}

// An instance with an active child 1 and a ready standby 2; no rule of the
// Scene may be broken by what a test does with them.
class EscrowTest : public ::testing::Test {
 protected:
  EscrowTest() : scene_(std::make_unique<Scene>()) {
    scene().Create(kDisk);
    active_ = scene().Add(kDisk, 1);
    scene().Say(active_, Type::kReady);
    standby_ = scene().Add(kDisk, 2);
    scene().Say(standby_, Type::kReady);
  }
  void TearDown() override {
    EXPECT_THAT(scene().problems(), ::testing::IsEmpty());
  }

  Scene& scene() { return *scene_; }
  const Instance& disk() { return scene().instance(kDisk); }
  Handle HeldIn(Slot slot) { return disk().slots[slot]; }

  std::unique_ptr<Scene> scene_;
  Scene::ChildHandles active_, standby_;
};

}  // namespace holdfast::store::testing

#endif  // HOLDFAST_STATESTORE_STORE_TESTING_ESCROW_FIXTURE_H_
