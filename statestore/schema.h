#ifndef HOLDFAST_STATESTORE_SCHEMA_H_
#define HOLDFAST_STATESTORE_SCHEMA_H_

// Names, types and offsets of the fields of a device's state. A schema is
// stored in the segment it describes, so that dump, diff and a newer binary
// need nothing else. Pure; no locking. Declare fields with cell.h.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace holdfast {

// Names a state struct. `version` rises with every change of its fields or of
// what they mean; a binary reads its own version and all older ones.
struct SchemaId {
  absl::string_view name;
  uint32_t version;
};

// Limits. A device that needs more fields wants an array, and one that needs
// larger ones wants bulk data (undo_log.h). Beyond: InvalidArgument.
inline constexpr size_t kMaxFields = 1024;
inline constexpr size_t kMaxFieldName = 63;
inline constexpr size_t kMaxFieldSize = 4096;

// What a field holds: `count` elements of a kind.
struct FieldType {
  enum class Kind : uint8_t {
    kU8 = 1,
    kU16 = 2,
    kU32 = 3,
    kU64 = 4,
    kI8 = 5,
    kI16 = 6,
    kI32 = 7,
    kI64 = 8,
    kBool = 9,
    kF32 = 10,
    kF64 = 11,
    kBytes = 12,  // Any other trivially copyable type, by its size.
  };
  Kind kind = Kind::kBytes;
  uint16_t count = 0;  // At least 1 in a valid schema.

  uint32_t element_size() const;
  uint32_t size() const { return element_size() * count; }
  // "u32", "u8[6]", "bytes[24]".
  std::string ToString() const;

  friend bool operator==(FieldType a, FieldType b) {
    return a.kind == b.kind && a.count == b.count;
  }
  friend bool operator!=(FieldType a, FieldType b) { return !(a == b); }
};

struct Field {
  std::string name;
  FieldType type;
  uint32_t offset = 0;  // From the start of the fields in a bank, bytes.
};

struct Schema {
  std::string name;
  uint32_t version = 0;
  uint32_t size = 0;          // Of all fields, bytes; a multiple of 8.
  std::vector<Field> fields;  // Ascending by offset.

  // Null if there is none.
  const Field* Find(absl::string_view field_name) const;
};

// Whether a schema keeps all rules: limits, names of [a-z0-9_.], no name
// twice, offsets ascending, inside `size`, without overlap. The error names
// the field.
absl::Status ValidateSchema(const Schema& schema);

// The schema as bytes: docs/state-format.md, section "Schema".
// Precondition: ValidateSchema(schema) is OK.
std::vector<uint8_t> EncodeSchema(const Schema& schema);

// Reverses EncodeSchema; bytes after the encoded schema must be zero. Total:
// any bytes give a valid schema or DataLoss. `bytes` must not change meanwhile:
// copy it first when somebody else maps it.
absl::StatusOr<Schema> DecodeSchema(absl::Span<const uint8_t> bytes);

// Whether a binary that declares `binary` can work on state stored under
// `stored`: the same name, a stored version that is not newer, and every field
// of the binary present with the same type. Fields that only the segment has
// are kept and ignored. FailedPrecondition lists everything that is in the
// way: "field x: type u32 in segment, u64 in binary".
absl::Status CheckCompatible(const Schema& stored, const Schema& binary);

// Collects the fields of a state struct while its default constructor runs.
// While a SchemaBuilder lives, every Cell that this thread constructs declares
// itself to it; builders nest. Use through DescribeState and BindState.
class SchemaBuilder {
 public:
  static constexpr uint32_t kUnbound = 0xffffffff;

  // Assigns offsets in order of declaration, each field aligned to its element
  // (bytes: to 8).
  explicit SchemaBuilder(SchemaId id);
  // Looks offsets up by name in `stored`, which must outlive the builder.
  SchemaBuilder(SchemaId id, const Schema& stored);
  SchemaBuilder(const SchemaBuilder&) = delete;
  SchemaBuilder& operator=(const SchemaBuilder&) = delete;
  ~SchemaBuilder();

  // Called by Cell. The offset of the field, or kUnbound when no builder lives
  // in this thread or the stored schema has no such field of this type.
  static uint32_t Declare(absl::string_view name, FieldType type);

  // What was declared, in the layout a new segment gets; or why not: a rule of
  // ValidateSchema, or of CheckCompatible when bound to a stored schema.
  absl::StatusOr<Schema> Finish();

 private:
  uint32_t Add(absl::string_view name, FieldType type);

  SchemaBuilder* const outer_;
  const Schema* const stored_ = nullptr;
  Schema schema_;
};

// The schema of a new segment for `State`, a struct of Cells with a static
// SchemaId kSchema. InvalidArgument when the struct breaks a rule.
template <typename State>
absl::StatusOr<Schema> DescribeState() {
  SchemaBuilder builder(State::kSchema);
  [[maybe_unused]] State state;
  return builder.Finish();
}

// A `State` whose cells point at the fields of an existing segment, found by
// name. Errors: CheckCompatible.
template <typename State>
absl::StatusOr<State> BindState(const Schema& stored) {
  SchemaBuilder builder(State::kSchema, stored);
  State state;
  absl::StatusOr<Schema> schema = builder.Finish();
  if (!schema.ok()) return schema.status();
  return state;
}

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_SCHEMA_H_
