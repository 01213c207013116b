#ifndef HOLDFAST_DEVICES_KEEPER_BACKEND_REQUESTS_SYS_H_
#define HOLDFAST_DEVICES_KEEPER_BACKEND_REQUESTS_SYS_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "devices/vhost_user/front_end_codec.h"

namespace holdfast::keeper {

// The channel for what a back-end asks for by itself ("Back-end message
// types"). The back-end is not trusted, and never waited for. One thread.

// The next request, which stays in the channel. kUnavailable: none is there.
// Every other error means that this life is of no use any more: it has closed
// the channel, sends requests in pieces, or nonsense.
absl::StatusOr<vhost_user::BackendRequest> PeekBackendRequest(
    BorrowedFd channel);
// Takes it out. Descriptors that came with it are closed.
void DropBackendRequest(BorrowedFd channel,
                        const vhost_user::BackendRequest& request);

// For a request that wants it.
absl::Status AnswerBackendRequest(BorrowedFd channel,
                                  const vhost_user::BackendRequest& request,
                                  bool success);

}  // namespace holdfast::keeper

#endif  // HOLDFAST_DEVICES_KEEPER_BACKEND_REQUESTS_SYS_H_
