#include "devices/bus/request.h"

#include <algorithm>
#include <cstring>

namespace holdfast {
namespace {

size_t TotalSize(absl::Span<const Buffer> buffers) {
  size_t total = 0;
  for (const Buffer& buffer : buffers) total += buffer.size;
  return total;
}

// Calls copy(guest memory, bytes) for each contiguous piece of
// [offset, offset + size) of `buffers`; returns the bytes covered.
template <typename Copy>
size_t ForEachPiece(absl::Span<const Buffer> buffers, size_t offset,
                    size_t size, Copy copy) {
  size_t done = 0;
  for (const Buffer& buffer : buffers) {
    if (done == size) break;
    if (offset >= buffer.size) {
      offset -= buffer.size;
      continue;
    }
    const size_t piece = std::min(buffer.size - offset, size - done);
    copy(buffer.data + offset, done, piece);
    done += piece;
    offset = 0;
  }
  return done;
}

}  // namespace

Request::Request(uint16_t queue, uint16_t head,
                 absl::Span<const Buffer> readable,
                 absl::Span<const Buffer> writable)
    : queue_(queue),
      head_(head),
      readable_(readable),
      writable_(writable),
      readable_size_(TotalSize(readable)),
      writable_size_(TotalSize(writable)) {}

size_t Request::Read(absl::Span<uint8_t> out) {
  const size_t n =
      ForEachPiece(readable_, read_position_, out.size(),
                   [&](const uint8_t* guest, size_t at, size_t size) {
                     std::memcpy(out.data() + at, guest, size);
                   });
  read_position_ += n;
  return n;
}

size_t Request::WriteAt(size_t offset, absl::Span<const uint8_t> bytes) {
  return ForEachPiece(writable_, offset, bytes.size(),
                      [&](uint8_t* guest, size_t at, size_t size) {
                        std::memcpy(guest, bytes.data() + at, size);
                      });
}

size_t Request::Write(absl::Span<const uint8_t> bytes) {
  const size_t n = WriteAt(write_position_, bytes);
  write_position_ += n;
  return n;
}

size_t Request::Write(absl::string_view text) {
  return Write(absl::Span<const uint8_t>(
      reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

}  // namespace holdfast
