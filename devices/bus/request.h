#ifndef HOLDFAST_DEVICES_BUS_REQUEST_H_
#define HOLDFAST_DEVICES_BUS_REQUEST_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace holdfast {

// One piece of guest memory that belongs to a request, already checked to lie
// inside the guest's memory. The guest can change its content at any moment:
// read it once, validate the copy.
struct Buffer {
  uint8_t* data = nullptr;
  size_t size = 0;  // Bytes.
};

// One request of a virtqueue: what the driver lets the device read, followed by
// what it lets the device write (VIRTIO 1.2, section 2.7.4). Valid until
// OnRequest returns. Not thread-safe; every request is served by one thread.
class Request {
 public:
  Request(uint16_t queue, uint16_t head, absl::Span<const Buffer> readable,
          absl::Span<const Buffer> writable);

  uint16_t queue() const { return queue_; }
  // The ring's name for this request; unique among those in flight.
  uint16_t head() const { return head_; }

  // All device-readable and device-writable memory, in order.
  absl::Span<const Buffer> readable() const { return readable_; }
  absl::Span<const Buffer> writable() const { return writable_; }
  size_t readable_size() const { return readable_size_; }  // Bytes.
  size_t writable_size() const { return writable_size_; }  // Bytes.

  // Copies the next bytes of the device-readable part to `out`; returns how
  // many there were, at most out.size().
  size_t Read(absl::Span<uint8_t> out);

  // Copies `bytes` to the next bytes of the device-writable part; returns how
  // many fitted.
  size_t Write(absl::Span<const uint8_t> bytes);
  size_t Write(absl::string_view text);

  // Copies `bytes` to device-writable memory at `offset`; returns how many
  // fitted. Does not move the position of Write().
  size_t WriteAt(size_t offset, absl::Span<const uint8_t> bytes);

 private:
  uint16_t queue_;
  uint16_t head_;
  absl::Span<const Buffer> readable_;
  absl::Span<const Buffer> writable_;
  size_t readable_size_ = 0;
  size_t writable_size_ = 0;
  size_t read_position_ = 0;
  size_t write_position_ = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_REQUEST_H_
