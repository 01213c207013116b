#include "devices/bus/register_bank.h"

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/testing/matchers.h"
#include "devices/bus/testing/state_memory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/cell.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StateMemory;
using ::holdfast::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr Reg32 kId{"id", 0x00, kConstant, 0xed000001};
constexpr Reg32 kControl{"control", 0x04, kReadWrite, 0x11223344};
constexpr Reg16 kStatus{"status", 0x08, kWriteOneToClear, 0x00ff};
constexpr Reg8 kEvents{"events", 0x0a, kReadToClear, 0x0f};
// A gap at 0x0b.
constexpr Reg32 kDoorbell{"doorbell", 0x0c, kWriteOnly};
constexpr Reg64 kAddress = Reg64{"address", 0x10, kReadWrite}.WholeOnly();
constexpr Reg32 kTail = Reg32{"tail", 0x20, kReadWrite}.Array(2, 8);
constexpr Reg32 kHead = Reg32{"head", 0x24, kReadOnly, 7}.Array(2, 8);

RegisterFile File() {
  return {kId, kControl, kStatus, kEvents, kDoorbell, kAddress, kTail, kHead};
}

Schema SchemaOf(const RegisterBank& bank) {
  Schema schema{"test", 1, 0, {}};
  EXPECT_OK(bank.AddFields(schema));
  EXPECT_OK(ValidateSchema(schema));
  return schema;
}

// Each access a transaction of its own.
class RegisterBankTest : public ::testing::Test {
 protected:
  explicit RegisterBankTest(const RegisterFile& file = File())
      : registers_(*RegisterBank::Create("bar0", 0, file)),
        state_(SchemaOf(registers_)) {
    EXPECT_OK(registers_.Bind(state_.schema()));
    StateTxn txn = state_.bank().Begin();
    registers_.Reset(txn);
    EXPECT_OK(state_.bank().Commit(txn));
  }

  std::vector<uint8_t> Read(uint64_t offset, size_t size) {
    std::vector<uint8_t> out(size);
    StateTxn txn = state_.bank().Begin();
    EXPECT_OK(registers_.Read(
        txn, offset, absl::MakeSpan(out), [&](const RegRead& read) {
          calls_ += absl::StrCat("r ", read.reg().name(), read.index(), ";");
          return absl::OkStatus();
        }));
    EXPECT_OK(state_.bank().Commit(txn));
    return out;
  }

  void Write(uint64_t offset, std::vector<uint8_t> bytes) {
    StateTxn txn = state_.bank().Begin();
    EXPECT_OK(registers_.Write(txn, offset, bytes, [&](const RegWrite& write) {
      absl::StrAppend(&calls_, "w ", write.reg().name(), write.index(), "=",
                      absl::Hex(write.value()), "<", absl::Hex(write.old()),
                      ";");
      return absl::OkStatus();
    }));
    EXPECT_OK(state_.bank().Commit(txn));
  }

  uint64_t Get(const Register& reg, uint32_t index = 0) {
    StateTxn txn = state_.bank().Begin();
    return registers_.Get(txn, reg, index);
  }

  RegisterBank registers_;
  StateMemory state_;
  std::string calls_;
};

TEST_F(RegisterBankTest, StartsWithResetValues) {
  EXPECT_THAT(Read(0, 8),
              ElementsAre(0x01, 0, 0, 0xed, 0x44, 0x33, 0x22, 0x11));
  EXPECT_EQ(Get(kHead, 1), 7u);
  EXPECT_EQ(Get(kId), 0xed000001u);
}

TEST_F(RegisterBankTest, KeepsEachRegisterUnderItsName) {
  const Schema& schema = state_.schema();
  EXPECT_EQ(schema.Find("bar0.control")->type.ToString(), "u32");
  EXPECT_EQ(schema.Find("bar0.tail")->type.ToString(), "u32[2]");
  EXPECT_EQ(schema.Find("bar0.id"), nullptr);
  EXPECT_EQ(schema.Find("bar0.doorbell"), nullptr);
}

TEST_F(RegisterBankTest, WritesPartOfARegister) {
  Write(0x05, {0xaa, 0xbb});
  EXPECT_EQ(Get(kControl), 0x11bbaa44u);
  EXPECT_EQ(calls_, "w control0=11bbaa44<11223344;");
}

TEST_F(RegisterBankTest, AStraddlingWriteIsOneWriteARegister) {
  Write(0x06, {1, 2, 0xf0, 0});
  EXPECT_EQ(Get(kControl), 0x02013344u);
  EXPECT_EQ(Get(kStatus), 0x000fu);
  EXPECT_EQ(calls_, "w control0=2013344<11223344;w status0=f<ff;");
}

TEST_F(RegisterBankTest, UndefinedBytesReadZeroAndDropWrites) {
  EXPECT_THAT(Read(0x0a, 2), ElementsAre(0x0f, 0));
  Write(0x0b, {0xff});
  EXPECT_THAT(Read(0x18, 8), ElementsAre(0, 0, 0, 0, 0, 0, 0, 0));
  Write(0x38, {1, 2, 3, 4});
  EXPECT_EQ(calls_, "r events0;");
}

// Of memory that is not there: undefined behaviour, if it is looked at.
TEST_F(RegisterBankTest, AnAccessToNothingTouchesNothing) {
  EXPECT_THAT(Read(0x0a, 0), ElementsAre());
  Write(0x08, {});
  EXPECT_EQ(calls_, "");
}

TEST_F(RegisterBankTest, WritesToWhatIsReadOnlyAreDroppedWithoutAHandler) {
  Write(0x00, {9, 9, 9, 9});
  Write(0x24, {9, 9, 9, 9});
  EXPECT_EQ(calls_, "");
  EXPECT_EQ(Get(kHead, 0), 7u);
}

TEST_F(RegisterBankTest, AReadClearsOnlyTheBytesItReads) {
  EXPECT_THAT(Read(0x08, 2), ElementsAre(0xff, 0));
  EXPECT_EQ(Get(kEvents), 0x0fu);
  EXPECT_THAT(Read(0x08, 4), ElementsAre(0xff, 0, 0x0f, 0));
  EXPECT_EQ(Get(kEvents), 0u);
  EXPECT_THAT(Read(0x0a, 1), ElementsAre(0));
}

TEST_F(RegisterBankTest, AWriteOnlyRegisterReachesItsHandlerAndReadsZero) {
  Write(0x0c, {5, 0, 0, 0});
  Write(0x0d, {6});
  EXPECT_EQ(calls_, "w doorbell0=5<0;w doorbell0=600<0;");
  EXPECT_THAT(Read(0x0c, 4), ElementsAre(0, 0, 0, 0));
}

TEST_F(RegisterBankTest, AWholeOnlyRegisterTakesNoPartOfAnAccess) {
  Write(0x10, {1, 2, 3, 4});
  EXPECT_EQ(Get(kAddress), 0u);
  Write(0x10, {1, 2, 3, 4, 5, 6, 7, 8});
  EXPECT_EQ(Get(kAddress), 0x0807060504030201u);
  EXPECT_THAT(Read(0x10, 4), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(Read(0x10, 8), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
}

TEST_F(RegisterBankTest, ArraysMayInterleave) {
  Write(0x28, {1, 0, 0, 0});
  Write(0x20, {2, 0, 0, 0});
  EXPECT_EQ(calls_, "w tail1=1<0;w tail0=2<0;");
  EXPECT_THAT(Read(0x20, 16),
              ElementsAre(2, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0));
}

TEST_F(RegisterBankTest, AFailingHandlerUndoesTheWholeAccess) {
  {
    StateTxn txn = state_.bank().Begin();
    int calls = 0;
    EXPECT_THAT(registers_.Write(txn, 0x04, {1, 2, 3, 4, 0xff, 0},
                                 [&](const RegWrite&) -> absl::Status {
                                   if (++calls == 1) return absl::OkStatus();
                                   return absl::InvalidArgumentError("no");
                                 }),
                StatusIs(absl::StatusCode::kInvalidArgument, "no"));
    EXPECT_EQ(registers_.Get(txn, kControl, 0), 0x04030201u) << "inside it";
  }
  EXPECT_EQ(Get(kControl), 0x11223344u) << "after it";
}

TEST_F(RegisterBankTest, ValuesSurviveARestart) {
  Write(0x04, {1, 2, 3, 4});
  state_.Restart();
  EXPECT_EQ(Get(kControl), 0x04030201u);
}

TEST_F(RegisterBankTest, AForeignRegisterFailsTheTransaction) {
  StateTxn txn = state_.bank().Begin();
  registers_.Set(txn, kControl, 0, 1);
  registers_.Set(txn, Reg32{"other", 0x40, kReadWrite}, 0, 1);
  EXPECT_THAT(state_.bank().Commit(txn),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("not bound")));
  EXPECT_EQ(Get(kControl), 0x11223344u);
  StateTxn beyond = state_.bank().Begin();
  registers_.Set(beyond, kTail, 2, 1);
  EXPECT_FALSE(state_.bank().Commit(beyond).ok());
  EXPECT_EQ(Get(kTail.InBar(3)), 0u) << "another file's";
}

TEST(RegisterBank, RefusesASegmentThatLacksARegister) {
  RegisterBank bank = *RegisterBank::Create("bar0", 0, {kControl, kStatus});
  Schema schema = SchemaOf(bank);
  schema.fields[1].type.kind = FieldType::Kind::kU32;
  EXPECT_THAT(bank.Bind(schema),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       "register bar0.status: the segment has u32, this "
                       "binary u16"));
  schema.fields.pop_back();
  EXPECT_THAT(bank.Bind(schema), StatusIs(absl::StatusCode::kFailedPrecondition,
                                          HasSubstr("the segment has none")));
}

TEST(RegisterBank, TellsWhenASegmentCannotHoldIt) {
  const Reg64 large = Reg64{"large", 0, kReadWrite}.Array(513);
  RegisterBank bank = *RegisterBank::Create("bar0", 0, {large});
  Schema schema{"test", 1, 0, {}};
  EXPECT_THAT(
      bank.AddFields(schema),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("bar0.large")));
}

TEST(RegisterBank, SaysWhatUndefinedBytesRead) {
  const RegisterFile file =
      RegisterFile({kControl}).UndefinedReads(0xff).Size(16);
  RegisterBank bank = *RegisterBank::Create("bar0", 0, file);
  StateMemory state(SchemaOf(bank));
  ASSERT_OK(bank.Bind(state.schema()));
  StateTxn txn = state.bank().Begin();
  uint8_t out[6];
  ASSERT_OK(bank.Read(txn, 2, absl::MakeSpan(out),
                      [](const RegRead&) { return absl::OkStatus(); }));
  EXPECT_THAT(out, ElementsAre(0xff, 0xff, 0, 0, 0, 0));
}

}  // namespace
}  // namespace holdfast
