#ifndef HOLDFAST_DEVICES_PLATFORM_UART_OUTPUT_FILE_SYS_H_
#define HOLDFAST_DEVICES_PLATFORM_UART_OUTPUT_FILE_SYS_H_

#include <memory>

#include "base/unique_fd.h"
#include "devices/platform_uart/uart_output.h"

namespace holdfast {

// A file as a UART's output; invalid: bytes go nowhere. `file` outlives it.
std::unique_ptr<UartOutput> MakeOutputFile(BorrowedFd file);

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_PLATFORM_UART_OUTPUT_FILE_SYS_H_
