#ifndef HOLDFAST_STATESTORE_STORE_TESTING_STORE_FIXTURE_H_
#define HOLDFAST_STATESTORE_STORE_TESTING_STORE_FIXTURE_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/testing/matchers.h"
#include "gtest/gtest.h"
#include "statestore/store/child_channel.h"
#include "statestore/store/client.h"
#include "statestore/store/protocol.h"
#include "statestore/store/testing/fake_device_sys.h"
#include "statestore/store/testing/store_process_sys.h"

namespace holdfast::store::testing {

inline constexpr char kStoreBinary[] = "statestore/store/holdfast-store";
inline constexpr InstanceId kDisk = 7;

// A real holdfast-store with one instance, and fake devices for it.
class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override { Create(kDisk); }

  Client& client() { return store_->client(); }

  void Create(InstanceId instance) {
    ASSERT_OK(client().CreateInstance(instance, "disk", MakeToken(99), true));
  }

  // How many the store has open, once it has done all that it was asked.
  size_t CountDescriptors() {
    EXPECT_OK(client().HoldPromotion(kDisk, false));
    return store_->CountDescriptors();
  }

  // Adds a child; the first of an instance comes back promoted, others ready.
  std::unique_ptr<FakeDevice> Add(ChildId id, InstanceId instance = kDisk,
                                  Progress* progress = nullptr) {
    auto device = std::make_unique<FakeDevice>(id, progress);
    EXPECT_OK(device->child().AddTo(client(), instance));
    EXPECT_TRUE(WaitForEvent(client(), Type::kChildReady).has_value());
    return device;
  }

  // A new store knows the instance again, with the segment that was kept.
  void Restart() {
    store_->Kill();
    store_ = std::make_unique<StoreProcess>(kStoreBinary);
    Create(kDisk);
  }
  void Reattach(FakeDevice& device, uint64_t flags, uint64_t epoch) {
    Command command;
    command.kind = Command::Kind::kReattach;
    const UniqueFd channel = device.child().NewChannel();
    ASSERT_OK(device.child().AddTo(client(), kDisk, flags, epoch));
    ASSERT_TRUE(device.Do(command, channel));
    ASSERT_TRUE(WaitForEvent(client(), Type::kChildReady).has_value());
  }
  uint64_t TokenInStore(Slot slot) {
    const auto fd = client().GetSlot(kDisk, slot);
    return fd.ok() ? ReadToken(*fd) : 0;
  }

  std::unique_ptr<StoreProcess> store_ =
      std::make_unique<StoreProcess>(kStoreBinary);
};

}  // namespace holdfast::store::testing

#endif  // HOLDFAST_STATESTORE_STORE_TESTING_STORE_FIXTURE_H_
