#include "statestore/state_section.h"

#include <cstddef>
#include <cstring>

#include "base/crc32c.h"

namespace holdfast {
namespace {

constexpr size_t kSequenceOffset = offsetof(BankHeader, sequence);
static_assert(sizeof(BankHeader::stripes) == sizeof(Crc32cStripes));

size_t CheckedWords(uint32_t fields_size, uint16_t queue_count) {
  return (CheckedBankSize(fields_size, queue_count) - kSequenceOffset) / 8;
}

uint32_t HeaderCheck(const StateHeader& header) {
  constexpr size_t kFrom = offsetof(StateHeader, fields_size);
  constexpr size_t kTo = offsetof(StateHeader, check);
  return Crc32c(
      {reinterpret_cast<const uint8_t*>(&header) + kFrom, kTo - kFrom});
}

}  // namespace

absl::StatusOr<StateHeader> ReadStateHeader(absl::Span<const uint8_t> section) {
  if (reinterpret_cast<uintptr_t>(section.data()) % sizeof(uint64_t) != 0) {
    return absl::InvalidArgumentError("state: misaligned section");
  }
  StateHeader header;
  if (section.size() < sizeof(header)) {
    return absl::DataLossError("state: section too short");
  }
  std::memcpy(&header, section.data(), sizeof(header));
  if (header.check != HeaderCheck(header)) {
    return absl::DataLossError("state: header checksum differs");
  }
  if (header.fields_size > kMaxFieldsSize || header.fields_size % 8 != 0 ||
      header.queue_count > kMaxQueues ||
      section.size() !=
          StateSectionSize(header.fields_size, header.queue_count)) {
    return absl::DataLossError("state: header does not fit its section");
  }
  return header;
}

void FormatState(absl::Span<uint8_t> section, uint32_t fields_size,
                 uint16_t queue_count) {
  std::memset(section.data(), 0, section.size());
  StateHeader header{};
  header.fields_size = fields_size;
  header.queue_count = queue_count;
  header.check = HeaderCheck(header);
  std::memcpy(section.data(), &header, sizeof(header));
  const size_t stride = BankStride(fields_size, queue_count);
  for (size_t i = 0; i < 2; ++i) {
    FormatBank(section.subspan(sizeof(header) + i * stride, stride),
               fields_size, queue_count, /*sequence=*/0);
  }
}

void FormatBank(absl::Span<uint8_t> bank, uint32_t fields_size,
                uint16_t queue_count, uint64_t sequence) {
  std::memset(bank.data(), 0, bank.size());
  std::memcpy(bank.data() + kSequenceOffset, &sequence, sizeof(sequence));
  const Crc32cStripes sums = Crc32cStriped(
      bank.data() + kSequenceOffset, CheckedWords(fields_size, queue_count));
  std::memcpy(bank.data(), &sums, sizeof(sums));
}

bool BankIsIntact(absl::Span<const uint8_t> bank, uint32_t fields_size,
                  uint16_t queue_count) {
  if (bank.size() < CheckedBankSize(fields_size, queue_count)) return false;
  const Crc32cStripes sums = Crc32cStriped(
      bank.data() + kSequenceOffset, CheckedWords(fields_size, queue_count));
  return std::memcmp(bank.data(), &sums, sizeof(sums)) == 0;
}

}  // namespace holdfast
