#include "base/scheduling_sys.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"

namespace holdfast {
namespace {

// struct sched_attr of linux/sched/types.h, which Debian 12's <sched.h> does
// not bear beside it.
struct SchedulingAttributes {
  uint32_t size = sizeof(SchedulingAttributes);
  uint32_t policy = SCHED_OTHER;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0;  // Nanoseconds; of the normal policy: the time slice.
  uint64_t deadline = 0;
  uint64_t period = 0;
};
static_assert(sizeof(SchedulingAttributes) == 48);  // SCHED_ATTR_SIZE_VER0

constexpr uint64_t kShortestSliceNs = 100'000;

}  // namespace

absl::Status RaiseToRealtime(pid_t thread, int priority) {
  sched_param param = {};
  if (sched_getscheduler(thread) == SCHED_FIFO &&
      sched_getparam(thread, &param) == 0 && param.sched_priority >= priority) {
    return absl::OkStatus();
  }
  param.sched_priority = priority;
  if (sched_setscheduler(thread, SCHED_FIFO, &param) != 0) {
    return ErrnoStatus(absl::StrCat("SCHED_FIFO ", priority));
  }
  return absl::OkStatus();
}

absl::Status SetPrompt(pid_t thread, int nice) {
  SchedulingAttributes attributes;
  attributes.nice = nice;
  attributes.runtime = kShortestSliceNs;
  if (syscall(SYS_sched_setattr, thread, &attributes, 0) != 0) {
    return ErrnoStatus(absl::StrCat("sched_setattr nice ", nice));
  }
  return absl::OkStatus();
}

}  // namespace holdfast
