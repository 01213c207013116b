#ifndef HOLDFAST_STATESTORE_STORE_FILTER_SYS_H_
#define HOLDFAST_STATESTORE_STORE_FILTER_SYS_H_

#include "absl/status/status.h"
#include "base/unique_fd.h"

namespace holdfast::store {

// Applies the seccomp program in `program` (a struct sock_filter[], made by the
// launcher of store.policy) to the calling process, which has one thread. Sets
// no_new_privs. Errors: kInvalidArgument, it is no program; those of the system
// calls. After an error no filter is in force.
absl::Status ApplyFilter(BorrowedFd program);

}  // namespace holdfast::store

#endif  // HOLDFAST_STATESTORE_STORE_FILTER_SYS_H_
