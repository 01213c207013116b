#ifndef HOLDFAST_STATESTORE_TESTING_LANE_TOY_H_
#define HOLDFAST_STATESTORE_TESTING_LANE_TOY_H_

// A request/reply protocol for tests and benchmarks of the lane. Every reply
// betrays a lost, doubled, reordered or torn request: it carries a running
// counter, a hash chain over all requests so far and bytes that depend on both.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "statestore/lane.h"

namespace holdfast::testing {

struct ToyRequest {
  uint32_t size;  // Of the whole message; payload follows this header.
  uint32_t id;
  uint32_t reply_size;  // Wanted; at least sizeof(ToyReply), or 0 for none.
  uint16_t fd_count;    // Descriptors that come with it.
  uint16_t flags;
  uint64_t argument;
};
inline constexpr uint16_t kToyWantsFd = 1;     // In the reply.
inline constexpr uint16_t kToyBadRequest = 2;  // The handler gives up.

struct ToyReply {
  uint32_t size;
  uint32_t id;
  uint64_t counter;
  uint64_t chain;
  uint64_t argument;
  uint32_t message_crc;
  uint32_t fd_count;
  uint64_t reserved;
};

// First bytes of the bank; the rest of it is filled with a function of these.
struct ToyBank {
  uint64_t counter;
  uint64_t chain;
};
inline constexpr uint32_t kToyBankSize = 256;
inline constexpr uint32_t kToyMaxRequest = 4096;
inline constexpr uint32_t kToyMaxReply = 300 * 1024;
inline constexpr LaneSizes kToySizes{kToyBankSize, kToyMaxRequest,
                                     kToyMaxReply};

// The bank after `message`, given the one before. Shared with the client's
// model.
ToyBank ToyAdvance(const ToyBank& before, absl::Span<const uint8_t> message);

// Fills bytes with a pattern in which every window is different for every seed.
void ToyFill(absl::Span<uint8_t> bytes, uint64_t seed);

// A request with its payload, and the reply to it if `before` is the bank.
std::vector<uint8_t> ToyMessage(const ToyRequest& request);
std::vector<uint8_t> ToyExpectedReply(absl::Span<const uint8_t> message,
                                      ToyBank after);

// What Escrow sends to the store channel along with the descriptors.
struct ToyEscrow {
  uint32_t id;
  uint32_t fd_count;
};

// The device's side. Public members are for tests to turn and look at.
class ToyHandler : public LaneHandler {
 public:
  // `store` is a SEQPACKET socket to outside this process or invalid; `gift` is
  // the descriptor for replies. Both borrowed.
  ToyHandler(BorrowedFd store, BorrowedFd gift)
      : store_(store), gift_(gift.get()) {}

  size_t header_size() const override { return sizeof(ToyRequest); }
  absl::StatusOr<size_t> MessageSize(
      absl::Span<const uint8_t> header) const override;
  absl::Status Escrow(absl::Span<const uint8_t> message,
                      absl::Span<UniqueFd> fds) override;
  absl::StatusOr<Outcome> Execute(absl::Span<const uint8_t> message,
                                  size_t fd_count,
                                  absl::Span<const uint8_t> old_bank,
                                  absl::Span<uint8_t> new_bank,
                                  absl::Span<uint8_t> reply,
                                  uint32_t attempts) override;
  void Committed(absl::Span<const uint8_t> bank) override;
  absl::Span<const int> ReplyFds(absl::Span<const uint8_t> bank) override;

  uint64_t escrows = 0;
  uint64_t executions = 0;
  uint64_t commits_seen = 0;
  uint32_t last_attempts = 0;

 protected:
  absl::Status Deposit(absl::Span<const uint8_t> message,
                       absl::Span<UniqueFd> fds);

 private:
  BorrowedFd store_;
  int gift_;
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_STATESTORE_TESTING_LANE_TOY_H_
