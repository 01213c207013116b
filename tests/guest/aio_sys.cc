#include "tests/guest/aio_sys.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/status_macros.h"

namespace holdfast::guest {
namespace {

int Opcode(load::LoadRequest::Kind kind) {
  switch (kind) {
    case load::LoadRequest::Kind::kRead:
      return IOCB_CMD_PREAD;
    case load::LoadRequest::Kind::kWrite:
      return IOCB_CMD_PWRITE;
    case load::LoadRequest::Kind::kFlush:
      return IOCB_CMD_FDSYNC;
  }
  return IOCB_CMD_NOOP;
}

}  // namespace

absl::StatusOr<std::unique_ptr<AioQueue>> AioQueue::Open(
    const std::string& path, bool direct, uint32_t depth,
    size_t max_request_bytes) {
  UniqueFd device(
      open(path.c_str(), O_RDWR | O_CLOEXEC | (direct ? O_DIRECT : 0)));
  if (!device.valid()) return ErrnoStatus(absl::StrCat("open ", path));
  const off_t size = lseek(device.get(), 0, SEEK_END);
  if (size < 0) return ErrnoStatus(absl::StrCat("lseek ", path));
  std::unique_ptr<AioQueue> queue(
      new AioQueue(std::move(device), size, depth, max_request_bytes));
  if (queue->memory_ == nullptr) {
    return absl::ResourceExhaustedError("no memory for the buffers");
  }
  if (syscall(SYS_io_setup, depth, &queue->context_) != 0) {
    return ErrnoStatus("io_setup");
  }
  return queue;
}

AioQueue::AioQueue(UniqueFd device, uint64_t size, uint32_t depth,
                   size_t max_request_bytes)
    : device_(std::move(device)),
      size_(size),
      buffer_bytes_(max_request_bytes),
      memory_(static_cast<uint8_t*>(
          std::aligned_alloc(load::kBlockSize, depth * max_request_bytes))),
      slots_(depth),
      events_(depth) {}

AioQueue::~AioQueue() {
  if (context_ != 0) syscall(SYS_io_destroy, context_);
}

absl::Span<uint8_t> AioQueue::buffer(uint32_t slot) {
  return {memory_.get() + slot * buffer_bytes_, buffer_bytes_};
}

void AioQueue::Add(uint32_t slot, const load::LoadRequest& request) {
  iocb& block = slots_[slot].block;
  block = {};
  block.aio_data = slot;
  block.aio_lio_opcode = static_cast<uint16_t>(Opcode(request.kind));
  block.aio_fildes = static_cast<uint32_t>(device_.get());
  if (request.kind != load::LoadRequest::Kind::kFlush) {
    block.aio_buf = reinterpret_cast<uintptr_t>(buffer(slot).data());
    block.aio_nbytes = request.bytes();
    block.aio_offset =
        static_cast<int64_t>(request.first_block * load::kBlockSize);
  }
  slots_[slot].expected = request.bytes();
  added_.push_back(&block);
}

absl::Status AioQueue::Submit() {
  size_t done = 0;
  while (done < added_.size()) {
    const long n = syscall(SYS_io_submit, context_, added_.size() - done,
                           added_.data() + done);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
      return ErrnoStatus("io_submit");
    }
    if (n > 0) done += static_cast<size_t>(n);
  }
  added_.clear();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<AioQueue::Completion>> AioQueue::Wait(
    int timeout_ms) {
  timespec timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
  const long n = syscall(SYS_io_getevents, context_, 1L, events_.size(),
                         events_.data(), &timeout);
  if (n < 0 && errno != EINTR) return ErrnoStatus("io_getevents");
  std::vector<Completion> completions;
  for (long i = 0; i < n; ++i) {
    const uint32_t slot = static_cast<uint32_t>(events_[i].data);
    const int64_t transferred = events_[i].res;
    completions.push_back(
        {slot, transferred >= 0 &&
                   static_cast<size_t>(transferred) == slots_[slot].expected});
  }
  return completions;
}

}  // namespace holdfast::guest
