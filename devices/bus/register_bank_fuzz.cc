// Accesses of any width and offset on a file with every kind of register do
// what a model does that knows bytes and bits only; a transaction that is given
// up leaves no trace, and neither does a restart.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/types/span.h"
#include "base/testing/fuzz_input.h"
#include "devices/bus/register_bank.h"
#include "devices/bus/testing/state_memory.h"

namespace {

using ::holdfast::kConstant;
using ::holdfast::kReadOnly;
using ::holdfast::kReadToClear;
using ::holdfast::kReadWrite;
using ::holdfast::kWriteOneToClear;
using ::holdfast::kWriteOneToSet;
using ::holdfast::kWriteOnly;
using ::holdfast::Reg16;
using ::holdfast::Reg32;
using ::holdfast::Reg64;
using ::holdfast::Reg8;
using ::holdfast::RegisterBank;
using ::holdfast::RegisterFile;
using ::holdfast::RegRead;
using ::holdfast::RegWrite;
using ::holdfast::Schema;
using ::holdfast::StateTxn;
using ::holdfast::testing::FuzzInput;
using ::holdfast::testing::Require;
using ::holdfast::testing::StateMemory;

constexpr size_t kSize = 64;

RegisterFile File() {
  return {Reg32{"rw", 0x00, kReadWrite, 0x01020304},
          Reg32{"ro", 0x04, kReadOnly, 0x55aa55aa},
          Reg16{"w1c", 0x08, kWriteOneToClear, 0xffff},
          Reg8{"w1s", 0x0a, kWriteOneToSet},
          Reg8{"rc", 0x0b, kReadToClear, 0xff},
          Reg32{"wo", 0x0c, kWriteOnly},
          Reg64{"wide", 0x10, kReadWrite},
          Reg32{"id", 0x1c, kConstant, 0x1e551e55},
          Reg16{"tail", 0x20, kReadWrite}.Array(4, 4),
          Reg16{"head", 0x22, kReadToClear, 0x1234}.Array(4, 4),
          Reg8{"mixed", 0x33, kReadOnly, 0xa5}
              .Bits(kReadWrite, 0x03)
              .Bits(kWriteOneToClear, 0x0c)
              .Bits(kReadToClear, 0x30)};
}

// One byte of the file, whatever register it is in.
struct Byte {
  uint8_t value = 0;
  uint8_t rw = 0, w1c = 0, w1s = 0, rc = 0;
};

void Fill(std::array<Byte, kSize>& model, size_t at, uint64_t value,
          size_t size, Byte bits) {
  for (size_t i = 0; i < size; ++i) {
    bits.value = static_cast<uint8_t>(value >> (8 * i));
    model[at + i] = bits;
  }
}

std::array<Byte, kSize> Model() {
  std::array<Byte, kSize> model = {};
  Fill(model, 0x00, 0x01020304, 4, {0, 0xff, 0, 0, 0});
  Fill(model, 0x04, 0x55aa55aa, 4, {});
  Fill(model, 0x08, 0xffff, 2, {0, 0, 0xff, 0, 0});
  Fill(model, 0x0a, 0, 1, {0, 0, 0, 0xff, 0});
  Fill(model, 0x0b, 0xff, 1, {0, 0, 0, 0, 0xff});
  Fill(model, 0x10, 0, 8, {0, 0xff, 0, 0, 0});
  Fill(model, 0x1c, 0x1e551e55, 4, {});
  for (size_t i = 0; i < 4; ++i) {
    Fill(model, 0x20 + 4 * i, 0, 2, {0, 0xff, 0, 0, 0});
    Fill(model, 0x22 + 4 * i, 0x1234, 2, {0, 0, 0, 0, 0xff});
  }
  Fill(model, 0x33, 0xa5, 1, {0, 0x03, 0x0c, 0, 0x30});
  return model;
}

uint8_t ReadByte(Byte& byte) {
  const uint8_t value = byte.value;
  byte.value = static_cast<uint8_t>(byte.value & ~byte.rc);
  return value;
}

void WriteByte(Byte& byte, uint8_t data) {
  byte.value = static_cast<uint8_t>(
      ((byte.value & ~byte.rw) | (data & byte.rw) | (data & byte.w1s)) &
      ~(data & byte.w1c));
}

absl::Status Allow(const RegRead&) { return absl::OkStatus(); }

void Access(FuzzInput& input, const RegisterBank& registers, StateMemory& state,
            std::array<Byte, kSize>& model) {
  const uint8_t kind = input.Take<uint8_t>();
  const uint64_t offset = input.Take<uint8_t>() % kSize;
  const size_t size =
      std::min<size_t>(input.Take<uint8_t>() % 17, kSize - offset);
  std::array<Byte, kSize> next = model;
  std::vector<uint8_t> bytes(size);
  StateTxn txn = state.bank().Begin();
  if (kind % 2 == 0) {
    Require(registers.Read(txn, offset, absl::MakeSpan(bytes), Allow).ok());
    for (size_t i = 0; i < size; ++i) {
      Require(bytes[i] == ReadByte(next[offset + i]));
    }
  } else {
    for (uint8_t& byte : bytes) byte = input.Take<uint8_t>();
    uint64_t seen = 0;
    Require(registers
                .Write(txn, offset, bytes,
                       [&](const RegWrite& write) {
                         // Ascending, and each at most once.
                         const uint64_t at =
                             write.reg().offset() +
                             write.index() * write.reg().stride() + 1;
                         Require(at > seen);
                         seen = at;
                         return absl::OkStatus();
                       })
                .ok());
    for (size_t i = 0; i < size; ++i) WriteByte(next[offset + i], bytes[i]);
  }
  if (kind % 7 == 6) return;  // Given up.
  Require(state.bank().Commit(txn).ok());
  model = next;
  if (kind % 5 == 4) state.Restart();
}

Schema SchemaOf(const RegisterBank& registers) {
  Schema schema{"fuzz", 1, 0, {}};
  Require(registers.AddFields(schema).ok());
  return schema;
}

// Made once: inputs are many.
const RegisterBank& Registers() {
  static const RegisterBank* const bank = [] {
    auto* made = new RegisterBank(*RegisterBank::Create("bar0", 0, File()));
    Require(made->size() == kSize);
    Require(made->Bind(SchemaOf(*made)).ok());
    return made;
  }();
  return *bank;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzInput input(data, size);
  const RegisterBank& registers = Registers();
  StateMemory state(SchemaOf(registers));
  StateTxn txn = state.bank().Begin();
  registers.Reset(txn);
  Require(state.bank().Commit(txn).ok());
  std::array<Byte, kSize> model = Model();
  for (int i = 0; i < 100 && !input.empty(); ++i) {
    Access(input, registers, state, model);
  }
  return 0;
}
