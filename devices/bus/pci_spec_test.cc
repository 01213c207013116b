#include "devices/bus/pci_spec.h"

#include <cstdint>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr Reg32 kReg{"reg", 0, kReadWrite};

PciSpec Spec() { return PciSpec(PciId{0x1234, 0x5678}); }

struct Wrong {
  PciSpec spec;
  std::string says;
};

TEST(PciSpec, NamesWhatBreaksARule) {
  const std::vector<Wrong> all = {
      {Spec().Bar(6, {kReg}), "BAR 6: there are 0 to 5"},
      {Spec().Bar(1, {kReg}), "it says that it is in BAR 0"},
      {Spec().Bar(0, {kReg}).MemoryBar(0, 4096), "BAR 0: declared twice"},
      {Spec().Bar(0, {Reg32{"Bad", 0, kReadOnly}}), "its name"},
      {Spec().MemoryBar(1, 2048), "BAR 1: 2048 bytes"},
      {Spec().MemoryBar(1, 12288), "no power of two"},
      {Spec().MemoryBar(1, uint64_t{1} << 31), "no power of two"},
      {Spec().MemoryBar(5, 4096, kBar64), "BAR 5: 64 bits"},
      {Spec().MemoryBar(0, 4096, kBar64).MemoryBar(1, 4096), "BAR 0: 64 bits"},
      {Spec().Msi(3), "3 MSI vectors"},
      {Spec().Msi(64), "64 MSI vectors"},
      {Spec().Msix(129), "129 MSI-X vectors"},
      {Spec().Bar(0, {kReg}).Msix(1, /*bar=*/0), "needs a free BAR"},
      {Spec()
           .MemoryBar(0, 4096, kBar64)
           .MemoryBar(2, 4096, kBar64)
           .MemoryBar(4, 4096, kBar64)
           .Msix(1),
       "needs a free BAR"},
      {Spec().Area("", 64), "area \"\" needs a name"},
      {Spec().Area("a", 64).Area("a", 64), "area \"a\" needs a name"},
      {Spec().Area("a", 0), "area a: 0 bytes"},
      {Spec().Area("a", 96), "area a: 96 bytes"},
      {Spec().Area("a", 64).Area("b", Areas::kMaxSize), "area b: more"},
      {Spec().WorkThreads(0), "work on 0 threads"},
      {Spec().WorkThreads(65), "work on 65 threads"},
      {Spec().Vendor({}, 100), "vendor-specific"},
      {Spec().Vendor({1}, ~size_t{0}), "vendor-specific"},
  };
  for (const Wrong& wrong : all) {
    EXPECT_THAT(wrong.spec.Resolve(),
                StatusIs(kInvalid, HasSubstr(wrong.says)));
  }
}

TEST(PciSpec, PutsAreasOneAfterAnother) {
  EXPECT_EQ(Spec().Resolve()->areas().size(), 0u);
  const PciSpec spec = *Spec().Area("a", 64).Area("b", 192).Resolve();
  EXPECT_EQ(spec.areas().all()[1].offset, 64u);
  EXPECT_EQ(spec.areas().size(), 256u);
}

TEST(PciSpec, PutsTheMsixTableIntoTheHighestFreeBar) {
  const PciSpec spec =
      *Spec().Bar(0, {kReg}).MemoryBar(4, 4096, kBar64).Msix(8).Resolve();
  EXPECT_EQ(spec.msix_bar(), 3u);
  EXPECT_EQ(spec.BarSize(3), 4096u);
  EXPECT_EQ(spec.bar(5).kind, BarSpec::Kind::kUpperHalf);
  EXPECT_EQ(spec.BarSize(5), 0u);
  EXPECT_OK(spec.MsixFile().Check("msix", 3));
}

TEST(PciSpec, EveryTableOfVectorsIsAFile) {
  for (uint32_t vectors = 1; vectors <= pci::kMaxMsixVectors; ++vectors) {
    const PciSpec spec = *Spec().Msix(vectors).Resolve();
    EXPECT_OK(spec.MsixFile().Check("msix", 5)) << vectors;
    EXPECT_OK(spec.ConfigFile().Check("pci", pci::kConfig)) << vectors;
  }
}

// The bytes of configuration space that are constant, by way of lspci -x.
TEST(PciSpec, LinksTheCapabilitiesThatItHas) {
  const auto list = [](const PciSpec& spec) {
    const std::vector<uint8_t> bytes =
        spec.Resolve()->ConfigFile().background();
    std::string ids;
    for (uint8_t at = bytes[0x34]; at != 0; at = bytes[at + 1]) {
      ids += std::to_string(bytes[at]) + " ";
    }
    return ids;
  };
  EXPECT_EQ(list(Spec()), "");
  EXPECT_EQ(list(Spec().Msi(1)), "5 ");
  EXPECT_EQ(list(Spec().Express().Vendor({7})), "16 9 ");
  EXPECT_EQ(
      list(Spec().Express().Vendor({}, 4).Msi(4).Msix(2).PowerManagement()),
      "1 5 17 16 9 ");
}

TEST(PciSpec, PutsVendorCapabilitiesWhereTheyAreToBe) {
  constexpr Reg32 kWindow =
      Reg32{"window", 0x88, kReadWrite}.InBar(pci::kConfig);
  const PciSpec spec = Spec().Msix(2).VendorAt(0x70, {1}).VendorAt(
      0x80, {2, 0, 0, 0, 0, 0, 0, 0, 0}, {kWindow});
  const RegisterFile file = spec.Resolve()->ConfigFile();
  const std::vector<uint8_t>& bytes = file.background();
  EXPECT_EQ(bytes[0x34], 0x60);
  EXPECT_EQ(bytes[0x61], 0x70);
  EXPECT_EQ(bytes[0x71], 0x80);
  EXPECT_EQ(bytes[0x81], 0);
  EXPECT_EQ(bytes[0x72], 4);
  EXPECT_EQ(bytes[0x73], 1);
  EXPECT_EQ(bytes[0x82], 12);
  EXPECT_OK(file.Check("pci", pci::kConfig));
  EXPECT_TRUE(spec.IsVendorRegister(kWindow));
  EXPECT_FALSE(spec.IsVendorRegister(pci::kCommand));
  EXPECT_FALSE(spec.IsVendorRegister(Reg32{"window", 0x88, kReadWrite}));
}

TEST(PciSpec, RefusesVendorCapabilitiesThatHaveNoRoom) {
  const Reg32 outside = Reg32{"outside", 0xa0, kReadWrite}.InBar(pci::kConfig);
  for (const PciSpec& spec :
       {Spec().VendorAt(0x3c, {}), Spec().VendorAt(0x41, {}),
        Spec().VendorAt(0xfc, {1, 2}), Spec().Msix(1).VendorAt(0x60, {}),
        Spec().Msi(1).VendorAt(0x40, {1, 2, 3, 4, 5, 6}),
        Spec().PowerManagement().VendorAt(0x44, {}),
        Spec().Express().VendorAt(0xa8, {}),
        Spec().Vendor({1}).VendorAt(0xb0, {}),
        Spec().VendorAt(0x40, {1}).VendorAt(0x40, {1}),
        Spec().VendorAt(0x80, {1, 2, 3, 4, 5}, {outside})}) {
    EXPECT_THAT(spec.Resolve(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("vendor-specific capability")));
  }
}

TEST(PciSpec, FillsTheHeader) {
  const PciSpec spec = *PciSpec(PciId{0x1234, 0x5678, 9, 0x010802}).Resolve();
  const std::vector<uint8_t> bytes = spec.ConfigFile().background();
  const std::vector<uint8_t> head(bytes.begin(), bytes.begin() + 12);
  EXPECT_EQ(head, (std::vector<uint8_t>{0x34, 0x12, 0x78, 0x56, 0, 0, 0, 0, 9,
                                        0x02, 0x08, 0x01}));
  EXPECT_EQ(bytes[0x2c], 0x34) << "the subsystem is the device";
  EXPECT_EQ(bytes[0x2e], 0x78);
  EXPECT_EQ(spec.ConfigFile().size(), 256u);
  EXPECT_EQ(Spec().Express().Resolve()->ConfigFile().size(), 4096u);
}

}  // namespace
}  // namespace holdfast
