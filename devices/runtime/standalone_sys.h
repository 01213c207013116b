#ifndef HOLDFAST_DEVICES_RUNTIME_STANDALONE_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_STANDALONE_SYS_H_

#include "absl/status/status.h"
#include "devices/runtime/command_line.h"
#include "devices/runtime/device_process_sys.h"

namespace holdfast {

// Serves one VMM after the other, as a program of its own: no launcher, no
// store, no sandbox, and so no recovery. Opens and locks the resources that
// `line` names. Returns when a connection that was inherited (--fd) is over,
// and never for a listening socket unless something fails. Errors name the
// option and what to do. Control thread; `process` is new.
absl::Status RunStandalone(const CommandLine& line, DeviceProcess& process);

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_STANDALONE_SYS_H_
