#include "tests/load/block_stamp.h"

#include <cstring>

namespace holdfast::load {
namespace {

constexpr uint64_t kMagic = 0x4b434f4c42464c48;  // "HLFBLOCK"
constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;

struct Header {
  uint64_t magic;
  uint64_t index;
  uint64_t sequence;
  uint64_t run;
  uint64_t checksum;
};
constexpr size_t kWords = kBlockSize / sizeof(uint64_t);
constexpr size_t kHeaderWords = sizeof(Header) / sizeof(uint64_t);
static_assert(sizeof(Header) % sizeof(uint64_t) == 0, "body is not aligned");

// The finaliser of SplitMix64: every input bit reaches every output bit.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

uint64_t Checksum(const Header& header) {
  uint64_t sum = Mix(header.magic + kGolden);
  sum = Mix(sum ^ header.index);
  sum = Mix(sum ^ header.sequence);
  return Mix(sum ^ header.run);
}

// An odd step: no two words of a block are equal, and words of another write
// match by chance only (2^-64).
uint64_t BodyWord(uint64_t checksum, size_t word) {
  return checksum + word * kGolden;
}

bool IsZero(absl::Span<const uint8_t> block) {
  for (uint8_t byte : block) {
    if (byte != 0) return false;
  }
  return true;
}

bool BodyMatches(uint64_t checksum, absl::Span<const uint8_t> block) {
  uint64_t difference = 0;
  for (size_t word = kHeaderWords; word < kWords; ++word) {
    uint64_t value;
    std::memcpy(&value, &block[word * sizeof(value)], sizeof(value));
    difference |= value ^ BodyWord(checksum, word);
  }
  return difference == 0;
}

}  // namespace

absl::string_view VerdictName(BlockVerdict verdict) {
  switch (verdict) {
    case BlockVerdict::kIntact:
      return "intact";
    case BlockVerdict::kEmpty:
      return "empty";
    case BlockVerdict::kForeign:
      return "foreign";
    case BlockVerdict::kTorn:
      return "torn";
    case BlockVerdict::kMisplaced:
      return "misplaced";
    case BlockVerdict::kStale:
      return "stale";
    case BlockVerdict::kFuture:
      return "future";
  }
  return "unknown";
}

void StampBlock(const BlockId& id, absl::Span<uint8_t> block) {
  Header header = {kMagic, id.index, id.sequence, id.run, 0};
  header.checksum = Checksum(header);
  std::memcpy(block.data(), &header, sizeof(header));
  for (size_t word = kHeaderWords; word < kWords; ++word) {
    const uint64_t value = BodyWord(header.checksum, word);
    std::memcpy(&block[word * sizeof(value)], &value, sizeof(value));
  }
}

BlockVerdict CheckBlock(const BlockId& expected,
                        absl::Span<const uint8_t> block, BlockId* found) {
  Header header;
  std::memcpy(&header, block.data(), sizeof(header));
  if (found != nullptr) {
    *found = BlockId{header.run, header.index, header.sequence};
  }
  if (header.magic == 0 && IsZero(block)) return BlockVerdict::kEmpty;
  if (header.magic != kMagic || header.run != expected.run) {
    return BlockVerdict::kForeign;
  }
  if (header.checksum != Checksum(header) ||
      !BodyMatches(header.checksum, block)) {
    return BlockVerdict::kTorn;
  }
  if (header.index != expected.index) return BlockVerdict::kMisplaced;
  if (header.sequence < expected.sequence) return BlockVerdict::kStale;
  if (header.sequence > expected.sequence) return BlockVerdict::kFuture;
  return BlockVerdict::kIntact;
}

}  // namespace holdfast::load
