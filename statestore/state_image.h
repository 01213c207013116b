#ifndef HOLDFAST_STATESTORE_STATE_IMAGE_H_
#define HOLDFAST_STATESTORE_STATE_IMAGE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "base/crc32c.h"
#include "statestore/format.h"
#include "statestore/shared_word.h"

namespace holdfast {

// What one process knows of a section kState: the committed bank, in private
// memory, and the commit word. The owner changes the image and commits it into
// the section; the section itself it only ever compares.
//
// The comparison, byte for byte, finds what wrote over the section or over the
// image since the last commit, at a tenth of what verifying the checksum costs;
// so a commit computes one checksum and verifies none. Part of StateBank, which
// decides who may change the image and when. One thread at a time.
class StateImage {
 public:
  // Of the section of `header`, which must stay mapped. Empty before Load.
  StateImage(uint8_t* section, const StateHeader& header);

  // Takes the committed bank over. The only allocation. DataLoss: it fails its
  // checksum, or the commit word names another sequence.
  absl::Status Load();

  // The image: a bank as format.h describes it, checksum included. Change what
  // follows the BankHeader.
  uint8_t* bytes() const { return bytes_.get(); }
  size_t size() const { return size_; }
  uint64_t sequence() const { return SequenceOf(bytes()); }

  // Whether section and image are what the last commit made them. False for
  // ever when a commit has failed.
  bool Matches() const {
    return LoadWord(section_) == word_ &&
           std::memcmp(committed_, bytes(), size_) == 0;
  }

  // Makes the image, with the next sequence, the truth. On false it is not: the
  // commit word is not as this process left it. Then the image is void.
  //
  // The bank that is not committed belongs to a successor once the epoch has
  // moved on, hence the look at the word before the first store to it.
  bool Commit() {
    const uint64_t sequence = this->sequence() + 1;
    std::memcpy(bytes() + kSequence, &sequence, sizeof(sequence));
    uint64_t word = word_;
    word_ = 0;  // No commit word has epoch 0.
    if (LoadWord(section_) != word) return false;
    const Crc32cStripes sums = CopyWords(other_, bytes());
    std::memcpy(other_, &sums, sizeof(sums));
    std::memcpy(bytes(), &sums, sizeof(sums));
    const uint64_t next = Next(word);
    if (!CompareAndSwapWord(section_, word, next)) return false;
    word_ = next;
    std::swap(committed_, other_);
    return true;
  }

  // Undoes all changes since the last commit. Finds, like Matches, what was
  // written over the section meanwhile: the image is void then.
  void Restore();

 private:
  static constexpr size_t kSequence = offsetof(BankHeader, sequence);

  static uint64_t SequenceOf(const uint8_t* bank) {
    uint64_t sequence;
    std::memcpy(&sequence, bank + kSequence, sizeof(sequence));
    return sequence;
  }
  // The word that says: the other bank, the next sequence, the same epoch.
  static constexpr uint64_t Next(uint64_t word) {
    constexpr uint64_t kMask = CommitWord::kSequenceMask;
    return (~word & (kMask + 1)) | (word & ~(2 * kMask + 1)) |
           ((word + 1) & kMask);
  }
  Crc32cStripes CopyWords(uint8_t* to, const uint8_t* from) const {
    return Crc32cStripedCopy(to + kSequence, from + kSequence,
                             (size_ - kSequence) / sizeof(uint64_t));
  }

  uint8_t* section_;
  uint8_t* committed_;  // The two banks.
  uint8_t* other_;
  std::unique_ptr<uint8_t[]> bytes_;
  size_t size_;
  uint64_t word_ = 0;  // As this process wrote it last; 0: the image is void.
};

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_STATE_IMAGE_H_
