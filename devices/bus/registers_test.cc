#include "devices/bus/registers.h"

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
constexpr uint64_t kAll = ~uint64_t{0};

TEST(Register, ReadOnlyKeepsItsBits) {
  constexpr Reg32 kReg{"r", 0, kReadOnly};
  EXPECT_EQ(kReg.AfterWrite(0x1234, 0xffff, kAll), 0x1234u);
  EXPECT_FALSE(kReg.writable());
  EXPECT_TRUE(kReg.stored());
}

TEST(Register, ReadWriteTakesTheEnabledBits) {
  constexpr Reg32 kReg{"r", 0, kReadWrite};
  EXPECT_EQ(kReg.AfterWrite(0x11223344, 0xaabbccdd, 0x00ffff00), 0x11bbcc44u);
  EXPECT_EQ(kReg.AfterRead(0x11223344, kAll), 0x11223344u);
}

TEST(Register, OneClearsOrSetsAndZeroLeaves) {
  constexpr Reg8 kClear{"c", 0, kWriteOneToClear};
  EXPECT_EQ(kClear.AfterWrite(0b1101, 0b0101, kAll), 0b1000u);
  EXPECT_EQ(kClear.AfterWrite(0b1101, 0b1111, 0b0011), 0b1100u);
  constexpr Reg8 kSet{"s", 0, kWriteOneToSet};
  EXPECT_EQ(kSet.AfterWrite(0b1000, 0b0101, kAll), 0b1101u);
}

TEST(Register, ReadClearsTheEnabledBits) {
  constexpr Reg16 kReg{"r", 0, kReadToClear};
  EXPECT_EQ(kReg.AfterRead(0xabcd, 0x00ff), 0xab00u);
  EXPECT_EQ(kReg.AfterWrite(0xabcd, 0, kAll), 0xabcdu);
}

TEST(Register, MixesAccessBitByBit) {
  constexpr Reg8 kReg = Reg8{"r", 0, kReadOnly}
                            .Bits(kReadWrite, 0x03)
                            .Bits(kWriteOneToClear, 0x0c)
                            .Bits(kWriteOneToSet, 0x30);
  EXPECT_EQ(kReg.AfterWrite(0b11001100, 0b00010101, kAll), 0b11011001u);
  // What is said last about a bit holds.
  constexpr Reg8 kLast = kReg.Bits(kReadOnly, 0xff);
  EXPECT_EQ(kLast.AfterWrite(0x5a, 0xff, kAll), 0x5au);
}

TEST(Register, WriteOnlyAndConstantAreKeptNowhere) {
  constexpr Reg32 kDoorbell{"d", 0, kWriteOnly};
  EXPECT_FALSE(kDoorbell.stored());
  EXPECT_TRUE(kDoorbell.writable());
  EXPECT_EQ(kDoorbell.AfterWrite(0, 0x1234, 0xff), 0x34u);
  constexpr Reg32 kId{"i", 0, kConstant, 7};
  EXPECT_FALSE(kId.stored());
  EXPECT_FALSE(kId.writable());
}

TEST(RegisterFile, IsAsLargeAsItsRegistersNeed) {
  EXPECT_EQ(RegisterFile({}).size(), 16u);
  EXPECT_EQ(RegisterFile({Reg32{"r", 16, kReadWrite}}).size(), 32u);
  EXPECT_EQ(RegisterFile({Reg32{"r", 0, kReadWrite}.Array(8, 0x100)}).size(),
            0x800u);
  EXPECT_EQ(RegisterFile({}).Size(4096).size(), 4096u);
}

TEST(RegisterFile, AcceptsInterleavedArrays) {
  EXPECT_OK(RegisterFile({Reg32{"tail", 0, kReadWrite}.Array(4, 8),
                          Reg32{"head", 4, kReadWrite}.Array(4, 8)})
                .Dense()
                .Check("bar0", 0));
}

struct Wrong {
  RegisterFile file;
  std::string says;
};

TEST(RegisterFile, NamesTheRegisterThatBreaksARule) {
  const std::vector<Wrong> all = {
      {{Reg32{"A", 0, kReadOnly}}, "\"A\" at 0x0: its name"},
      {{Reg32{"", 4, kReadOnly}}, "\"\" at 0x4: its name"},
      {{Reg32{"a", 2, kReadOnly}}, "\"a\" at 0x2: its offset"},
      {{Reg64{"a", 4, kReadOnly}}, "not a multiple of its 8 bytes"},
      {{Reg8{"a", 0, kReadOnly}, Reg8{"a", 1, kReadOnly}},
       "two registers are called \"a\""},
      {{Reg32{"a", 0, kReadOnly}, Reg8{"b", 3, kReadOnly}},
       "registers a and b overlap at 0x3"},
      {{Reg32{"a", 0, kReadOnly}.Array(3, 8), Reg16{"b", 16, kReadOnly}},
       "overlap at 0x10"},
      {{Reg32{"a", 0, kReadOnly}.Array(0)}, "an array of 0"},
      {{Reg32{"a", 0, kReadOnly}.Array(5000)}, "an array of 5000"},
      {{Reg32{"a", 0, kReadOnly}.Array(0xffffffff, 0xfffffffc)},
       "no power of two"},
      {{Reg32{"a", 0, kReadOnly}.Array(2, 6)}, "its stride 6"},
      {{Reg32{"a", 0, kReadOnly}.Array(2, 0)}, "its stride 0"},
      {{Reg32{"a", 0, kReadOnly}.InBar(2)}, "it says that it is in BAR 2"},
      {{Reg32{"a", 0, kWriteOnly, 1}}, "write-only and has a reset value"},
      {RegisterFile({Reg32{"a", 16, kReadOnly}}).Size(16),
       "ends at 0x14, beyond the file's 0x10 bytes"},
      {RegisterFile({}).Size(48), "0x30 is no power of two"},
      {RegisterFile({Reg8{"a", 0, kReadOnly}, Reg8{"b", 2, kReadOnly}}).Dense(),
       "no register at 0x1, before b"},
      {{Reg8{"a", 0, kReadOnly}.Array(4096), Reg8{"b", 4096, kReadOnly}},
       "4097 registers"},
  };
  for (const Wrong& wrong : all) {
    EXPECT_THAT(wrong.file.Check("bar0", 0),
                StatusIs(kInvalid, HasSubstr(wrong.says)));
  }
}

TEST(RegisterFile, RefusesAResetValueThatIsTooWide) {
  const RegisterFile file({Register("a", 0, 1, kReadWrite, 0x100)});
  EXPECT_THAT(file.Check("pci", 0),
              StatusIs(kInvalid, HasSubstr("its reset value is wider")));
}

}  // namespace
}  // namespace holdfast
