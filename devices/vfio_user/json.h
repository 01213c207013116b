#ifndef HOLDFAST_DEVICES_VFIO_USER_JSON_H_
#define HOLDFAST_DEVICES_VFIO_USER_JSON_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace holdfast::vfio_user {

// JSON (RFC 8259) of a peer that is not trusted: strict, and bounded in size,
// depth and memory. Pure; thread-safe. docs/decisions/0007-own-json-reader.md
// says why there is an own one.

// A longer text is refused. What VMMs send has 100 to 300 bytes.
inline constexpr size_t kMaxJsonSize = 4096;
// Objects and arrays within each other. The specification needs three.
inline constexpr size_t kMaxJsonDepth = 8;

struct JsonValue {
  enum class Kind { kNull, kBool, kNumber, kString, kArray, kObject };
  Kind kind = Kind::kNull;
  bool boolean = false;
  // kNumber: a whole number from 0 to 2^64 - 1, written without fraction and
  // exponent. Others are numbers, too, but not these.
  bool is_unsigned = false;
  uint64_t number = 0;
};

// Called for every value, containers before what is in them. `path` holds the
// member names down to the value; an element of an array has the name "". The
// text of strings is checked and dropped. An error ends the reading.
using JsonVisitor = std::function<absl::Status(
    absl::Span<const std::string> path, const JsonValue& value)>;

// Reads `text`, which is one JSON value and white space. Of members with equal
// names all are visited, in order. kInvalidArgument, with the byte at which it
// went wrong: not JSON, not UTF-8, or beyond the limits above.
absl::Status ReadJson(absl::string_view text, const JsonVisitor& visit);

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_JSON_H_
