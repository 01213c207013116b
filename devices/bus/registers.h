#ifndef HOLDFAST_DEVICES_BUS_REGISTERS_H_
#define HOLDFAST_DEVICES_BUS_REGISTERS_H_

// Registers as data. A device declares each once; the framework lays it out in
// the segment, checks width and access, and answers plain reads by itself:
//
//   constexpr Reg32 kControl{"control", 0x00, kReadWrite};
//   constexpr Reg32 kStatus = Reg32{"status", 0x04, kReadOnly}
//                                 .Bits(kWriteOneToClear, 0x0f);
//   RegisterFile{kControl, kStatus}
//
// An access of any width, at any offset:
//  - It is taken apart into the registers that it touches, in ascending order,
//    each with the bytes that are enabled in it. All of them and whatever their
//    handlers do are one transaction.
//  - Writing part of a register changes the enabled bytes only. The handler
//    sees the whole new value.
//  - Reading part of a register clears (kReadToClear) the enabled bytes only.
//  - A register that is WholeOnly takes no part in an access that does not
//    enable all of it: it reads as undefined, and is not written.
//  - Bytes where no register is are undefined: they read zero (or what
//    UndefinedReads says) and writes to them are dropped.
//  - Little-endian, as PCI is.

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace holdfast {

// What the guest's accesses do to bits of a register. The device itself may set
// all but kConstant and kWriteOnly at any time.
enum class RegisterAccess : uint8_t {
  kReadOnly,         // Writes are dropped.
  kReadWrite,        //
  kWriteOneToClear,  // Writing 1 makes the bit 0, writing 0 leaves it.
  kWriteOneToSet,    // Writing 1 makes the bit 1, writing 0 leaves it.
  kReadToClear,      // A read returns the bit and makes it 0.
  kWriteOnly,        // Whole registers: reads zero, kept nowhere; a doorbell.
  kConstant,         // Whole registers: the reset value, kept nowhere.
};
inline constexpr RegisterAccess kReadOnly = RegisterAccess::kReadOnly;
inline constexpr RegisterAccess kReadWrite = RegisterAccess::kReadWrite;
inline constexpr RegisterAccess kWriteOneToClear =
    RegisterAccess::kWriteOneToClear;
inline constexpr RegisterAccess kWriteOneToSet = RegisterAccess::kWriteOneToSet;
inline constexpr RegisterAccess kReadToClear = RegisterAccess::kReadToClear;
inline constexpr RegisterAccess kWriteOnly = RegisterAccess::kWriteOnly;
inline constexpr RegisterAccess kConstant = RegisterAccess::kConstant;

// One register, or an array of equal ones, as its author declares it. Use
// Reg8 to Reg64. A plain value; literal, so that a table of registers costs
// nothing at start.
class Register {
 public:
  constexpr Register(absl::string_view name, uint32_t offset, uint8_t width,
                     RegisterAccess access, uint64_t reset)
      : name_(name), reset_(reset), offset_(offset), width_(width) {
    Classify(access, mask());
    constant_ = access == RegisterAccess::kConstant;
    write_only_ = access == RegisterAccess::kWriteOnly;
  }

  // [a-z0-9_], unique in its file; the name of its field in the segment, so
  // forever. Must be a literal or outlive the device.
  constexpr absl::string_view name() const { return name_; }
  constexpr uint32_t offset() const { return offset_; }  // Of element 0, bytes.
  constexpr uint32_t width() const { return width_; }    // Bytes.
  constexpr uint64_t reset() const { return reset_; }
  constexpr uint32_t count() const { return count_; }
  constexpr uint32_t stride() const { return stride_; }  // Bytes.
  constexpr uint32_t bar() const { return bar_; }
  constexpr bool whole_only() const { return whole_only_; }
  constexpr bool constant() const { return constant_; }
  constexpr bool write_only() const { return write_only_; }
  // Whether its value is kept in the segment.
  constexpr bool stored() const { return !constant_ && !write_only_; }
  // Whether a write can have an effect.
  constexpr bool writable() const {
    return write_only_ || (read_write_ | to_clear_ | to_set_) != 0;
  }
  // All bits of the width.
  constexpr uint64_t mask() const {
    return width_ >= 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * width_)) - 1;
  }

  // What it holds after `data` was written with `enabled` bits.
  constexpr uint64_t AfterWrite(uint64_t old, uint64_t data,
                                uint64_t enabled) const {
    if (write_only_) return data & enabled;
    uint64_t value = old;
    value = (value & ~(read_write_ & enabled)) | (data & read_write_ & enabled);
    value &= ~(data & to_clear_ & enabled);
    value |= data & to_set_ & enabled;
    return value;
  }
  // What it holds after `enabled` bits were read.
  constexpr uint64_t AfterRead(uint64_t old, uint64_t enabled) const {
    return old & ~(read_clears_ & enabled);
  }

  // Another element of the same declaration or the same one.
  friend constexpr bool operator==(const Register& a, const Register& b) {
    return a.bar_ == b.bar_ && a.offset_ == b.offset_;
  }

 protected:
  constexpr void Classify(RegisterAccess access, uint64_t bits) {
    read_write_ &= ~bits;
    to_clear_ &= ~bits;
    to_set_ &= ~bits;
    read_clears_ &= ~bits;
    if (access == RegisterAccess::kReadWrite) read_write_ |= bits;
    if (access == RegisterAccess::kWriteOneToClear) to_clear_ |= bits;
    if (access == RegisterAccess::kWriteOneToSet) to_set_ |= bits;
    if (access == RegisterAccess::kReadToClear) read_clears_ |= bits;
  }

  absl::string_view name_;
  uint64_t reset_;
  uint64_t read_write_ = 0;
  uint64_t to_clear_ = 0;
  uint64_t to_set_ = 0;
  uint64_t read_clears_ = 0;
  uint32_t offset_;
  uint32_t count_ = 1;
  uint32_t stride_ = 0;
  uint32_t bar_ = 0;
  uint8_t width_;
  bool whole_only_ = false;
  bool constant_ = false;
  bool write_only_ = false;
};

// A register that holds a T.
template <typename T>
class Reg : public Register {
 public:
  constexpr Reg(absl::string_view name, uint32_t offset, RegisterAccess access,
                T reset = 0)
      : Register(name, offset, sizeof(T), access, reset) {}

  // Gives these bits another access than the rest: not for kWriteOnly and
  // kConstant, which whole registers have.
  constexpr Reg Bits(RegisterAccess access, T bits) const {
    Reg result = *this;
    result.Classify(access, bits);
    return result;
  }
  // `count` of them, `stride` bytes apart.
  constexpr Reg Array(uint32_t count, uint32_t stride = sizeof(T)) const {
    Reg result = *this;
    result.count_ = count;
    result.stride_ = stride;
    return result;
  }
  constexpr Reg Reset(T value) const {
    Reg result = *this;
    result.reset_ = value;
    return result;
  }
  constexpr Reg WholeOnly() const {
    Reg result = *this;
    result.whole_only_ = true;
    return result;
  }
  // Of another file than BAR 0's.
  constexpr Reg InBar(uint32_t bar) const {
    Reg result = *this;
    result.bar_ = bar;
    return result;
  }
};

using Reg8 = Reg<uint8_t>;
using Reg16 = Reg<uint16_t>;
using Reg32 = Reg<uint32_t>;
using Reg64 = Reg<uint64_t>;

// The registers of one BAR.
class RegisterFile {
 public:
  // Reason: beyond, the table of elements and the segment's fields
  // (statestore/format.h, kMaxFieldsSize) grow past any use.
  static constexpr size_t kMaxElements = 4096;
  static constexpr uint64_t kMaxSize = uint64_t{1} << 24;

  RegisterFile(std::initializer_list<Register> registers)
      : registers_(registers) {}
  explicit RegisterFile(std::vector<Register> registers)
      : registers_(std::move(registers)) {}

  // Bytes. By default the least power of two, at least 16, that holds all.
  RegisterFile& Size(uint64_t bytes) {
    size_ = bytes;
    return *this;
  }
  // What each undefined byte reads as.
  RegisterFile& UndefinedReads(uint8_t byte) {
    undefined_ = byte;
    return *this;
  }
  // What undefined bytes read as from offset 0 on: constants without a name.
  RegisterFile& Background(std::vector<uint8_t> bytes) {
    background_ = std::move(bytes);
    return *this;
  }
  // Every byte up to the last register's belongs to one: a gap is an error.
  RegisterFile& Dense() {
    dense_ = true;
    return *this;
  }

  const std::vector<Register>& registers() const { return registers_; }
  uint8_t undefined() const { return undefined_; }
  const std::vector<uint8_t>& background() const { return background_; }
  uint64_t size() const;

  // INVALID_ARGUMENT names the register, of file `file`, that breaks a rule of
  // this header: name, width, alignment to its width, overlap, gap, reset value
  // or bits beyond the width, end beyond the size, another BAR, a limit.
  absl::Status Check(absl::string_view file, uint32_t bar) const;

 private:
  std::vector<Register> registers_;
  std::vector<uint8_t> background_;
  uint64_t size_ = 0;
  uint8_t undefined_ = 0;
  bool dense_ = false;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_REGISTERS_H_
