#include "launcher/wire.h"

#include <algorithm>

namespace holdfast::launcher {

void WireWriter::Integer(uint64_t value, int size) {
  for (int i = 0; i < size; ++i) {
    bytes_.push_back(static_cast<uint8_t>(value >> (8 * i)));
  }
}

void WireWriter::String(absl::string_view value) {
  value = value.substr(0, kMaxString);
  U16(static_cast<uint16_t>(value.size()));
  bytes_.insert(bytes_.end(), value.begin(), value.end());
}

void WireWriter::Bytes(absl::Span<const uint8_t> value) {
  U32(static_cast<uint32_t>(value.size()));
  bytes_.insert(bytes_.end(), value.begin(), value.end());
}

absl::Span<const uint8_t> WireReader::Next(size_t size) {
  if (!ok_ || bytes_.size() < size) {
    ok_ = false;
    return {};
  }
  const absl::Span<const uint8_t> next = bytes_.subspan(0, size);
  bytes_.remove_prefix(size);
  return next;
}

uint64_t WireReader::Integer(int size) {
  const absl::Span<const uint8_t> next = Next(static_cast<size_t>(size));
  uint64_t value = 0;
  for (size_t i = 0; i < next.size(); ++i) {
    value |= uint64_t{next[i]} << (8 * i);
  }
  return value;
}

bool WireReader::Bool() {
  const uint8_t value = U8();
  if (value > 1) ok_ = false;
  return value == 1;
}

std::string WireReader::String(size_t most) {
  const size_t size = U16();
  if (size > most) ok_ = false;
  const absl::Span<const uint8_t> next = Next(size);
  return std::string(next.begin(), next.end());
}

std::vector<uint8_t> WireReader::Bytes(size_t most) {
  const size_t size = U32();
  if (size > most) ok_ = false;
  const absl::Span<const uint8_t> next = Next(size);
  return std::vector<uint8_t>(next.begin(), next.end());
}

}  // namespace holdfast::launcher
