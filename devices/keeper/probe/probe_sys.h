#ifndef HOLDFAST_DEVICES_KEEPER_PROBE_PROBE_SYS_H_
#define HOLDFAST_DEVICES_KEEPER_PROBE_PROBE_SYS_H_

#include <ostream>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "devices/keeper/probe/findings.h"

namespace holdfast::keeper {

// Starts `program`, a path, with these arguments in each way that it may take
// its socket, until it answers as a vhost-user back-end; says to `progress`
// what is tried. Nothing that was started is left. A try takes at most
// BackendLink::kPatienceMs. kNotFound: it has answered in none, and what became
// of each.
absl::StatusOr<Findings> Probe(const std::string& program,
                               absl::Span<const std::string> arguments,
                               std::ostream& progress);

}  // namespace holdfast::keeper

#endif  // HOLDFAST_DEVICES_KEEPER_PROBE_PROBE_SYS_H_
