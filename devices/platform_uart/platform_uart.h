#ifndef HOLDFAST_DEVICES_PLATFORM_UART_PLATFORM_UART_H_
#define HOLDFAST_DEVICES_PLATFORM_UART_PLATFORM_UART_H_

#include <array>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "devices/bus/platform_device.h"
#include "devices/platform_uart/uart_output.h"

namespace holdfast {

namespace uart {

// Registers, after Arm's PrimeCell UART (PL011, DDI 0183): as much of it as a
// driver uses that polls or waits for interrupts.
inline constexpr Reg32 kData{"data", 0x00, kReadWrite};  // Reading takes.
inline constexpr Reg32 kFlags{"flags", 0x18, kReadOnly, 0x90};
inline constexpr Reg32 kIntegerBaud{"integer_baud", 0x24, kReadWrite};
inline constexpr Reg32 kFractionalBaud{"fractional_baud", 0x28, kReadWrite};
inline constexpr Reg32 kLineControl{"line_control", 0x2c, kReadWrite};
inline constexpr Reg32 kControl{"control", 0x30, kReadWrite, 0x300};
inline constexpr Reg32 kMask{"mask", 0x38, kReadWrite};
inline constexpr Reg32 kRawInterrupts{"raw_interrupts", 0x3c, kReadOnly};
inline constexpr Reg32 kInterrupts{"interrupts", 0x40, kReadOnly};
inline constexpr Reg32 kClear{"clear", 0x44, kWriteOnly};
// Of the peripheral, so that a driver knows it.
inline constexpr Reg32 kPeripheral0{"peripheral0", 0xfe0, kConstant, 0x11};
inline constexpr Reg32 kPeripheral1{"peripheral1", 0xfe4, kConstant, 0x10};
inline constexpr Reg32 kPeripheral2{"peripheral2", 0xfe8, kConstant, 0x14};

inline constexpr uint32_t kReceiveEmpty = 1u << 4;  // kFlags.
inline constexpr uint32_t kReceiveFull = 1u << 6;
inline constexpr uint32_t kSendEmpty = 1u << 7;
inline constexpr uint32_t kEnable = 1u << 0;  // kControl.
inline constexpr uint32_t kLoopback = 1u << 7;
inline constexpr uint32_t kSendEnable = 1u << 8;
inline constexpr uint32_t kReceiveEnable = 1u << 9;
inline constexpr uint32_t kReceived = 1u << 4;  // Interrupts.
inline constexpr uint32_t kSent = 1u << 5;
inline constexpr uint32_t kOverrun = 1u << 10;

inline constexpr uint32_t kFifoSize = 16;  // Bytes.
inline constexpr uint32_t kLine = 0;       // The only interrupt.

}  // namespace uart

// A serial port. What it sends goes to an output, or in loop-back mode to its
// own receiver.
class PlatformUart final : public PlatformDevice {
 public:
  struct State {
    static constexpr SchemaId kSchema{"uart", /*version=*/1};
    Cell<std::array<uint8_t, uart::kFifoSize>> fifo{"fifo"};
    Cell<uint8_t> first{"first"};  // Of the FIFO.
    Cell<uint8_t> count{"count"};
    Cell<uint64_t> sent{"sent"};  // Bytes, since the instance began.
  };

  static PlatformSpec Spec();

  // Sends to the resource "output", a file, if it was given.
  explicit PlatformUart(PlatformContext& context);
  // For tests: to any output.
  PlatformUart(PlatformContext& context, std::unique_ptr<UartOutput> output);

  absl::Status OnRead(const RegRead& read, PlatformTxn& txn) override;
  absl::Status OnWrite(const RegWrite& write, PlatformTxn& txn) override;
  void OnReset(PlatformTxn& txn) override;

 private:
  void Send(uint8_t byte, PlatformTxn& txn);
  void Receive(uint8_t byte, PlatformTxn& txn);
  void Take(PlatformTxn& txn);
  void Show(PlatformTxn& txn);
  void Raise(uint32_t causes, PlatformTxn& txn);

  const State state_;
  const std::unique_ptr<UartOutput> output_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_PLATFORM_UART_PLATFORM_UART_H_
