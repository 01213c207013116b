#include "statestore/state_image.h"

#include "absl/strings/str_cat.h"

namespace holdfast {

StateImage::StateImage(uint8_t* section, const StateHeader& header)
    : section_(section),
      committed_(section + sizeof(StateHeader)),
      other_(committed_ + BankStride(header.fields_size, header.queue_count)),
      size_(CheckedBankSize(header.fields_size, header.queue_count)) {}

absl::Status StateImage::Load() {
  const uint64_t word = LoadWord(section_);
  const CommitWord commit = CommitWord::Unpack(word);
  if (commit.bank != 0) std::swap(committed_, other_);
  bytes_ = std::make_unique<uint8_t[]>(size_);
  std::memcpy(bytes(), committed_, kSequence);
  word_ = word;
  Restore();
  if (word_ == 0) {
    return absl::DataLossError(
        absl::StrCat("state: bank ", commit.bank, " fails its checksum"));
  }
  if ((sequence() & CommitWord::kSequenceMask) != commit.sequence) {
    return absl::DataLossError(
        "state: the commit word names another sequence than its bank");
  }
  return absl::OkStatus();
}

void StateImage::Restore() {
  if (word_ == 0) return;
  const Crc32cStripes sums = CopyWords(bytes(), committed_);
  // The checksum in the image is still that of the last commit.
  if (std::memcmp(bytes(), &sums, sizeof(sums)) != 0) word_ = 0;
}

}  // namespace holdfast
