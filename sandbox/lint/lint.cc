#include "sandbox/lint/lint.h"

#include <linux/filter.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "sandbox/compile.h"
#include "sandbox/prove.h"
#include "sandbox/syscall_table.h"

namespace holdfast::sandbox {
namespace {

using absl::string_view;

struct Class {
  string_view objection;
  std::vector<string_view> syscalls;
};

// One call, many meanings: fine when a limit leaves one of them.
constexpr string_view kDoor = "is a door to many others";

const std::vector<Class>& NeverClasses() {
  static const auto* const classes = new std::vector<Class>{
      {"changes mounts",
       {"mount", "umount2", "pivot_root", "chroot", "move_mount", "fsopen",
        "fsmount", "fsconfig", "fspick", "open_tree", "open_tree_attr",
        "mount_setattr", "swapon", "swapoff", "quotactl", "quotactl_fd"}},
      {"changes namespaces or privileges",
       {"unshare", "setns", "setuid", "setgid", "setreuid", "setregid",
        "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid", "capset",
        "personality", "iopl", "ioperm", "modify_ldt"}},
      {"reaches into other processes",
       {"ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd",
        "pidfd_open", "kcmp", "process_madvise", "process_mrelease",
        "migrate_pages", "move_pages"}},
      {"is a large part of the kernel that no device needs",
       {"bpf", "userfaultfd", "io_uring_setup", "io_uring_enter",
        "io_uring_register", "perf_event_open", "keyctl", "add_key",
        "request_key", "fanotify_init", "fanotify_mark", "lookup_dcookie"}},
      {"opens files behind the back of paths",
       {"open_by_handle_at", "name_to_handle_at"}},
      {"is for administrators",
       {"kexec_load", "kexec_file_load", "init_module", "finit_module",
        "delete_module", "reboot", "settimeofday", "clock_settime", "adjtimex",
        "clock_adjtime", "acct", "syslog", "sethostname", "setdomainname",
        "vhangup", "nfsservctl"}},
  };
  return *classes;
}

const std::vector<Class>& SteadyClasses() {
  static const auto* const classes = new std::vector<Class>{
      {"takes a path", {"open",         "openat",
                        "openat2",      "creat",
                        "stat",         "lstat",
                        "newfstatat",   "statx",
                        "statfs",       "access",
                        "faccessat",    "faccessat2",
                        "readlink",     "readlinkat",
                        "mkdir",        "mkdirat",
                        "rmdir",        "unlink",
                        "unlinkat",     "rename",
                        "renameat",     "renameat2",
                        "link",         "linkat",
                        "symlink",      "symlinkat",
                        "chmod",        "fchmodat",
                        "fchmodat2",    "chown",
                        "lchown",       "fchownat",
                        "truncate",     "chdir",
                        "fchdir",       "mknod",
                        "mknodat",      "utime",
                        "utimes",       "utimensat",
                        "futimesat",    "getxattr",
                        "lgetxattr",    "setxattr",
                        "lsetxattr",    "listxattr",
                        "llistxattr",   "removexattr",
                        "lremovexattr", "inotify_add_watch",
                        "uselib",       "getcwd"}},
      {"makes a process or a thread",
       {"clone", "clone3", "fork", "vfork", "execve", "execveat"}},
      {"signals or changes processes",
       {"kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo",
        "pidfd_send_signal", "prlimit64", "setrlimit", "setpriority", "setpgid",
        "setsid", "sched_setattr", "sched_setscheduler", "sched_setparam",
        "sched_setaffinity", "ioprio_set"}},
      {"makes a socket or a connection",
       {"socket", "socketpair", "connect", "bind", "listen", "accept",
        "accept4"}},
      {kDoor, {"ioctl", "prctl", "arch_prctl", "seccomp", "setsockopt"}},
      {"makes descriptors",
       {"memfd_create", "memfd_secret", "epoll_create", "epoll_create1",
        "eventfd", "eventfd2", "timerfd_create", "signalfd", "signalfd4",
        "inotify_init", "inotify_init1", "pipe", "pipe2",
        "landlock_create_ruleset"}},
      {"changes what memory can do",
       {"mprotect", "pkey_mprotect", "remap_file_pages", "shmat", "shmget",
        "mremap"}},
  };
  return *classes;
}

string_view ObjectionIn(const std::vector<Class>& classes, string_view name) {
  for (const Class& c : classes) {
    if (std::find(c.syscalls.begin(), c.syscalls.end(), name) !=
        c.syscalls.end()) {
      return c.objection;
    }
  }
  return {};
}

constexpr uint64_t kProtExec = 4;

bool MayMakeExecutable(const Rule& rule) {
  if (rule.error != 0) return false;
  if (rule.syscall != "mmap" && rule.syscall != "mprotect" &&
      rule.syscall != "pkey_mprotect") {
    return false;
  }
  return std::none_of(rule.terms.begin(), rule.terms.end(), [](const Term& t) {
    return t.argument == 2 && !t.negated && (t.mask & kProtExec) != 0 &&
           std::all_of(t.values.begin(), t.values.end(),
                       [](uint64_t v) { return (v & kProtExec) == 0; });
  });
}

template <typename... Args>
std::string At(const Rule& rule, const Args&... what) {
  return absl::StrCat(rule.file, ":", rule.line, ": '", rule.syscall, "' ",
                      what...);
}

void LintRules(const std::vector<Rule>& rules, bool steady,
               std::vector<std::string>& findings) {
  for (const Rule& rule : rules) {
    if (rule.error != 0) continue;  // Refusing is always fine.
    string_view objection = StartupObjection(rule.syscall);
    if (!objection.empty()) findings.push_back(At(rule, objection));
    objection = SteadyObjection(rule.syscall);
    if (objection == kDoor && !rule.terms.empty()) continue;
    if (steady && !objection.empty()) {
      findings.push_back(At(rule, objection, ": not in steady state"));
    }
    if (MayMakeExecutable(rule)) {
      findings.push_back(
          At(rule, "may make code: limit it with arg2 & PROT_EXEC == 0"));
    }
  }
}

// Startup includes the steady rules, so a file need not say both. A device may
// keep what a fragment of all devices has for the start alone.
void LintRepetitions(const Policy& policy, std::vector<std::string>& findings) {
  for (const Rule& rule : policy.startup) {
    for (const Rule& steady : policy.steady) {
      if (steady.number == rule.number && steady.file == rule.file &&
          steady.terms.empty()) {
        findings.push_back(
            At(rule, "is allowed in steady state at line ", steady.line));
      }
    }
  }
}

size_t DistinctCalls(const std::vector<Rule>& rules, bool limited_only) {
  std::set<uint32_t> numbers;
  for (const Rule& rule : rules) {
    if (rule.error == 0 && (!limited_only || !rule.terms.empty())) {
      numbers.insert(rule.number);
    }
  }
  return numbers.size();
}

// Returns the number of instructions.
size_t Prove(string_view section, const std::vector<Rule>& rules,
             std::vector<std::string>& findings) {
  const absl::StatusOr<std::vector<sock_filter>> program = Compile(rules);
  absl::Status status = program.status();
  if (program.ok()) {
    status = ProveFilter(rules, *program, ProofRecords(rules));
  }
  if (!status.ok()) {
    findings.push_back(absl::StrCat(section, " filter: ", status.message()));
  }
  return program.ok() ? program->size() : 0;
}

}  // namespace

string_view SteadyObjection(string_view syscall) {
  return ObjectionIn(SteadyClasses(), syscall);
}

string_view StartupObjection(string_view syscall) {
  return ObjectionIn(NeverClasses(), syscall);
}

size_t ObjectionCount() {
  size_t count = 0;
  for (const auto* classes : {&NeverClasses(), &SteadyClasses()}) {
    for (const Class& c : *classes) count += c.syscalls.size();
  }
  return count;
}

LintResult LintPolicy(const Policy& policy, size_t max_steady) {
  LintResult result;
  std::vector<std::string>& findings = result.findings;
  const std::vector<Rule> startup = policy.StartupRules();
  const std::vector<Rule>& steady = policy.SteadyRules();
  result.startup_calls = DistinctCalls(startup, /*limited_only=*/false);
  result.steady_calls = DistinctCalls(steady, /*limited_only=*/false);
  result.limited_calls = DistinctCalls(steady, /*limited_only=*/true);
  LintRules(policy.startup, /*steady=*/false, findings);
  LintRules(steady, /*steady=*/true, findings);
  for (const Include& include : policy.includes) {
    if (include.rules == 0) {
      findings.push_back(absl::StrCat(include.file, ":", include.line,
                                      ": include '", include.name,
                                      "' brings no rule"));
    }
  }
  if (result.steady_calls > max_steady) {
    findings.push_back(absl::StrCat("steady state allows ", result.steady_calls,
                                    " calls, more than ", max_steady));
  }
  LintRepetitions(policy, findings);
  for (const auto* rules : {&policy.startup, &policy.steady}) {
    for (std::string& part : RedundantParts(*rules)) {
      findings.push_back(std::move(part));
    }
  }
  result.startup_instructions = Prove("startup", startup, findings);
  result.steady_instructions = Prove("steady", steady, findings);
  return result;
}

}  // namespace holdfast::sandbox
