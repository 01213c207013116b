#include "statestore/state_section.h"

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/format.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;

constexpr uint32_t kFields = 40;
constexpr uint16_t kQueues = 3;

struct Section {
  Section() { FormatState(bytes(), kFields, kQueues); }
  absl::Span<uint8_t> bytes() {
    return {reinterpret_cast<uint8_t*>(words.data()), words.size() * 8};
  }
  absl::Span<uint8_t> bank(size_t i) {
    const size_t stride = BankStride(kFields, kQueues);
    return bytes().subspan(sizeof(StateHeader) + i * stride, stride);
  }
  std::vector<uint64_t> words =
      std::vector<uint64_t>(StateSectionSize(kFields, kQueues) / 8, ~0ull);
};

TEST(StateSection, ReadsBackWhatItFormats) {
  Section section;
  const absl::StatusOr<StateHeader> header = ReadStateHeader(section.bytes());
  ASSERT_OK(header);
  EXPECT_EQ(header->commit_word, 0u);
  EXPECT_EQ(header->fields_size, kFields);
  EXPECT_EQ(header->queue_count, kQueues);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(BankIsIntact(section.bank(i), kFields, kQueues));
  }
}

TEST(StateSection, EveryByteOfTheHeaderButTheCommitWordIsChecked) {
  for (size_t at = offsetof(StateHeader, fields_size);
       at < offsetof(StateHeader, zero); ++at) {
    Section section;
    section.bytes()[at] ^= 0x10;
    EXPECT_THAT(ReadStateHeader(section.bytes()),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("header")))
        << at;
  }
}

TEST(StateSection, RefusesAnySpanThatIsNotTheSection) {
  Section section;
  for (size_t size = 0; size < section.bytes().size(); ++size) {
    EXPECT_FALSE(ReadStateHeader(section.bytes().first(size)).ok()) << size;
  }
  EXPECT_THAT(ReadStateHeader(section.bytes().subspan(1)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("align")));
}

TEST(StateSection, ABankIsIntactOrNotDownToItsLastByte) {
  Section section;
  const absl::Span<uint8_t> bank = section.bank(1);
  FormatBank(bank, kFields, kQueues, /*sequence=*/77);
  EXPECT_EQ(bank[offsetof(BankHeader, sequence)], 77);
  ASSERT_TRUE(BankIsIntact(bank, kFields, kQueues));
  const size_t size = CheckedBankSize(kFields, kQueues);
  for (size_t at = 0; at < size; ++at) {
    bank[at] ^= 4;
    EXPECT_FALSE(BankIsIntact(bank, kFields, kQueues)) << at;
    bank[at] ^= 4;
  }
  EXPECT_FALSE(BankIsIntact(bank.first(size - 1), kFields, kQueues));
}

}  // namespace
}  // namespace holdfast
