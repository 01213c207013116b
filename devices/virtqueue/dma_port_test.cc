#include "devices/virtqueue/dma_port.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::ElementsAre;

// Memory from address 0x1000 on, and what was asked of it.
class NotedDma final : public Dma {
 public:
  absl::Status Read(GuestAddress address, absl::Span<uint8_t> out) override {
    return Note("r", address, out.size(),
                [&](uint8_t* at) { std::memcpy(out.data(), at, out.size()); });
  }
  absl::Status Write(GuestAddress address,
                     absl::Span<const uint8_t> bytes) override {
    return Note("w", address, bytes.size(), [&](uint8_t* at) {
      std::memcpy(at, bytes.data(), bytes.size());
    });
  }
  absl::StatusOr<DmaMapping> Map(GuestAddress, uint64_t, DmaAccess) override {
    return absl::FailedPreconditionError("nothing is mapped");
  }
  void Written(GuestAddress, uint64_t) override {}

  std::vector<std::string> log;
  bool fails = false;
  std::array<uint8_t, 256> memory{};

 private:
  template <typename Move>
  absl::Status Note(const char* what, GuestAddress address, size_t size,
                    Move move) {
    const uint64_t offset = ToInt(address) - 0x1000;
    log.push_back(absl::StrCat(what, offset, "+", size));
    if (fails) return absl::UnavailableError("no answer");
    move(memory.data() + offset);
    return absl::OkStatus();
  }
};

template <typename T>
T* At(uint64_t offset) {
  return reinterpret_cast<T*>(uintptr_t{0x1000 + offset});
}

class DmaPortTest : public ::testing::Test {
 protected:
  DmaPortTest() { port_.Use(); }

  NotedDma dma_;
  DmaPort port_{dma_};
  uint32_t own_ = 0;
};

TEST_F(DmaPortTest, StoresThatFollowOneAnotherAreOneTransfer) {
  PortAccess::Store(At<uint32_t>(8), uint32_t{0x11223344});
  PortAccess::Store(At<uint32_t>(12), uint32_t{0x55667788});
  EXPECT_THAT(dma_.log, ElementsAre());
  PortAccess::StoreRelease(At<uint16_t>(2), uint16_t{7});
  EXPECT_THAT(dma_.log, ElementsAre("w8+8", "w2+2"));
  EXPECT_EQ(dma_.memory[8], 0x44);
  EXPECT_EQ(dma_.memory[15], 0x55);
  EXPECT_EQ(dma_.memory[2], 7);
}

TEST_F(DmaPortTest, StoresApartAreTransfersInOrder) {
  PortAccess::Store(At<uint16_t>(0), uint16_t{1});
  PortAccess::Store(At<uint32_t>(8), uint32_t{2});
  PortAccess::Store(At<uint32_t>(4), uint32_t{3});
  PortAccess::Fence();
  EXPECT_THAT(dma_.log, ElementsAre("w0+2", "w8+4", "w4+4"));
}

TEST_F(DmaPortTest, ALongRunOfStoresIsCut) {
  for (uint64_t at = 0; at < 72; at += 4) {
    PortAccess::Store(At<uint32_t>(at), static_cast<uint32_t>(at));
  }
  PortAccess::Fence();
  EXPECT_THAT(dma_.log, ElementsAre("w0+64", "w64+8"));
  EXPECT_EQ(dma_.memory[68], 68);
}

TEST_F(DmaPortTest, LoadsSeeWhatWasStored) {
  PortAccess::Store(At<uint16_t>(4), uint16_t{0x1234});
  EXPECT_EQ(PortAccess::Load(At<uint16_t>(4)), 0x1234);
  EXPECT_EQ(PortAccess::LoadAcquire(At<uint16_t>(4)), 0x1234);
  EXPECT_THAT(dma_.log, ElementsAre("w4+2", "r4+2", "r4+2"));
}

TEST_F(DmaPortTest, WhatIsReleasedHereIsReleasedThereBefore) {
  PortAccess::Store(At<uint32_t>(0), uint32_t{1});
  PortAccess::Own::Store(&own_, 5u);
  EXPECT_EQ(own_, 5u);
  EXPECT_THAT(dma_.log, ElementsAre());
  PortAccess::Own::StoreRelease(&own_, 6u);
  EXPECT_EQ(own_, 6u);
  EXPECT_THAT(dma_.log, ElementsAre("w0+4"));
}

TEST_F(DmaPortTest, NothingHappensAfterATransferThatFailed) {
  dma_.fails = true;
  PortAccess::StoreRelease(At<uint16_t>(2), uint16_t{7});
  EXPECT_TRUE(port_.dead());
  EXPECT_THAT(port_.status(),
              StatusIs(absl::StatusCode::kUnavailable, "no answer"));
  dma_.fails = false;
  PortAccess::Own::Store(&own_, 1u);
  PortAccess::Own::StoreRelease(&own_, 1u);
  PortAccess::StoreRelease(At<uint16_t>(2), uint16_t{8});
  EXPECT_EQ(PortAccess::Load(At<uint16_t>(2)), 0);
  EXPECT_EQ(own_, 0u);
  EXPECT_EQ(dma_.memory[2], 0);
  EXPECT_THAT(dma_.log, ElementsAre("w2+2"));
}

TEST_F(DmaPortTest, AReleaseWhoseTransferFailsIsNotMadeHere) {
  PortAccess::Store(At<uint32_t>(0), uint32_t{1});
  dma_.fails = true;
  PortAccess::Own::StoreRelease(&own_, 1u);
  EXPECT_EQ(own_, 0u);
}

TEST_F(DmaPortTest, ANewLifeForgetsWhatTheLastOneHeldBack) {
  dma_.fails = true;
  EXPECT_EQ(PortAccess::Load(At<uint16_t>(0)), 0);
  dma_.fails = false;
  port_.Boot();
  PortAccess::Store(At<uint32_t>(0), uint32_t{1});
  port_.Boot();
  PortAccess::Fence();
  EXPECT_OK(port_.status());
  EXPECT_THAT(dma_.log, ElementsAre("r0+2"));
}

}  // namespace
}  // namespace holdfast
