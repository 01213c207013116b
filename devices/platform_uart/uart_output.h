#ifndef HOLDFAST_DEVICES_PLATFORM_UART_UART_OUTPUT_H_
#define HOLDFAST_DEVICES_PLATFORM_UART_UART_OUTPUT_H_

#include <cstdint>

namespace holdfast {

// Where a UART's bytes go: the n-th to place n, so that one which is sent again
// after a crash lands where it was.
class UartOutput {
 public:
  virtual ~UartOutput() = default;
  virtual void Put(uint64_t place, uint8_t byte) = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_PLATFORM_UART_UART_OUTPUT_H_
