#ifndef HOLDFAST_TESTS_LOAD_BLOCK_STAMP_H_
#define HOLDFAST_TESTS_LOAD_BLOCK_STAMP_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace holdfast::load {

// The unit of verification. Every block that the load writes names the write
// that it belongs to, and every 8 bytes of it follow from that name, so any
// mixture of two writes is recognised.
inline constexpr size_t kBlockSize = 4096;

// Which write a block's content belongs to.
struct BlockId {
  uint64_t run = 0;       // The load's number; other runs are foreign.
  uint64_t index = 0;     // The block's place on the device, in blocks.
  uint64_t sequence = 0;  // The write's number within the run, from 1.
};

// What a block that was read turned out to hold.
enum class BlockVerdict {
  kIntact,
  kEmpty,      // Zeros: the write is lost.
  kForeign,    // No stamp of this run.
  kTorn,       // The body does not belong to the header.
  kMisplaced,  // The content of another block.
  kStale,      // An older write of this block: the newer one is lost, or the
               // older one was executed again.
  kFuture,     // A write that was not acknowledged.
};
inline constexpr int kBlockVerdicts = 7;

// "intact", "empty", ...
absl::string_view VerdictName(BlockVerdict verdict);

// Fills `block` with the content of write `id`. Precondition: kBlockSize bytes.
void StampBlock(const BlockId& id, absl::Span<uint8_t> block);

// Compares `block` with what write `expected` put there; the first difference
// in the order of BlockVerdict decides. Precondition: kBlockSize bytes.
// `found`, if not null, receives what the header claims.
BlockVerdict CheckBlock(const BlockId& expected,
                        absl::Span<const uint8_t> block,
                        BlockId* found = nullptr);

}  // namespace holdfast::load

#endif  // HOLDFAST_TESTS_LOAD_BLOCK_STAMP_H_
