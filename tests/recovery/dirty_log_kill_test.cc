// Live migration while the device is killed: a model of the destination copies
// what is marked, and nothing else, and must end up with the same memory.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/testing/managed_device_sys.h"
#include "devices/vhost_user/testing/front_end.h"
#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

using FrontEndBuffer = FrontEnd::Buffer;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kFirstPage = FrontEnd::kGuestAddress / kPage;
// What FakeDriver would write besides descriptors and the available ring.
constexpr uint64_t kFeatureIndirect = 1ull << 28;

class Migration : public ::testing::Test {
 protected:
  void Start(const std::string& program) {
    ManagedDevice::Options options;
    options.program = program;
    options.policy = "devices/virtio_rng/virtio_rng.policy";
    options.policy_includes = {"sandbox/policies"};
    options.store_program = "statestore/store/holdfast-store";
    auto device = ManagedDevice::Start(options);
    ASSERT_OK(device);
    device_ = *std::move(device);
    FrontEnd::Options vmm_options;
    vmm_options.features = ~kFeatureIndirect;
    auto vmm = FrontEnd::Connect(device_->socket_path(), vmm_options);
    ASSERT_OK(vmm);
    vmm_ = *std::move(vmm);
    ASSERT_OK(vmm_->Start());
    // Buffers and used ring shall have no page in common.
    ASSERT_NE(vmm_->driver(0).Allocate(2 * kPage), nullptr);
    // Something from before the migration.
    for (int i = 0; i < 5; ++i) {
      ASSERT_OK(vmm_->Transact(0, {FrontEndBuffer::Writable(64)}));
    }
  }

  // The first pass: everything.
  void Begin() {
    ASSERT_OK(vmm_->StartDirtyLog());
    FirstPass();
  }
  void FirstPass() {
    vmm_->TakeDirtyPages();
    destination_.assign(vmm_->memory().begin(), vmm_->memory().end());
  }

  // A further pass. The bits are taken before the pages are read, as by a VMM.
  void CopyDirtyPages() {
    for (uint64_t page : vmm_->TakeDirtyPages()) {
      ASSERT_GE(page, kFirstPage);
      const uint64_t offset = (page - kFirstPage) * kPage;
      ASSERT_LE(offset + kPage, destination_.size());
      std::memcpy(&destination_[offset], vmm_->memory().data() + offset, kPage);
      ++copied_;
    }
  }

  // The last pass, with the device stopped: how many bytes that the device may
  // have written differ. What the driver writes is the VMM's to know.
  size_t Finish() {
    EXPECT_OK(vmm_->StopQueue(0));
    vmm_->driver(0).Collect();
    EXPECT_EQ(vmm_->driver(0).outstanding(), 0u);
    EXPECT_THAT(vmm_->driver(0).violations(), ::testing::IsEmpty());
    CopyDirtyPages();
    const uint8_t* const source = vmm_->memory().data();
    const size_t drivers =
        reinterpret_cast<const uint8_t*>(&vmm_->driver(0).used()) - source;
    size_t different = 0;
    for (size_t i = drivers; i < destination_.size(); ++i) {
      different += destination_[i] != source[i] ? 1 : 0;
    }
    return different;
  }

  // Requests with answers of all sizes, over page borders, some in flight at
  // each kill.
  void RunWithKills(int kills) {
    for (int kill = 0; kill < kills; ++kill) {
      for (int i = 0; i < 12; ++i) {
        const auto size = static_cast<uint32_t>(1 + random_() % 6000);
        (void)vmm_->driver(0).Post(
            {FrontEndBuffer::Writable(size), FrontEndBuffer::Writable(16)});
      }
      ASSERT_OK(vmm_->Kick(0));
      usleep(random_() % 200);
      ASSERT_OK(device_->Kill(SIGKILL));
      if (random_() % 2 == 0) CopyDirtyPages();
      ASSERT_OK(device_->AddStandby());
      vmm_->driver(0).Collect();
    }
    while (vmm_->driver(0).outstanding() > 0) {
      vmm_->driver(0).Collect();
      usleep(200);
    }
  }

  std::mt19937 random_{7};
  std::unique_ptr<ManagedDevice> device_;
  std::unique_ptr<FrontEnd> vmm_;
  std::vector<uint8_t> destination_;
  size_t copied_ = 0;
};

TEST_F(Migration, LosesNoWriteOverKillsAtRandom) {
  Start("examples/hello_virtio/hello_virtio");
  Begin();
  const char* const scale = getenv("HOLDFAST_KILLS");
  RunWithKills(scale != nullptr ? atoi(scale) : 40);
  EXPECT_EQ(Finish(), 0u);
  EXPECT_GT(copied_, 0u);
}

// The control: with marking off, the model sees answers and used ring missing.
TEST_F(Migration, TheModelNoticesThatNothingIsMarked) {
  Start("examples/hello_virtio/hello_virtio");
  Begin();
  ASSERT_OK(vmm_->StopDirtyLog());
  FirstPass();
  RunWithKills(2);
  EXPECT_GT(Finish(), 24u);
  EXPECT_EQ(copied_, 0u);
}

// And a used ring that nobody wants logged is noticed by itself.
TEST_F(Migration, TheModelNoticesAnUnmarkedUsedRing) {
  Start("examples/hello_virtio/hello_virtio");
  Begin();
  // The addresses anew, without the flag; the features stay.
  ASSERT_OK(vmm_->LogUsedRing(0, /*on=*/false));
  FirstPass();
  RunWithKills(2);
  const size_t different = Finish();
  EXPECT_GT(different, 0u);
  // Nothing but the ring: 6 + 8 * 128 bytes.
  EXPECT_LE(different, 6u + 8u * 128u);
}

// The executor dies after its write and before any mark. Whoever answers the
// request in its place has to mark what somebody may have written.
TEST_F(Migration, WhatWasWrittenByTheDeadIsMarked) {
  Start("tests/recovery/crashy_device");
  Begin();
  ASSERT_TRUE(vmm_->driver(0)
                  .Post({FrontEndBuffer::Readable({'Y'}),
                         FrontEndBuffer::Writable(3 * kPage)})
                  .has_value());
  ASSERT_OK(vmm_->Kick(0));
  for (int death = 0; death < 2; ++death) {
    ASSERT_OK(device_->AwaitRecovery());
    ASSERT_OK(device_->AddStandby());
  }
  ASSERT_OK(vmm_->Transact(
      0, {FrontEndBuffer::Readable({'a'}), FrontEndBuffer::Writable(1)}));
  // The driver's own write of the request's first byte is not the device's.
  const uint8_t* const source = vmm_->memory().data();
  const uint8_t* const written =
      std::search_n(source, source + vmm_->memory().size(), 3 * kPage, 'Y');
  ASSERT_NE(written, source + vmm_->memory().size());
  CopyDirtyPages();
  EXPECT_EQ(std::memcmp(&destination_[written - source], written, 3 * kPage),
            0);
}

}  // namespace
}  // namespace holdfast::testing
