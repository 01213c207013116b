#ifndef HOLDFAST_STATESTORE_CELL_H_
#define HOLDFAST_STATESTORE_CELL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "absl/strings/string_view.h"
#include "statestore/schema.h"

namespace holdfast {

namespace internal {

template <typename T>
constexpr FieldType::Kind KindOf() {
  using Kind = FieldType::Kind;
  if constexpr (std::is_same_v<T, bool>) {
    return Kind::kBool;
  } else if constexpr (std::is_enum_v<T>) {
    return KindOf<std::underlying_type_t<T>>();
  } else if constexpr (std::is_same_v<T, float>) {
    return Kind::kF32;
  } else if constexpr (std::is_same_v<T, double>) {
    return Kind::kF64;
  } else if constexpr (std::is_integral_v<T>) {
    constexpr Kind kFirst = std::is_signed_v<T> ? Kind::kI8 : Kind::kU8;
    constexpr int kLog2 = sizeof(T) == 1   ? 0
                          : sizeof(T) == 2 ? 1
                          : sizeof(T) == 4 ? 2
                                           : 3;
    return static_cast<Kind>(static_cast<int>(kFirst) + kLog2);
  } else {
    return Kind::kBytes;
  }
}

template <typename T>
struct FieldTypeOf {
  static constexpr FieldType Get() {
    constexpr FieldType::Kind kKind = KindOf<T>();
    return {kKind, kKind == FieldType::Kind::kBytes ? uint16_t{sizeof(T)}
                                                    : uint16_t{1}};
  }
};

template <typename T, size_t kCount>
struct FieldTypeOf<std::array<T, kCount>> {
  static constexpr FieldType Get() {
    constexpr FieldType::Kind kKind = KindOf<T>();
    constexpr bool kBytes = kKind == FieldType::Kind::kBytes;
    return {kKind, kBytes ? uint16_t{sizeof(std::array<T, kCount>)}
                          : uint16_t{kCount}};
  }
};

}  // namespace internal

// A typed handle to one field of a device's state. It holds no value: the
// value lives in the segment and is read and written through a StateTxn
// (transaction.h), so it survives kill -9 and upgrades.
//
//   struct HelloState {
//     static constexpr SchemaId kSchema{"hello", /*version=*/1};
//     Cell<uint64_t> greetings{"greetings"};
//   };
//
// A cell made by BindState knows where its field is; any other is unbound, and
// a transaction that sets an unbound cell fails to commit. Enumerations are
// stored as their underlying integers, std::array element by element; any other
// class as plain bytes, so its layout must never change under one name.
//
// Immutable; safe to use from any thread.
template <typename T>
class Cell {
 public:
  static_assert(std::is_trivially_copyable_v<T>,
                "state lives in shared memory: plain values only");
  static_assert(!std::is_pointer_v<T> && !std::is_member_pointer_v<T>,
                "an address means nothing in another process");
  static_assert(sizeof(T) <= kMaxFieldSize,
                "fields of this size belong into bulk data: undo_log.h");

  // `name` must outlive the cell (use a literal): [a-z0-9_.], unique in the
  // struct, and the name of this field forever.
  explicit Cell(absl::string_view name)
      : name_(name), offset_(SchemaBuilder::Declare(name, type())) {}

  // The cell of a field that a framework has laid out in a schema by itself,
  // `offset` bytes from the start of the fields. Device authors use BindState.
  static Cell At(uint32_t offset) { return Cell("at", offset); }

  static constexpr FieldType type() { return internal::FieldTypeOf<T>::Get(); }
  static constexpr uint32_t size() { return sizeof(T); }
  absl::string_view name() const { return name_; }
  bool bound() const { return offset_ != SchemaBuilder::kUnbound; }
  // From the start of the fields in a bank, bytes.
  uint32_t offset() const { return offset_; }

 private:
  Cell(absl::string_view name, uint32_t offset)
      : name_(name), offset_(offset) {}

  absl::string_view name_;
  uint32_t offset_;
};

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_CELL_H_
