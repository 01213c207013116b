#include "devices/bus/virtio_device.h"

#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include "base/testing/matchers.h"
#include "devices/testing/fake_context.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::FakeContext;
using ::holdfast::testing::FakeRequest;

struct CountState {
  static constexpr SchemaId kSchema{"count", /*version=*/1};
  Cell<uint64_t> requests{"requests"};
  Cell<uint32_t> limit{"limit"};
};

struct OtherState {
  static constexpr SchemaId kSchema{"other", /*version=*/1};
  Cell<uint64_t> value{"value"};
};

// No field may be there twice.
struct TwiceState {
  static constexpr SchemaId kSchema{"twice", /*version=*/1};
  Cell<uint64_t> one{"same"};
  Cell<uint64_t> other{"same"};
};

VirtioSpec Spec() {
  return VirtioSpec(virtio::kDeviceIdRng).Queue("q", 64).State<CountState>();
}

// Does what a test says, and the defaults for the rest.
class Device final : public VirtioDevice {
 public:
  absl::Status OnRequest(Request& request, Txn& txn) override {
    return on_request(request, txn);
  }
  std::function<absl::Status(Request&, Txn&)> on_request;
};

class VirtioDeviceTest : public ::testing::Test {
 protected:
  FakeContext::Result Run(size_t writable = 8, bool poisoned = false) {
    FakeRequest request({"in"}, {writable});
    const auto result = context_.Run(device_, request.request(), poisoned);
    answer_ = request.written();
    return result;
  }
  // What is committed.
  uint64_t Requests() {
    uint64_t value = 0;
    Device reader;
    reader.on_request = [&](Request&, Txn& txn) {
      value = txn.Get(state_.requests);
      return absl::OkStatus();
    };
    FakeRequest request({}, {});
    EXPECT_OK(context_.Run(reader, request.request()).status);
    return value;
  }
  absl::Status Count(Txn& txn) {
    txn.Set(state_.requests, txn.Get(state_.requests) + 1);
    return absl::OkStatus();
  }

  FakeContext context_{Spec()};
  const CountState state_ = context_.State<CountState>();
  Device device_;
  std::string answer_;
};

// ---- Transactions ----

TEST_F(VirtioDeviceTest, WhatARequestChangesIsThereForTheNext) {
  device_.on_request = [&](Request&, Txn& txn) { return Count(txn); };
  for (int i = 0; i < 3; ++i) EXPECT_OK(Run().status);
  EXPECT_EQ(Requests(), 3u);
}

TEST_F(VirtioDeviceTest, ATransactionSeesItsOwnChanges) {
  device_.on_request = [&](Request&, Txn& txn) {
    EXPECT_OK(Count(txn));
    EXPECT_EQ(txn.Get(state_.requests), 1u);
    return Count(txn);
  };
  EXPECT_OK(Run().status);
  EXPECT_EQ(Requests(), 2u);
}

TEST_F(VirtioDeviceTest, ARefusedRequestChangesNothing) {
  device_.on_request = [&](Request&, Txn& txn) {
    EXPECT_OK(Count(txn));
    return absl::InvalidArgumentError("no");
  };
  EXPECT_TRUE(absl::IsInvalidArgument(Run().status));
  EXPECT_EQ(Requests(), 0u);
}

TEST_F(VirtioDeviceTest, StateOutlivesTheProcess) {
  device_.on_request = [&](Request&, Txn& txn) { return Count(txn); };
  EXPECT_OK(Run().status);
  context_.NewEpoch();
  EXPECT_OK(Run().status);
  EXPECT_EQ(Requests(), 2u);
}

// ---- Completion ----

TEST_F(VirtioDeviceTest, ARequestThatIsNotCompletedHasNothingWritten) {
  device_.on_request = [](Request& request, Txn&) {
    request.Write("lost");
    return absl::OkStatus();
  };
  EXPECT_EQ(Run().written, 0u);
}

// A driver would read beyond its own buffer.
TEST_F(VirtioDeviceTest, NoMoreIsWrittenThanThereIsRoom) {
  device_.on_request = [](Request& request, Txn& txn) {
    txn.Complete(request, request.Write("0123456789"));
    return absl::OkStatus();
  };
  EXPECT_EQ(Run(/*writable=*/4).written, 4u);
  EXPECT_EQ(answer_, "0123");
  device_.on_request = [](Request& request, Txn& txn) {
    txn.Complete(request, ~size_t{0});
    return absl::OkStatus();
  };
  EXPECT_EQ(Run(/*writable=*/4).written, 4u);
}

// ---- What a device need not say ----

TEST_F(VirtioDeviceTest, APoisonedRequestIsAnsweredWithoutTheDevice) {
  device_.on_request = [](Request&, Txn&) {
    ADD_FAILURE() << "executed";
    return absl::OkStatus();
  };
  const auto result = Run(/*writable=*/8, /*poisoned=*/true);
  EXPECT_OK(result.status);
  EXPECT_EQ(result.written, 0u);
}

TEST_F(VirtioDeviceTest, ConfigurationSpaceIsZeroAndReadOnly) {
  std::array<uint8_t, 4> bytes = {1, 2, 3, 4};
  device_.ReadConfig(0, absl::MakeSpan(bytes));
  EXPECT_EQ(bytes, (std::array<uint8_t, 4>{}));
  EXPECT_TRUE(absl::IsPermissionDenied(device_.WriteConfig(0, bytes)));
  device_.OnFeatures(~0ull);
  device_.OnResourceChanged();
  device_.Reset();
  EXPECT_EQ(context_.config_changes(), 0);
}

TEST_F(VirtioDeviceTest, AResourceThatWasNotGivenIsInvalid) {
  EXPECT_FALSE(context_.Resource("image").valid());
}

// The author's mistake, found by the first request and not by a crash.
TEST_F(VirtioDeviceTest, StateThatWasNotDeclaredFailsTheTransaction) {
  const OtherState other = context_.State<OtherState>();
  device_.on_request = [&](Request&, Txn& txn) {
    txn.Set(other.value, 1);
    EXPECT_OK(Count(txn));
    return absl::OkStatus();
  };
  EXPECT_FALSE(Run().status.ok());
  EXPECT_EQ(Requests(), 0u);
}

// ---- The spec ----

TEST(VirtioSpec, SaysWhatItWasTold) {
  const VirtioSpec spec = VirtioSpec(virtio::kDeviceIdBlock)
                              .Queue("requests", 128, /*workers=*/4)
                              .Queue("events", 16)
                              .Features(1 << 3)
                              .Features(1 << 5)
                              .ConfigSize(60)
                              .Resource("image", "a disk")
                              .CompatVersion(3)
                              .State<CountState>();
  EXPECT_EQ(spec.device_id(), virtio::kDeviceIdBlock);
  ASSERT_EQ(spec.queues().size(), 2u);
  EXPECT_EQ(spec.queues()[0].name, "requests");
  EXPECT_EQ(spec.queues()[0].max_size, 128);
  EXPECT_EQ(spec.queues()[0].workers, 4);
  EXPECT_EQ(spec.queues()[1].workers, 1);  // In ring order, unless it asks.
  EXPECT_EQ(spec.features(), 0b101000u);
  EXPECT_EQ(spec.features(1), 0b101000u);
  EXPECT_EQ(spec.config_size(), 60u);
  ASSERT_EQ(spec.resources().size(), 1u);
  EXPECT_EQ(spec.resources()[0].name, "image");
  EXPECT_EQ(spec.compat_version(), 3u);
  ASSERT_OK(spec.schema());
  EXPECT_GE(spec.schema()->size, 12u);
}

TEST(VirtioSpec, LaterFeaturesAreForLaterGuests) {
  const VirtioSpec spec = VirtioSpec(virtio::kDeviceIdBlock)
                              .Features(1 << 3)
                              .FeaturesSince(2, 1 << 4)
                              .FeaturesSince(4, 1 << 5)
                              .CompatVersion(3);
  EXPECT_EQ(spec.features(1), 0b001000u);
  EXPECT_EQ(spec.features(2), 0b011000u);
  EXPECT_EQ(spec.features(), 0b011000u) << "of version 3";
  EXPECT_EQ(spec.features(4), 0b111000u);
  EXPECT_EQ(spec.SeenBy(1).features(), 0b001000u);
  EXPECT_EQ(spec.SeenBy(2).features(), 0b011000u);
  EXPECT_EQ(spec.SeenBy(1).compat_version(), 3u);
}

TEST(VirtioSpec, IsADeviceWithoutAnythingAtFirst) {
  const VirtioSpec spec(virtio::kDeviceIdRng);
  EXPECT_TRUE(spec.queues().empty());
  EXPECT_TRUE(spec.resources().empty());
  EXPECT_EQ(spec.features(), 0u);
  EXPECT_EQ(spec.config_size(), 0u);
  EXPECT_EQ(spec.compat_version(), 1u);
  ASSERT_OK(spec.schema());
  EXPECT_EQ(spec.schema()->size, 0u);
}

TEST(VirtioSpec, StateThatBreaksTheRulesIsAnError) {
  const VirtioSpec spec = VirtioSpec(virtio::kDeviceIdRng).State<TwiceState>();
  EXPECT_FALSE(spec.schema().ok());
}

}  // namespace
}  // namespace holdfast
