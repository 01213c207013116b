#include "tests/confinement/audit_sys.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/text_file_sys.h"

namespace holdfast::testing {
namespace {

namespace fs = std::filesystem;
using Findings = std::vector<std::string>;

constexpr const char* kNamespaces[] = {"user", "pid", "mnt",   "net",
                                       "ipc",  "uts", "cgroup"};

std::string Proc(pid_t pid, const std::string& name) {
  return absl::StrCat("/proc/", pid, "/", name);
}

std::string Link(const std::string& path) {
  std::error_code error;
  return fs::read_symlink(path, error).string();
}

// Words of the line "Key:\tword word" of a status file.
std::vector<std::string> Words(const std::string& status,
                               const std::string& key) {
  for (absl::string_view line : absl::StrSplit(status, '\n')) {
    if (!absl::StartsWith(line, key + ":")) continue;
    return absl::StrSplit(line.substr(key.size() + 1), absl::ByAnyChar(" \t"),
                          absl::SkipEmpty());
  }
  return {"absent"};
}

void Identity(pid_t pid, const std::string& status, Findings& findings) {
  for (const char* key : {"Uid", "Gid"}) {
    const std::vector<std::string> ids = Words(status, key);
    if (ids.size() != 4 || ids[0] == "0" ||
        std::count(ids.begin(), ids.end(), ids[0]) != 4) {
      findings.push_back(absl::StrCat(key, ": ", absl::StrJoin(ids, " ")));
    }
  }
  if (!Words(status, "Groups").empty()) findings.push_back("it has groups");
  for (const char* map : {"uid_map", "gid_map"}) {
    const std::vector<std::string> words =
        absl::StrSplit(ReadTextFile(Proc(pid, map)), absl::ByAnyChar(" \n"),
                       absl::SkipEmpty());
    if (words.size() != 3 || words[2] != "1") {
      findings.push_back(absl::StrCat(map, ": ", absl::StrJoin(words, " ")));
    }
  }
  const std::vector<std::string> pids = Words(status, "NSpid");
  if (pids.size() < 2 || pids.back() != "1") {
    findings.push_back("it is not process 1 of a pid namespace of its own");
  }
}

void Privileges(pid_t pid, const std::string& status, const ConfinedAs& as,
                Findings& findings) {
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
    const std::string bits = absl::StrJoin(Words(status, set), " ");
    if (bits != "0000000000000000") {
      findings.push_back(absl::StrCat(set, ": ", bits));
    }
  }
  std::error_code error;
  for (const auto& task : fs::directory_iterator(Proc(pid, "task"), error)) {
    const std::string thread = ReadTextFile(task.path().string() + "/status");
    const std::string name = task.path().filename().string();
    if (Words(thread, "NoNewPrivs").front() != "1") {
      findings.push_back(absl::StrCat("thread ", name, ": no_new_privs"));
    }
    int filters = 0;
    (void)absl::SimpleAtoi(Words(thread, "Seccomp_filters").front(), &filters);
    if (as.filtered && (Words(thread, "Seccomp").front() != "2" ||
                        filters < as.least_filters)) {
      findings.push_back(
          absl::StrCat("thread ", name, ": ", filters, " filters"));
    }
  }
}

void Surroundings(pid_t pid, const ConfinedAs& as, Findings& findings) {
  for (const char* name : kNamespaces) {
    const std::string file = absl::StrCat("ns/", name);
    const std::string its = Link(Proc(pid, file));
    if (its.empty() || its == Link(Proc(getpid(), file))) {
      findings.push_back(absl::StrCat("namespace: ", name));
    }
  }
  if (as.empty_root) {
    std::error_code error;
    const fs::directory_iterator root(Proc(pid, "root/"), error);
    if (error || root != fs::directory_iterator()) {
      findings.push_back("its root directory is not empty");
    }
    const std::vector<std::string> mounts = absl::StrSplit(
        ReadTextFile(Proc(pid, "mountinfo")), '\n', absl::SkipEmpty());
    if (mounts.size() != 1 ||
        !absl::StrContains(mounts[0], " / / ro,nosuid,nodev,noexec")) {
      findings.push_back(absl::StrCat("mounts: ", absl::StrJoin(mounts, "; ")));
    }
    if (Link(Proc(pid, "cwd")) != "/") findings.push_back("cwd is not /");
  }
  std::vector<std::string> names;
  for (absl::string_view variable : absl::StrSplit(
           ReadTextFile(Proc(pid, "environ")), '\0', absl::SkipEmpty())) {
    names.emplace_back(variable.substr(0, variable.find('=')));
  }
  std::sort(names.begin(), names.end());
  if (names != as.env) {
    findings.push_back(
        absl::StrCat("environment: ", absl::StrJoin(names, " ")));
  }
}

void Limits(pid_t pid, const ConfinedAs& as, Findings& findings) {
  const std::map<std::string, uint64_t> wanted = {
      {"Max core file size", 0},
      {"Max open files", as.open_files},
      {"Max processes", as.threads},
      {"Max locked memory", uint64_t{8} << 20}};
  const std::string limits = ReadTextFile(Proc(pid, "limits"));
  for (const auto& [name, value] : wanted) {
    const size_t at = limits.find(name);
    const std::string line =
        at == std::string::npos ? "" : limits.substr(at + name.size(), 64);
    const std::vector<std::string> words =
        absl::StrSplit(line, absl::ByAnyChar(" \n"), absl::SkipEmpty());
    uint64_t soft = 0;
    if (words.size() < 2 || words[0] != words[1] ||
        !absl::SimpleAtoi(words[0], &soft) || soft > value) {
      findings.push_back(absl::StrCat(name, " is above ", value));
    }
  }
  // What cannot be dumped belongs to root in /proc, whoever runs it.
  struct stat owner = {};
  if (as.filtered &&
      (stat(Proc(pid, "mem").c_str(), &owner) != 0 || owner.st_uid != 0)) {
    findings.push_back("it is dumpable");
  }
}

bool Expected(const std::string& target, const ConfinedAs& as) {
  for (const char* kind :
       {"socket:", "pipe:", "anon_inode:", "/memfd:", "/dev/null"}) {
    if (absl::StartsWith(target, kind)) return true;
  }
  return target == Link("/proc/self/fd/2") ||
         std::count(as.files.begin(), as.files.end(), target) > 0;
}

void Possessions(pid_t pid, const ConfinedAs& as, Findings& findings) {
  std::error_code error;
  for (const auto& fd : fs::directory_iterator(Proc(pid, "fd"), error)) {
    const std::string target = Link(fd.path().string());
    if (!Expected(target, as)) {
      findings.push_back(absl::StrCat(
          "descriptor ", fd.path().filename().string(), ": ", target));
    }
  }
  for (absl::string_view line : absl::StrSplit(ReadTextFile(Proc(pid, "maps")),
                                               '\n', absl::SkipEmpty())) {
    const size_t space = line.find(' ');
    if (space != absl::string_view::npos && line.size() > space + 4 &&
        line[space + 2] == 'w' && line[space + 3] == 'x') {
      findings.push_back(absl::StrCat("memory: ", line));
    }
  }
}

}  // namespace

std::vector<std::string> Audit(pid_t pid, const ConfinedAs& as) {
  Findings findings;
  const std::string status = ReadTextFile(Proc(pid, "status"));
  if (status.empty()) return {absl::StrCat("there is no process ", pid)};
  Identity(pid, status, findings);
  Privileges(pid, status, as, findings);
  Surroundings(pid, as, findings);
  Limits(pid, as, findings);
  Possessions(pid, as, findings);
  return findings;
}

int64_t UserOf(pid_t pid) {
  int64_t uid = -1;
  (void)absl::SimpleAtoi(
      Words(ReadTextFile(Proc(pid, "status")), "Uid").front(), &uid);
  return uid;
}

std::vector<std::string> NamespacesOf(pid_t pid) {
  std::vector<std::string> all;
  for (const char* name : kNamespaces) {
    all.push_back(Link(Proc(pid, absl::StrCat("ns/", name))));
  }
  return all;
}

}  // namespace holdfast::testing
