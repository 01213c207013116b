// A lane on a section with arbitrary bytes, with arbitrary input on its socket:
// it may refuse or serve, but must not crash, hang or leave the section. The
// first byte chooses how the section is made; 12-byte records of the input then
// overwrite parts of it; the rest is sent by the peer.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "base/unique_fd.h"
#include "statestore/lane.h"
#include "statestore/lane_format.h"
#include "statestore/lane_journal.h"
#include "statestore/testing/lane_toy.h"

namespace holdfast {
namespace {

constexpr LaneSizes kSizes{64, 512, 512};
constexpr size_t kSectionSize = LaneSize(kSizes);
constexpr size_t kGuard = 256;

// The section and a guard behind it.
struct alignas(4096) Arena {
  uint8_t section[kSectionSize];
  uint8_t guard[kGuard];
};

struct Patch {
  uint16_t offset;
  uint16_t length;  // 1 to 8 bytes are used.
  uint8_t value[8];
};

// Bits of the first byte.
constexpr uint8_t kFormatted = 1;   // Else the input is the section.
constexpr uint8_t kMendCrcs = 2;    // Past the checksums to the code behind.
constexpr uint8_t kServeFirst = 4;  // One request before the damage.

void MendCrcs(Arena& arena) {
  auto& header = *reinterpret_cast<LaneHeader*>(arena.section);
  constexpr LaneLayout kAt =
      LayOutLane(kSizes.bank, kSizes.max_message, kSizes.max_reply);
  for (int i = 0; i < 2; ++i) {
    LaneRecord& record = header.records[i];
    record.crc = LaneSum(record, {arena.section + kAt.bank[i], kSizes.bank});
  }
}

void Serve(Arena& arena, absl::Span<const uint8_t> input) {
  auto lane = Lane::Attach(absl::MakeSpan(arena.section), kSizes, ~0u);
  if (!lane.ok()) return;
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return;
  UniqueFd peer(pair[0]), socket(pair[1]);
  // Room for all replies: nobody reads them, and the lane would wait.
  const int large = 1 << 20;
  setsockopt(socket.get(), SOL_SOCKET, SO_SNDBUF, &large, sizeof(large));
  const ssize_t sent = send(peer.get(), input.data(), input.size(), 0);
  if (sent < 0) return;
  testing::ToyHandler handler(BorrowedFd(-1), BorrowedFd(-1));
  (void)lane->Run(socket, handler, Lane::Waiting::kEdge);
  (void)lane->unread();
  (void)lane->Run(socket, handler, Lane::Waiting::kLevel);
  shutdown(peer.get(), SHUT_WR);
  (void)lane->Run(socket, handler);
  if (lane->bank().size() != kSizes.bank) abort();
  (void)lane->sequence();
  if (!lane->ResetConnection().ok() || lane->sequence() != 0) abort();
}

}  // namespace
}  // namespace holdfast

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace holdfast;
  if (size == 0) return 0;
  const uint8_t how = data[0];
  absl::Span<const uint8_t> input(data + 1, size - 1);
  static Arena arena;
  std::memset(&arena, 0, sizeof(arena));
  std::memset(arena.guard, 0xa5, sizeof(arena.guard));
  if ((how & kFormatted) == 0) {
    std::memcpy(arena.section, input.data(),
                std::min(input.size(), sizeof(arena.section)));
    Serve(arena, input);
  } else {
    if (!Lane::Attach(absl::MakeSpan(arena.section), kSizes, 1).ok()) abort();
    if ((how & kServeFirst) != 0) {
      const auto message = testing::ToyMessage({40, 1, 60, 0, 0, 0});
      Serve(arena, message);
    }
    for (int i = 0; i < 8 && input.size() >= sizeof(Patch); ++i) {
      Patch patch;
      std::memcpy(&patch, input.data(), sizeof(patch));
      input.remove_prefix(sizeof(patch));
      const size_t at = patch.offset % kSectionSize;
      const size_t length =
          std::min<size_t>(1 + patch.length % 8, kSectionSize - at);
      std::memcpy(arena.section + at, patch.value, length);
    }
    if ((how & kMendCrcs) != 0) MendCrcs(arena);
    Serve(arena, input);
  }
  for (const uint8_t byte : arena.guard) {
    if (byte != 0xa5) abort();
  }
  return 0;
}
