#include "examples/hello_platform/hello_platform.h"

#include <cstdint>
#include <string>
#include <tuple>

#include "devices/bus/testing/platform_crash.h"
#include "gtest/gtest.h"

namespace hello {
namespace {

using ::holdfast::testing::AtEveryCrashPoint;
using ::holdfast::testing::PlatformClassOf;
using ::holdfast::testing::PlatformGuest;

constexpr uint8_t kText[] = "holdfast";

void Copy(PlatformGuest& guest, uint64_t source, uint64_t target,
          uint32_t length) {
  guest.Write(0, kSource.offset(), source, 8);
  guest.Write(0, kTarget.offset(), target, 8);
  guest.Write32(0, kLength.offset(), length);
  guest.Write32(0, kStart.offset(), 1);
}

std::string TextAt(PlatformGuest& guest, uint64_t address) {
  const auto bytes = guest.ram().subspan(address, sizeof(kText) - 1);
  return std::string(bytes.begin(), bytes.end());
}

TEST(Copier, CopiesAndInterrupts) {
  PlatformGuest guest(PlatformClassOf<Copier>());
  guest.StoreRam(0x100, kText);
  Copy(guest, 0x100, 0x1000, 8);
  EXPECT_EQ(TextAt(guest, 0x1000), "holdfast");
  EXPECT_EQ(guest.Read32(0, kStatus.offset()), kDone);
  EXPECT_EQ(guest.Read32(0, kBusy.offset()), 0u);
  EXPECT_EQ(guest.signals(kLine), 1u);
  guest.Write32(0, kStatus.offset(), kDone);
  guest.Restart();
  EXPECT_EQ(guest.Read32(0, kStatus.offset()), 0u);
  EXPECT_EQ(guest.signals(kLine), 1u) << "the line was let go";
}

TEST(Copier, SaysWhatItCannotCopy) {
  PlatformGuest guest(PlatformClassOf<Copier>());
  for (const auto& [source, target, length] :
       {std::tuple<uint64_t, uint64_t, uint32_t>{0, 0x1000, 4097},
        {0, 4, 8},
        {0, ~uint64_t{0} - 3, 8},
        {uint64_t{1} << 40, 0, 8}}) {
    Copy(guest, source, target, length);
    EXPECT_EQ(guest.Read32(0, kStatus.offset()), kFailed) << source;
    guest.Write32(0, kStatus.offset(), kFailed);
  }
}

TEST(Copier, CopiesOnceSeenHoweverItDies) {
  AtEveryCrashPoint<Copier>([](PlatformGuest& guest) {
    guest.StoreRam(0x100, kText);
    Copy(guest, 0x100, 0x1000, 8);
    EXPECT_EQ(guest.Read32(0, kStatus.offset()), kDone);
    guest.Write32(0, kStatus.offset(), kDone);
  });
}

}  // namespace
}  // namespace hello
