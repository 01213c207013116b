// In the place of holdfast-api: confines itself as that does, and then wants a
// socket of its own.

#include <sys/socket.h>

#include "base/handoff.h"
#include "base/unique_fd.h"
#include "sandbox/tighten_sys.h"

int main() {
  const holdfast::UniqueFd filter(holdfast::kHandoffFilterFd);
  if (!holdfast::sandbox::Tighten(filter).ok()) return 1;
  const holdfast::UniqueFd way_out(socket(AF_INET, SOCK_STREAM, 0));
  // Nobody has stopped it.
  return 42;
}
