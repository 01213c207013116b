#include "devices/runtime/crash_handler_sys.h"

#include <signal.h>
#include <unistd.h>

#include <initializer_list>

namespace holdfast {
namespace {

constexpr size_t kSignalStackSize = 16 * 1024;

thread_local CrashObserver* t_observer = nullptr;
alignas(16) thread_local char t_signal_stack[kSignalStackSize];

void OnSignal(int signal) {
  if (CrashObserver* observer = t_observer; observer != nullptr) {
    t_observer = nullptr;  // A crash in the observer must not come back here.
    observer->OnCrash(signal);
  }
  _exit(kCrashExitBase + signal);
}

}  // namespace

void InstallCrashHandler() {
  struct sigaction action = {};
  action.sa_handler = &OnSignal;
  action.sa_flags = SA_ONSTACK | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  for (int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) {
    sigaction(signal, &action, nullptr);
  }
}

void ObserveCrashes(CrashObserver* observer) {
  stack_t stack = {};
  stack.ss_sp = t_signal_stack;
  stack.ss_size = kSignalStackSize;
  sigaltstack(&stack, nullptr);
  t_observer = observer;
}

}  // namespace holdfast
