#ifndef HOLDFAST_TESTS_LOAD_VERIFIED_LOAD_H_
#define HOLDFAST_TESTS_LOAD_VERIFIED_LOAD_H_

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "tests/load/block_stamp.h"

namespace holdfast::load {

// One request of the load, in blocks of kBlockSize.
struct LoadRequest {
  enum class Kind { kRead, kWrite, kFlush };
  Kind kind = Kind::kRead;
  uint64_t first_block = 0;
  uint32_t blocks = 0;
  uint64_t sequence = 0;  // Of a write.

  size_t bytes() const { return blocks * kBlockSize; }
};

struct LoadOptions {
  uint64_t run = 1;     // Names this run in every block it writes.
  uint64_t seed = 1;    // Equal seeds give equal requests.
  uint64_t blocks = 0;  // Of the device.
  // Requests are 1, 2, 4 ... max_request_blocks long, each length as often as
  // the others.
  uint32_t max_request_blocks = 1;
  uint32_t reads_in_256 = 80;
  uint32_t flushes_in_256 = 0;
};

// What the load found out. Everything in `bad` and `errors` is a failure of the
// device.
struct LoadCounts {
  uint64_t reads = 0;
  uint64_t writes = 0;
  uint64_t flushes = 0;
  uint64_t bytes = 0;
  uint64_t checked_blocks = 0;
  uint64_t errors = 0;  // Requests that completed with an error.
  std::array<uint64_t, kBlockVerdicts> bad = {};  // By BlockVerdict.

  uint64_t operations() const { return reads + writes + flushes; }
  uint64_t bad_blocks() const;
};

// Decides what to read and write next and what each read must return. It knows
// exactly what every block holds, because no two requests in flight share a
// block: a lost, stale, torn, misplaced or repeated write is noticed by the
// next read of the block, at the latest by the read-back of the whole device.
//
// Pure: whoever drives it does the I/O. Not thread-safe.
class VerifiedLoad {
 public:
  // Precondition: blocks >= max_request_blocks >= 1.
  explicit VerifiedLoad(const LoadOptions& options);

  // A request that shares no block with those in flight; it is in flight from
  // now on. Nothing if no such request was found, which takes a device hardly
  // larger than what is in flight.
  absl::optional<LoadRequest> Next();

  // The next piece of the read-back, from the first block to the last; nothing
  // at the end. Precondition: nothing but read-back requests is in flight.
  absl::optional<LoadRequest> NextReadBack();

  // The content of a write. Precondition: request.bytes() bytes.
  void Fill(const LoadRequest& request, absl::Span<uint8_t> data) const;

  // Ends a request. `ok`: it completed in full and without an error; `data`: of
  // a read, what it returned.
  void Complete(const LoadRequest& request, bool ok,
                absl::Span<const uint8_t> data);

  const LoadCounts& counts() const { return counts_; }

  // The first findings in words, at most kMaxFindings.
  const std::vector<std::string>& findings() const { return findings_; }
  static constexpr size_t kMaxFindings = 16;

 private:
  // What a block must hold: the sequence of its last acknowledged write, or 0
  // if that is not known (never written, or its last write failed).
  struct BlockState {
    uint64_t sequence = 0;
    bool busy = false;
  };

  bool IsFree(uint64_t first_block, uint32_t blocks) const;
  void SetBusy(const LoadRequest& request, bool busy);
  void CheckRead(const LoadRequest& request, absl::Span<const uint8_t> data);
  void AddFinding(std::string finding);

  const LoadOptions options_;
  std::mt19937_64 random_;
  std::vector<BlockState> state_;
  uint64_t next_sequence_ = 1;
  uint64_t read_back_ = 0;
  LoadCounts counts_;
  std::vector<std::string> findings_;
};

}  // namespace holdfast::load

#endif  // HOLDFAST_TESTS_LOAD_VERIFIED_LOAD_H_
