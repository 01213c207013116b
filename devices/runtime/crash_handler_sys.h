#ifndef HOLDFAST_DEVICES_RUNTIME_CRASH_HANDLER_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_CRASH_HANDLER_SYS_H_

#include <cstdint>

namespace holdfast {

// Exit status of a process that died of signal N by its own fault: the handler
// below ends it with kCrashExitBase + N, since the steady-state sandbox allows
// no other way. The launcher reads it as that signal.
inline constexpr int kCrashExitBase = 128;

// What a thread does when it crashes. Async-signal-safe, lock-free.
class CrashObserver {
 public:
  virtual ~CrashObserver() = default;
  // Called on the thread that crashed, at most once.
  virtual void OnCrash(int signal) = 0;
};

// Handles SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT of all threads: calls the
// current thread's observer, if any, then ends the process. Deaths from outside
// (SIGKILL) never come here, so what an observer blames is at fault. Call once,
// before threads start.
void InstallCrashHandler();

// Sets the calling thread's observer (borrowed; null: none) and gives the
// thread a signal stack of its own, so that a stack overflow is seen too.
void ObserveCrashes(CrashObserver* observer);

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_CRASH_HANDLER_SYS_H_
