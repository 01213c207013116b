#include "statestore/schema.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/crc32c.h"
#include "base/status_macros.h"

namespace holdfast {
namespace {

thread_local SchemaBuilder* current_builder = nullptr;

constexpr uint8_t kLastKind = static_cast<uint8_t>(FieldType::Kind::kBytes);

constexpr const char* kKindNames[kLastKind + 1] = {
    "?",   "u8",  "u16",  "u32", "u64", "i8",   "i16",
    "i32", "i64", "bool", "f32", "f64", "bytes"};
constexpr uint32_t kKindSizes[kLastKind + 1] = {0, 1, 2, 4, 8, 1, 2,
                                                4, 8, 1, 4, 8, 1};

uint8_t KindIndex(FieldType::Kind kind) {
  const uint8_t index = static_cast<uint8_t>(kind);
  return index <= kLastKind ? index : 0;
}

bool IsName(absl::string_view name) {
  return !name.empty() && name.size() <= kMaxFieldName &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                  c == '_' || c == '.';
         });
}

uint32_t AlignUp(uint32_t value, uint32_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

// Fixed parts of the encoding: docs/state-format.md, section "Schema".
struct EncodedSchema {
  uint32_t encoded_size;  // Of all that follows and this, bytes.
  uint32_t check;         // CRC32C of encoded_size bytes, with this 0.
  uint32_t version;
  uint32_t state_size;
  uint16_t field_count;
  uint8_t name_size;
  uint8_t reserved;
};
static_assert(sizeof(EncodedSchema) == 20);

struct EncodedField {
  uint32_t offset;
  uint16_t count;
  uint8_t kind;
  uint8_t name_size;
};
static_assert(sizeof(EncodedField) == 8);

template <typename T>
void Append(std::vector<uint8_t>& bytes, const T& value) {
  bytes.resize(bytes.size() + sizeof(value));
  std::memcpy(&bytes[bytes.size() - sizeof(value)], &value, sizeof(value));
}

// Takes values off the front of some bytes; says no when they run out.
class Reader {
 public:
  explicit Reader(absl::Span<const uint8_t> bytes) : rest_(bytes) {}

  template <typename T>
  bool Read(T& value) {
    if (rest_.size() < sizeof(value)) return false;
    std::memcpy(&value, rest_.data(), sizeof(value));
    rest_.remove_prefix(sizeof(value));
    return true;
  }
  bool ReadName(size_t size, std::string& name) {
    if (rest_.size() < size) return false;
    name.assign(reinterpret_cast<const char*>(rest_.data()), size);
    rest_.remove_prefix(size);
    return true;
  }
  bool at_end() const { return rest_.empty(); }

 private:
  absl::Span<const uint8_t> rest_;
};

absl::Status Corrupt(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("stored schema: ", what));
}

uint32_t CheckOf(std::vector<uint8_t> encoded) {
  std::memset(encoded.data() + offsetof(EncodedSchema, check), 0,
              sizeof(EncodedSchema::check));
  return Crc32c(encoded);
}

absl::Status ValidateField(const Field& field, uint32_t end_of_last,
                           uint32_t schema_size) {
  const auto error = [&field](absl::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat("field ", field.name, ": ", what));
  };
  if (!IsName(field.name)) return error("name is not 1-63 of [a-z0-9_.]");
  if (field.type.size() == 0) return error("unknown type");
  if (field.type.size() > kMaxFieldSize) {
    return error(absl::StrCat(field.type.ToString(), " exceeds ", kMaxFieldSize,
                              " bytes"));
  }
  if (field.offset < end_of_last) return error("overlaps the field before");
  if (field.offset > schema_size ||
      field.type.size() > schema_size - field.offset) {
    return error("lies outside the state");
  }
  return absl::OkStatus();
}

}  // namespace

uint32_t FieldType::element_size() const { return kKindSizes[KindIndex(kind)]; }

std::string FieldType::ToString() const {
  const char* name = kKindNames[KindIndex(kind)];
  if (count == 1 && kind != Kind::kBytes) return name;
  return absl::StrCat(name, "[", count, "]");
}

const Field* Schema::Find(absl::string_view field_name) const {
  for (const Field& field : fields) {
    if (field.name == field_name) return &field;
  }
  return nullptr;
}

absl::Status ValidateSchema(const Schema& schema) {
  if (!IsName(schema.name)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "schema name \"", schema.name, "\" is not 1-63 of [a-z0-9_.]"));
  }
  if (schema.size % 8 != 0) {
    return absl::InvalidArgumentError("state size is not a multiple of 8");
  }
  if (schema.fields.size() > kMaxFields) {
    return absl::InvalidArgumentError(
        absl::StrCat("more than ", kMaxFields, " fields"));
  }
  std::set<absl::string_view> names;
  uint32_t end_of_last = 0;
  for (const Field& field : schema.fields) {
    RETURN_IF_ERROR(ValidateField(field, end_of_last, schema.size));
    if (!names.insert(field.name).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("field ", field.name, ": declared twice"));
    }
    end_of_last = field.offset + field.type.size();
  }
  return absl::OkStatus();
}

std::vector<uint8_t> EncodeSchema(const Schema& schema) {
  EncodedSchema fixed{};
  fixed.version = schema.version;
  fixed.state_size = schema.size;
  fixed.field_count = static_cast<uint16_t>(schema.fields.size());
  fixed.name_size = static_cast<uint8_t>(schema.name.size());
  std::vector<uint8_t> bytes;
  Append(bytes, fixed);
  bytes.insert(bytes.end(), schema.name.begin(), schema.name.end());
  for (const Field& field : schema.fields) {
    Append(bytes, EncodedField{field.offset, field.type.count,
                               static_cast<uint8_t>(field.type.kind),
                               static_cast<uint8_t>(field.name.size())});
    bytes.insert(bytes.end(), field.name.begin(), field.name.end());
  }
  fixed.encoded_size = static_cast<uint32_t>(bytes.size());
  std::memcpy(bytes.data(), &fixed, sizeof(fixed));
  fixed.check = CheckOf(bytes);
  std::memcpy(bytes.data(), &fixed, sizeof(fixed));
  return bytes;
}

absl::StatusOr<Schema> DecodeSchema(absl::Span<const uint8_t> bytes) {
  EncodedSchema fixed;
  if (!Reader(bytes).Read(fixed)) return Corrupt("truncated");
  if (fixed.encoded_size < sizeof(fixed) || fixed.encoded_size > bytes.size()) {
    return Corrupt("its size does not fit its section");
  }
  const absl::Span<const uint8_t> used = bytes.first(fixed.encoded_size);
  if (CheckOf({used.begin(), used.end()}) != fixed.check) {
    return Corrupt("checksum differs");
  }
  for (uint8_t b : bytes.subspan(fixed.encoded_size)) {
    if (b != 0) return Corrupt("bytes after its end");
  }
  Reader reader(used.subspan(sizeof(fixed)));
  Schema schema;
  schema.version = fixed.version;
  schema.size = fixed.state_size;
  if (!reader.ReadName(fixed.name_size, schema.name)) {
    return Corrupt("truncated name");
  }
  for (uint16_t i = 0; i < fixed.field_count; ++i) {
    EncodedField encoded;
    Field field;
    if (!reader.Read(encoded) ||
        !reader.ReadName(encoded.name_size, field.name)) {
      return Corrupt("truncated field");
    }
    field.offset = encoded.offset;
    field.type = {static_cast<FieldType::Kind>(encoded.kind), encoded.count};
    schema.fields.push_back(std::move(field));
  }
  if (!reader.at_end() || fixed.reserved != 0) return Corrupt("excess bytes");
  if (absl::Status valid = ValidateSchema(schema); !valid.ok()) {
    return Corrupt(valid.message());
  }
  return schema;
}

absl::Status CheckCompatible(const Schema& stored, const Schema& binary) {
  std::vector<std::string> reasons;
  if (stored.name != binary.name) {
    reasons.push_back(absl::StrCat("schema ", stored.name, " in segment, ",
                                   binary.name, " in binary"));
  }
  if (stored.version > binary.version) {
    reasons.push_back(absl::StrCat("schema version ", stored.version,
                                   " in segment, at most ", binary.version,
                                   " in binary"));
  }
  for (const Field& field : binary.fields) {
    const Field* other = stored.Find(field.name);
    if (other == nullptr) {
      reasons.push_back(absl::StrCat("field ", field.name, ": not in segment, ",
                                     field.type.ToString(), " in binary"));
    } else if (other->type != field.type) {
      reasons.push_back(absl::StrCat("field ", field.name, ": type ",
                                     other->type.ToString(), " in segment, ",
                                     field.type.ToString(), " in binary"));
    }
  }
  if (reasons.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrJoin(reasons, "; "));
}

SchemaBuilder::SchemaBuilder(SchemaId id)
    : outer_(std::exchange(current_builder, this)) {
  schema_.name = std::string(id.name);
  schema_.version = id.version;
}

SchemaBuilder::SchemaBuilder(SchemaId id, const Schema& stored)
    : outer_(std::exchange(current_builder, this)), stored_(&stored) {
  schema_.name = std::string(id.name);
  schema_.version = id.version;
}

SchemaBuilder::~SchemaBuilder() { current_builder = outer_; }

uint32_t SchemaBuilder::Declare(absl::string_view name, FieldType type) {
  return current_builder == nullptr ? kUnbound
                                    : current_builder->Add(name, type);
}

uint32_t SchemaBuilder::Add(absl::string_view name, FieldType type) {
  const bool bytes = type.kind == FieldType::Kind::kBytes;
  const uint32_t offset =
      AlignUp(schema_.size, bytes ? 8 : std::max(1u, type.element_size()));
  schema_.fields.push_back({std::string(name), type, offset});
  schema_.size = offset + type.size();
  if (stored_ == nullptr) return offset;
  const Field* field = stored_->Find(name);
  if (field == nullptr || field->type != type) return kUnbound;
  return field->offset;
}

absl::StatusOr<Schema> SchemaBuilder::Finish() {
  Schema schema = schema_;
  schema.size = AlignUp(schema.size, 8);
  RETURN_IF_ERROR(ValidateSchema(schema));
  if (stored_ != nullptr) RETURN_IF_ERROR(CheckCompatible(*stored_, schema));
  return schema;
}

}  // namespace holdfast
