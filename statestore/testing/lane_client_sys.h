#ifndef HOLDFAST_STATESTORE_TESTING_LANE_CLIENT_SYS_H_
#define HOLDFAST_STATESTORE_TESTING_LANE_CLIENT_SYS_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "statestore/testing/lane_toy.h"

namespace holdfast::testing {

struct LaneClientOptions {
  bool split = false;        // Requests leave in pieces of random size.
  bool descriptors = false;  // Some requests and replies carry some.
  uint32_t pipeline = 1;     // Requests outstanding at most.
  uint32_t max_request = 120;
  uint32_t max_reply = 400;
  uint64_t seed = 1;
};

// A client of the toy protocol that sends random requests and believes nothing:
// order, running counter, hash chain and every byte of a reply must be those of
// its own model; no byte may come unasked; descriptors of a reply come with its
// first byte; descriptors of a request must have reached the store, with their
// content, before the reply. Never blocks. One thread.
class LaneClient {
 public:
  // All borrowed: the stream, the store's end of the escrow channel (both are
  // used without blocking) and what the server gives away with replies.
  LaneClient(BorrowedFd stream, BorrowedFd store, BorrowedFd gift,
             const LaneClientOptions& options);

  // Sends and reads what can be done now; whether anything moved.
  bool Step();

  // No new requests from here on; with a last one that proves those before it.
  void Finish();
  void Resume() { finishing_ = false; }
  bool AllSent() const { return unsent_.empty(); }
  bool AllAnswered() const { return expected_.empty(); }

  uint64_t replies() const { return replies_; }
  uint64_t requests() const { return next_id_; }
  // Empty, or the first thing that was wrong.
  const std::string& violation() const { return violation_; }
  void Complain(std::string what);

 private:
  struct Unsent {
    std::vector<uint8_t> bytes;
    size_t sent = 0;
    std::vector<UniqueFd> fds;
  };
  struct Expected {
    uint32_t id = 0;
    uint32_t fd_count = 0;
    bool wants_fd = false;
    std::vector<uint8_t> bytes;
    size_t received = 0;
  };

  uint32_t Random(uint32_t from, uint32_t to) {
    return std::uniform_int_distribution<uint32_t>(from, to)(random_);
  }
  void Ask(bool plain);
  bool SendSome();
  bool ReceiveSome();
  void Accept(size_t size, size_t fd_count);
  void DrainStore();

  int stream_, store_;
  uint64_t gift_inode_;
  LaneClientOptions options_;
  std::mt19937_64 random_;
  ToyBank model_{};
  std::deque<Unsent> unsent_;
  std::deque<Expected> expected_;
  std::map<uint32_t, uint32_t> escrowed_;  // Id of request -> descriptors.
  std::vector<uint8_t> buffer_;
  uint32_t next_id_ = 0;
  uint64_t replies_ = 0;
  bool finishing_ = false;
  std::string violation_;
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_STATESTORE_TESTING_LANE_CLIENT_SYS_H_
