#include "tests/interop/blkio_queue_sys.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace holdfast::interop {
namespace {

// A slot's number travels as the library's user_data.
void* UserData(uint32_t slot) {
  return reinterpret_cast<void*>(static_cast<uintptr_t>(slot));
}

uint32_t SlotOf(void* user_data) {
  return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(user_data));
}

}  // namespace

absl::StatusOr<std::unique_ptr<BlkioQueue>> BlkioQueue::Open(
    const BlkioApi& api, const Options& options) {
  std::unique_ptr<BlkioQueue> queue(new BlkioQueue(api, options));
  RETURN_IF_ERROR(queue->Connect());
  return queue;
}

BlkioQueue::~BlkioQueue() {
  if (device_ != nullptr) api_.destroy(&device_);
}

absl::Status BlkioQueue::Check(int result, absl::string_view call) const {
  if (result >= 0) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("libblkio: ", call, ": ", api_.get_error_msg()));
}

absl::Status BlkioQueue::Connect() {
  RETURN_IF_ERROR(
      Check(api_.create("virtio-blk-vhost-user", &device_), "create"));
  RETURN_IF_ERROR(
      Check(api_.set_str(device_, "path", options_.socket.c_str()), "path"));
  RETURN_IF_ERROR(Check(api_.connect(device_), "connect"));
  RETURN_IF_ERROR(Check(api_.get_uint64(device_, "capacity", &size_), "size"));
  RETURN_IF_ERROR(Check(api_.set_int(device_, "num-queues", 1), "num-queues"));
  RETURN_IF_ERROR(Check(
      api_.set_int(device_, "queue-size", options_.queue_size), "queue-size"));
  RETURN_IF_ERROR(Check(api_.start(device_), "start"));
  uint64_t alignment = 0;
  RETURN_IF_ERROR(Check(
      api_.get_uint64(device_, "mem-region-alignment", &alignment), "memory"));
  // The driver reaches only memory that was given to it: a memfd, which it
  // shares with the back-end.
  const size_t needed = std::max(options_.depth * options_.max_request_bytes,
                                 options_.memory_bytes);
  BlkioMemoryRegion region;
  RETURN_IF_ERROR(Check(
      api_.alloc_mem_region(device_, &region,
                            (needed + alignment - 1) / alignment * alignment),
      "alloc_mem_region"));
  RETURN_IF_ERROR(
      Check(api_.map_mem_region(device_, &region), "map_mem_region"));
  memory_ = static_cast<uint8_t*>(region.address);
  stride_ = needed / options_.depth / load::kBlockSize * load::kBlockSize;
  for (size_t at = 0; at < options_.memory_bytes; at += load::kBlockSize) {
    memory_[at] = 1;
  }
  queue_ = api_.get_queue(device_, 0);
  return absl::OkStatus();
}

absl::Span<uint8_t> BlkioQueue::buffer(uint32_t slot) {
  return {memory_ + slot * stride_, options_.max_request_bytes};
}

void BlkioQueue::Add(uint32_t slot, const load::LoadRequest& request) {
  const uint64_t start = request.first_block * load::kBlockSize;
  uint8_t* const data = buffer(slot).data();
  switch (request.kind) {
    case load::LoadRequest::Kind::kRead:
      api_.q_read(queue_, start, data, request.bytes(), UserData(slot), 0);
      break;
    case load::LoadRequest::Kind::kWrite:
      api_.q_write(queue_, start, data, request.bytes(), UserData(slot), 0);
      break;
    case load::LoadRequest::Kind::kFlush:
      api_.q_flush(queue_, UserData(slot), 0);
      break;
  }
}

absl::StatusOr<std::vector<BlkioQueue::Completion>> BlkioQueue::Wait(
    int timeout_ms) {
  timespec timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
  const int n = api_.q_do_io(queue_, completions_.data(), 1,
                             static_cast<int>(completions_.size()), &timeout);
  std::vector<Completion> completions;
  if (n == -ETIME) return completions;
  RETURN_IF_ERROR(Check(n, "do_io"));
  for (int i = 0; i < n; ++i) {
    completions.push_back(
        {SlotOf(completions_[i].user_data), completions_[i].result == 0});
  }
  if (options_.pause_us > 0) usleep(options_.pause_us);
  return completions;
}

}  // namespace holdfast::interop
