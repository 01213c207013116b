#include "devices/bus/register_bank.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "statestore/cell.h"
#include "statestore/format.h"

namespace holdfast {
namespace {

FieldType TypeOf(const Register& reg) {
  using Kind = FieldType::Kind;
  const Kind kind = reg.width() == 1   ? Kind::kU8
                    : reg.width() == 2 ? Kind::kU16
                    : reg.width() == 4 ? Kind::kU32
                                       : Kind::kU64;
  return {kind, static_cast<uint16_t>(reg.count())};
}

std::string FieldName(const std::string& file, const Register& reg) {
  return absl::StrCat(file, ".", reg.name());
}

uint32_t AlignUp(uint32_t value, uint32_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

// Bits of `size` bytes from byte `first` on.
uint64_t BitsOf(uint32_t first, uint32_t size) {
  const uint64_t bits =
      size >= 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * size)) - 1;
  return bits << (8 * first);
}

}  // namespace

absl::StatusOr<RegisterBank> RegisterBank::Create(
    std::string file, uint32_t bar, const RegisterFile& registers) {
  RETURN_IF_ERROR(registers.Check(file, bar));
  RegisterBank bank;
  bank.file_ = std::move(file);
  bank.bar_ = bar;
  bank.size_ = registers.size();
  bank.undefined_ = registers.undefined();
  bank.background_ = registers.background();
  bank.registers_ = registers.registers();
  bank.fields_.assign(bank.registers_.size(), SchemaBuilder::kUnbound);
  for (uint32_t i = 0; i < bank.registers_.size(); ++i) {
    const Register& reg = bank.registers_[i];
    for (uint32_t k = 0; k < reg.count(); ++k) {
      bank.elements_.push_back({reg.offset() + k * reg.stride(), i, k});
    }
  }
  std::sort(
      bank.elements_.begin(), bank.elements_.end(),
      [](const Element& a, const Element& b) { return a.offset < b.offset; });
  return bank;
}

absl::Status RegisterBank::AddFields(Schema& schema) const {
  for (const Register& reg : registers_) {
    if (!reg.stored()) continue;
    const FieldType type = TypeOf(reg);
    const uint32_t offset = AlignUp(
        schema.fields.empty()
            ? 0
            : schema.fields.back().offset + schema.fields.back().type.size(),
        type.element_size());
    schema.fields.push_back({FieldName(file_, reg), type, offset});
    schema.size = AlignUp(offset + type.size(), 8);
    if (schema.fields.size() > kMaxFields || type.size() > kMaxFieldSize ||
        schema.size > kMaxFieldsSize) {
      return absl::ResourceExhaustedError(
          absl::StrCat(FieldName(file_, reg), ": the state has ",
                       schema.fields.size(), " fields of ", schema.size,
                       " bytes here, which is more than a segment holds"));
    }
  }
  return absl::OkStatus();
}

absl::Status RegisterBank::Bind(const Schema& schema) {
  for (size_t i = 0; i < registers_.size(); ++i) {
    if (!registers_[i].stored()) continue;
    const std::string name = FieldName(file_, registers_[i]);
    const Field* field = schema.Find(name);
    if (field == nullptr || field->type != TypeOf(registers_[i])) {
      return absl::FailedPreconditionError(
          absl::StrCat("register ", name, ": the segment has ",
                       field == nullptr ? "none" : field->type.ToString(),
                       ", this binary ", TypeOf(registers_[i]).ToString()));
    }
    fields_[i] = field->offset;
  }
  return absl::OkStatus();
}

// Calls what(Part) for each register that the bytes [offset, offset + size)
// touch, in ascending order, until it fails.
template <typename Do>
absl::Status RegisterBank::ForEachPart(uint64_t offset, uint64_t size,
                                       Do what) const {
  const uint64_t end = offset + size;
  auto it = std::upper_bound(
      elements_.begin(), elements_.end(), offset,
      [](uint64_t at, const Element& e) { return at < e.offset; });
  if (it != elements_.begin()) --it;
  for (; it != elements_.end() && it->offset < end; ++it) {
    const Register& reg = registers_[it->reg];
    const uint64_t from = std::max<uint64_t>(it->offset, offset);
    const uint64_t to = std::min<uint64_t>(it->offset + reg.width(), end);
    if (to <= from) continue;
    const uint32_t first = static_cast<uint32_t>(from - it->offset);
    const uint32_t bytes = static_cast<uint32_t>(to - from);
    if (reg.whole_only() && bytes != reg.width()) continue;
    RETURN_IF_ERROR(what(Part{&reg, it->reg, it->index, first, bytes,
                              from - offset, BitsOf(first, bytes)}));
  }
  return absl::OkStatus();
}

absl::Status RegisterBank::Read(StateTxn& txn, uint64_t offset,
                                absl::Span<uint8_t> out, OnRead on_read) const {
  for (size_t i = 0; i < out.size(); ++i) {
    const uint64_t at = offset + i;
    out[i] = at < background_.size() ? background_[at] : undefined_;
  }
  return ForEachPart(offset, out.size(), [&](const Part& part) -> absl::Status {
    RETURN_IF_ERROR(on_read(RegRead(*part.reg, part.index)));
    const uint64_t value = Load(txn, part.slot, part.index);
    for (uint32_t i = 0; i < part.size; ++i) {
      out[part.at + i] = static_cast<uint8_t>(value >> (8 * (part.first + i)));
    }
    const uint64_t after = part.reg->AfterRead(value, part.enabled);
    if (after != value) Store(txn, part.slot, part.index, after);
    return absl::OkStatus();
  });
}

absl::Status RegisterBank::Write(StateTxn& txn, uint64_t offset,
                                 absl::Span<const uint8_t> bytes,
                                 OnWrite on_write) const {
  return ForEachPart(
      offset, bytes.size(), [&](const Part& part) -> absl::Status {
        if (!part.reg->writable()) return absl::OkStatus();
        uint64_t data = 0;
        for (uint32_t i = 0; i < part.size; ++i) {
          data |= uint64_t{bytes[part.at + i]} << (8 * (part.first + i));
        }
        const uint64_t old = Load(txn, part.slot, part.index);
        const uint64_t value = part.reg->AfterWrite(old, data, part.enabled);
        if (value != old && part.reg->stored()) {
          Store(txn, part.slot, part.index, value);
        }
        return on_write(RegWrite(*part.reg, part.index, value, old, data));
      });
}

uint64_t RegisterBank::Load(StateTxn& txn, uint32_t slot,
                            uint32_t index) const {
  const Register& reg = registers_[slot];
  if (reg.constant()) return reg.reset();
  if (reg.write_only()) return 0;
  const uint32_t at = fields_[slot] + index * reg.width();
  switch (reg.width()) {
    case 1:
      return txn.Get(Cell<uint8_t>::At(at));
    case 2:
      return txn.Get(Cell<uint16_t>::At(at));
    case 4:
      return txn.Get(Cell<uint32_t>::At(at));
    default:
      return txn.Get(Cell<uint64_t>::At(at));
  }
}

void RegisterBank::Store(StateTxn& txn, uint32_t slot, uint32_t index,
                         uint64_t value) const {
  const Register& reg = registers_[slot];
  const uint32_t at = fields_[slot] + index * reg.width();
  switch (reg.width()) {
    case 1:
      return txn.Set(Cell<uint8_t>::At(at), static_cast<uint8_t>(value));
    case 2:
      return txn.Set(Cell<uint16_t>::At(at), static_cast<uint16_t>(value));
    case 4:
      return txn.Set(Cell<uint32_t>::At(at), static_cast<uint32_t>(value));
    default:
      return txn.Set(Cell<uint64_t>::At(at), value);
  }
}

// registers_.size(): not of this bank, or not kept there.
uint32_t RegisterBank::SlotOf(const Register& reg) const {
  const auto it = std::lower_bound(
      elements_.begin(), elements_.end(), reg.offset(),
      [](const Element& e, uint64_t at) { return e.offset < at; });
  if (it == elements_.end() || !(registers_[it->reg] == reg) ||
      !registers_[it->reg].stored()) {
    return static_cast<uint32_t>(registers_.size());
  }
  return it->reg;
}

uint64_t RegisterBank::Get(StateTxn& txn, const Register& reg,
                           uint32_t index) const {
  if (reg.bar() == bar_ && reg.constant()) return reg.reset();
  const uint32_t slot = SlotOf(reg);
  if (slot == registers_.size() || index >= registers_[slot].count()) {
    return txn.Get(Cell<uint8_t>::At(SchemaBuilder::kUnbound));
  }
  return Load(txn, slot, index);
}

void RegisterBank::Set(StateTxn& txn, const Register& reg, uint32_t index,
                       uint64_t value) const {
  const uint32_t slot = SlotOf(reg);
  if (slot == registers_.size() || index >= registers_[slot].count()) {
    return txn.Set(Cell<uint8_t>::At(SchemaBuilder::kUnbound), uint8_t{0});
  }
  // What changes nothing needs no commit.
  value &= registers_[slot].mask();
  if (value != Load(txn, slot, index)) Store(txn, slot, index, value);
}

void RegisterBank::Reset(StateTxn& txn) const {
  for (uint32_t slot = 0; slot < registers_.size(); ++slot) {
    if (!registers_[slot].stored()) continue;
    for (uint32_t i = 0; i < registers_[slot].count(); ++i) {
      Store(txn, slot, i, registers_[slot].reset());
    }
  }
}

}  // namespace holdfast
