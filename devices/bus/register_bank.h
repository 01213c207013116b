#ifndef HOLDFAST_DEVICES_BUS_REGISTER_BANK_H_
#define HOLDFAST_DEVICES_BUS_REGISTER_BANK_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "devices/bus/registers.h"
#include "statestore/schema.h"
#include "statestore/transaction.h"

namespace holdfast {

// A guest's read of one register. The handler runs before the value is taken,
// so it may bring the register up to date.
class RegRead {
 public:
  RegRead(const Register& reg, uint32_t index) : reg_(reg), index_(index) {}

  bool Is(const Register& reg) const { return reg_ == reg; }
  uint32_t index() const { return index_; }  // Of the element of an array.
  const Register& reg() const { return reg_; }

 private:
  const Register& reg_;
  uint32_t index_;
};

// A guest's write of one register. The handler runs when the new value is in
// the transaction already.
class RegWrite {
 public:
  RegWrite(const Register& reg, uint32_t index, uint64_t value, uint64_t old,
           uint64_t written)
      : reg_(reg), index_(index), value_(value), old_(old), written_(written) {}

  bool Is(const Register& reg) const { return reg_ == reg; }
  uint32_t index() const { return index_; }
  const Register& reg() const { return reg_; }
  uint64_t value() const { return value_; }      // What it holds now.
  uint64_t old() const { return old_; }          // What it held before.
  uint64_t written() const { return written_; }  // What the guest wrote.

 private:
  const Register& reg_;
  uint32_t index_;
  uint64_t value_;
  uint64_t old_;
  uint64_t written_;
};

// A register file whose values live in the segment: a field "FILE.NAME" for
// each register that is kept. Immutable once bound; use from any thread that
// owns the transaction.
class RegisterBank {
 public:
  using OnRead = absl::FunctionRef<absl::Status(const RegRead&)>;
  using OnWrite = absl::FunctionRef<absl::Status(const RegWrite&)>;

  // `file` begins the names of the fields: "bar0". Errors: RegisterFile::Check.
  static absl::StatusOr<RegisterBank> Create(std::string file, uint32_t bar,
                                             const RegisterFile& registers);

  const std::string& file() const { return file_; }
  uint64_t size() const { return size_; }  // Bytes.

  // Appends the fields to the schema of a new segment. RESOURCE_EXHAUSTED: it
  // grows beyond a limit of statestore/.
  absl::Status AddFields(Schema& schema) const;

  // Finds the fields in the schema of an existing segment, by name and type.
  // FAILED_PRECONDITION: one is not there.
  absl::Status Bind(const Schema& schema);

  // One access, by the rules of registers.h. An error is the handler's: give
  // the transaction up. Precondition: offset + size() of the bytes is at most
  // size(); the bank is bound.
  absl::Status Read(StateTxn& txn, uint64_t offset, absl::Span<uint8_t> out,
                    OnRead on_read) const;
  absl::Status Write(StateTxn& txn, uint64_t offset,
                     absl::Span<const uint8_t> bytes, OnWrite on_write) const;

  // For the device itself, past all access rules. Zero, or nothing, for a
  // register that is not of this bank or not kept: a mistake that fails the
  // transaction.
  uint64_t Get(StateTxn& txn, const Register& reg, uint32_t index) const;
  void Set(StateTxn& txn, const Register& reg, uint32_t index,
           uint64_t value) const;

  // Gives all registers their reset values.
  void Reset(StateTxn& txn) const;

 private:
  struct Element {
    uint32_t offset;
    uint32_t reg;  // In registers_.
    uint32_t index;
  };
  // The part of an access that is in one register.
  struct Part {
    const Register* reg;
    uint32_t slot;     // Of reg, in registers_.
    uint32_t index;    // Of the element.
    uint32_t first;    // Byte of the register.
    uint32_t size;     // Bytes.
    uint64_t at;       // Byte of the access.
    uint64_t enabled;  // Bits of the register.
  };

  RegisterBank() = default;
  template <typename Do>
  absl::Status ForEachPart(uint64_t offset, uint64_t size, Do what) const;
  uint64_t Load(StateTxn& txn, uint32_t slot, uint32_t index) const;
  void Store(StateTxn& txn, uint32_t slot, uint32_t index,
             uint64_t value) const;
  uint32_t SlotOf(const Register& reg) const;

  std::string file_;
  uint32_t bar_ = 0;
  uint64_t size_ = 0;
  uint8_t undefined_ = 0;
  std::vector<uint8_t> background_;
  std::vector<Register> registers_;
  std::vector<uint32_t>
      fields_;  // Offset in the segment's fields, by register.
  std::vector<Element> elements_;  // By offset.
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_REGISTER_BANK_H_
