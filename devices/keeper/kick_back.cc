#include "devices/keeper/kick_back.h"

#include <algorithm>
#include <cstddef>

#include "base/shared_access.h"

namespace holdfast::keeper {
namespace {

constexpr uint8_t kBlockIoError = 1;    // VIRTIO 1.2, 5.2.6.
constexpr uint8_t kScsiFailure = 9;     // 5.6.6.1.1 ...
constexpr size_t kScsiResponseAt = 11;  // ... of struct virtio_scsi_req_cmd.

// Byte `at` of the writable buffers; false: there is none.
bool Put(const Chain& chain, size_t at, uint8_t value) {
  for (const ChainSegment& segment : chain.writable()) {
    if (at < segment.size) {
      SharedAccess::Store(segment.data + at, value);
      return true;
    }
    at -= segment.size;
  }
  return false;
}

}  // namespace

Completion AnswerWithError(KickBack kind, const Chain& chain) {
  Completion answer = {chain.head(), 0};
  const uint32_t size = chain.writable_size();
  if (kind == KickBack::kBlock && size != 0) {
    // The status is the last byte, and nothing else is said to be written.
    Put(chain, size - 1, kBlockIoError);
    answer.written = 1;
  }
  if (kind == KickBack::kScsi && size > kScsiResponseAt) {
    for (size_t i = 0; i < kScsiResponseAt; ++i) Put(chain, i, 0);
    Put(chain, kScsiResponseAt, kScsiFailure);
    answer.written = kScsiResponseAt + 1;
  }
  return answer;
}

}  // namespace holdfast::keeper
