#include "devices/virtqueue/dma_port.h"

#include <algorithm>

#include "absl/types/span.h"
#include "devices/bus/guest_memory.h"

namespace holdfast {
namespace {

thread_local DmaPort* current = nullptr;

}  // namespace

DmaPort::~DmaPort() {
  if (current == this) current = nullptr;
}

void DmaPort::Use() { current = this; }

DmaPort& DmaPort::Current() { return *current; }

void DmaPort::Boot() {
  status_ = absl::OkStatus();
  size_ = 0;
}

void DmaPort::Read(uint64_t address, void* to, size_t size) {
  if (dead()) return;
  uint8_t bytes[8] = {};
  const absl::Span<uint8_t> out(bytes, std::min(size, sizeof(bytes)));
  status_ = dma_.Read(GuestAddress{address}, out);
  if (!dead()) std::memcpy(to, out.data(), out.size());
}

void DmaPort::Write(uint64_t address, const void* from, size_t size) {
  if (size_ != 0 &&
      (address != address_ + size_ || size > pending_.size() - size_)) {
    Flush();
  }
  if (dead()) return;
  if (size_ == 0) address_ = address;
  std::memcpy(pending_.data() + size_, from, size);
  size_ += size;
}

void DmaPort::Flush() {
  if (size_ == 0 || dead()) return;
  status_ = dma_.Write(GuestAddress{address_}, {pending_.data(), size_});
  size_ = 0;
}

}  // namespace holdfast
