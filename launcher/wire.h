#ifndef HOLDFAST_LAUNCHER_WIRE_H_
#define HOLDFAST_LAUNCHER_WIRE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace holdfast::launcher {

// The bytes of launch specs and of the core's local protocol: little-endian
// integers, strings as a 16-bit length and their bytes. Pure; not thread-safe.

// Appends values to a buffer that it owns.
class WireWriter {
 public:
  void U8(uint8_t value) { Integer(value, 1); }
  void U16(uint16_t value) { Integer(value, 2); }
  void U32(uint32_t value) { Integer(value, 4); }
  void U64(uint64_t value) { Integer(value, 8); }
  void Bool(bool value) { U8(value ? 1 : 0); }
  // Bytes beyond kMaxString are cut: callers validate before they encode.
  void String(absl::string_view value);
  // The same with a 32-bit length, for nested messages.
  void Bytes(absl::Span<const uint8_t> value);

  std::vector<uint8_t> Take() { return std::move(bytes_); }
  const std::vector<uint8_t>& bytes() const { return bytes_; }

  static constexpr size_t kMaxString = 65535;

 private:
  void Integer(uint64_t value, int size);

  std::vector<uint8_t> bytes_;
};

// Reads what WireWriter wrote, from bytes that need not be trusted. After the
// first value that is not there whole, every further one is zero or empty and
// ok() is false: callers read everything and test once.
class WireReader {
 public:
  // `bytes` must outlive the reader.
  explicit WireReader(absl::Span<const uint8_t> bytes) : bytes_(bytes) {}

  uint8_t U8() { return static_cast<uint8_t>(Integer(1)); }
  uint16_t U16() { return static_cast<uint16_t>(Integer(2)); }
  uint32_t U32() { return static_cast<uint32_t>(Integer(4)); }
  uint64_t U64() { return Integer(8); }
  // Anything but 0 and 1 is an error.
  bool Bool();
  // A string of at most `most` bytes; a longer one is an error.
  std::string String(size_t most = WireWriter::kMaxString);
  std::vector<uint8_t> Bytes(size_t most);

  bool ok() const { return ok_; }
  // Whether everything was read without an error and nothing is left.
  bool Finished() const { return ok_ && bytes_.empty(); }
  size_t left() const { return bytes_.size(); }

 private:
  uint64_t Integer(int size);
  // The next `size` bytes, or none.
  absl::Span<const uint8_t> Next(size_t size);

  absl::Span<const uint8_t> bytes_;
  bool ok_ = true;
};

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_WIRE_H_
